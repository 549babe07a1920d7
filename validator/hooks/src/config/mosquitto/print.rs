//! A complete configuration with a comment at every line that decides
//! something.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use fleetbadge_mosquitto_options::option_table::{OPTIONS, OptionDefault};

use super::Version;

#[derive(Args)]
#[group(id = "print", multiple = true)]
pub(super) struct Arguments {
    /// The issuer, as in the tokens' iss
    #[arg(long, value_name = "URL", default_value = "https://id.example")]
    issuer: String,
    /// What the tokens for this broker have as aud
    #[arg(long, value_name = "A", default_value = "mqtt")]
    audience: String,
    /// Where the issuer publishes its keys; by default ISSUER/oauth2/jwks
    #[arg(long, value_name = "URL")]
    jwks_url: Option<String>,
    /// The file with what `fleetbadge-issuer broker add --json` printed
    #[arg(long, value_name = "FILE", default_value = "/etc/mosquitto/fleetbadge.json")]
    credentials_file: PathBuf,
    /// The folder for what the issuer said last
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mosquitto/fleetbadge")]
    state_dir: PathBuf,
    /// The plugin
    #[arg(long, value_name = "FILE", default_value = "/usr/lib/mosquitto/libfleetbadge_mosquitto.so")]
    plugin: PathBuf,
    /// The port for MQTT over TLS
    #[arg(long, value_name = "PORT", default_value_t = 8883)]
    port: u16,
    /// The address to listen on; all by default
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// A port for MQTT over WebSockets with TLS
    #[arg(long, value_name = "PORT")]
    websockets_port: Option<u16>,
    /// The broker's certificate (PEM)
    #[arg(long, value_name = "FILE", default_value = "/etc/mosquitto/certs/server.pem")]
    certfile: PathBuf,
    /// The key of the certificate (PEM)
    #[arg(long, value_name = "FILE", default_value = "/etc/mosquitto/certs/server.key")]
    keyfile: PathBuf,
    /// Ask clients for a certificate of one of these authorities (PEM)
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// The folder of the broker's database
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mosquitto/")]
    persistence_location: PathBuf,
    /// The most devices that are connected at a time
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max_connections: u32,
}

impl Arguments {
    /// The text.
    pub(super) fn configuration(&self, version: Version) -> String {
        let (name, plugin) = match version {
            Version::V2_0 => ("2.0", "plugin"),
            Version::V2_1 => ("2.1", "global_plugin"),
        };
        let mut text = format!(
            "# Mosquitto {name} guarded by Fleetbadge.\n\
             #\n\
             # Check it, with the rest of your configuration:\n\
             #   fleetbadge-validator config mosquitto --mosquitto {name} --lint /etc/mosquitto/mosquitto.conf\n\
             # A comment begins at the first character of a line: what stands behind a value belongs to it.\n\
             \n\
             # === Who gets in ===\n\
             \n\
             # The plugin asks every client of every listener for a token. Its word is final: leave password_file\n\
             # and acl_file out, they let nobody in and keep nobody out.\n\
             allow_anonymous false\n\
             {plugin} {}\n",
            self.plugin.display()
        );
        self.plugin_options(&mut text);
        text += "\n# === Where they come in ===\n";
        self.listener(&mut text, self.port, None);
        if let Some(port) = self.websockets_port {
            self.listener(&mut text, port, Some("websockets"));
        }
        let _ = write!(text, "{}", self.broker());
        text
    }

    /// Every option of the plugin: those that differ from what holds anyway
    /// as settings, the others as comments.
    fn plugin_options(&self, text: &mut String) {
        for option in OPTIONS {
            let value = self.value(option.name);
            let default = match option.default {
                OptionDefault::Required(words) => words.to_owned(),
                OptionDefault::Value(words) | OptionDefault::Described(words) => format!("default: {words}"),
            };
            let (mark, value) = match &value {
                Some(value) => ("", value.as_str()),
                None => ("#", option.example),
            };
            let comment = wrapped(&format!("{}. ({default})", capitalised(option.meaning)));
            let _ = write!(text, "\n{comment}{mark}plugin_opt_{} {value}\n", option.written());
        }
    }

