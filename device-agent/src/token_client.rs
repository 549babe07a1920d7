//! One token request to the issuer: the client credentials grant
//! (RFC 6749 §4.4) with the secret in the Basic header (§2.3.1).
//!
//! 1. Read the issuer's metadata (RFC 8414 §3), once per process: they must
//!    state the very issuer that was asked, and name a token endpoint that is
//!    as well protected as the issuer itself.
//! 2. Ask the token endpoint, for the MQTT client identifier too.
//! 3. Take the token, its lifetime and the MQTT client identifier that it may
//!    connect as from the response (§5.1).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use oauth2::basic::{
    BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse,
    BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    ClientId, ExtraTokenFields, RequestTokenError, Scope, StandardRevocableToken, StandardTokenResponse,
    TokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::{Issuer, TokenConfig, require_secure_http};
use crate::exit::Exit;
use crate::renewal::TokenFailure;
use crate::secret::{AccessToken, ClientSecret};

/// What a longer life is taken for: an issuer that states nonsense must not
/// keep the device from asking again.
const MAX_LIFETIME: Duration = Duration::from_secs(86_400);
/// How many characters of an issuer's words are shown.
const MAX_DESCRIPTION: usize = 200;

mod http_client;

use self::http_client::{HttpClient, HttpError};

/// What is asked of which issuer. Two requests that differ in it do not share
/// a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRequest {
    /// The issuer identifier.
    pub issuer: String,
    /// The device's name.
    pub client_id: String,
    /// The scope to ask for; all that the device has if `None`.
    pub scope: Option<String>,
    /// The MQTT client identifier to ask for; the issuer's choice if `None`.
    pub mqtt_client_id: Option<String>,
}

/// What the issuer gave.
#[derive(Clone)]
pub struct IssuedToken {
    /// The token.
    pub access_token: AccessToken,
    /// How long it is good, counted from the request.
    pub lifetime: Duration,
    /// The scope that it has.
    pub scope: Option<String>,
    /// The one MQTT client identifier that it may connect as. An issuer that
    /// does not say means the one asked for, or else the device's name.
    pub mqtt_client_id: String,
}

/// Why the issuer gave no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// An error response (RFC 6749 §5.2).
    #[error("the issuer refused: {}", describe(error, description.as_deref()))]
    Refused {
        /// Its `error`.
        error: String,
        /// Its `error_description`.
        description: Option<String>,
    },
    /// Too many requests, or out of service for the moment.
    #[error("the issuer is busy (status {status}){}", retry_text(*retry_after))]
    Busy {
        /// 429 or 503.
        status: u16,
        /// Its `Retry-After`, if it stated one in seconds.
        retry_after: Option<Duration>,
    },
    /// No connection, no answer in time, or TLS failed.
    #[error("the issuer cannot be reached: {reason}")]
    Unreachable {
        /// The chain of causes.
        reason: String,
    },
    /// An answer that cannot be used.
    #[error("{url}: {reason}")]
    InvalidResponse {
        /// What was asked.
        url: Url,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The metadata belong to another issuer (RFC 8414 §3.3).
    #[error("{url} states the issuer {found:?}, not {expected:?}: set `issuer` to what it states, exactly")]
    IssuerMismatch {
        /// Where the metadata were read.
        url: Url,
        /// The configured identifier.
        expected: String,
        /// The stated one.
        found: String,
    },
    /// The HTTP client cannot be set up.
    #[error("HTTP client: {reason}")]
    Setup {
        /// What is wrong.
        reason: String,
    },
}

impl TokenError {
    /// What it means for the plan of renewals.
    #[must_use]
    pub const fn failure(&self) -> TokenFailure {
        match self {
            Self::Refused { .. } => TokenFailure::Refused,
            Self::Busy { retry_after: Some(retry_after), .. } => {
                TokenFailure::Busy { retry_after: *retry_after }
            }
            Self::Busy { retry_after: None, .. }
            | Self::Unreachable { .. }
            | Self::InvalidResponse { .. }
            | Self::IssuerMismatch { .. }
            | Self::Setup { .. } => TokenFailure::Unreachable,
        }
    }

