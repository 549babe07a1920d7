use super::*;

const IAT: UnixSeconds = UnixSeconds(1_795_283_940);
const BEFORE: UnixSeconds = UnixSeconds(1_795_284_000);

/// Nobody may read it as if the device had done something, or as if the issuer
/// had no such key.
#[test]
fn what_was_taken_back_is_said_plainly() {
    let end = UnixSeconds(u64::MAX);
    for (by, text) in [
        (
            Revocation::of_device("pump-1", BEFORE, end),
            r#"tokens of device "pump-1" issued before 2026-11-21T18:00:00Z were taken back; this one is of 2026-11-21T17:59:00Z"#,
        ),
        (
            Revocation::of_group("hall\n", BEFORE, end),
            r#"tokens of group "hall\n" issued before 2026-11-21T18:00:00Z were taken back; this one is of 2026-11-21T17:59:00Z"#,
        ),
        (
            Revocation::of_all(end, end),
            "all tokens issued before 18446744073709551615 were taken back; this one is of 2026-11-21T17:59:00Z",
        ),
        (Revocation::of_key("k-1", end), r#"what key "k-1" signed was taken back"#),
        (Revocation::of_token("j-1", end), r#"this token, "j-1", was taken back"#),
    ] {
        assert_eq!(Denied::Revoked { by: by.into(), iat: IAT }.to_string(), text);
    }
    let unknown = Denied::key_unknown("k-1", &KeySet::empty("https://id.example"));
    let text = r#"key "k-1" is not among the 0 keys that are held of issuer "https://id.example""#;
    assert_eq!(unknown.to_string(), text);
    let future = Denied::ConfirmedInFuture { state: StaleState::Keys, confirmed_at: BEFORE, now: IAT };
    assert_eq!((future.code(), future.check()), ("stale", Some(Check::Key)));
    let text = "the issuer's keys were last confirmed at 2026-11-21T18:00:00Z, which is to come, as it is \
                2026-11-21T17:59:00Z by this clock";
    assert_eq!(future.to_string(), text);
}
