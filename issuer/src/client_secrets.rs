//! The secrets of a client, device or broker alike: several at a time, each
//! with an end of its own.
//!
//! A secret is made, then put beside the others of a client or in their place,
//! which is pure: how a client is found and written is known to
//! [`crate::devices`] and [`crate::brokers`].

use fleetbadge_validator::time::UnixSeconds;

use crate::credentials::{
    CredentialId, MAX_IMPORTED_SECRETS, MAX_SECRETS, SecretKind, SecretRecord, SecretRecords, SecretVerifier,
};
use crate::random::{NoRandomness, Random};
use crate::secret::{ClientSecret, SecretHasher};

/// The longest that an end may be away: ten years.
pub const MAX_SECRET_LIFETIME_S: u64 = 10 * 365 * 24 * 3600;

/// A secret that was made for a client, which nobody can see again.
#[derive(Debug)]
pub struct AddedSecret {
    /// The secret.
    pub secret: ClientSecret,
    /// What is kept of it.
    pub record: SecretRecord,
}

/// A secret that has replaced others.
#[derive(Debug)]
pub struct RotatedSecret {
    /// The new one, without an end.
    pub added: AddedSecret,
    /// When the last of the others ends; none if there were no others.
    pub others_end_at: Option<UnixSeconds>,
}

/// A secret that is to replace others.
pub(crate) struct Successor {
    added: AddedSecret,
    others_end_at: UnixSeconds,
}

/// The secrets of a client cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There are [`MAX_SECRETS`].
    #[error(
        "secrets: there are {MAX_SECRETS} already, the most that a client may have; see which with `secret list` \
         and take one away with `secret remove` first"
    )]
    TooMany,
    /// There are [`MAX_IMPORTED_SECRETS`] that somebody chose.
    #[error(
        "secret: there are {MAX_IMPORTED_SECRETS} imported secrets already, the most that a client may have; see \
         which with `secret list` and take one away with `secret remove` first"
    )]
    TooManyImported,
    /// Too long, or no time at all.
    #[error("{field}: {found_s} seconds are not between {min_s} and {MAX_SECRET_LIFETIME_S}")]
    Lifetime {
        /// Of what.
        field: &'static str,
        /// What was asked for.
        found_s: u64,
        /// The least that is possible.
        min_s: u64,
    },
    /// The client has no such secret.
    #[error("{client} has no secret {id}")]
    NoSuchSecret {
        /// The client.
        client: String,
        /// What was named.
        id: String,
    },
    /// No secret can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// What makes secrets and their hashes.
pub(crate) struct SecretMaker {
    hasher: SecretHasher,
    random: Random,
}

impl SecretMaker {
    pub(crate) const fn new(hasher: SecretHasher, random: Random) -> Self {
        Self { hasher, random }
    }

    /// What makes and checks the hashes.
    pub(crate) const fn hasher(&self) -> &SecretHasher {
        &self.hasher
    }

    /// Makes a secret for a client, good for `expires_in_s` seconds or without
    /// an end.
    pub(crate) fn make(
        &self,
        client: &str,
        expires_in_s: Option<u64>,
        now: UnixSeconds,
    ) -> Result<AddedSecret, SecretError> {
        let expires_at = end(expires_in_s, now)?;
        let secret = ClientSecret::generate(&*self.random)?;
        let verifier = SecretVerifier::Made(self.hasher.hash(client, &secret));
        Ok(AddedSecret { secret, record: self.record(verifier, expires_at, now)? })
    }

    /// Makes a secret for a client, before which its others are to end after
    /// `overlap_s` seconds.
    pub(crate) fn make_successor(
        &self,
        client: &str,
        overlap_s: u64,
        now: UnixSeconds,
    ) -> Result<Successor, SecretError> {
        let others_end_at = now.plus(within("overlap_s", overlap_s, 0)?);
        Ok(Successor { added: self.make(client, None, now)?, others_end_at })
    }

    /// What is kept of a secret, under a name of its own.
    pub(crate) fn record(
        &self,
        verifier: SecretVerifier,
        expires_at: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<SecretRecord, SecretError> {
        let id = CredentialId::generate(&*self.random)?;
        Ok(SecretRecord { id, verifier, created_at: now, expires_at })
    }
}

impl Successor {
    /// Puts it beside the others, which end with the overlap if they do not end
    /// sooner. Whether there are others.
    pub(crate) fn succeed(&self, secrets: &mut SecretRecords, now: UnixSeconds) -> Result<bool, SecretError> {
        let has_others = secrets.iter().any(|other| other.is_in_time(now));
        for other in &mut *secrets {
            let end = other.expires_at.unwrap_or(self.others_end_at).min(self.others_end_at);
            other.expires_at = Some(end);
        }
        add(secrets, &self.added.record, now)?;
        Ok(has_others)
    }

