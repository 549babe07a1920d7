//! Every route, in one place for each listener.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post, put};

use crate::admin;
use crate::app::App;
use crate::endpoints::{
    self, introspect, jwks, metadata, ops, register, reports, revocations, revoke, token,
};
use fleetbadge_validator::reports::REPORTS_PATH;

/// The token endpoint, below the issuer.
pub(crate) const TOKEN_PATH: &str = "/oauth2/token";
/// The introspection endpoint, below the issuer.
pub(crate) const INTROSPECTION_PATH: &str = "/oauth2/introspect";
/// The revocation endpoint, below the issuer.
pub(crate) const REVOCATION_PATH: &str = "/oauth2/revoke";
/// Where brokers follow the revocations, below the issuer.
pub(crate) const REVOCATION_FEED_PATH: &str = "/oauth2/revocations";
/// The key set, below the issuer.
pub(crate) const JWKS_PATH: &str = "/oauth2/jwks";
/// Where devices register, and below it manage their keys.
pub(crate) const REGISTER_PATH: &str = "/oauth2/register";

/// What devices and brokers reach.
pub(crate) fn public(app: Arc<App>) -> Router {
    let base = app.issuer.path();
    Router::new()
        .route(&format!("{base}{TOKEN_PATH}"), post(token::post).fallback(token::method_not_allowed))
        .route(
            &format!("{base}{INTROSPECTION_PATH}"),
            post(introspect::post).layer(map_response(never_cached)),
        )
        .route(
            &format!("{base}{REVOCATION_PATH}"),
            post(revoke::post).layer(from_fn(to_the_end)).layer(map_response(never_cached)),
        )
        .route(
            &format!("{base}{REVOCATION_FEED_PATH}"),
            get(revocations::get).layer(map_response(never_cached)),
        )
        .route(&format!("{base}{JWKS_PATH}"), get(jwks::get))
        .route(&format!("{base}{REPORTS_PATH}"), post(reports::post).layer(map_response(never_cached)))
        .route(
            &format!("{base}{REGISTER_PATH}"),
            post(register::post).layer(from_fn(to_the_end)).layer(map_response(never_cached)),
        )
        .route(
            &format!("{base}{REGISTER_PATH}/{{client_id}}"),
            get(register::own::get)
                .put(register::own::put)
                .layer(from_fn(to_the_end))
                .layer(map_response(never_cached)),
        )
        // RFC 8414 §3.1 puts the issuer's path behind, OpenID Connect before.
        .route(&format!("/.well-known/oauth-authorization-server{base}"), get(metadata::get))
        .route(&format!("{base}/.well-known/openid-configuration"), get(metadata::get))
        .with_state(app)
}

/// What probes and Prometheus reach.
pub(crate) fn ops(app: Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .with_state(app)
}

/// What operators reach, over the unix socket alone.
pub(crate) fn admin(app: Arc<App>) -> Router {
    Router::new()
        .route("/admin/v1/devices", get(admin::devices::list).post(admin::devices::add))
        .route(
            "/admin/v1/devices/{name}",
            get(admin::devices::show).patch(admin::devices::set).delete(admin::devices::remove),
        )
        .route("/admin/v1/devices/{name}/enable", post(admin::devices::enable))
        .route("/admin/v1/devices/{name}/approve", post(admin::devices::approve))
        .route("/admin/v1/devices/{name}/disable", post(admin::devices::disable))
        .route("/admin/v1/enrolments", get(admin::enrolments::list).post(admin::enrolments::create))
        .route("/admin/v1/enrolments/{id}", delete(admin::enrolments::remove))
        .route("/admin/v1/devices/{name}/keys", get(admin::device_keys::list).post(admin::device_keys::add))
        .route("/admin/v1/devices/{name}/keys/{thumbprint}", delete(admin::device_keys::remove))
        .route(
            "/admin/v1/devices/{name}/password",
            put(admin::static_password::set).delete(admin::static_password::remove),
        )
        .route("/admin/v1/devices/{name}/explain", get(admin::policy::explain))
        .route(
            "/admin/v1/devices/{name}/secrets",
            get(admin::device_secrets::list).post(admin::device_secrets::add),
        )
        .route("/admin/v1/devices/{name}/secrets/{id}", delete(admin::device_secrets::remove))
        .route("/admin/v1/devices/{name}/rotate-secret", post(admin::device_secrets::rotate))
        .route(
            "/admin/v1/devices/{name}/certificate",
            put(admin::device_certificate::set).delete(admin::device_certificate::clear),
        )
        .route("/admin/v1/backup", get(admin::backup::get))
        .route("/admin/v1/clock", get(admin::clock::show))
        .route("/admin/v1/clock/accept", post(admin::clock::accept))
        .route("/admin/v1/groups", get(admin::groups::list))
        .route("/admin/v1/groups/{name}", get(admin::groups::show).patch(admin::groups::set))
        .route("/admin/v1/brokers", get(admin::brokers::list).post(admin::brokers::add))
        .route("/admin/v1/brokers/{name}", get(admin::brokers::show).delete(admin::brokers::remove))
        .route("/admin/v1/brokers/{name}/status", get(admin::broker_status::show))
        .route("/admin/v1/brokers/{name}/sessions", get(admin::broker_status::sessions))
        .route(
            "/admin/v1/brokers/{name}/secrets",
            get(admin::broker_secrets::list).post(admin::broker_secrets::add),
        )
        .route("/admin/v1/brokers/{name}/secrets/{id}", delete(admin::broker_secrets::remove))
        .route("/admin/v1/brokers/{name}/rotate-secret", post(admin::broker_secrets::rotate))
        .route("/admin/v1/revocations", get(admin::revocations::list).post(admin::revocations::add))
        .route("/admin/v1/keys", get(admin::keys::list))
        .route("/admin/v1/keys/rotate", post(admin::keys::rotate))
        .route("/admin/v1/keys/{kid}/revoke", post(admin::keys::revoke))
        .route("/admin/v1/root-keys", get(admin::root_keys::list).post(admin::root_keys::add))
        .route("/admin/v1/root-keys/{id}", delete(admin::root_keys::remove))
        .route("/admin/v1/root-keys/{id}/use", post(admin::root_keys::make_current))
        .fallback(admin::problem::no_such_route)
        .method_not_allowed_fallback(admin::problem::method_not_allowed)
        .layer(from_fn(to_the_end))
        .with_state(app)
}

/// Whatever the answer is, also one for another method.
async fn never_cached(response: Response) -> Response {
    endpoints::never_cached(response)
}

/// Goes on with a request whose client has hung up: a change that reached the
/// database must reach what is in memory, too.
async fn to_the_end(request: Request, next: Next) -> Response {
    match tokio::spawn(next.run(request)).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "a request that changes something failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests;
