//! What can be set, and where: a flag wins over its environment variable, that
//! over the configuration file, that over the default.
//!
//! The client secret is not among them: it is never a flag, never in this file
//! and never printed (see [`crate::secret`]).

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// Everything that can be set, each value optional as long as its sources have
/// not been laid over each other.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The issuer identifier: the https URL that its metadata states.
    #[arg(long, env = "FLEETBADGE_AGENT_ISSUER", value_name = "URL")]
    pub issuer: Option<String>,
    /// The device's name: its OAuth `client_id`.
    #[arg(long, env = "FLEETBADGE_AGENT_CLIENT_ID", value_name = "ID")]
    pub client_id: Option<String>,
    /// The file that contains the client secret; only its owner may read it.
    /// Without it: the variable `FLEETBADGE_AGENT_CLIENT_SECRET`, or the systemd credential
    /// `client_secret`.
    #[arg(long, env = "FLEETBADGE_AGENT_CLIENT_SECRET_FILE", value_name = "FILE")]
    pub client_secret_file: Option<PathBuf>,
    /// The scope to ask for, words separated by spaces [default: all that the device has].
    #[arg(long, env = "FLEETBADGE_AGENT_SCOPE", value_name = "SCOPE")]
    pub scope: Option<String>,
    /// The MQTT client identifier to ask a token for [default: the issuer's choice].
    #[arg(long, env = "FLEETBADGE_AGENT_MQTT_CLIENT_ID", value_name = "ID")]
    pub mqtt_client_id: Option<String>,
    /// Where tokens are kept [default: $XDG_STATE_HOME/fleetbadge-agent or
    /// ~/.local/state/fleetbadge-agent].
    #[arg(long, env = "FLEETBADGE_AGENT_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of the system's, for issuer and broker alike.
    #[arg(long, env = "FLEETBADGE_AGENT_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Allow plain HTTP to an issuer on another machine: whoever is in between reads the secret.
    #[arg(long, env = "FLEETBADGE_AGENT_ALLOW_INSECURE_HTTP", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_insecure_http: Option<bool>,
    /// How the log on stderr is written [default: auto].
    #[arg(long, env = "FLEETBADGE_AGENT_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// The least important entries that are logged [default: info].
    #[arg(long, env = "FLEETBADGE_AGENT_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// The table `[mqtt]`.
    #[arg(skip)]
    pub mqtt: MqttOptions,
}

/// The MQTT connection: the table `[mqtt]` of the file.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "MQTT")]
pub struct MqttOptions {
    /// The broker: mqtts://HOST[:8883] or mqtt://HOST[:1883].
    #[arg(long, env = "FLEETBADGE_AGENT_MQTT_BROKER", value_name = "URL")]
    pub broker: Option<String>,
    /// The topic name that `run` publishes to; set by its own flag.
    #[arg(skip)]
    pub topic: Option<String>,
    /// The quality of service: 0, 1 or 2 [default: 1].
    #[arg(long, env = "FLEETBADGE_AGENT_MQTT_QOS", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: Option<u8>,
    /// How the token is presented. auto: by enhanced authentication or, from the moment at
    /// which the broker says that it does not know that, by basic authentication [default: auto].
    #[arg(long, env = "FLEETBADGE_AGENT_MQTT_AUTH", value_name = "WAY")]
    pub auth: Option<Auth>,
    /// The field of CONNECT that carries the token in basic authentication [default: username].
    #[arg(long, env = "FLEETBADGE_AGENT_MQTT_TOKEN_IN", value_name = "FIELD")]
    pub token_in: Option<TokenIn>,
    /// Seconds without traffic after which the connection is probed [default: 60].
    #[arg(long, env = "FLEETBADGE_AGENT_MQTT_KEEP_ALIVE_S", value_name = "SECONDS",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub keep_alive_s: Option<u16>,
    /// How long the broker keeps the session of a connection that is gone [default: 3600].
    #[arg(long, env = "FLEETBADGE_AGENT_MQTT_SESSION_EXPIRY_S", value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub session_expiry_s: Option<u32>,
    /// The first token is asked for within this time, so that a fleet does not come all at
    /// once [default: 5].
    #[arg(long, env = "FLEETBADGE_AGENT_MQTT_START_SPREAD_S", value_name = "SECONDS")]
    pub start_spread_s: Option<u32>,
    /// Give up after this time without a connection [default: 0, never].
    #[arg(long, env = "FLEETBADGE_AGENT_MQTT_GIVE_UP_AFTER_S", value_name = "SECONDS")]
    pub give_up_after_s: Option<u32>,
    /// Allow plain MQTT to a broker on another machine: whoever is in between reads the token.
    #[arg(long, env = "FLEETBADGE_AGENT_MQTT_ALLOW_INSECURE_MQTT", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_insecure_mqtt: Option<bool>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The least important entries that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What does not work.
    Error,
    /// What works less well.
    Warn,
    /// What happens.
    Info,
    /// Why it happens.
    Debug,
}

