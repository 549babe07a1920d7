use super::*;

fn document() -> PolicyDocument {
    PolicyDocument {
        publish: vec!["up/${clientid}/#".into()],
        subscribe: vec!["down/${device}/+".into(), "${group}/all".into()],
        scope: "mqtt.connect mqtt.publish mqtt.subscribe".into(),
        audiences: vec!["mqtt".into(), "eu".into()],
        token_lifetime_s: 900,
        refresh_window: RefreshWindow::default(),
        static_passwords: false,
        device_password_grant: false,
    }
}

fn policy() -> Policy {
    Policy::from_document(&document(), 86_400).unwrap()
}

/// What is granted, as scope, client ID, publish and subscribe filters.
fn granted(policy: &Policy, request: Request<'_>) -> Result<(String, String, String, String), Refusal> {
    let ids = ["c1".parse().unwrap(), "c2".parse().unwrap()];
    let subject = Subject {
        device: &"pump-1".parse().unwrap(),
        group: &"pumps".parse().unwrap(),
        mqtt_client_ids: &ids,
        attributes: &Attributes::default(),
    };
    let grant = policy.grant(&subject, &request)?;
    Ok((
        grant.scope.to_string(),
        grant.mqtt_client_id.to_string(),
        grant.publish.join(" "),
        grant.subscribe.join(" "),
    ))
}

#[test]
fn everything_unless_asked_for_less() {
    let (scope, client_id, publish, subscribe) = granted(&policy(), Request::default()).unwrap();
    assert_eq!(scope, "mqtt.connect mqtt.publish mqtt.subscribe");
    assert_eq!(client_id, "c1");
    assert_eq!(publish, "up/c1/#");
    assert_eq!(subscribe, "down/pump-1/+ pumps/all");
}

#[test]
fn topics_only_with_the_word_for_them() {
    let topics = |scope| {
        let (_, _, publish, subscribe) =
            granted(&policy(), Request { scope: Some(scope), ..Request::default() }).unwrap();
        (!publish.is_empty(), !subscribe.is_empty())
    };
    assert_eq!(topics("mqtt.connect"), (false, false));
    assert_eq!(topics("mqtt.connect mqtt.publish"), (true, false));
    assert_eq!(topics("mqtt.subscribe"), (false, true));
}

#[test]
fn only_registered_client_ids() {
    let request = |id| Request { mqtt_client_id: Some(id), ..Request::default() };
    assert_eq!(granted(&policy(), request("c2")).unwrap().2, "up/c2/#");
    for id in ["c3", "C1", "c1 ", "pump-1", ""] {
        assert_eq!(granted(&policy(), request(id)), Err(Refusal::MqttClientIdNotRegistered), "{id:?}");
    }
}

#[test]
fn only_the_scope_of_the_group() {
    let policy = Policy { scope: Scope::from_request("mqtt.connect mqtt.publish").unwrap(), ..policy() };
    let request = |scope| Request { scope: Some(scope), ..Request::default() };
    assert!(matches!(
        granted(&policy, request("mqtt.connect mqtt.subscribe")),
        Err(Refusal::ScopeNotGranted { .. })
    ));
    assert!(matches!(granted(&policy, request("mqtt.connect admin")), Err(Refusal::InvalidScope(_))));
    assert!(matches!(granted(&policy, request("mqtt.connect ")), Err(Refusal::InvalidScope(_))));
    assert_eq!(granted(&policy, Request::default()).unwrap().3, "");
}

#[test]
fn a_document_and_its_policy_are_the_same() {
    assert_eq!(policy().to_document(), document());
}

#[test]
fn a_wrong_document_names_the_field() {
    let wrong = |change: &dyn Fn(&mut PolicyDocument)| {
        let mut document = document();
        change(&mut document);
        let error = Policy::from_document(&document, 86_400).unwrap_err();
        assert!(error.to_string().contains(error.field()), "{error}");
        error.field()
    };
    assert_eq!(wrong(&|d| d.publish.push("a/#/b".into())), "publish");
    assert_eq!(wrong(&|d| d.publish.push("up/${clientid}/#".into())), "publish");
    assert_eq!(wrong(&|d| d.subscribe.push("${nobody}".into())), "subscribe");
    assert_eq!(wrong(&|d| d.subscribe = (0..65).map(|n| n.to_string()).collect()), "subscribe");
    assert_eq!(wrong(&|d| d.scope = "mqtt.everything".into()), "scope");
    assert_eq!(wrong(&|d| d.scope = String::new()), "scope");
    for audience in ["", "a b", "ä", &"x".repeat(256)] {
        assert_eq!(wrong(&|d| d.audiences = vec![audience.into()]), "audiences");
    }
    for lifetime_s in [0, 86_401] {
        assert_eq!(wrong(&|d| d.token_lifetime_s = lifetime_s), "token_lifetime_s");
    }
}
