//! From a grant and a key to a signed token: pure.
//!
//! The token is a compact JWS (RFC 7515 §7.1) of the claims that a
//! [`Profile`] writes, its header that of RFC 9068 §2.1.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand::SecureRandom;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;
use jsonwebtoken::signature::Signer as _;

use crate::brokers::Target;
use crate::policy::{FilterTemplate, Grant, LONGEST_NAME, Policy};
use crate::profile::{Content, Profile};
use crate::random::{NoRandomness, random_bytes};
use crate::signing_keys::{SigningKey, TokenType, signature_length};

/// The most bytes of a token that is minted; checkers accept twice that.
pub const MAX_MINTED_LENGTH: usize = 4 * 1024;

/// The `jti` of a token: 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenId([u8; 16]);

impl TokenId {
    /// How many characters its text has.
    const LENGTH: usize = 22;

    /// A new one.
    ///
    /// # Errors
    /// [`NoRandomness`], if the system has none to give.
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, NoRandomness> {
        random_bytes(random).map(Self)
    }

    /// Of these bytes, which must be random, and used for nothing else.
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// A `jti` that none of ours can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no jti of this issuer's tokens: they have 22 characters of base64url")]
pub struct NoTokenId;

impl FromStr for TokenId {
    type Err = NoTokenId;

    fn from_str(text: &str) -> Result<Self, NoTokenId> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NoTokenId)?;
        bytes.try_into().map(Self).map_err(|_| NoTokenId)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::LENGTH];
        URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// A token cannot be minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The token has more than [`MAX_MINTED_LENGTH`] bytes.
    #[error(
        "a token of group {group} has {length} bytes, at most {MAX_MINTED_LENGTH} are minted; \
         give the group fewer or shorter filters"
    )]
    TooLarge {
        /// The group whose policy it is.
        group: String,
        /// How long the token is.
        length: usize,
    },
    /// The claims cannot be written.
    #[error("the claims cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    /// The cryptographic library cannot sign.
    #[error("the cryptographic library cannot sign")]
    Signing(#[from] jsonwebtoken::signature::Error),
}

/// Mints the token that says what `content` says, written as `profile` does.
///
/// # Errors
/// [`MintError`].
pub fn mint(content: &Content<'_>, profile: &Profile, key: &SigningKey) -> Result<String, MintError> {
    let payload = profile.write(content)?;
    let typ = profile.token_type();
    let length = token_length(typ, payload.len(), key.algorithm());
    if length > MAX_MINTED_LENGTH {
        return Err(MintError::TooLarge { group: content.grant.group.to_string(), length });
    }
    let mut token = String::with_capacity(length);
    token.push_str(key.header(typ));
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&payload, &mut token);
    let signature = key.try_sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
    Ok(token)
}

/// The life of a token, shortened by up to a tenth as `draw` says: a fleet
/// that got its tokens at the same time is not to renew them at the same time.
#[must_use]
pub const fn jittered(lifetime_s: u64, draw: u32) -> u64 {
    let tenth = lifetime_s / 10;
    // 32 bits over at most a year: the unevenness is under a thousandth.
    lifetime_s - draw as u64 % (tenth + 1)
}

/// The length of the largest token that a policy can lead to for one of its
/// audiences: the longest names wherever there is a name.
///
/// # Errors
/// [`MintError::Json`].
#[expect(clippy::expect_used, reason = "a name of the greatest length, checked where it is defined")]
pub fn largest_token_length(policy: &Policy, issuer: &str, target: &Target<'_>) -> Result<usize, MintError> {
    let device = LONGEST_NAME.parse().expect("is a name");
    let group = LONGEST_NAME.parse().expect("is a name");
    let mqtt_client_ids = [LONGEST_NAME.parse().expect("is a name")];
    let longest = |template: &FilterTemplate| template.longest();
    let grant = Grant {
        device: &device,
        group: &group,
        mqtt_client_id: &mqtt_client_ids[0],
        scope: policy.scope,
        publish: policy.publish.iter().map(longest).collect(),
        subscribe: policy.subscribe.iter().map(longest).collect(),
    };
    let content = Content {
        grant: &grant,
        issuer,
        audience: target.audience,
        token_id: TokenId([0; 16]),
        now: UnixSeconds(9_000_000_000),
        lifetime_s: policy.token_lifetime_s,
        certificate: target.profile.checks_confirmation().then_some([0; 32]),
    };
    Ok(token_length(target.profile.token_type(), target.profile.write(&content)?.len(), target.algorithm))
}