    /// The exit code of a command that ends with it.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Refused { .. } => Exit::Refused,
            Self::Busy { .. }
            | Self::Unreachable { .. }
            | Self::InvalidResponse { .. }
            | Self::IssuerMismatch { .. } => Exit::IssuerUnreachable,
            Self::Setup { .. } => Exit::Usage,
        }
    }
}

/// Asks one issuer for tokens for one device.
pub struct TokenClient {
    issuer: Issuer,
    request: TokenRequest,
    client_secret: ClientSecret,
    http: HttpClient,
    /// Known once the metadata were read.
    token_endpoint: Mutex<Option<Url>>,
}

/// The part of the metadata that the agent uses (RFC 8414 §2).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: Url,
}

/// What Fleetbadge's token response says beyond RFC 6749 §5.1.
#[derive(Debug, Serialize, Deserialize)]
struct MqttFields {
    mqtt_client_id: Option<String>,
}

impl ExtraTokenFields for MqttFields {}

type Response = StandardTokenResponse<MqttFields, BasicTokenType>;
type Client = oauth2::Client<
    BasicErrorResponse,
    Response,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
>;
type RequestError = RequestTokenError<HttpError, BasicErrorResponse>;

impl TokenClient {
    /// A client for the device of `config`. Does not use the network.
    ///
    /// # Errors
    /// [`TokenError::Setup`]
    pub fn new(config: &TokenConfig, tls: rustls::ClientConfig) -> Result<Self, TokenError> {
        Ok(Self {
            issuer: config.issuer.clone(),
            request: TokenRequest {
                issuer: config.issuer.as_str().to_owned(),
                client_id: config.client_id.clone(),
                scope: config.scope.clone(),
                mqtt_client_id: config.mqtt_client_id.clone(),
            },
            client_secret: config.client_secret.clone(),
            http: HttpClient::new(tls)?,
            token_endpoint: Mutex::default(),
        })
    }

    /// What it asks for.
    #[must_use]
    pub const fn request(&self) -> &TokenRequest {
        &self.request
    }

    /// Asks for a token.
    ///
    /// # Errors
    /// [`TokenError`]
    pub async fn obtain(&self) -> Result<IssuedToken, TokenError> {
        let endpoint = self.token_endpoint().await?;
        let result = self.ask(&endpoint).await;
        if let Err(TokenError::InvalidResponse { .. }) = result {
            // The endpoint may have moved: read the metadata again next time.
            self.remember_endpoint(None);
        }
        result
    }

    async fn token_endpoint(&self) -> Result<Url, TokenError> {
        let known = self.token_endpoint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(endpoint) = known {
            return Ok(endpoint);
        }
        let url = self.issuer.metadata_url();
        let invalid = |reason: String| TokenError::InvalidResponse { url: url.clone(), reason };
        let body = self.http.get(&url).await.map_err(|error| error.at(&url))?;
        let metadata: Metadata =
            serde_json::from_slice(&body).map_err(|error| invalid(format!("no such metadata: {error}")))?;
        if metadata.issuer != self.issuer.as_str() {
            return Err(TokenError::IssuerMismatch {
                url,
                expected: self.issuer.as_str().to_owned(),
                found: metadata.issuer,
            });
        }
        let endpoint = metadata.token_endpoint;
        require_secure_http("token_endpoint", &endpoint, self.issuer.allow_insecure_http)
            .map_err(|error| invalid(error.to_string()))?;
        self.remember_endpoint(Some(endpoint.clone()));
        Ok(endpoint)
    }

    fn remember_endpoint(&self, endpoint: Option<Url>) {
        *self.token_endpoint.lock().unwrap_or_else(PoisonError::into_inner) = endpoint;
    }

