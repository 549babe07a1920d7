//! HTTP towards the issuer: no redirects, bounded in time and size.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use url::Url;

use super::TokenError;

/// The longest body that is read, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct HttpClient(reqwest::Client);

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0}")]
    Unreachable(String),
    #[error("busy: {status}")]
    Busy { status: StatusCode, retry_after: Option<Duration> },
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer has more than {MAX_BODY} bytes")]
    TooLong,
}

impl HttpError {
    /// The same as the outcome of asking `url`.
    pub(super) fn at(self, url: &Url) -> TokenError {
        match self {
            Self::Unreachable(reason) => TokenError::Unreachable { reason },
            Self::Busy { status, retry_after } => TokenError::Busy { status: status.as_u16(), retry_after },
            Self::Status(_) | Self::TooLong => {
                TokenError::InvalidResponse { url: url.clone(), reason: self.to_string() }
            }
        }
    }
}

impl From<reqwest::Error> for HttpError {
    /// The whole chain of causes: reqwest's own text stops at "error sending
    /// request". Its URL is left out: it is named elsewhere.
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
        Self::Unreachable(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
    }
}

impl HttpClient {
    pub(super) fn new(tls: rustls::ClientConfig) -> Result<Self, TokenError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            // A proxy that some variable names would see requests over plain HTTP.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            // Renewals are minutes apart: an idle connection is only a cost.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("fleetbadge-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| TokenError::Setup { reason: HttpError::from(error).to_string() })?;
        Ok(Self(client))
    }

    /// The body of a JSON document.
    pub(super) async fn get(&self, url: &Url) -> Result<Vec<u8>, HttpError> {
        let response = self.0.get(url.clone()).header(ACCEPT, "application/json").send().await?;
        match response.status() {
            StatusCode::OK => body(response).await,
            status => Err(failure(status, response.headers())),
        }
    }

    /// The answer of the token endpoint: a token, or an error response in JSON.
    async fn post(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.0.execute(request.try_into()?).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let is_error_response =
            status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS && is_json(&headers);
        if status != StatusCode::OK && !is_error_response {
            return Err(failure(status, &headers));
        }
        let mut answer = HttpResponse::new(body(response).await?);
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

impl<'c> AsyncHttpClient<'c> for HttpClient {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.post(request))
    }
}

async fn body(mut response: reqwest::Response) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(HttpError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn failure(status: StatusCode, headers: &HeaderMap) -> HttpError {
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        // The other form, a date, would need a clock that is right.
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        return HttpError::Busy { status, retry_after: seconds.map(Duration::from_secs) };
    }
    HttpError::Status(status)
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.to_ascii_lowercase().starts_with("application/json"))
}
