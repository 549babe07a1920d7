//! `private_key_jwt`: an assertion that the device's key signed (RFC 7523
//! §2.2, RFC 10070).
//!
//! 1. the form of the assertion, its `typ`, no key that it brings along;
//! 2. its claims: strict types, `iss` = `sub`, `aud` this issuer and nobody
//!    else, a life that is bounded and not over;
//! 3. the signature, with a key of that device for exactly that algorithm;
//! 4. the device may have tokens;
//! 5. the `jti` was never used before, which is durable before it counts.
//!
//! Whoever has none of the device's keys costs one signature check for each of
//! them at most, and no write.

use std::sync::Arc;

use fleetbadge_validator::claims::present;
use fleetbadge_validator::jwk::PublicKey;
use fleetbadge_validator::jws::{InvalidJws, Jws};
use fleetbadge_validator::keys::VerifyingKey;
use fleetbadge_validator::time::UnixSeconds;
use quick_cache::sync::Cache;
use serde::Deserialize;

use super::{AuthenticatedDevice, Client, Method, Proven, Question};
use crate::app::App;
use crate::audience::Audience;
use crate::credentials::{CredentialId, KeyRecord};
use crate::error::TokenError;
use crate::form::Form;
use crate::store::{DeviceRecord, NotEnabled};
use crate::used_jtis::{JtiRefused, MAX_JTI_LENGTH, StatementKind};

/// The one `client_assertion_type` (RFC 7523 §2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// What an assertion's `typ` may be, if it has one: its own (RFC 10070), and
/// the one that every JWT library writes unless told otherwise.
const TYPES: &[&str] = &["client-authentication+jwt", "JWT"];
/// How long an assertion may be good, in seconds.
const MAX_LIFETIME_S: u64 = 300;
/// How far a device's clock may be off, in seconds.
const SKEW_S: u64 = 30;
/// How many parsed keys are kept.
const CACHE_CAPACITY: usize = 100_000;

/// An assertion that somebody presents.
pub(crate) struct Assertion {
    text: String,
    /// The `client_id` beside it, which must be the same.
    client_id: Option<String>,
}

/// Reads `client_assertion`. None without one.
///
/// # Errors
/// [`TokenError::InvalidRequest`] for another `client_assertion_type`.
pub(super) fn from_form(form: &Form<'_>) -> Result<Option<Assertion>, TokenError> {
    match (form.get("client_assertion"), form.get("client_assertion_type")) {
        (None, None) => Ok(None),
        (Some(text), Some(ASSERTION_TYPE)) => {
            Ok(Some(Assertion { text: text.into(), client_id: form.get("client_id").map(Into::into) }))
        }
        (Some(_), _) => {
            Err(TokenError::InvalidRequest(format!("client_assertion_type must be {ASSERTION_TYPE}").into()))
        }
        (None, Some(_)) => Err(TokenError::InvalidRequest("client_assertion is missing".into())),
    }
}

/// The claims of an assertion (RFC 7523 §3). A claim that is there must have
/// the right type (CVE-2026-25537); others are passed over.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: UnixSeconds,
    #[serde(default, deserialize_with = "present")]
    iat: Option<UnixSeconds>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<UnixSeconds>,
    jti: String,
}