    async fn ask(&self, endpoint: &Url) -> Result<IssuedToken, TokenError> {
        let client = Client::new(ClientId::new(self.request.client_id.clone()))
            .set_client_secret(oauth2::ClientSecret::new(self.client_secret.expose().to_owned()))
            .set_token_uri(TokenUrl::from_url(endpoint.clone()));
        let mut request = client.exchange_client_credentials();
        if let Some(scope) = &self.request.scope {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        if let Some(mqtt_client_id) = &self.request.mqtt_client_id {
            request = request.add_extra_param("mqtt_client_id", mqtt_client_id);
        }
        let response =
            request.request_async(&self.http).await.map_err(|error| token_error(error, endpoint))?;
        self.issued(&response, endpoint)
    }

    fn issued(&self, response: &Response, endpoint: &Url) -> Result<IssuedToken, TokenError> {
        let invalid =
            |reason: &str| TokenError::InvalidResponse { url: endpoint.clone(), reason: reason.to_owned() };
        if *response.token_type() != BasicTokenType::Bearer {
            return Err(invalid("the token_type is not Bearer"));
        }
        let token = response.access_token().secret();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("the access_token is empty or not of visible ASCII characters"));
        }
        let lifetime = response
            .expires_in()
            .filter(|lifetime| !lifetime.is_zero())
            .ok_or_else(|| invalid("no expires_in: without it nobody knows when to renew"))?
            .min(MAX_LIFETIME);
        let scopes = response
            .scopes()
            .map(|scopes| scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" "));
        let mqtt_client_id = response.extra_fields().mqtt_client_id.as_ref();
        let mqtt_client_id =
            mqtt_client_id.or(self.request.mqtt_client_id.as_ref()).unwrap_or(&self.request.client_id);
        if mqtt_client_id.chars().any(char::is_control) {
            return Err(invalid("the mqtt_client_id has control characters"));
        }
        Ok(IssuedToken {
            access_token: AccessToken::new(response.access_token().secret().clone()),
            lifetime,
            // RFC 6749 §5.1: left out if it is what was asked for.
            scope: scopes.or_else(|| self.request.scope.clone()),
            mqtt_client_id: mqtt_client_id.clone(),
        })
    }
}

fn token_error(error: RequestError, url: &Url) -> TokenError {
    let invalid = |reason: String| TokenError::InvalidResponse { url: url.clone(), reason };
    match error {
        RequestTokenError::Request(error) => error.at(url),
        RequestTokenError::ServerResponse(response) => match response.error() {
            // Not in RFC 6749's list for this endpoint, but issuers use them.
            BasicErrorResponseType::Extension(code)
                if code == "temporarily_unavailable" || code == "server_error" =>
            {
                invalid(describe(code, response.error_description().map(String::as_str)))
            }
            code @ (BasicErrorResponseType::InvalidClient
            | BasicErrorResponseType::InvalidGrant
            | BasicErrorResponseType::InvalidRequest
            | BasicErrorResponseType::InvalidScope
            | BasicErrorResponseType::UnauthorizedClient
            | BasicErrorResponseType::UnsupportedGrantType
            | BasicErrorResponseType::Extension(_)) => TokenError::Refused {
                error: code.as_ref().to_owned(),
                description: response.error_description().cloned(),
            },
        },
        // The body may contain a token: only where it is wrong may be told.
        RequestTokenError::Parse(error, _body) => {
            invalid(format!("not a token response: error at {:?}", error.path().to_string()))
        }
        RequestTokenError::Other(reason) => invalid(reason),
    }
}

/// What others wrote, so that it cannot forge a line of the log.
fn describe(error: &str, description: Option<&str>) -> String {
    let start =
        |text: &str| text.chars().take(MAX_DESCRIPTION).collect::<String>().escape_debug().to_string();
    match description {
        Some(description) => format!("{} ({})", start(error), start(description)),
        None => start(error),
    }
}

fn retry_text(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |wait| format!(", asks to come again in {} s", wait.as_secs()))
}
