use super::*;
use crate::token_client::TokenRequest;

const NOW: Moment = Moment(Duration::from_secs(3));

fn token() -> CachedToken {
    CachedToken {
        request: TokenRequest {
            issuer: "https://id.example".into(),
            client_id: "pump-1".into(),
            scope: None,
            mqtt_client_id: None,
        },
        access_token: AccessToken::new("t0ken".into()),
        scope: None,
        mqtt_client_id: "pump-1".into(),
        obtained_at: UnixSeconds(10_000),
        refresh_at: UnixSeconds(10_600),
        expires_at: UnixSeconds(10_900),
    }
}

#[test]
fn a_kept_token_goes_on_where_it_was() {
    let cached = plan(&token(), NOW, UnixSeconds(10_100));
    assert_eq!(cached.refresh_at.since(NOW), Duration::from_secs(500));
    assert_eq!(cached.validity.expires_at.since(NOW), Duration::from_secs(800));
}

#[test]
fn a_clock_that_was_lost_does_not_lengthen_a_token() {
    let cached = plan(&token(), NOW, UnixSeconds(0));
    assert_eq!(cached.refresh_at, NOW);
    assert_eq!(cached.validity.expires_at.since(NOW), Duration::from_secs(900));
}
