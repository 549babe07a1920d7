//! The checked configuration: what [`Options`] say, parsed into types that
//! cannot be wrong.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use rumqttc::{QoS, ValidatedTopic, ValidatedTopicFilter};
use url::Url;

use crate::options::{Auth, Options, TokenIn};
use crate::secret::{ClientSecret, SecretError, SecretSources};

mod address;

pub use self::address::{Broker, Issuer, require_secure_http};

/// Why the program cannot start like this.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value without a default is not set.
    #[error("{field} is not set: give {flag}, or set it in the configuration file")]
    Missing {
        /// Its name in the file.
        field: &'static str,
        /// Its flag.
        flag: &'static str,
    },
    /// A value is not what it must be.
    #[error("{field} {value:?}: {reason}")]
    Invalid {
        /// Its name in the file.
        field: &'static str,
        /// What it is set to.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// A secret or a token would cross a network unprotected.
    #[error("{field} {url}: unprotected, to another machine; use {secure}, or allow it with {flag}")]
    Insecure {
        /// Its name in the file.
        field: &'static str,
        /// Where to.
        url: String,
        /// The protected scheme.
        secure: &'static str,
        /// The flag that allows it.
        flag: &'static str,
    },
    /// There is no usable secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Neither a flag nor the environment says where state may be kept.
    #[error("state_dir is not set and there is no home directory: give --state-dir DIR")]
    NoStateDir,
}

/// What the process finds around it, read once.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The value of `FLEETBADGE_AGENT_CLIENT_SECRET`.
    pub client_secret: Option<ClientSecret>,
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    pub credentials_directory: Option<PathBuf>,
    /// `$XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            client_secret: std::env::var("FLEETBADGE_AGENT_CLIENT_SECRET").ok().map(ClientSecret::new),
            credentials_directory: path("CREDENTIALS_DIRECTORY"),
            xdg_state_home: path("XDG_STATE_HOME"),
            home: path("HOME"),
        }
    }

    /// Where tokens are kept unless told otherwise (XDG base directories).
    #[must_use]
    pub fn state_dir(&self) -> Option<PathBuf> {
        // The specification says that a relative path is to be ignored.
        let state = self.xdg_state_home.clone().filter(|path| path.is_absolute());
        let state = state.or_else(|| self.home.as_ref().map(|home| home.join(".local/state")));
        Some(state?.join("fleetbadge-agent"))
    }
}

