//! Why something was denied.
//!
//! Every reason has a stable code for machines ([`Denied::code`]) and carries
//! the values that were compared, for people. Values that come from outside
//! are written with escapes and cut short, so that no token can write into a
//! log what it likes. What a device is told is less: see the adapters.

use std::fmt;

use crate::access::Action;
use crate::claims::CertificateThumbprint;
use crate::keys::KeySet;
use crate::revocations::{Revocation, RevocationTarget};
use crate::scope::ScopeWord;
use crate::time::{Rfc3339, UnixSeconds};
use crate::topic::InvalidTopic;

/// The numbered checks of a token, in the order in which they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Check {
    /// Three base64url segments, 8 KiB at most.
    Format = 1,
    /// `alg`, `typ`, no critical extension, no key brought along.
    Header,
    /// A key of the issuer has this `kid` and this `alg`.
    Key,
    /// Every claim has its type; required ones are there.
    Claims,
    /// `iss` is the issuer whose keys these are.
    Issuer,
    /// `exp` has not passed.
    Expiry,
    /// The signature.
    Signature,
    /// `aud` has the audience of this broker.
    Audience,
    /// `nbf`, `iat` and the length of life.
    Period,
    /// The token is not bound to a key, or the key was proven.
    Confirmation,
    /// `scope` has `mqtt.connect`.
    Scope,
    /// `mqtt_client_id` is the client identifier of the connection.
    ClientId,
    /// The token was not taken back.
    Revocation,
}

impl Check {
    /// All of them, in order.
    pub const ALL: [Self; 13] = [
        Self::Format,
        Self::Header,
        Self::Key,
        Self::Claims,
        Self::Issuer,
        Self::Expiry,
        Self::Signature,
        Self::Audience,
        Self::Period,
        Self::Confirmation,
        Self::Scope,
        Self::ClientId,
        Self::Revocation,
    ];

    /// The check in plain words, for explanations.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Format => "three base64url segments, at most 8 KiB",
            Self::Header => "header: algorithm, type, no extension",
            Self::Key => "signed with a key of the issuer",
            Self::Claims => "every claim there and of its type",
            Self::Issuer => "iss is the issuer",
            Self::Expiry => "not expired",
            Self::Signature => "signature good",
            Self::Audience => "aud has the audience of the broker",
            Self::Period => "already valid, and not for longer than allowed",
            Self::Confirmation => "not bound to a key that was not proven",
            Self::Scope => "scope has mqtt.connect",
            Self::ClientId => "mqtt_client_id is the connecting client",
            Self::Revocation => "not revoked",
        }
    }
}