const fn token_length(typ: TokenType, payload_length: usize, algorithm: Algorithm) -> usize {
    typ.header_length() + 1 + (payload_length * 4).div_ceil(3) + 1 + signature_length(algorithm)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use fleetbadge_validator::access::Action;
    use fleetbadge_validator::keys::KeySet;
    use fleetbadge_validator::revocations::RevocationState;
    use fleetbadge_validator::verify::Verifier;
    use jsonwebtoken::crypto::JwtSigner;

    use std::borrow::Cow;

    use super::*;
    use crate::policy::{PolicyDocument, RefreshWindow, Request, Subject};
    use crate::root_key::RootKey;
    use crate::store::Attributes;

    const ISSUER: &str = "https://id.example";
    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn policy(filters: usize) -> Policy {
        let document = PolicyDocument {
            publish: (0..filters).map(|n| format!("devices/${{clientid}}/{n}")).collect(),
            subscribe: vec!["devices/${clientid}/#".into()],
            scope: "mqtt.connect mqtt.publish mqtt.subscribe".into(),
            audiences: vec!["mqtt".into()],
            token_lifetime_s: 900,
            refresh_window: RefreshWindow::default(),
            static_passwords: false,
            device_password_grant: false,
        };
        Policy::from_document(&document, 86_400).unwrap()
    }

    fn largest_length(filters: usize, algorithm: Algorithm) -> usize {
        let profile = Cow::Borrowed(&Profile::Fleetbadge);
        let target = Target { audience: "mqtt", profile, algorithm };
        largest_token_length(&policy(filters), ISSUER, &target).unwrap()
    }

    fn key_of(algorithm: Algorithm) -> SigningKey {
        SigningKey::generate(algorithm, &RootKey::from_bytes([1; 32]).key_sealer()).unwrap().0
    }

    fn key() -> SigningKey {
        key_of(Algorithm::ES256)
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs no repeatable token ID")]
    fn token_id() -> TokenId {
        TokenId::generate(&SystemRandom::new()).unwrap()
    }

    fn minted(policy: &Policy, key: &SigningKey, name: &str, scope: &str) -> Result<String, MintError> {
        minted_for(policy, key, name, scope, None)
    }

    fn minted_for(
        policy: &Policy,
        key: &SigningKey,
        name: &str,
        scope: &str,
        certificate: Option<[u8; 32]>,
    ) -> Result<String, MintError> {
        let (device, group, ids) = (name.parse().unwrap(), name.parse().unwrap(), [name.parse().unwrap()]);
        let attributes = Attributes::default();
        let subject =
            Subject { device: &device, group: &group, mqtt_client_ids: &ids, attributes: &attributes };
        let grant = policy.grant(&subject, &Request { scope: Some(scope), mqtt_client_id: None }).unwrap();
        let content = Content {
            grant: &grant,
            issuer: ISSUER,
            audience: "mqtt",
            token_id: token_id(),
            now: NOW,
            lifetime_s: policy.token_lifetime_s,
            certificate,
        };
        mint(&content, &Profile::Fleetbadge, key)
    }

    #[test]
    fn a_life_is_shortened_by_a_tenth_at_most() {
        let lives: Vec<u64> = (0..1000).map(|n| jittered(900, n * 4_294_967)).collect();
        assert_eq!((lives.iter().min(), lives.iter().max()), (Some(&810), Some(&900)));
        assert_eq!(jittered(9, u32::MAX), 9);
    }

    #[test]
    fn the_validator_reads_what_is_minted() {
        for algorithm in Algorithm::ALL {
            let key = key_of(algorithm);
            let token = minted(&policy(1), &key, "pump-1", "mqtt.connect mqtt.publish").unwrap();
            let jwks = serde_json::json!({ "keys": [key.public().to_jwk()] }).to_string();
            let (keys, skipped) = KeySet::from_json(ISSUER, jwks.as_bytes()).unwrap();
            assert!(skipped.is_empty());
            let verified = Verifier::new(ISSUER, "mqtt")
                .verify(&token, "pump-1", &keys, &RevocationState::NotFollowed, NOW)
                .unwrap();
            assert_eq!(verified.expires_at(), NOW.plus(900));
            assert_eq!(verified.signed().groups().collect::<Vec<_>>(), ["pump-1"]);
            assert!(verified.allows(Action::Publish, "devices/pump-1/0", NOW).is_ok());
            assert!(verified.allows(Action::Subscribe, "devices/pump-1/#", NOW).is_err());
        }
    }

    /// A broker that cannot tell who holds the certificate lets nobody in.
    #[test]
    fn a_bound_token_names_its_certificate_and_is_no_bearer_token() {
        let key = key();
        let token = minted_for(&policy(1), &key, "pump-1", "mqtt.connect", Some([1; 32])).unwrap();
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let cnf = serde_json::json!({ "x5t#S256": URL_SAFE_NO_PAD.encode([1; 32]) });
        assert_eq!(claims["cnf"], cnf);
        let jwks = serde_json::json!({ "keys": [key.public().to_jwk()] }).to_string();
        let (keys, _) = KeySet::from_json(ISSUER, jwks.as_bytes()).unwrap();
        let denied = Verifier::new(ISSUER, "mqtt")
            .verify(&token, "pump-1", &keys, &RevocationState::NotFollowed, NOW)
            .unwrap_err();
        assert_eq!(denied.code(), "certificate_missing");
    }

    #[test]
    fn another_library_reads_it_too() {
        for algorithm in Algorithm::ALL {
            let key = key_of(algorithm);
            let token = minted(&policy(1), &key, "pump-1", "mqtt.connect").unwrap();
            let jwk = serde_json::to_value(key.public().to_jwk()).unwrap();
            let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(jwk).unwrap();
            let other = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
            let mut rules = jsonwebtoken::Validation::new(JwtSigner::algorithm(&key));
            // It would read the machine's clock.
            rules.validate_exp = false;
            rules.set_issuer(&[ISSUER]);
            rules.set_audience(&["mqtt"]);
            let read = jsonwebtoken::decode::<serde_json::Value>(&token, &other, &rules).unwrap();
            assert_eq!(read.header.typ.as_deref(), Some("at+jwt"));
            assert_eq!(read.claims["sub"], "pump-1");
            assert_eq!(read.claims["exp"], NOW.0 + 900);
        }
    }

    #[test]
    fn an_empty_acl_without_a_word_for_topics() {
        let token = minted(&policy(1), &key(), "pump-1", "mqtt.connect").unwrap();
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(claims["acl"], serde_json::json!({"pub": [], "sub": []}));
        assert_eq!(claims["scope"], "mqtt.connect");
    }

    #[test]
    fn the_length_is_known_beforehand_and_bounded() {
        let all = "mqtt.connect mqtt.publish mqtt.subscribe";
        for algorithm in Algorithm::ALL {
            let key = key_of(algorithm);
            let length = |filters| largest_length(filters, algorithm);
            let most = (1..64).take_while(|n| length(*n) <= MAX_MINTED_LENGTH).last().unwrap();
            let token = minted_for(&policy(most), &key, LONGEST_NAME, all, Some([1; 32])).unwrap();
            // The times in a token of today have the same ten digits.
            assert_eq!(token.len(), length(most));
            let error = minted_for(&policy(most + 1), &key, LONGEST_NAME, all, Some([1; 32])).unwrap_err();
            assert!(matches!(error, MintError::TooLarge { length, .. } if length > MAX_MINTED_LENGTH));
        }
    }

    #[test]
    fn token_ids_differ() {
        assert_ne!(token_id(), token_id());
        assert_eq!(token_id().to_string().len(), 22);
    }
}