/// How to get a token.
#[derive(Clone)]
pub struct TokenConfig {
    /// Who issues it.
    pub issuer: Issuer,
    /// The device's name.
    pub client_id: String,
    /// Its secret.
    pub client_secret: ClientSecret,
    /// The scope to ask for.
    pub scope: Option<String>,
    /// The MQTT client identifier to ask for.
    pub mqtt_client_id: Option<String>,
    /// Where tokens are kept.
    pub state_dir: PathBuf,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// How to keep a connection.
#[derive(Clone, Debug)]
pub struct MqttConfig {
    /// Where to.
    pub broker: Broker,
    /// The quality of service.
    pub qos: QoS,
    /// How the token is presented.
    pub auth: Auth,
    /// The field of CONNECT that carries the token in basic authentication.
    pub token_in: TokenIn,
    /// The Keep Alive, in seconds (MQTT 5 §3.1.2.10).
    pub keep_alive_s: u16,
    /// The Session Expiry Interval, in seconds (MQTT 5 §3.1.2.11.2).
    pub session_expiry_s: u32,
    /// The first token is asked for within this time.
    pub start_spread: Duration,
    /// How long to go on without a connection; `None` is for ever.
    pub give_up_after: Option<Duration>,
}

impl TokenConfig {
    /// Checks the options that concern tokens, and reads the secret.
    ///
    /// # Errors
    /// [`ConfigError`], with the name of the field.
    pub fn new(options: &Options, surroundings: Surroundings) -> Result<Self, ConfigError> {
        let allow_insecure_http = options.allow_insecure_http.unwrap_or_default();
        let issuer = required(options.issuer.clone(), "issuer", "--issuer URL")?;
        let issuer = Issuer::parse(&issuer, allow_insecure_http)?;
        let client_id = required(options.client_id.clone(), "client_id", "--client-id ID")?;
        let state_dir =
            options.state_dir.clone().or_else(|| surroundings.state_dir()).ok_or(ConfigError::NoStateDir)?;
        let client_secret = SecretSources {
            file: options.client_secret_file.clone(),
            environment: surroundings.client_secret,
            credentials_directory: surroundings.credentials_directory,
        }
        .read()?;
        Ok(Self {
            issuer,
            client_id,
            client_secret,
            scope: options.scope.clone(),
            mqtt_client_id: options.mqtt_client_id.clone(),
            state_dir,
            ca_file: options.ca_file.clone(),
        })
    }
}

impl MqttConfig {
    /// Checks the options that concern the connection.
    ///
    /// # Errors
    /// [`ConfigError`], with the name of the field.
    pub fn new(options: &Options) -> Result<Self, ConfigError> {
        let mqtt = &options.mqtt;
        let broker = required(mqtt.broker.clone(), "mqtt.broker", "--broker URL")?;
        let keep_alive_s = required(mqtt.keep_alive_s, "mqtt.keep_alive_s", "--keep-alive-s")?;
        let session_expiry_s =
            required(mqtt.session_expiry_s, "mqtt.session_expiry_s", "--session-expiry-s")?;
        let start_spread_s = required(mqtt.start_spread_s, "mqtt.start_spread_s", "--start-spread-s")?;
        let give_up_after_s = required(mqtt.give_up_after_s, "mqtt.give_up_after_s", "--give-up-after-s")?;
        Ok(Self {
            broker: Broker::parse(&broker, mqtt.allow_insecure_mqtt.unwrap_or_default())?,
            qos: qos(required(mqtt.qos, "mqtt.qos", "--qos")?)?,
            auth: required(mqtt.auth, "mqtt.auth", "--auth")?,
            token_in: required(mqtt.token_in, "mqtt.token_in", "--token-in")?,
            keep_alive_s,
            session_expiry_s,
            start_spread: Duration::from_secs(start_spread_s.into()),
            give_up_after: (give_up_after_s > 0).then(|| Duration::from_secs(give_up_after_s.into())),
        })
    }
}

/// Checks a topic filter (MQTT 5 §4.7).
///
/// # Errors
/// [`ConfigError::Invalid`]
pub fn topic_filter(filter: &str) -> Result<String, ConfigError> {
    ValidatedTopicFilter::new(filter).map(|_| filter.to_owned()).map_err(|_| ConfigError::Invalid {
        field: "FILTER",
        value: filter.to_owned(),
        reason: "not a topic filter: + stands for one whole level, # for the last ones".to_owned(),
    })
}

/// Checks a topic name (MQTT 5 §4.7).
///
/// # Errors
/// [`ConfigError::Invalid`]
pub fn topic_name(name: &str) -> Result<String, ConfigError> {
    // The library lets the empty one pass.
    if name.is_empty() || ValidatedTopic::new(name).is_err() {
        return Err(ConfigError::Invalid {
            field: "mqtt.topic",
            value: name.to_owned(),
            reason: "not a topic name: it must not be empty nor contain + or #".to_owned(),
        });
    }
    Ok(name.to_owned())
}

fn qos(level: u8) -> Result<QoS, ConfigError> {
    rumqttc::qos(level).map_err(|_| ConfigError::Invalid {
        field: "mqtt.qos",
        value: level.to_string(),
        reason: "must be 0, 1 or 2".to_owned(),
    })
}

fn required<T>(value: Option<T>, field: &'static str, flag: &'static str) -> Result<T, ConfigError> {
    value.ok_or(ConfigError::Missing { field, flag })
}

fn invalid_url(field: &'static str, value: &str, reason: &dyn Display) -> ConfigError {
    // Whoever writes a secret into a URL does not want it in the log too.
    let value = match Url::parse(value) {
        Ok(url) if url.password().is_some() => "(with a password in it)".to_owned(),
        Ok(_) | Err(_) => value.to_owned(),
    };
    ConfigError::Invalid { field, value, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(toml: &str) -> Options {
        Options::defaults().overlaid(&toml::from_str(toml).unwrap()).unwrap()
    }

    fn with_secret() -> Surroundings {
        Surroundings {
            client_secret: Some(ClientSecret::new("s3cret".into())),
            home: Some("/home/device".into()),
            ..Surroundings::default()
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_flag() {
        let error = |toml| TokenConfig::new(&options(toml), with_secret()).err().unwrap().to_string();
        assert!(error("client_id = 'a'").contains("--issuer URL"));
        assert!(error("issuer = 'https://id.example'").contains("--client-id ID"));
        let error = MqttConfig::new(&options("")).unwrap_err().to_string();
        assert!(error.contains("mqtt.broker") && error.contains("--broker URL"), "{error}");
    }

    #[test]
    fn state_is_kept_where_xdg_says() {
        let toml = "issuer = 'https://id.example'\nclient_id = 'a'";
        let dir = |surroundings| TokenConfig::new(&options(toml), surroundings).map(|c| c.state_dir);
        assert_eq!(dir(with_secret()).unwrap(), PathBuf::from("/home/device/.local/state/fleetbadge-agent"));
        let xdg = Surroundings { xdg_state_home: Some("/state".into()), ..with_secret() };
        assert_eq!(dir(xdg).unwrap(), PathBuf::from("/state/fleetbadge-agent"));
        let homeless = Surroundings { home: None, ..with_secret() };
        assert!(dir(homeless).unwrap_err().to_string().contains("--state-dir"));
    }

    #[test]
    fn numbers_get_their_units() {
        let config =
            MqttConfig::new(&options("[mqtt]\nbroker='mqtts://b'\nqos=2\ngive_up_after_s=9")).unwrap();
        assert_eq!(config.qos, QoS::ExactlyOnce);
        assert_eq!(config.give_up_after, Some(Duration::from_secs(9)));
        assert_eq!(config.start_spread, Duration::from_secs(5));
        let error = MqttConfig::new(&options("[mqtt]\nbroker='mqtts://b'\nqos=3")).unwrap_err();
        assert_eq!(error.to_string(), "mqtt.qos \"3\": must be 0, 1 or 2");
    }

    #[test]
    fn a_topic_name_has_no_wildcards() {
        assert!(topic_name("devices/pump-1/out").is_ok());
        for name in ["", "devices/+/out", "#"] {
            assert!(topic_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn wildcards_in_a_filter_stand_for_whole_levels() {
        for filter in ["#", "devices/+/out", "$share/group/devices/#"] {
            assert!(topic_filter(filter).is_ok(), "{filter}");
        }
        for filter in ["", "devices/#/out", "devices/a+"] {
            assert!(topic_filter(filter).is_err(), "{filter}");
        }
    }
}
