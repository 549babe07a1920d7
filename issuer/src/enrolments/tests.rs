use aws_lc_rs::rand::SystemRandom;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::test_support::{NOW, TestIssuer};

fn new(name_pattern: &str, uses: u32) -> NewEnrolment {
    NewEnrolment {
        group: "default".into(),
        name_pattern: name_pattern.into(),
        uses,
        expires_in_s: 60,
        approval: false,
    }
}

#[test]
fn a_token_has_a_prefix_and_256_bits() {
    #[expect(clippy::disallowed_methods, reason = "a test needs no repeatable token")]
    let token = EnrolmentToken::generate(&SystemRandom::new()).unwrap();
    let bits = URL_SAFE_NO_PAD.decode(token.expose().strip_prefix(TOKEN_PREFIX).unwrap()).unwrap();
    assert_eq!(bits.len(), 32);
}

#[tokio::test]
async fn what_is_refused_says_which_field_and_why() {
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    let refused = async |new: NewEnrolment| app.enrolments.create(new, NOW).await.unwrap_err().to_string();
    let no_group = NewEnrolment { group: "pumps".into(), ..new("*", 1) };
    assert!(refused(no_group).await.starts_with("group: there is no group pumps; make it with"));
    assert!(refused(NewEnrolment { group: "a/b".into(), ..new("*", 1) }).await.starts_with("group: "));
    assert_eq!(refused(new("*-*", 1)).await, "name_pattern: \"*-*\" has 2 times '*'; at most one is allowed");
    assert_eq!(refused(new("*", 0)).await, "uses: 0 is not between 1 and 1000000");
    assert_eq!(
        refused(new("pump-1", 2)).await,
        "uses: 2 is not between 1 and 1, as name_pattern without '*' is the name of one device"
    );
    for expires_in_s in [0, MAX_LIFETIME_S + 1] {
        let refused = refused(NewEnrolment { expires_in_s, ..new("*", 1) }).await;
        assert_eq!(refused, format!("expires_in_s: {expires_in_s} is not between 1 and 31622400"));
    }
    assert_eq!(
        app.enrolments.remove("none").await.unwrap_err().to_string(),
        "there is no enrolment \"none\""
    );
    assert!(app.enrolments.all().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_token_is_good_to_its_end_and_not_beyond_its_removal() {
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    let CreatedEnrolment { enrolment, token } = app.enrolments.create(new("*", 1), NOW).await.unwrap();
    let found = async |seconds: u64| app.enrolments.of_token(&token, NOW.plus(seconds)).await.unwrap();
    assert_eq!(found(0).await, Some(enrolment.clone()));
    assert_eq!(found(59).await, Some(enrolment.clone()));
    assert_eq!(found(60).await, None);
    app.enrolments.remove(enrolment.id.as_str()).await.unwrap();
    assert_eq!(found(0).await, None);
}