/// Why an assertion is not accepted: for the log alone.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("the assertion {0}")]
    Jws(#[from] InvalidJws),
    #[error("iss and sub differ")]
    SubjectDiffers,
    #[error("client_id is not that of the assertion")]
    ClientIdDiffers,
    #[error("aud is not this issuer alone")]
    Audience,
    #[error("exp is past, or more than {MAX_LIFETIME_S} s ahead")]
    Expiry,
    #[error("nbf or iat is to come")]
    NotYet,
    #[error("jti is empty or longer than {MAX_JTI_LENGTH} bytes")]
    Jti,
    #[error("there is no such device")]
    NoSuchDevice,
    #[error("the device has no such key")]
    NoSuchKey,
    #[error(transparent)]
    NotEnabled(#[from] NotEnabled),
    #[error("the assertion was used before")]
    Replayed,
}

/// The device that signed an assertion, if it may have tokens. Why it may not
/// is for the log alone.
///
/// # Errors
/// [`TokenError::ServerError`] if the database fails.
pub(super) async fn verify(
    app: &App,
    question: &mut Question,
    assertion: &Assertion,
) -> Result<Option<Proven>, TokenError> {
    let refused = |client_id: Option<&str>, reason: Refused| {
        tracing::debug!(?client_id, %reason, "client authentication failed");
        Ok(None)
    };
    let now = app.now();
    let (jws, claims) = match read(assertion, app.issuer.as_str(), now) {
        Ok(read) => read,
        Err(reason) => return refused(assertion.client_id.as_deref(), reason),
    };
    let refused = |reason| refused(Some(&claims.sub), reason);
    let Some(device) = question.find_device(app, &claims.sub).await? else {
        return refused(Refused::NoSuchDevice);
    };
    let credential = match signed_by(&app.parsed_keys, &jws, &device) {
        Ok(credential) => credential,
        Err(reason) => return refused(reason),
    };
    let device = match AuthenticatedDevice::new(device, Method::PrivateKeyJwt { key: credential.clone() }) {
        Ok(device) => device,
        Err(not_enabled) => return refused(not_enabled.into()),
    };
    let ends_at = claims.exp.plus(SKEW_S);
    let kind = StatementKind::ClientAssertion;
    match app.used_jtis.use_once(kind, device.name.as_str(), &claims.jti, ends_at).await {
        Ok(()) => Ok(Some(Proven { client: Client::Device(device), credential })),
        Err(JtiRefused::Replayed) => refused(Refused::Replayed),
        Err(JtiRefused::Store(error)) => Err(app.store_failed(&error).into()),
        Err(JtiRefused::MayBeReplayed { retry_after_s }) => {
            Err(TokenError::TemporarilyUnavailable { retry_after_s })
        }
        Err(error @ JtiRefused::Ending) => Err(TokenError::internal(&error)),
    }
}

/// Everything that needs neither a key nor the store.
fn read<'a>(assertion: &'a Assertion, issuer: &str, now: UnixSeconds) -> Result<(Jws<'a>, Claims), Refused> {
    let jws = Jws::read(&assertion.text)?;
    if jws.typ().is_some() {
        jws.expect_typ(TYPES)?;
    }
    jws.refuse_jwk()?;
    let claims: Claims = jws.unverified_claims()?;
    if claims.iss != claims.sub {
        return Err(Refused::SubjectDiffers);
    }
    if assertion.client_id.as_ref().is_some_and(|client_id| *client_id != claims.sub) {
        return Err(Refused::ClientIdDiffers);
    }
    if !matches!(claims.aud.as_slice(), [only] if only == issuer) {
        return Err(Refused::Audience);
    }
    if now >= claims.exp.plus(SKEW_S) || claims.exp > now.plus(MAX_LIFETIME_S + SKEW_S) {
        return Err(Refused::Expiry);
    }
    if [claims.iat, claims.nbf].into_iter().flatten().any(|time| time > now.plus(SKEW_S)) {
        return Err(Refused::NotYet);
    }
    if claims.jti.is_empty() || claims.jti.len() > MAX_JTI_LENGTH {
        return Err(Refused::Jti);
    }
    Ok((jws, claims))
}

/// Which key of the device signed: the one that `kid` names, or any for the
/// algorithm.
fn signed_by(keys: &ParsedKeys, jws: &Jws<'_>, device: &DeviceRecord) -> Result<CredentialId, Refused> {
    let is_meant = |key: &&KeyRecord| match jws.kid() {
        Some(kid) => key.id.as_str() == kid || key.jwk.kid.as_deref() == Some(kid),
        None => true,
    };
    let mut refused = Refused::NoSuchKey;
    for key in device.credentials.keys.iter().filter(is_meant) {
        let Some(parsed) = keys.get(key) else { continue };
        if parsed.algorithm() != jws.algorithm() {
            continue;
        }
        match jws.claims::<Claims>(&parsed) {
            Ok(_) => return Ok(key.id.clone()),
            Err(error) => refused = error.into(),
        }
    }
    Err(refused)
}

/// Public keys of devices, parsed: parsing costs as much as half a check.
pub(crate) struct ParsedKeys(Cache<CredentialId, Arc<VerifyingKey>>);

impl ParsedKeys {
    pub(crate) fn new() -> Self {
        Self(Cache::new(CACHE_CAPACITY))
    }

    /// None if the key was accepted once and no longer would be.
    fn get(&self, key: &KeyRecord) -> Option<Arc<VerifyingKey>> {
        if let Some(parsed) = self.0.get(&key.id) {
            return Some(parsed);
        }
        let public = PublicKey::from_jwk(&key.jwk).ok()?;
        // The entry is found by the thumbprint, so it must be that of the key.
        let parsed = Arc::new(VerifyingKey::new(&public).ok()?);
        if **parsed.thumbprint() != *key.id.as_str() {
            return None;
        }
        self.0.insert(key.id.clone(), Arc::clone(&parsed));
        Some(parsed)
    }
}

#[cfg(test)]
mod tests;
