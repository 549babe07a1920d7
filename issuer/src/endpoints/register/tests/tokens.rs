//! Nobody comes in without an enrolment token that is good.

use super::*;

#[tokio::test]
async fn no_token_no_hint() {
    let (issuer, token) = with_enrolment(1).await;
    let key = TestKey::generate();
    for other in [None, Some("Basic eDp5"), Some("DPoP x"), Some("fbe_x")] {
        let mut asked = request(Method::POST, URL, &token, None, &jwks(&[&key]));
        asked.headers_mut().remove(header::AUTHORIZATION);
        if let Some(other) = other {
            asked.headers_mut().insert(header::AUTHORIZATION, other.parse().unwrap());
        }
        let answer = issuer.public(asked).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"fleetbadge\""));
        assert!(answer.body.is_empty());
    }
    for malformed in ["Bearer", "Bearer ", "Bearer a b", "Bearer a,b", "Bearer \"a\""] {
        let mut asked = request(Method::POST, URL, &token, None, &jwks(&[&key]));
        asked.headers_mut().insert(header::AUTHORIZATION, malformed.parse().unwrap());
        assert_eq!(refusal(&issuer.public(asked).await), invalid("invalid_request"), "{malformed}");
    }
    let mut twice = request(Method::POST, URL, &token, None, &jwks(&[&key]));
    twice.headers_mut().append(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    assert_eq!(refusal(&issuer.public(twice).await), invalid("invalid_request"));
    let mut in_the_url = request(Method::POST, URL, &token, None, &jwks(&[&key]));
    *in_the_url.uri_mut() = format!("/oauth2/register?access_token={token}").parse().unwrap();
    assert_eq!(refusal(&issuer.public(in_the_url).await), invalid("invalid_request"));
    assert!(devices(&issuer).await.is_empty());
}

#[tokio::test]
async fn tokens_that_are_not_good_look_the_same() {
    let (issuer, removed) = with_enrolment(1).await;
    let app = issuer.app();
    let id = app.enrolments.all().await.unwrap()[0].id.clone();
    app.enrolments.remove(id.as_str()).await.unwrap();
    let used_up = create(&issuer, "valve-*", 1, false).await;
    register(&issuer, &used_up, &TestKey::generate(), None).await;
    let ended = create(&issuer, "valve-*", 1, false).await;
    issuer.clock.advance(3_600);
    let mut answers = Vec::new();
    let cut = ended.strip_suffix(|_| true).unwrap();
    for token in [&*used_up, &removed, &ended, "fbe_unknown", cut, "x"] {
        let key = TestKey::generate();
        let proof = TestProof::new("POST", URL, token).with("iat", app.now().0).sign(&key);
        let answer = post(&issuer, token, Some(&proof), &jwks(&[&key])).await;
        assert_eq!(refusal(&answer), (401, "invalid_token".into()));
        let challenge = answer.header("www-authenticate").unwrap();
        assert_eq!(challenge, "Bearer realm=\"fleetbadge\", error=\"invalid_token\"");
        answers.push(answer.body);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    assert_eq!(devices(&issuer).await.len(), 1);
}

#[tokio::test]
async fn a_stolen_token_is_of_no_use_when_it_is_used_up() {
    let (issuer, token) = with_enrolment(1).await;
    assert_eq!(register(&issuer, &token, &TestKey::generate(), None).await.status, StatusCode::CREATED);
    let thief = register(&issuer, &token, &TestKey::generate(), None).await;
    assert_eq!(refusal(&thief), (401, "invalid_token".into()));
    assert_eq!(devices(&issuer).await.len(), 1);
}

#[tokio::test]
async fn of_many_devices_at_once_as_many_come_in_as_there_are_uses() {
    let (issuer, token) = with_enrolment(3).await;
    let issuer = Arc::new(issuer);
    let tries: Vec<_> = (0..12)
        .map(|_| {
            let (issuer, token) = (Arc::clone(&issuer), token.clone());
            tokio::spawn(async move { register(&issuer, &token, &TestKey::generate(), None).await.status })
        })
        .collect();
    let mut created = 0;
    for one in tries {
        match one.await.unwrap() {
            StatusCode::CREATED => created += 1,
            other => assert_eq!(other, StatusCode::UNAUTHORIZED),
        }
    }
    assert_eq!((created, devices(&issuer).await.len()), (3, 3));
}
