//! Tokens of all kinds, signed with a key that only the test has, and brokers
//! that trust this key: for what the real issuer would never mint.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_validator::test_support::feed_server::FeedServer;
use fleetbadge_validator::test_support::{TestKey, claims};
use fleetbadge_validator::time::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::broker::{Mosquitto, MosquittoBuilder, MosquittoVersion};
use crate::programs::mosquitto_plugin;

/// The issuer that the tokens name.
pub const ISSUER: &str = "https://id.example";

/// A maker of tokens.
#[derive(Debug)]
pub struct Badges(TestKey);

impl Badges {
    /// With a new key.
    #[must_use]
    pub fn new() -> Self {
        Self(TestKey::generate())
    }

    /// The JWK Set with its public key.
    #[must_use]
    pub fn jwks(&self) -> String {
        self.0.jwks()
    }

    /// The `kid` of its key.
    #[must_use]
    pub fn kid(&self) -> String {
        self.0.kid()
    }

    /// A good token of `client` for 15 minutes: `devices/CLIENT/#` to publish
    /// and subscribe.
    #[must_use]
    pub fn token(&self, client: &str) -> String {
        self.token_with(client, &json!({}))
    }

    /// A token of `client` with some claims replaced.
    ///
    /// # Panics
    /// When `changes` is no object.
    #[must_use]
    pub fn token_with(&self, client: &str, changes: &Value) -> String {
        self.0.token(&Self::claims(client, changes))
    }

    /// A token of `client` that expires `seconds` from now.
    #[must_use]
    pub fn token_for_s(&self, client: &str, seconds: u64) -> String {
        self.token_with(client, &json!({"exp": SystemClock.now().plus(seconds)}))
    }

    /// A token with parts of its header replaced, properly signed.
    ///
    /// # Panics
    /// When `changes` is no object.
    #[must_use]
    pub fn token_with_header(&self, client: &str, changes: &Value) -> String {
        let mut header = json!({"alg": "ES256", "typ": "at+jwt", "kid": self.0.kid()});
        replace(&mut header, changes);
        self.0.token_of(header.to_string(), Self::claims(client, &json!({})).to_string())
    }

    /// A token without a signature, `alg` none.
    #[must_use]
    pub fn unsigned_token(&self, client: &str) -> String {
        let header = json!({"alg": "none", "typ": "at+jwt", "kid": self.0.kid()}).to_string();
        let payload = Self::claims(client, &json!({})).to_string();
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    /// A Mosquitto whose plugin trusts this key and the audience `mqtt`, to be
    /// configured further.
    #[must_use]
    pub fn guarded(&self, version: MosquittoVersion) -> MosquittoBuilder {
        let broker = Mosquitto::builder(version);
        let jwks = broker.dir().write("jwks.json", self.jwks().as_bytes());
        plugged(broker, ISSUER).plugin_opt("jwks_file", &jwks.to_string_lossy())
    }

    fn claims(client: &str, changes: &Value) -> Value {
        let now = SystemClock.now();
        let mut claims = claims(client, now.minus(1).0, now.plus(900).0);
        replace(&mut claims, changes);
        claims
    }
}

/// A Mosquitto whose plugin fetches the keys of `issuer` from `jwks_url`, and
/// keeps them in `state` in the broker's directory.
#[must_use]
pub fn guarded_by(issuer: &str, jwks_url: &str, version: MosquittoVersion) -> MosquittoBuilder {
    let broker = Mosquitto::builder(version);
    let state = broker.dir().subdir("state");
    plugged(broker, issuer).plugin_opt("jwks_url", jwks_url).plugin_opt("state_dir", &state.to_string_lossy())
}

/// Has the plugin named before follow a feed, and report to the same server:
/// with credentials and a state folder of its own in the broker's directory.
#[must_use]
pub fn following(broker: MosquittoBuilder, feed: &FeedServer) -> MosquittoBuilder {
    let credentials = broker.dir().write("broker.json", FeedServer::credentials().as_bytes());
    let state = broker.dir().subdir("state");
    broker
        .plugin_opt("credentials_file", &credentials.to_string_lossy())
        .plugin_opt("revocations_url", &feed.feed_url())
        .plugin_opt("reports_url", &feed.reports_url())
        .plugin_opt("state_dir", &state.to_string_lossy())
}

/// The lines that each guarded listener has; where the keys are must follow.
#[must_use]
pub fn plugged(broker: MosquittoBuilder, issuer: &str) -> MosquittoBuilder {
    broker
        .config_line("allow_anonymous false")
        .plugin(mosquitto_plugin())
        .plugin_opt("issuer", issuer)
        .plugin_opt("audience", "mqtt")
}

impl Default for Badges {
    fn default() -> Self {
        Self::new()
    }
}

fn replace(object: &mut Value, changes: &Value) {
    let (Value::Object(object), Value::Object(changes)) = (object, changes) else {
        panic!("{changes} is no object");
    };
    object.extend(changes.clone());
}
