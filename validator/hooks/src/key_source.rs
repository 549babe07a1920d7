//! Where the issuer's keys come from: a file, a URL, or the issuer's metadata
//! (RFC 8414).

use std::path::PathBuf;

use clap::Args;
use fleetbadge_validator::keys::file::{self, KeyFileError};
use fleetbadge_validator::keys::{InvalidKeySet, KeySet, SkippedKey};
use fleetbadge_validator::remote::http::{self, Answer, Endpoint, FetchError, HttpSetupError};
use serde::Deserialize;
use url::Url;

#[derive(Args)]
#[group(id = "key-source", multiple = true)]
pub(crate) struct KeySource {
    /// Read the issuer's keys from this JWK Set file
    #[arg(long, value_name = "FILE", conflicts_with = "jwks_url")]
    jwks_file: Option<PathBuf>,
    /// Fetch the issuer's keys from here; by default, from where the issuer's metadata says
    #[arg(long, value_name = "URL")]
    jwks_url: Option<Url>,
    #[command(flatten)]
    pub(crate) network: Network,
}

/// How whatever comes over the network may come.
#[derive(Args)]
#[group(multiple = true)]
pub(crate) struct Network {
    /// Trust these certificates (PEM) instead of the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Allow plain HTTP to another machine
    #[arg(long)]
    allow_insecure_http: bool,
}

impl Network {
    pub(crate) fn endpoint(&self, url: Url) -> Endpoint {
        Endpoint { url, ca_file: self.ca_file.clone(), allow_insecure_http: self.allow_insecure_http }
    }
}

/// There are no keys to check with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeySourceError {
    #[error("--jwks-file {}: {reason}", path.display())]
    File { path: PathBuf, reason: KeyFileError },
    #[error("--issuer {issuer}: {reason}; name its keys with --jwks-url or --jwks-file")]
    Issuer { issuer: String, reason: url::ParseError },
    #[error(transparent)]
    Setup(#[from] HttpSetupError),
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    #[error("{url}: {reason}")]
    Fetch { url: Url, reason: FetchError },
    #[error("{url} is no authorization server metadata: {reason}")]
    Metadata { url: Url, reason: serde_json::Error },
    #[error("{url} is the metadata of {found:?}, not of {expected:?}")]
    IssuerDiffers { url: Url, found: String, expected: String },
    #[error("the keys: {0}")]
    Keys(#[from] InvalidKeySet),
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: Url,
}

impl KeySource {
    /// The issuer's keys, and those of them that cannot be used.
    pub(crate) fn keys(&self, issuer: &str) -> Result<(KeySet, Vec<SkippedKey>), KeySourceError> {
        let json = match &self.jwks_file {
            Some(path) => {
                file::read(path).map_err(|reason| KeySourceError::File { path: path.clone(), reason })?
            }
            None => self.fetch(issuer)?,
        };
        Ok(KeySet::from_json(issuer, &json)?)
    }

    fn fetch(&self, issuer: &str) -> Result<Vec<u8>, KeySourceError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(KeySourceError::Runtime)?;
        runtime.block_on(async {
            let jwks_url = match &self.jwks_url {
                Some(url) => url.clone(),
                None => self.discover(issuer).await?,
            };
            self.get(&jwks_url).await
        })
    }

    async fn discover(&self, issuer: &str) -> Result<Url, KeySourceError> {
        let url = metadata_url(issuer)
            .map_err(|reason| KeySourceError::Issuer { issuer: issuer.to_owned(), reason })?;
        let json = self.get(&url).await?;
        let metadata: Metadata = serde_json::from_slice(&json)
            .map_err(|reason| KeySourceError::Metadata { url: url.clone(), reason })?;
        // RFC 8414 §3.3.
        if metadata.issuer != issuer {
            return Err(KeySourceError::IssuerDiffers {
                url,
                found: metadata.issuer,
                expected: issuer.to_owned(),
            });
        }
        Ok(metadata.jwks_uri)
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, KeySourceError> {
        let client = self.network.endpoint(url.clone()).client(Answer::Document)?;
        let document = http::get(&client, url)
            .await
            .map_err(|reason| KeySourceError::Fetch { url: url.clone(), reason })?;
        Ok(document.body)
    }
}

/// The well-known path goes before the path of the issuer (RFC 8414 §3.1).
fn metadata_url(issuer: &str) -> Result<Url, url::ParseError> {
    let mut url: Url = issuer.parse()?;
    let path = format!("/.well-known/oauth-authorization-server{}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_path_goes_first() {
        let of = |issuer| metadata_url(issuer).unwrap().to_string();
        assert_eq!(of("https://id.example"), "https://id.example/.well-known/oauth-authorization-server");
        assert_eq!(
            of("https://id.example/a/"),
            "https://id.example/.well-known/oauth-authorization-server/a"
        );
        assert!(metadata_url("id.example").is_err());
    }
}
