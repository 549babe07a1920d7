use crate::test_support::TestIssuer;

/// Whoever has a secret that leaks could otherwise put in a key, which stays
/// when the secret goes.
#[tokio::test]
async fn a_secret_gets_no_token_to_manage_keys() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump-1", &[]).await;
    let answer = issuer.token("pump-1", &secret, "&scope=device.self").await;
    assert_eq!((answer.status.as_u16(), answer.error()), (400, "unauthorized_client".into()));
}

#[tokio::test]
async fn one_token_is_not_for_brokers_and_the_issuer() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump-1", &[]).await;
    for (more, code) in [
        ("&scope=device.self+mqtt.connect", "invalid_scope"),
        ("&scope=mqtt.connect+device.self", "invalid_scope"),
        ("&scope=device.self+device.self", "invalid_scope"),
        ("&scope=device.self+", "invalid_scope"),
        ("&scope=device.self+x", "invalid_scope"),
        ("&scope=DEVICE.SELF", "invalid_scope"),
        ("&scope=device.selfish", "invalid_scope"),
        ("&scope=device.self&resource=urn:fleetbadge:broker:b", "invalid_target"),
        ("&scope=device.self&mqtt_client_id=pump-1", "invalid_request"),
    ] {
        let answer = issuer.token("pump-1", &secret, more).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (400, code.into()), "{more}");
    }
}
