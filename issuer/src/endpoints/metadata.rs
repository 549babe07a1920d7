//! `/.well-known/…`: where everything is (RFC 8414).
//!
//! The same document under the name that OpenID Connect gave it, as some
//! brokers look there for the key set.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use bytes::Bytes;
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::scope::ScopeWord;
use http::header;
use serde::Serialize;

use crate::app::App;
use crate::issuer_url::IssuerUrl;
use crate::router::{INTROSPECTION_PATH, JWKS_PATH, REGISTER_PATH, REVOCATION_PATH, TOKEN_PATH};
use crate::self_token::SCOPE;

/// How clients may prove themselves with a secret.
const BY_SECRET: [&str; 2] = ["client_secret_basic", "client_secret_post"];

/// The metadata of an issuer (RFC 8414 §2). Lists that would be empty are left
/// out (§3.2), so that there is no `response_types_supported`.
#[derive(Serialize)]
struct Metadata<'a> {
    issuer: &'a str,
    token_endpoint: String,
    jwks_uri: String,
    registration_endpoint: String,
    introspection_endpoint: String,
    revocation_endpoint: String,
    scopes_supported: Vec<&'static str>,
    grant_types_supported: [&'static str; 2],
    token_endpoint_auth_methods_supported: Vec<&'static str>,
    token_endpoint_auth_signing_alg_values_supported: [&'static str; Algorithm::ALL.len()],
    introspection_endpoint_auth_methods_supported: [&'static str; 2],
    /// Devices and brokers: each by the ways that it has.
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    revocation_endpoint_auth_signing_alg_values_supported: [&'static str; Algorithm::ALL.len()],
    /// For proofs at the registration endpoint (RFC 9449 §5.1).
    dpop_signing_alg_values_supported: [&'static str; Algorithm::ALL.len()],
    /// RFC 8705 §3.3.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_client_certificate_bound_access_tokens: bool,
}

/// The document, made once. `client_certificates`: whether TLS, or a trusted
/// proxy, tells which certificate a client has.
pub(crate) fn document(issuer: &IssuerUrl, client_certificates: bool) -> serde_json::Result<Bytes> {
    let by_certificate = client_certificates.then_some("tls_client_auth");
    let auth_methods: Vec<_> =
        BY_SECRET.into_iter().chain(["private_key_jwt"]).chain(by_certificate).collect();
    serde_json::to_vec(&Metadata {
        issuer: issuer.as_str(),
        token_endpoint: issuer.endpoint(TOKEN_PATH),
        jwks_uri: issuer.endpoint(JWKS_PATH),
        registration_endpoint: issuer.endpoint(REGISTER_PATH),
        introspection_endpoint: issuer.endpoint(INTROSPECTION_PATH),
        revocation_endpoint: issuer.endpoint(REVOCATION_PATH),
        scopes_supported: ScopeWord::ALL.map(ScopeWord::as_str).into_iter().chain([SCOPE]).collect(),
        grant_types_supported: ["client_credentials", "password"],
        token_endpoint_auth_methods_supported: auth_methods.clone(),
        token_endpoint_auth_signing_alg_values_supported: Algorithm::ALL.map(Algorithm::as_str),
        introspection_endpoint_auth_methods_supported: BY_SECRET,
        revocation_endpoint_auth_methods_supported: auth_methods,
        revocation_endpoint_auth_signing_alg_values_supported: Algorithm::ALL.map(Algorithm::as_str),
        dpop_signing_alg_values_supported: Algorithm::ALL.map(Algorithm::as_str),
        tls_client_certificate_bound_access_tokens: client_certificates,
    })
    .map(Bytes::from)
}

pub(crate) async fn get(State(app): State<Arc<App>>) -> impl IntoResponse {
    let headers =
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "public, max-age=3600")];
    (headers, app.metadata.clone())
}
