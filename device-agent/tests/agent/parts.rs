//! An issuer in this process, and devices.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;

/// In an answer it stands for how many token requests there were.
pub(crate) const NUMBER: &str = "NUMBER";

pub(crate) type Answer = (StatusCode, Vec<(&'static str, String)>, String);

/// An issuer that answers as it is told and remembers what it was asked.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) told: Arc<Mutex<Told>>,
}

pub(crate) struct Told {
    pub(crate) metadata: Value,
    answer: Answer,
    /// The `Authorization` header and the body of each token request.
    requests: Vec<(String, String)>,
    pub(crate) metadata_reads: usize,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told = Told {
            metadata: json!({"issuer": url, "token_endpoint": format!("{url}/oauth2/token")}),
            answer: token("t0ken-1", 900),
            requests: Vec::new(),
            metadata_reads: 0,
        };
        let issuer = Self { url, told: Arc::new(Mutex::new(told)) };
        let router = Router::new()
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/oauth2/token", post(token_endpoint))
            .with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        issuer
    }

    pub(crate) fn answers(&self, answer: Answer) {
        self.told.lock().unwrap().answer = answer;
    }

    pub(crate) fn states(&self, field: &str, value: &str) {
        self.told.lock().unwrap().metadata[field] = value.into();
    }

    pub(crate) fn requests(&self) -> Vec<(String, String)> {
        self.told.lock().unwrap().requests.clone()
    }
}

async fn metadata(State(issuer): State<Issuer>) -> Response {
    let mut told = issuer.told.lock().unwrap();
    told.metadata_reads += 1;
    ([(header::CONTENT_TYPE, "application/json")], told.metadata.to_string()).into_response()
}

async fn token_endpoint(State(issuer): State<Issuer>, headers: HeaderMap, body: Bytes) -> Response {
    let mut told = issuer.told.lock().unwrap();
    let authorization = headers[header::AUTHORIZATION].to_str().unwrap().to_owned();
    told.requests.push((authorization, String::from_utf8(body.to_vec()).unwrap()));
    let (status, headers, body) = told.answer.clone();
    let body = body.replace(NUMBER, &told.requests.len().to_string());
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

pub(crate) fn token(access_token: &str, expires_in: u64) -> Answer {
    let body = json!({"access_token": access_token, "token_type": "Bearer", "expires_in": expires_in,
                      "scope": "mqtt.connect", "mqtt_client_id": "pump-1-mqtt"});
    (StatusCode::OK, Vec::new(), body.to_string())
}

pub(crate) fn refusal(status: StatusCode, error: &str) -> Answer {
    (status, Vec::new(), json!({"error": error, "error_description": "because"}).to_string())
}

/// A device with its own home.
pub(crate) struct Device {
    pub(crate) home: TempDir,
    pub(crate) issuer: String,
}

impl Device {
    pub(crate) fn of(issuer: &Issuer) -> Self {
        let home = tempfile::tempdir().unwrap();
        let secret = home.path().join("secret");
        fs::write(&secret, "s3cr:et\n").unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        Self { home, issuer: issuer.url.clone() }
    }

    pub(crate) async fn token(&self, arguments: &[&str]) -> Output {
        self.run(&[&["token", "--issuer", &self.issuer], arguments].concat()).await
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetbadge-agent"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("FLEETBADGE_AGENT_CLIENT_ID", "pump-1")
            .env("FLEETBADGE_AGENT_CLIENT_SECRET_FILE", self.home.path().join("secret"));
        command
    }

    pub(crate) fn kept_token(&self) -> std::path::PathBuf {
        let state = self.home.path().join(".local/state/fleetbadge-agent");
        let mut files = fs::read_dir(state).unwrap();
        let path = files.next().expect("a token is kept").unwrap().path();
        assert!(files.next().is_none());
        path
    }

    /// Moves the life of the kept token back by `seconds`.
    pub(crate) fn age_kept_token(&self, seconds: u64) {
        let path = self.kept_token();
        let mut kept: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for field in ["obtained_at", "refresh_at", "expires_at"] {
            kept[field] = (kept[field].as_u64().unwrap() - seconds).into();
        }
        fs::write(&path, kept.to_string()).unwrap();
    }
}
