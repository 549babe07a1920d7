//! What is under way while a device is shut out.

use fleetbadge_validator::revocations::RevocationTarget;
use http::{HeaderMap, StatusCode, header};

use super::*;
use crate::client_auth::{Client, PresentedCredentials, authenticate};
use crate::endpoints::issued_token::IssuedToken;
use crate::peer::Peer;
use crate::store::DeviceStatus;
use crate::test_support::{TestIssuer, basic};

const GRANT: &[u8] = b"grant_type=client_credentials";

/// A request that has got as far as to prove who asks, and its moment.
async fn proven(issuer: &TestIssuer, secret: &str) -> (Client, CurrentMoment) {
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, basic("pump", secret).parse().unwrap())]);
    let form = Form::parse(GRANT).unwrap();
    let presented = PresentedCredentials::from_request(&headers, &form, &Peer::default()).unwrap();
    let moment = issuer.app().moment().unwrap();
    (authenticate(&issuer.app(), &presented).await.unwrap(), moment)
}

fn issued_to(issuer: &TestIssuer, (client, moment): (Client, CurrentMoment)) -> Result<String, TokenError> {
    let form = Form::parse(GRANT).unwrap();
    let device = client.into_device().unwrap();
    let token = client_credentials::issue(&issuer.app(), &device, moment, &form, &Peer::default())?;
    Ok(token.access_token)
}

/// The check of a slow hash, or the write of a `jti`, may take seconds: longer
/// than the revocation of the device reaches.
#[tokio::test]
async fn whoever_is_disabled_while_proving_itself_gets_nothing() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump", &[]).await;
    let first = proven(&issuer, &secret).await;
    let second = proven(&issuer, &secret).await;
    let third = proven(&issuer, &secret).await;
    let refused = |result| matches!(result, Err(TokenError::TemporarilyUnavailable { .. }));
    let devices = &issuer.app().devices;
    devices.set_status("pump", DeviceStatus::Disabled).await.unwrap();
    issuer.app().node.catch_up(&issuer.app()).await.unwrap();
    issuer.clock.advance(30);
    assert!(refused(issued_to(&issuer, first)));
    // Enabled again, what began before has to begin anew.
    devices.set_status("pump", DeviceStatus::Enabled).await.unwrap();
    assert!(refused(issued_to(&issuer, second)));
    let fresh = proven(&issuer, &secret).await;
    assert!(issued_to(&issuer, fresh).is_ok());
    devices.remove("pump").await.unwrap();
    assert!(refused(issued_to(&issuer, third)));
}

/// Between the write and what this node hears of it, a token may come about:
/// it is taken back already.
#[tokio::test]
async fn what_is_issued_before_this_node_hears_is_named() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump", &[]).await;
    let app = issuer.app();
    let client = proven(&issuer, &secret).await;
    let revocation = app.revoker.group("default");
    let token = issued_to(&issuer, client).unwrap();
    app.revoke(revocation).await.unwrap();
    let revoked_by = IssuedToken::read(&app, &token).unwrap().revoked_by(&app);
    assert_eq!(revoked_by, Some(RevocationTarget::Group("default".into())));
}

/// For real: devices ask all the time while one is disabled and enabled.
#[tokio::test(flavor = "multi_thread")]
async fn of_all_that_is_issued_around_a_disable_nothing_survives() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump", &[]).await;
    let app = issuer.app();
    for _ in 0..20 {
        let ask = async || {
            let mut tokens = Vec::new();
            for _ in 0..10 {
                let answer = issuer.token("pump", &secret, "").await;
                if answer.status == StatusCode::OK {
                    tokens.push(answer.json()["access_token"].as_str().unwrap().to_owned());
                }
            }
            tokens
        };
        let shut_out = async {
            app.devices.set_status("pump", DeviceStatus::Disabled).await.unwrap();
            let refused = issuer.token("pump", &secret, "").await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
            app.devices.set_status("pump", DeviceStatus::Enabled).await.unwrap();
        };
        let (first, second, third, ()) = tokio::join!(ask(), ask(), ask(), shut_out);
        app.node.catch_up(&app).await.unwrap();
        for token in [first, second, third].concat() {
            let token = IssuedToken::read(&app, &token).unwrap();
            assert!(token.revoked_by(&app).is_some(), "a token survived");
        }
        issuer.clock.advance(1);
    }
}
