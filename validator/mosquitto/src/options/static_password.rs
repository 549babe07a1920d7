//! The options of an authenticator for static passwords.

use fleetbadge_validator::remote::password_exchange::{PasswordExchangeConfig, TOKEN_PATH};

use super::given::OptionsOf;
use super::jwt::{Reach, issuer, url_at_issuer};
use super::{InvalidOption, StaticPasswordOptions};

/// Reads them.
pub(super) fn read(options: &OptionsOf<'_>) -> Result<StaticPasswordOptions, InvalidOption> {
    let issuer = issuer(options)?;
    let token_url = options.url("token_url", "the URL of the issuer's token endpoint")?;
    let token_url = url_at_issuer(options, issuer, token_url, TOKEN_PATH)?;
    let credentials_file = options.own("credentials_file").ok_or_else(|| {
        options.missing("credentials_file", "what fleetbadge-issuer broker add --json prints")
    })?;
    let endpoint = Reach::read(options)?.endpoint(token_url);
    Ok(StaticPasswordOptions {
        exchange: PasswordExchangeConfig { endpoint, credentials_file: credentials_file.into() },
        issuer: issuer.into(),
        prefix: options.prefix.clone(),
    })
}
