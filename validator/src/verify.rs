//! Whether a token lets this client into this broker now.
//!
//! A pure function of the token, the keys, the revocations, the connecting
//! client and the time. After checks 1 to 7 of [`crate::token`], made once per token, come
//! those that depend on who asks and when; they are made at every connection,
//! for a token that was seen before too:
//!
//! 3. key: the very one that signed it is still among the issuer's keys, and
//!    these are not too old
//! 5. issuer: the one of this broker
//! 6. expiry
//! 8. audience (RFC 9068 §4)
//! 9. period: `nbf` and `iat` are past, the life is not too long
//! 10. confirmation: a token bound to a certificate comes over a connection
//!     with that certificate (RFC 8705 §3); one that is bound to anything else is
//!     refused, never downgraded
//! 11. scope: `mqtt.connect` as a whole word
//! 12. client ID: equal to the connecting one, byte for byte
//! 13. revocation: not taken back, as far as the feed is known; closed while
//!     nothing, or nothing recent, is known

use std::sync::Arc;

use crate::claims::{CertificateThumbprint, Confirmation};
use crate::denied::{Denied, Excerpt, StaleState};
use crate::keys::KeySet;
use crate::memory::Memory;
use crate::revocations::RevocationState;
use crate::scope::{Scope, ScopeWord};
use crate::time::UnixSeconds;
use crate::token::SignedToken;

/// Who connects, as far as the connection itself tells: what a token is
/// compared with. From a string it is that client ID, without a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Connecting<'a> {
    /// The MQTT client identifier.
    pub client_id: &'a str,
    /// The certificate whose key the client has proven in the TLS handshake.
    pub certificate: Option<CertificateThumbprint>,
}

impl<'a, S: AsRef<str> + ?Sized> From<&'a S> for Connecting<'a> {
    fn from(client_id: &'a S) -> Self {
        Self { client_id: client_id.as_ref(), certificate: None }
    }
}

/// By what a broker judges tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    /// The issuer whose tokens are accepted, its identifier byte for byte.
    pub issuer: Box<str>,
    /// The audience that stands for this broker.
    pub audience: Box<str>,
    /// How far the clocks of issuer and broker may differ, in seconds.
    pub skew_s: u64,
    /// The longest life of a token that is accepted, in seconds.
    pub max_lifetime_s: u64,
}

impl Verifier {
    /// The skew that is allowed unless told otherwise, in seconds.
    pub const DEFAULT_SKEW_S: u64 = 5;
    /// The greatest skew that can be configured anywhere, in seconds: it is
    /// added to the life of every token.
    pub const MAX_SKEW_S: u64 = 300;
    /// The longest life of a token unless told otherwise: a day, in seconds.
    pub const DEFAULT_MAX_LIFETIME_S: u64 = 86_400;

