//! Keys and tokens for the tests of this crate and of its adapters. Not for
//! programs: nothing here checks what it signs.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::claims::{CertificateThumbprint, present};
use crate::freshness::Freshness;
use crate::jwk::{Jwks, PublicKey};
use crate::revocations::{Revocation, RevocationState};
use crate::time::UnixSeconds;
use crate::verify::Connecting;

pub mod feed_server;

/// An ES256 key that signs whatever it is given.
#[derive(Debug)]
pub struct TestKey(EcdsaKeyPair);

#[expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    reason = "for tests only"
)]
impl TestKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made"))
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::from_p256_point(self.0.public_key().as_ref()).expect("a P-256 key has such a point")
    }

    /// Its `kid`.
    #[must_use]
    pub fn kid(&self) -> String {
        self.public().thumbprint()
    }

    /// A JWK Set with this key alone.
    #[must_use]
    pub fn jwks(&self) -> String {
        jwks(&[self])
    }

    /// A token with an ordinary header and these claims.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": self.kid()});
        self.token_of(header.to_string(), claims.to_string())
    }

    /// A token of these bytes, signed.
    #[must_use]
    pub fn token_of(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("signing works");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A JWK Set of several keys.
#[must_use]
pub fn jwks(keys: &[&TestKey]) -> String {
    let keys = keys.iter().map(|key| key.public().to_jwk()).collect();
    json!(Jwks { keys }).to_string()
}

/// The claims of a good token of `client` from `iat` to `exp`: issuer
/// `https://id.example`, audience `mqtt`, every scope, and `devices/CLIENT/#`
/// to publish and subscribe.
#[must_use]
pub fn claims(client: &str, iat: u64, exp: u64) -> Value {
    let filter = format!("devices/{client}/#");
    json!({
        "iss": "https://id.example", "sub": client, "aud": "mqtt", "exp": exp, "iat": iat, "nbf": iat,
        "jti": format!("{client}-{iat}-{exp}"), "client_id": client,
        "scope": "mqtt.connect mqtt.publish mqtt.subscribe", "mqtt_client_id": client,
        "acl": {"pub": [filter], "sub": [filter]}, "groups": ["default"]
    })
}

/// A file of `tests/vectors`: tokens and what every validator must say to
/// them.
#[derive(Debug, Deserialize, Serialize)]
pub struct Vectors {
    /// What the file is about.
    pub about: String,
    /// The issuer that is accepted.
    pub issuer: String,
    /// The audience that is accepted.
    pub audience: String,
    /// The issuer's keys.
    pub jwks: Value,
    /// The tokens.
    pub cases: Vec<Vector>,
}

/// A token and the verdict.
#[derive(Debug, Deserialize, Serialize)]
pub struct Vector {
    /// What is special about it.
    pub name: String,
    /// The token.
    pub token: String,
    /// The MQTT client identifier of the connection.
    pub client_id: String,
    /// The certificate of the connection; absent where there is none. An
    /// adapter whose connections have none passes over these cases.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateThumbprint>,
    /// The time, in seconds since 1970.
    pub now: u64,
    /// What is known of revocations; absent where no feed is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocations: Option<VectorRevocations>,
    /// `allow`, or the code of the denial.
    pub expect: String,
}

/// What a validator that follows a feed knows.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct VectorRevocations {
    /// The revocations, in their wire form; `null` before the first snapshot.
    pub known: Option<Vec<Revocation>>,
    /// When they were last known to be current.
    pub confirmed_at: u64,
    /// For how long after that they count, in seconds.
    pub max_staleness_s: u64,
}

impl Vector {
    /// Who connects.
    #[must_use]
    pub fn connecting(&self) -> Connecting<'_> {
        Connecting { client_id: &self.client_id, certificate: self.certificate }
    }

    /// What [`crate::verify::Verifier`] is told of revocations.
    #[must_use]
    pub fn revocation_state(&self) -> RevocationState {
        let Some(VectorRevocations { known, confirmed_at, max_staleness_s }) = self.revocations.clone()
        else {
            return RevocationState::NotFollowed;
        };
        let freshness = Freshness { confirmed_at: UnixSeconds(confirmed_at), max_staleness_s };
        known.map_or(RevocationState::Missing, |known| RevocationState::Known {
            revocations: Arc::new(known.into_iter().collect()),
            freshness,
        })
    }
}

/// All files of `tests/vectors`, with their names.
#[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "for tests only")]
#[must_use]
pub fn vectors() -> Vec<(String, Vectors)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the vectors are there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let read = |path: &Path| {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let json = std::fs::read(path).expect("the file can be read");
        (name, serde_json::from_slice(&json).expect("the file has the form of Vectors"))
    };
    files.iter().map(|path| read(path)).collect()
}
