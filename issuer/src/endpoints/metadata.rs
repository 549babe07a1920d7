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
use crate::router::{INTROSPECTION_PATH, JWKS_PATH, TOKEN_PATH};

/// The metadata of an issuer (RFC 8414 §2). Lists that would be empty are left
/// out (§3.2), so that there is no `response_types_supported`.
#[derive(Serialize)]
struct Metadata<'a> {
    issuer: &'a str,
    token_endpoint: String,
    jwks_uri: String,
    scopes_supported: [&'static str; 3],
    grant_types_supported: [&'static str; 2],
    token_endpoint_auth_methods_supported: [&'static str; 3],
    token_endpoint_auth_signing_alg_values_supported: [&'static str; 3],
    introspection_endpoint: String,
    introspection_endpoint_auth_methods_supported: [&'static str; 2],
}

/// The document, made once.
pub(crate) fn document(issuer: &IssuerUrl, client_certificates: bool) -> serde_json::Result<Bytes> {
    serde_json::to_vec(&Metadata {
        issuer: issuer.as_str(),
        token_endpoint: issuer.endpoint(TOKEN_PATH),
        jwks_uri: issuer.endpoint(JWKS_PATH),
        scopes_supported: ScopeWord::ALL.map(ScopeWord::as_str),
        grant_types_supported: ["client_credentials", "password"],
        token_endpoint_auth_methods_supported: [
            "client_secret_basic",
            "client_secret_post",
            "private_key_jwt",
        ],
        token_endpoint_auth_signing_alg_values_supported: Algorithm::ALL.map(Algorithm::as_str),
        introspection_endpoint: issuer.endpoint(INTROSPECTION_PATH),
        introspection_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
    })
    .map(Bytes::from)
}

pub(crate) async fn get(State(app): State<Arc<App>>) -> impl IntoResponse {
    let headers =
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "public, max-age=3600")];
    (headers, app.metadata.clone())
}