/// How the token is presented to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Enhanced, as long as the broker knows it.
    Auto,
    /// Enhanced authentication (MQTT 5 section 4.12): connections live on over renewals.
    Enhanced,
    /// User name and password: each renewal is a new connection.
    Basic,
}

/// The field of CONNECT that carries the token in basic authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenIn {
    /// The user name; there is no password.
    Username,
    /// The password; the user name is the device's name.
    Password,
    /// Both, for brokers that insist on a password.
    Both,
}

/// Why the sources cannot be laid over each other.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The file cannot be read.
    #[error("--config {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The text is not TOML, or a field is unknown or of the wrong kind.
    #[error("{0}")]
    Toml(String),
}

impl Options {
    /// The default of every value that has one.
    #[must_use]
    pub fn defaults() -> Self {
        Self {
            allow_insecure_http: Some(false),
            log_format: Some(LogFormat::Auto),
            log_level: Some(LogLevel::Info),
            mqtt: MqttOptions {
                qos: Some(1),
                auth: Some(Auth::Auto),
                token_in: Some(TokenIn::Username),
                keep_alive_s: Some(60),
                session_expiry_s: Some(3600),
                start_spread_s: Some(5),
                give_up_after_s: Some(0),
                allow_insecure_mqtt: Some(false),
                ..MqttOptions::default()
            },
            ..Self::default()
        }
    }

    /// Reads the configuration file.
    ///
    /// # Errors
    /// [`OptionsError`]
    pub fn from_file(path: &Path) -> Result<Self, OptionsError> {
        let error = |reason: String| OptionsError::File { path: path.into(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
        toml::from_str(&text).map_err(|e| error(e.to_string()))
    }

    /// Lays `upper` over these: what it sets, wins.
    ///
    /// # Errors
    /// [`OptionsError::Toml`]
    pub fn overlaid(&self, upper: &Self) -> Result<Self, OptionsError> {
        let table =
            |options: &Self| toml::Table::try_from(options).map_err(|e| OptionsError::Toml(e.to_string()));
        let mut merged = table(self)?;
        overlay(&mut merged, table(upper)?);
        merged.try_into().map_err(|e: toml::de::Error| OptionsError::Toml(e.to_string()))
    }

    /// The same as a configuration file: what is in force.
    ///
    /// # Errors
    /// [`OptionsError::Toml`]
    pub fn to_toml(&self) -> Result<String, OptionsError> {
        toml::to_string(self).map_err(|e| OptionsError::Toml(e.to_string()))
    }
}

fn overlay(lower: &mut toml::Table, upper: toml::Table) {
    for (name, value) in upper {
        match (lower.get_mut(&name), value) {
            (Some(toml::Value::Table(lower)), toml::Value::Table(upper)) => overlay(lower, upper),
            (_, value) => {
                lower.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_layer_wins_value_by_value() {
        let file: Options =
            toml::from_str("issuer = 'https://id.example'\nclient_id = 'a'\n[mqtt]\nqos = 2").unwrap();
        let flags = Options {
            client_id: Some("b".into()),
            mqtt: MqttOptions { keep_alive_s: Some(7), ..MqttOptions::default() },
            ..Options::default()
        };
        let options = Options::defaults().overlaid(&file).unwrap().overlaid(&flags).unwrap();
        assert_eq!(options.issuer.as_deref(), Some("https://id.example"));
        assert_eq!(options.client_id.as_deref(), Some("b"));
        assert_eq!((options.mqtt.qos, options.mqtt.keep_alive_s), (Some(2), Some(7)));
        assert_eq!(options.mqtt.auth, Some(Auth::Auto));
        assert_eq!(options.mqtt.token_in, Some(TokenIn::Username));
        assert_eq!(options.scope, None);
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let printed = Options::defaults().to_toml().unwrap();
        assert_eq!(toml::from_str::<Options>(&printed).unwrap(), Options::defaults());
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        for text in ["isuer = 'x'", "[mqtt]\nport = 1", "client_secret = 's3cret'"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("agent.toml");
            std::fs::write(&path, text).unwrap();
            let error = Options::from_file(&path).unwrap_err().to_string();
            assert!(error.contains("unknown field") && error.contains("agent.toml"), "{error}");
        }
    }
}