    /// The secret, after it has succeeded.
    pub(crate) fn rotated(self, has_others: bool) -> RotatedSecret {
        let Self { added, others_end_at } = self;
        RotatedSecret { added, others_end_at: has_others.then_some(others_end_at) }
    }
}

/// Puts a secret beside the others. Those that have ended are dropped.
pub(crate) fn add(
    secrets: &mut SecretRecords,
    record: &SecretRecord,
    now: UnixSeconds,
) -> Result<(), SecretError> {
    make_room(secrets, record.verifier.kind(), now)?;
    secrets.push(record.clone());
    Ok(())
}

/// Takes a secret away. It may have been the last one.
pub(crate) fn remove(secrets: &mut SecretRecords, client: &str, id: &str) -> Result<(), SecretError> {
    let position = secrets.iter().position(|secret| secret.id.as_str() == id);
    let position =
        position.ok_or_else(|| SecretError::NoSuchSecret { client: client.into(), id: id.into() })?;
    secrets.remove(position);
    Ok(())
}

/// Replaces what one of the secrets is compared with, if it is still `former`.
pub(crate) fn replace_verifier(
    secrets: &mut [SecretRecord],
    id: &CredentialId,
    former: &SecretVerifier,
    next: &SecretVerifier,
) {
    if let Some(secret) = secrets.iter_mut().find(|secret| secret.id == *id && secret.verifier == *former) {
        secret.verifier = next.clone();
    }
}

/// Drops what has ended; one more must fit in then.
pub(crate) fn make_room(
    secrets: &mut SecretRecords,
    one_more: SecretKind,
    now: UnixSeconds,
) -> Result<(), SecretError> {
    secrets.retain(|secret| secret.is_in_time(now));
    let imported = secrets.iter().filter(|secret| secret.verifier.kind() == SecretKind::Imported).count();
    if one_more == SecretKind::Imported && imported >= MAX_IMPORTED_SECRETS {
        return Err(SecretError::TooManyImported);
    }
    if secrets.len() >= MAX_SECRETS {
        return Err(SecretError::TooMany);
    }
    Ok(())
}

/// When a secret ends that is to be good for so long.
pub(crate) fn end(expires_in_s: Option<u64>, now: UnixSeconds) -> Result<Option<UnixSeconds>, SecretError> {
    expires_in_s.map(|found_s| Ok(now.plus(within("expires_in_s", found_s, 1)?))).transpose()
}

fn within(field: &'static str, found_s: u64, min_s: u64) -> Result<u64, SecretError> {
    if (min_s..=MAX_SECRET_LIFETIME_S).contains(&found_s) {
        Ok(found_s)
    } else {
        Err(SecretError::Lifetime { field, found_s, min_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretHash;
    use crate::test_support::NOW;

    fn made(id: &str, expires_at: Option<UnixSeconds>) -> SecretRecord {
        let verifier = SecretVerifier::Made(SecretHash::from_bytes([7; 32]));
        SecretRecord { id: CredentialId::from_text(id), verifier, created_at: NOW, expires_at }
    }

    fn successor(id: &str, others_end_at: UnixSeconds) -> Successor {
        let secret = ClientSecret::presented("x".into());
        Successor { added: AddedSecret { secret, record: made(id, None) }, others_end_at }
    }

    fn ends(secrets: &[SecretRecord]) -> Vec<(&str, Option<UnixSeconds>)> {
        secrets.iter().map(|secret| (secret.id.as_str(), secret.expires_at)).collect()
    }

    #[test]
    fn a_successor_ends_the_others_and_prolongs_none() {
        let (soon, late) = (NOW.plus(10), NOW.plus(3600));
        let mut secrets: SecretRecords =
            [made("endless", None), made("short", Some(soon)), made("long", Some(late))]
                .into_iter()
                .collect();
        successor("new", NOW.plus(60)).succeed(&mut secrets, NOW).unwrap();
        let minute = Some(NOW.plus(60));
        assert_eq!(
            ends(&secrets),
            [("endless", minute), ("short", Some(soon)), ("long", minute), ("new", None)]
        );
        // What has ended is dropped, at its last second and not before.
        successor("newer", late).succeed(&mut secrets, NOW.plus(60)).unwrap();
        assert_eq!(ends(&secrets), [("new", Some(late)), ("newer", None)]);
        successor("newest", NOW.plus(61)).succeed(&mut secrets, NOW.plus(61)).unwrap();
        assert_eq!(ends(&secrets), [("newest", None)]);
    }

    #[test]
    fn where_nothing_else_was_good_nothing_else_ends() {
        let rotate = |mut secrets: SecretRecords| {
            let successor = successor("new", NOW.plus(60));
            let has_others = successor.succeed(&mut secrets, NOW).unwrap();
            successor.rotated(has_others).others_end_at
        };
        assert_eq!(rotate(SecretRecords::new()), None);
        assert_eq!(rotate([made("over", Some(NOW))].into()), None);
        assert_eq!(rotate([made("old", Some(NOW.plus(1)))].into()), Some(NOW.plus(60)));
    }

    #[test]
    fn there_are_at_most_so_many() {
        let mut secrets: SecretRecords = (0..MAX_SECRETS).map(|n| made(&n.to_string(), None)).collect();
        let refused = add(&mut secrets, &made("x", None), NOW).unwrap_err();
        assert_eq!(refused, SecretError::TooMany);
        let refused = refused.to_string();
        assert!(refused.contains("`secret list`") && refused.contains("`secret remove`"), "{refused}");
        remove(&mut secrets, "pump-1", "0").unwrap();
        add(&mut secrets, &made("x", None), NOW).unwrap();
        let refused = remove(&mut secrets, "pump-1", "0").unwrap_err();
        assert_eq!(refused.to_string(), "pump-1 has no secret 0");
    }
}