    fn value(&self, option: &str) -> Option<String> {
        let file = |path: &PathBuf| path.display().to_string();
        match option {
            "issuer" => Some(self.issuer.clone()),
            "audience" => Some(self.audience.clone()),
            "jwks_url" => Some(match &self.jwks_url {
                Some(url) => url.clone(),
                None => format!("{}/oauth2/jwks", self.issuer.trim_end_matches('/')),
            }),
            "state_dir" => Some(file(&self.state_dir)),
            "credentials_file" => Some(file(&self.credentials_file)),
            _ => None,
        }
    }

    fn listener(&self, text: &mut String, port: u16, protocol: Option<&str>) {
        let address = self.address.as_ref().map(|address| format!(" {address}")).unwrap_or_default();
        let _ = write!(text, "\nlistener {port}{address}\n");
        if let Some(protocol) = protocol {
            let _ = writeln!(text, "protocol {protocol}");
        }
        let _ = write!(
            text,
            "# Without TLS everybody on the way can read the tokens. Both files are read again at SIGHUP.\n\
             certfile {}\n\
             keyfile {}\n\
             tls_version tlsv1.2\n",
            self.certfile.display(),
            self.keyfile.display()
        );
        if let Some(client_ca) = &self.client_ca {
            let _ = write!(
                text,
                "# Clients need a certificate of these authorities, and a token beside it.\n\
                 cafile {}\n\
                 require_certificate true\n",
                client_ca.display()
            );
        }
        let _ = write!(
            text,
            "# The service needs a file descriptor for each, and some more: LimitNOFILE={} in its unit.\n\
             # (default: no limit but that of the system)\n\
             max_connections {}\n",
            self.max_connections.saturating_add(1000),
            self.max_connections
        );
    }

    /// What holds for the whole broker.
    fn broker(&self) -> String {
        format!(
            "\n\
             # === What a device may cost ===\n\
             \n\
             # Bytes; a CONNECT with a token has up to 10 KiB. (default: 256 MB in 2.0, 2 MB in 2.1)\n\
             max_packet_size 262144\n\
             # For each device that is away or slow. (default: 1000 messages, no limit in bytes)\n\
             max_queued_messages 1000\n\
             max_queued_bytes 1048576\n\
             # Sessions of devices that do not come back end; without it they go on queueing for ever.\n\
             # (default: never)\n\
             persistent_client_expiration 14d\n\
             # A device must be heard of at least this often, in seconds; MQTT 5 alone can be told.\n\
             # (default: 65535)\n\
             max_keepalive 1800\n\
             # The plugin lets in no client without a client ID. (default: true)\n\
             allow_zero_length_clientid false\n\
             # What a device retained is delivered while it may still publish there. (default: true)\n\
             check_retain_source true\n\
             # (default: false)\n\
             set_tcp_nodelay true\n\
             \n\
             # === What is kept ===\n\
             \n\
             # Sessions, subscriptions and queued messages survive a restart. The folder is the broker's alone:\n\
             # install -d -o mosquitto -g mosquitto -m 0700 {0}\n\
             # (default: false)\n\
             persistence true\n\
             persistence_location {0}\n\
             # Seconds between two writes. (default: 1800)\n\
             autosave_interval 300\n\
             \n\
             # === What is logged ===\n\
             \n\
             # The plugin's denials are notices. No token is ever among them. (default: stderr)\n\
             log_dest syslog\n\
             log_type error\n\
             log_type warning\n\
             log_type notice\n\
             log_type information\n",
            self.persistence_location.display()
        )
    }
}

/// A comment in lines of bearable length.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= 100 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("# {word}")),
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().collect::<String>() + letters.as_str())
        .unwrap_or_default()
}
