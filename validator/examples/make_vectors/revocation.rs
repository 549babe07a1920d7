//! Tokens that were taken back and are used again.

use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::test_support::{Vector, VectorRevocations};
use fleetbadge_validator::time::UnixSeconds;
use serde_json::json;

use super::{EXP, File, IAT, Maker, NOW, case, with};

/// From when on every token of the file has died.
const END: UnixSeconds = UnixSeconds(EXP + 300);
/// A moment after the tokens were issued.
const AFTER: UnixSeconds = UnixSeconds(IAT + 1);
const MAX_STALENESS_S: u64 = 3_600;

impl Maker {
    pub(super) fn revocation(&self) -> File {
        let cases = [self.taken_back(), self.of_others(), self.unknown_or_old()];
        self.file(
            "revocation",
            "Tokens that were taken back, and what is known of that",
            cases.into_iter().flatten().collect(),
        )
    }

    fn under(&self, name: &str, known: Option<Vec<Revocation>>, expect: &str) -> Vector {
        let revocations = VectorRevocations { known, confirmed_at: NOW, max_staleness_s: MAX_STALENESS_S };
        let token = self.key.token(&with(&json!({"groups": ["pumps", "north"]})));
        Vector { revocations: Some(revocations), ..case(name, token, expect) }
    }

    /// The `jti` of the file's tokens.
    fn jti() -> String {
        format!("pump-1-{IAT}-{EXP}")
    }

    fn taken_back(&self) -> Vec<Vector> {
        let revoked = |name: &str, revocation| self.under(name, Some(vec![revocation]), "revoked");
        vec![
            revoked("its jti", Revocation::of_token(&Self::jti(), END)),
            revoked("its device", Revocation::of_device("pump-1", AFTER, END)),
            revoked("its first group", Revocation::of_group("pumps", AFTER, END)),
            revoked("its last group", Revocation::of_group("north", AFTER, END)),
            revoked("its key", Revocation::of_key(&self.key.kid(), END)),
            revoked("everything", Revocation::of_all(AFTER, END)),
            revoked("everything until the end of time", Revocation::of_all(UnixSeconds(u64::MAX), END)),
            self.under(
                "its device twice, the earlier moment last",
                Some(vec![
                    Revocation::of_device("pump-1", AFTER, END),
                    Revocation::of_device("pump-1", UnixSeconds(IAT), END),
                ]),
                "revoked",
            ),
            Vector {
                now: EXP + 4,
                ..revoked(
                    "its device, in the last second of the skew",
                    Revocation::of_device("pump-1", AFTER, END),
                )
            },
            Vector {
                now: EXP + 5,
                ..self.under("after its end", Some(vec![Revocation::of_all(AFTER, END)]), "expired")
            },
        ]
    }

    fn of_others(&self) -> Vec<Vector> {
        let spared = |name: &str, revocation| self.under(name, Some(vec![revocation]), "allow");
        let at_iat = UnixSeconds(IAT);
        vec![
            self.under("nothing is taken back", Some(vec![]), "allow"),
            spared("its device, before is iat", Revocation::of_device("pump-1", at_iat, END)),
            spared("its group, before is iat", Revocation::of_group("pumps", at_iat, END)),
            spared("everything, before is iat", Revocation::of_all(at_iat, END)),
            spared("another device", Revocation::of_device("pump-10", AFTER, END)),
            spared("a device in capitals", Revocation::of_device("PUMP-1", AFTER, END)),
            spared("a group that the token does not name", Revocation::of_group("south", AFTER, END)),
            spared("a group of the device's name", Revocation::of_group("pump-1", AFTER, END)),
            spared("a device of the group's name", Revocation::of_device("pumps", AFTER, END)),
            spared("another jti", Revocation::of_token("pump-1", END)),
            spared("another key", Revocation::of_key(&self.stranger.kid(), END)),
            spared("a jti that is the key's kid", Revocation::of_token(&self.key.kid(), END)),
            spared("a kid that is the jti", Revocation::of_key(&Self::jti(), END)),
            Vector {
                token: self.key.token(&with(&json!({"groups": null}))),
                ..spared("a group, of a token without groups", Revocation::of_group("pumps", AFTER, END))
            },
        ]
    }

    fn unknown_or_old(&self) -> Vec<Vector> {
        let at = |now: u64, confirmed_at: u64, name: &str, known, expect: &str| {
            let revocations =
                Some(VectorRevocations { known, confirmed_at, max_staleness_s: MAX_STALENESS_S });
            Vector { now, revocations, ..self.under(name, None, expect) }
        };
        let nothing = || Some(vec![]);
        vec![
            self.under("no snapshot yet", None, "revocations_missing"),
            at(NOW, NOW - MAX_STALENESS_S, "just fresh enough", nothing(), "allow"),
            at(NOW, NOW - MAX_STALENESS_S - 1, "a second too old", nothing(), "stale"),
            at(NOW, 0, "of 1970", nothing(), "stale"),
            at(
                NOW,
                NOW - MAX_STALENESS_S,
                "old, but known",
                Some(vec![Revocation::of_device("pump-1", AFTER, END)]),
                "revoked",
            ),
            at(NOW, NOW + 2, "a broker's clock set back a little", nothing(), "allow"),
            at(NOW, NOW + 5, "a broker's clock set back as far as may be", nothing(), "allow"),
            at(NOW, NOW + 6, "a broker's clock set back further", nothing(), "stale"),
            at(NOW, NOW + 3 * 86_400, "a file dated in three days", nothing(), "stale"),
        ]
    }
}