    /// A verifier with the default skew and lifetime.
    #[must_use]
    pub fn new(issuer: &str, audience: &str) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            skew_s: Self::DEFAULT_SKEW_S,
            max_lifetime_s: Self::DEFAULT_MAX_LIFETIME_S,
        }
    }

    /// Makes every check.
    ///
    /// # Errors
    /// [`Denied`] says which check failed and on what.
    pub fn verify<'a>(
        &self,
        token: &str,
        connecting: impl Into<Connecting<'a>>,
        keys: &KeySet,
        revocations: &RevocationState,
        now: UnixSeconds,
    ) -> Result<VerifiedToken, Denied> {
        let signed = SignedToken::check(token, keys, now, self.skew_s)?;
        self.admit(Arc::new(signed), connecting.into(), keys, revocations, now)
    }

    /// Makes every check, but takes from `memory` that a token seen before
    /// has a good signature.
    ///
    /// # Errors
    /// [`Denied`] says which check failed and on what.
    pub fn verify_remembered<'a>(
        &self,
        token: &str,
        connecting: impl Into<Connecting<'a>>,
        keys: &KeySet,
        revocations: &RevocationState,
        memory: &mut Memory,
        now: UnixSeconds,
    ) -> Result<VerifiedToken, Denied> {
        self.verify_remembered_if(token, connecting, keys, revocations, memory, now, || Ok(()))
    }

    /// The same, but asks `admit` before a signature is checked: for whoever
    /// bounds what strangers can cost. It is not asked about a token seen
    /// before.
    ///
    /// # Errors
    /// [`Denied`], and what `admit` says.
    #[expect(clippy::too_many_arguments, reason = "all that the verdict depends on")]
    pub fn verify_remembered_if<'a>(
        &self,
        token: &str,
        connecting: impl Into<Connecting<'a>>,
        keys: &KeySet,
        revocations: &RevocationState,
        memory: &mut Memory,
        now: UnixSeconds,
        admit: impl FnOnce() -> Result<(), Denied>,
    ) -> Result<VerifiedToken, Denied> {
        let check = || SignedToken::check_if(token, keys, now, self.skew_s, admit);
        let signed = memory.recall(token, now, check)?;
        self.admit(signed, connecting.into(), keys, revocations, now)
    }

    /// Makes the checks that depend on who asks.
    fn admit(
        &self,
        signed: Arc<SignedToken>,
        connecting: Connecting<'_>,
        keys: &KeySet,
        revocations: &RevocationState,
        now: UnixSeconds,
    ) -> Result<VerifiedToken, Denied> {
        let skew_s = self.skew_s;
        if keys.get(signed.key_id()).is_none_or(|key| *key.thumbprint() != signed.signed_with) {
            return Err(Denied::key_unknown(signed.key_id(), keys));
        }
        if let Some(freshness) = keys.freshness() {
            freshness.check(StaleState::Keys, now)?;
        }
        if *signed.issuer != *self.issuer {
            return Err(Denied::IssuerDiffers {
                found: Excerpt::of(&signed.issuer),
                expected: Excerpt::of(&self.issuer),
            });
        }
        let ends_at = signed.exp.plus(skew_s);
        if now >= ends_at {
            return Err(Denied::Expired { exp: signed.exp, now, skew_s });
        }
        if !signed.audiences().any(|audience| audience == &*self.audience) {
            let found: Vec<&str> = signed.audiences().collect();
            return Err(Denied::AudienceDiffers {
                found: Excerpt::of(&found.join(" ")),
                expected: Excerpt::of(&self.audience),
            });
        }
        self.check_period(&signed, now)?;
        check_confirmation(&signed, connecting.certificate)?;
        if !signed.scope.contains(ScopeWord::MqttConnect) {
            return Err(Denied::ScopeMissing { word: ScopeWord::MqttConnect });
        }
        let client_id = connecting.client_id;
        if client_id.is_empty() || signed.mqtt_client_id() != client_id {
            return Err(Denied::ClientIdDiffers {
                bound: Excerpt::of(signed.mqtt_client_id()),
                connecting: Excerpt::of(client_id),
            });
        }
        check_revocation(&signed, revocations, now)?;
        Ok(VerifiedToken { signed, ends_at })
    }

    fn check_period(&self, signed: &SignedToken, now: UnixSeconds) -> Result<(), Denied> {
        let (skew_s, soon) = (self.skew_s, now.plus(self.skew_s));
        let SignedToken { iat, exp, nbf, .. } = *signed;
        if let Some(nbf) = nbf.filter(|nbf| *nbf > soon) {
            return Err(Denied::NotYetValid { nbf, now, skew_s });
        }
        if iat > soon {
            return Err(Denied::IssuedInFuture { iat, now, skew_s });
        }
        let lifetime_s = exp.since(iat);
        if lifetime_s > self.max_lifetime_s || iat >= exp {
            return Err(Denied::LifetimeTooLong { iat, exp, lifetime_s, max_s: self.max_lifetime_s });
        }
        Ok(())
    }
}

fn check_confirmation(signed: &SignedToken, shown: Option<CertificateThumbprint>) -> Result<(), Denied> {
    match signed.confirmation.as_deref() {
        None => Ok(()),
        Some(Confirmation::Other(_)) => Err(Denied::ConfirmationUnproven),
        Some(Confirmation::Certificate(bound)) => match shown {
            Some(shown) if shown.is(&bound.sha256) => Ok(()),
            Some(shown) => Err(Denied::CertificateDiffers { bound: bound.sha256, shown }),
            None => Err(Denied::CertificateMissing { bound: bound.sha256 }),
        },
    }
}

fn check_revocation(
    signed: &SignedToken,
    revocations: &RevocationState,
    now: UnixSeconds,
) -> Result<(), Denied> {
    match revocations {
        RevocationState::NotFollowed => Ok(()),
        RevocationState::Missing => Err(Denied::RevocationsMissing),
        RevocationState::Known { revocations, freshness } => {
            freshness.check(StaleState::Revocations, now)?;
            signed.check_not_revoked(revocations)
        }
    }
}

/// A token that lets its client in. Only [`Verifier`] makes one, and only it
/// can be asked about topics, see [`crate::access`].
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    signed: Arc<SignedToken>,
    ends_at: UnixSeconds,
}

impl VerifiedToken {
    /// The device: stable, not secret, what belongs into logs.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.signed.subject()
    }

    /// The MQTT client identifier that is let in.
    #[must_use]
    pub fn mqtt_client_id(&self) -> &str {
        self.signed.mqtt_client_id()
    }

    /// The token's `exp`.
    #[must_use]
    pub fn expires_at(&self) -> UnixSeconds {
        self.signed.exp
    }

    /// From when on the token is good for nothing: `exp` plus skew.
    #[must_use]
    pub const fn ends_at(&self) -> UnixSeconds {
        self.ends_at
    }

    /// What the token is for.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.signed.scope
    }

    /// Everything else that the token says.
    #[must_use]
    pub fn signed(&self) -> &SignedToken {
        &self.signed
    }
}

#[cfg(test)]
mod tests;
