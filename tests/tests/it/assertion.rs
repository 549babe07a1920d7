//! A device that proves itself with a client assertion (RFC 7523).

use std::fs;

use fleetbadge_tests::device::curl;
use fleetbadge_tests::issuer::Issuer;
use fleetbadge_validator::test_support::TestKey;
use fleetbadge_validator::time::{Clock as _, SystemClock};
use serde_json::json;

/// Registers a device that has this key alone.
pub(crate) fn add_device(issuer: &Issuer, name: &str, key: &TestKey) {
    let file = issuer.data_dir().join("jwks.json");
    fs::write(&file, key.jwks()).unwrap();
    let added = issuer.command(&["device", "add", name, "--no-secret", "--jwks", file.to_str().unwrap()]);
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    fs::remove_file(file).unwrap();
}

/// An assertion that is good for a minute.
pub(crate) fn make(issuer: &str, device: &str, key: &TestKey, jti: &str) -> String {
    let now = SystemClock.now();
    let claims = json!({
        "iss": device, "sub": device, "aud": issuer, "jti": jti, "iat": now, "exp": now.plus(60),
    });
    key.token_of(json!({"alg": "ES256", "kid": key.kid()}).to_string(), claims.to_string())
}

/// The status of the answer to a token request with it.
pub(crate) fn present(node: &Issuer, assertion: &str) -> u16 {
    curl([
        "--data",
        "grant_type=client_credentials",
        "--data",
        "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "--data",
        &format!("client_assertion={assertion}"),
        &(node.url() + "/oauth2/token"),
    ])
    .status
}