/// Why a token, or something that was tried with one, is denied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the compared values and named for what they are")]
pub enum Denied {
    #[error("there is no token")]
    TokenMissing,
    #[error("the token has {length} bytes; at most {max} are read")]
    TokenTooLong { length: usize, max: usize },
    #[error("the token is not three base64url segments with a dot between two")]
    TokenMalformed,
    #[error("two different tokens were given, in the user name and in the password")]
    TokensDiffer,
    #[error("the header is not acceptable: {reason}")]
    HeaderMalformed { reason: Excerpt },
    #[error("alg is {alg}; accepted are ES256, RS256 and EdDSA")]
    AlgorithmNotAllowed { alg: Excerpt },
    #[error("typ is {typ}; an access token has at+jwt")]
    TypeNotAllowed { typ: Excerpt },
    #[error("key {kid} is not among the {held} keys that are held of issuer {issuer}")]
    KeyUnknown { kid: Excerpt, held: usize, issuer: Excerpt },
    #[error("key {kid} is for {key_alg}, the header says {alg}")]
    KeyForOtherAlgorithm { kid: Excerpt, key_alg: &'static str, alg: &'static str },
    #[error("the claims are not acceptable: {reason}")]
    ClaimsMalformed { reason: Excerpt },
    #[error("iss is {found}, expected {expected}")]
    IssuerDiffers { found: Excerpt, expected: Excerpt },
    #[error("iss is {found}, which is none of the issuers whose tokens are accepted here")]
    IssuerUnknown { found: Excerpt },
    #[error("expired: exp is {exp}, now {now}, skew {skew_s} s")]
    Expired { exp: UnixSeconds, now: UnixSeconds, skew_s: u64 },
    #[error("the signature is not good")]
    SignatureInvalid,
    #[error("the signature was not looked at: too many from the same place were not good")]
    SignatureUnchecked,
    #[error("aud is {found}, expected {expected}")]
    AudienceDiffers { found: Excerpt, expected: Excerpt },
    #[error("not valid yet: nbf is {nbf}, now {now}, skew {skew_s} s")]
    NotYetValid { nbf: UnixSeconds, now: UnixSeconds, skew_s: u64 },
    #[error("issued in the future: iat is {iat}, now {now}, skew {skew_s} s")]
    IssuedInFuture { iat: UnixSeconds, now: UnixSeconds, skew_s: u64 },
    #[error("valid for {lifetime_s} s, from iat {iat} to exp {exp}; at most {max_s} s are accepted")]
    LifetimeTooLong { iat: UnixSeconds, exp: UnixSeconds, lifetime_s: u64, max_s: u64 },
    #[error("the token is bound (cnf) to something that a connection cannot prove; a certificate alone can")]
    ConfirmationUnproven,
    #[error("the token is bound to certificate {bound}, and the connection has none that TLS has proven")]
    CertificateMissing { bound: CertificateThumbprint },
    #[error("the token is bound to certificate {bound}, the connection has {shown}")]
    CertificateDiffers { bound: CertificateThumbprint, shown: CertificateThumbprint },
    #[error("scope lacks {}", word.as_str())]
    ScopeMissing { word: ScopeWord },
    #[error("the token is for MQTT client ID {bound}, the connection has {connecting}")]
    ClientIdDiffers { bound: Excerpt, connecting: Excerpt },
    #[error("{}", Took(by, *iat))]
    Revoked { by: Box<Revocation>, iat: UnixSeconds },
    #[error("{state} were last confirmed {age_s} s ago; at most {max_staleness_s} s are accepted")]
    Stale { state: StaleState, age_s: u64, max_staleness_s: u64 },
    #[error(
        "{state} were last confirmed at {}, which is to come, as it is {} by this clock",
        Rfc3339(*confirmed_at), Rfc3339(*now)
    )]
    ConfirmedInFuture { state: StaleState, confirmed_at: UnixSeconds, now: UnixSeconds },
    #[error("what is revoked is not known: the feed of revocations has told nothing yet")]
    RevocationsMissing,
    #[error("{action} {topic}: {reason}")]
    TopicMalformed { action: Action, topic: Excerpt, reason: InvalidTopic },
    #[error("{action} {topic}: no rule of the token allows it")]
    TopicNotAllowed { action: Action, topic: Excerpt },
}

impl Denied {
    /// No key of `keys` is the one that a token was signed with.
    pub(crate) fn key_unknown(kid: &str, keys: &KeySet) -> Self {
        Self::KeyUnknown {
            kid: Excerpt::of(kid),
            held: keys.key_ids().count(),
            issuer: Excerpt::of(keys.issuer()),
        }
    }

