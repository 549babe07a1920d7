//! Exchanging the static password of a device for a token (RFC 6749 §4.3), as
//! the broker to which it was presented.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::RemoteError;
use super::credentials::{Credentials, CredentialsError};
use super::http::{Answer, Endpoint, all_causes};
use super::notices::{Notice, Notices};
use super::worker::Worker;
use crate::token::MAX_TOKEN_LENGTH;

/// Where every Fleetbadge issuer has its token endpoint.
pub const TOKEN_PATH: &str = "/oauth2/token";

/// Where to exchange and how.
#[derive(Clone, Debug)]
pub struct PasswordExchangeConfig {
    /// The issuer's token endpoint.
    pub endpoint: Endpoint,
    /// The broker's credentials; the file is read again for each exchange.
    pub credentials_file: PathBuf,
}

/// What a device has presented.
pub struct Question {
    /// By what the answer is known.
    pub number: u64,
    /// The device's name.
    pub username: String,
    /// Its static password, or what is presented as one.
    pub password: Zeroizing<String>,
    /// As whom it connects.
    pub mqtt_client_id: String,
    /// From where, as far as that is known.
    pub client_address: Option<IpAddr>,
}

/// There is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The issuer gives none for this user name, password and client ID.
    #[error("the issuer gives no token for this user name, password and client ID")]
    Refused,
    /// The issuer was not asked, or has not said.
    #[error("the issuer cannot be asked: {0}")]
    Failed(String),
}

/// As many questions wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyQuestions;

/// The number of a question, and the token.
pub type ExchangeAnswer = (u64, Result<String, ExchangeError>);

/// Exchanges until it is dropped. Asking never waits.
#[derive(Debug)]
pub struct PasswordExchange {
    questions: mpsc::Sender<Question>,
    answers: Arc<Mutex<Vec<ExchangeAnswer>>>,
    notices: Arc<Notices>,
    _worker: Worker,
}

impl PasswordExchange {
    /// How long an exchange may take.
    pub const TIME_LIMIT: Duration = Duration::from_secs(3);
    /// How many go on at once, and how many more may wait.
    const AT_ONCE: usize = 64;

    /// Starts the thread. Does not wait for the network.
    ///
    /// # Errors
    /// [`RemoteError`]: the configuration cannot work.
    pub fn start(config: PasswordExchangeConfig) -> Result<Self, RemoteError> {
        let client = config.endpoint.client(Answer::Document)?;
        Credentials::read(&config.credentials_file)?;
        let (questions, asked) = mpsc::channel(Self::AT_ONCE);
        let (answers, notices) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Notices>::default());
        let task = Task {
            asker: Arc::new(Asker { config, client }),
            asked,
            answers: Arc::clone(&answers),
            notices: Arc::clone(&notices),
            told: None,
        };
        let at_fault = Arc::clone(&notices);
        let worker = Worker::start("fleetbadge-passwords", task.run(), move || {
            at_fault.warning("a fault ended the exchange of passwords until a restart".into());
        })?;
        Ok(Self { questions, answers, notices, _worker: worker })
    }

    /// Asks the issuer.
    ///
    /// # Errors
    /// [`TooManyQuestions`].
    pub fn ask(&self, question: Question) -> Result<(), TooManyQuestions> {
        self.questions.try_send(question).map_err(|_| TooManyQuestions)
    }

    /// What was answered since the last call.
    #[must_use]
    pub fn take_answers(&self) -> Vec<ExchangeAnswer> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What there is to log since the last call.
    #[must_use]
    pub fn take_notices(&self) -> Vec<Notice> {
        self.notices.take()
    }
}

/// Lives on the thread.
struct Task {
    asker: Arc<Asker>,
    asked: mpsc::Receiver<Question>,
    answers: Arc<Mutex<Vec<ExchangeAnswer>>>,
    notices: Arc<Notices>,
    /// The failure that was told last.
    told: Option<String>,
}

impl Task {
    async fn run(mut self) {
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                question = self.asked.recv(), if under_way.len() < PasswordExchange::AT_ONCE => {
                    let Some(question) = question else { return };
                    let asker = Arc::clone(&self.asker);
                    under_way.spawn(async move { (question.number, asker.ask(&question).await) });
                }
                Some(answer) = under_way.join_next() => {
                    let Ok((number, answer)) = answer else { continue };
                    self.tell(&answer);
                    self.answers.lock().unwrap_or_else(PoisonError::into_inner).push((number, answer));
                }
            }
        }
    }

    /// Tells a failure, and its end, once.
    fn tell(&mut self, answer: &Result<String, ExchangeError>) {
        let url = &self.asker.config.endpoint.url;
        match answer {
            Err(ExchangeError::Failed(reason)) if self.told.as_ref() != Some(reason) => {
                self.notices.warning(format!("static passwords at {url}: {reason}; none can be exchanged"));
                self.told = Some(reason.clone());
            }
            Err(ExchangeError::Failed(_)) => {}
            Ok(_) | Err(ExchangeError::Refused) => {
                if self.told.take().is_some() {
                    self.notices.info(format!("static passwords at {url} are exchanged again"));
                }
            }
        }
    }
}

struct Asker {
    config: PasswordExchangeConfig,
    client: Client,
}

impl Asker {
    async fn ask(&self, question: &Question) -> Result<String, ExchangeError> {
        let limit = PasswordExchange::TIME_LIMIT;
        let none = || ExchangeError::Failed(format!("there is no answer within {} s", limit.as_secs()));
        timeout(limit, self.post(question)).await.unwrap_or_else(|_| Err(none()))
    }

    async fn post(&self, question: &Question) -> Result<String, ExchangeError> {
        /// Of the answer (RFC 6749 §5.1), what is needed.
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
        }

        let failed = |error: &dyn fmt::Display| ExchangeError::Failed(error.to_string());
        let credentials = Credentials::read(&self.config.credentials_file)
            .map_err(|error: CredentialsError| failed(&error))?;
        let request = self
            .client
            .post(self.config.endpoint.url.clone())
            .header(AUTHORIZATION, credentials.authorization())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(question));
        let http = |error: reqwest::Error| ExchangeError::Failed(all_causes(&error));
        let mut answer = request.send().await.map_err(http)?;
        match answer.status() {
            StatusCode::OK => {}
            // RFC 6749 §5.2, and for whom there were too many failures.
            StatusCode::BAD_REQUEST | StatusCode::TOO_MANY_REQUESTS => return Err(ExchangeError::Refused),
            status => return Err(failed(&format_args!("the answer is {status}"))),
        }
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(http)? {
            if body.len() + chunk.len() > 2 * MAX_TOKEN_LENGTH {
                return Err(failed(&"the answer is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        // What is wrong with it is not repeated: it may quote a token.
        let granted: Granted =
            serde_json::from_slice(&body).map_err(|_| failed(&"the answer has no token"))?;
        Ok(granted.access_token)
    }
}

fn form(question: &Question) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "password")
        .append_pair("username", &question.username)
        .append_pair("password", &question.password)
        .append_pair("mqtt_client_id", &question.mqtt_client_id);
    if let Some(address) = question.client_address {
        form.append_pair("client_address", &address.to_canonical().to_string());
    }
    form.finish()
}
