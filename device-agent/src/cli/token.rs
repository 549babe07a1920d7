//! `token`: one token for a script.

use serde_json::json;

use crate::cli::{Error, print};
use crate::config::TokenConfig;
use crate::machine::Machine;
use crate::renewal::refresh_point;
use crate::tls;
use crate::token_cache::{CachedToken, Freshness, TokenCache};
use crate::token_client::{TokenClient, TokenError};

pub(super) async fn run(config: &TokenConfig, json: bool, machine: Machine) -> Result<(), Error> {
    let client = TokenClient::new(config, tls::client_config(config.ca_file.as_deref())?)?;
    let cache = TokenCache::new(config.state_dir.clone());
    let token = current(&client, &cache, machine).await?;
    print(&if json { as_json(&token, machine) } else { as_line(&token) })
}

/// The kept token until its refresh point; beyond it only if the issuer gives
/// no other, and does not refuse to.
async fn current(
    client: &TokenClient,
    cache: &TokenCache,
    machine: Machine,
) -> Result<CachedToken, TokenError> {
    let kept = cache.find(client.request()).map(|kept| (kept.freshness(machine.unix_now()), kept));
    let spare = match kept {
        Some((Freshness::Fresh, kept)) => return Ok(kept),
        Some((Freshness::RefreshDue, kept)) => Some(kept),
        Some((Freshness::Expired, _)) | None => None,
    };
    match (client.obtain().await, spare) {
        (Ok(issued), _) => {
            let refresh = refresh_point(issued.lifetime, machine.draw());
            let token = CachedToken::new(client.request().clone(), issued, refresh, machine.unix_now());
            cache.keep(&token);
            Ok(token)
        }
        (Err(error @ TokenError::Refused { .. }), _) | (Err(error), None) => Err(error),
        (Err(error), Some(spare)) => {
            tracing::warn!("the kept token is used while it lasts: {error}");
            Ok(spare)
        }
    }
}

fn as_line(token: &CachedToken) -> Vec<u8> {
    format!("{}\n", token.access_token.expose()).into_bytes()
}

/// The names are those of the token response (RFC 6749 §5.1).
fn as_json(token: &CachedToken, machine: Machine) -> Vec<u8> {
    let object = json!({
        "access_token": token.access_token.expose(),
        "token_type": "Bearer",
        "expires_in": token.expires_at.since(machine.unix_now()).as_secs(),
        "scope": token.scope,
        "mqtt_client_id": token.mqtt_client_id,
    });
    format!("{object}\n").into_bytes()
}