    /// A stable code: lower case, words joined by `_`. Scripts and dashboards
    /// may rely on it; a code is never given another meaning.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TokenMissing => "token_missing",
            Self::TokenTooLong { .. } => "token_too_long",
            Self::TokenMalformed => "token_malformed",
            Self::TokensDiffer => "tokens_differ",
            Self::HeaderMalformed { .. } => "header_malformed",
            Self::AlgorithmNotAllowed { .. } => "algorithm_not_allowed",
            Self::TypeNotAllowed { .. } => "type_not_allowed",
            Self::KeyUnknown { .. } => "key_unknown",
            Self::KeyForOtherAlgorithm { .. } => "key_for_other_algorithm",
            Self::ClaimsMalformed { .. } => "claims_malformed",
            Self::IssuerDiffers { .. } => "issuer_differs",
            Self::IssuerUnknown { .. } => "issuer_unknown",
            Self::Expired { .. } => "expired",
            Self::SignatureInvalid => "signature_invalid",
            Self::SignatureUnchecked => "signature_unchecked",
            Self::AudienceDiffers { .. } => "audience_differs",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::IssuedInFuture { .. } => "issued_in_future",
            Self::LifetimeTooLong { .. } => "lifetime_too_long",
            Self::ConfirmationUnproven => "confirmation_unproven",
            Self::CertificateMissing { .. } => "certificate_missing",
            Self::CertificateDiffers { .. } => "certificate_differs",
            Self::ScopeMissing { .. } => "scope_missing",
            Self::ClientIdDiffers { .. } => "client_id_differs",
            Self::Revoked { .. } => "revoked",
            Self::Stale { .. } | Self::ConfirmedInFuture { .. } => "stale",
            Self::RevocationsMissing => "revocations_missing",
            Self::TopicMalformed { .. } => "topic_malformed",
            Self::TopicNotAllowed { .. } => "topic_not_allowed",
        }
    }

    /// Which check of a token failed; `None` for what is asked of a token that
    /// was good.
    #[must_use]
    pub const fn check(&self) -> Option<Check> {
        Some(match self {
            Self::TokenMissing | Self::TokenTooLong { .. } | Self::TokenMalformed | Self::TokensDiffer => {
                Check::Format
            }
            Self::HeaderMalformed { .. } | Self::AlgorithmNotAllowed { .. } | Self::TypeNotAllowed { .. } => {
                Check::Header
            }
            Self::KeyUnknown { .. } | Self::KeyForOtherAlgorithm { .. } => Check::Key,
            Self::ClaimsMalformed { .. } => Check::Claims,
            Self::IssuerDiffers { .. } | Self::IssuerUnknown { .. } => Check::Issuer,
            Self::Expired { .. } => Check::Expiry,
            Self::SignatureInvalid | Self::SignatureUnchecked => Check::Signature,
            Self::AudienceDiffers { .. } => Check::Audience,
            Self::NotYetValid { .. } | Self::IssuedInFuture { .. } | Self::LifetimeTooLong { .. } => {
                Check::Period
            }
            Self::ConfirmationUnproven
            | Self::CertificateMissing { .. }
            | Self::CertificateDiffers { .. } => Check::Confirmation,
            Self::ScopeMissing { .. } => Check::Scope,
            Self::ClientIdDiffers { .. } => Check::ClientId,
            Self::Stale { state, .. } | Self::ConfirmedInFuture { state, .. } => match state {
                StaleState::Keys => Check::Key,
                StaleState::Revocations => Check::Revocation,
            },
            Self::Revoked { .. } | Self::RevocationsMissing => Check::Revocation,
            Self::TopicMalformed { .. } | Self::TopicNotAllowed { .. } => return None,
        })
    }
}

/// What the issuer said too long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleState {
    /// Its keys.
    Keys,
    /// Its revocations.
    Revocations,
}

impl fmt::Display for StaleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys => "the issuer's keys",
            Self::Revocations => "the issuer's revocations",
        })
    }
}

/// What a revocation took back, of a token with this `iat`.
struct Took<'a>(&'a Revocation, UnixSeconds);

impl fmt::Display for Took<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(revocation, iat) = self;
        match &revocation.target {
            RevocationTarget::Token(jti) => {
                return write!(f, "this token, {}, was taken back", Excerpt::of(jti));
            }
            RevocationTarget::Key(kid) => {
                return write!(f, "what key {} signed was taken back", Excerpt::of(kid));
            }
            RevocationTarget::Device(name) => write!(f, "tokens of device {}", Excerpt::of(name))?,
            RevocationTarget::Group(name) => write!(f, "tokens of group {}", Excerpt::of(name))?,
            RevocationTarget::All => f.write_str("all tokens")?,
        }
        // The targets above have one.
        let before = revocation.before().unwrap_or(UnixSeconds(u64::MAX));
        let (before, iat) = (Rfc3339(before), Rfc3339(*iat));
        write!(f, " issued before {before} were taken back; this one is of {iat}")
    }
}

/// The start of a value from outside. Displays in quotes, escaped.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(Box<str>);

impl Excerpt {
    /// How much of a value is kept, in characters.
    const MAX_LENGTH: usize = 120;

    /// Keeps the start of `text`, and an ellipsis if there was more.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text.char_indices().nth(Self::MAX_LENGTH) {
            Some((end, _)) => Self(format!("{}…", text.split_at(end).0).into()),
            None => Self(text.into()),
        }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests;
