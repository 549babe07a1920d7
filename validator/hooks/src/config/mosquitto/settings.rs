//! What Mosquitto can be told: every setting, what it belongs to and what its
//! value is, after `src/conf.c` of 2.0.11, 2.0.21 and 2.1.2.

use super::Version;

/// A setting that Mosquitto knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) scope: Scope,
    pub(super) value: Value,
    /// Whether 2.0 does not know it.
    only_2_1: bool,
}

/// What a setting belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The broker.
    Broker,
    /// The listener under `per_listener_settings true`, else the broker.
    Security,
    /// The listener before it, or else one on port 1883.
    Listener,
    /// The listener before it; 2.1 wants one.
    NamedListener,
    /// The bridge before it.
    Bridge,
    /// The plugin before it.
    Plugin,
    /// It begins something, or is dealt with by name.
    Special,
}

/// What a value is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Flag,
    Number,
    /// Given twice, the broker does not start.
    Text,
    /// The same in 2.0; in 2.1 the last counts.
    LastText,
    /// May be given several times.
    AnyText,
    OneOf(&'static [&'static str]),
    /// Not looked at.
    Any,
}

impl Known {
    pub(super) fn is_in(&self, version: Version) -> bool {
        version == Version::V2_1 || !self.only_2_1
    }
}

pub(super) fn find(name: &str) -> Option<&'static Known> {
    ALL.iter().find(|known| known.name == name)
}

const LOG_DESTINATIONS: &[&str] = &["none", "syslog", "stdout", "stderr", "topic", "dlt", "file"];
const LOG_TYPES: &[&str] = &[
    "none",
    "information",
    "notice",
    "warning",
    "error",
    "debug",
    "subscribe",
    "unsubscribe",
    "internal",
    "websockets",
    "all",
];

const fn known(name: &'static str, scope: Scope, value: Value) -> Known {
    Known { name, scope, value, only_2_1: false }
}

const fn newer(name: &'static str, scope: Scope, value: Value) -> Known {
    Known { name, scope, value, only_2_1: true }
}

#[rustfmt::skip] // a table
const ALL: &[Known] = {
    use Scope::{Bridge, Broker, Listener, NamedListener, Plugin, Security, Special};
    use Value::{Any, AnyText, Flag, LastText, Number, OneOf, Text};
    &[
        known("include_dir", Special, Text),
        known("per_listener_settings", Special, Flag),
        known("listener", Special, Any),
        known("port", Special, Number),
        known("bind_address", Special, Text),
        known("connection", Special, Text),
        known("plugin", Special, Text),
        known("auth_plugin", Special, Text),
        newer("global_plugin", Special, Text),
        newer("plugin_load", Special, Text),
        newer("plugin_use", Special, Text),

        known("auth_plugin_deny_special_chars", Plugin, Flag),

        known("acl_file", Security, LastText),
        known("allow_anonymous", Security, Flag),
        known("allow_zero_length_clientid", Security, Flag),
        known("auto_id_prefix", Security, Text),
        known("password_file", Security, LastText),
        known("psk_file", Security, LastText),

        known("bind_interface", Listener, Text),
        known("capath", Listener, LastText),
        known("certfile", Listener, LastText),
        known("ciphers", Listener, LastText),
        known("ciphers_tls1.3", Listener, LastText),
        known("crlfile", Listener, LastText),
        known("keyfile", Listener, LastText),
        known("max_connections", Listener, Number),
        known("max_qos", Listener, Number),
        known("maximum_qos", Listener, Number),
        known("protocol", Listener, OneOf(&["mqtt", "websockets", "http_api"])),
        known("psk_hint", Listener, Text),
        known("require_certificate", Listener, Flag),
        known("socket_domain", Listener, OneOf(&["ipv4", "ipv6"])),
        known("tls_engine", Listener, Text),
        known("tls_engine_kpass_sha1", Listener, LastText),
        known("tls_keyform", Listener, AnyText),
        known("use_identity_as_username", Listener, Flag),
        known("use_subject_as_username", Listener, Flag),
        known("use_username_as_clientid", Listener, Flag),

        newer("accept_protocol_versions", NamedListener, AnyText),
        known("cafile", NamedListener, LastText),
        known("dhparamfile", NamedListener, Any),
        newer("disable_client_cert_date_checks", NamedListener, Flag),
        newer("enable_proxy_protocol", NamedListener, Number),
        known("http_dir", NamedListener, Text),
        newer("listener_allow_anonymous", NamedListener, Flag),
        newer("listener_auto_id_prefix", NamedListener, Text),
        known("max_topic_alias", NamedListener, Number),
        newer("max_topic_alias_broker", NamedListener, Number),
        known("mount_point", NamedListener, LastText),
        newer("proxy_protocol_v2_require_tls", NamedListener, Flag),
        known("tls_version", NamedListener, Text),
        newer("websockets_origin", NamedListener, AnyText),

        known("allow_duplicate_messages", Broker, Flag),
        known("autosave_interval", Broker, Number),
        known("autosave_on_changes", Broker, Flag),
        known("check_retain_source", Broker, Flag),
        known("clientid_prefixes", Broker, LastText),
        known("connection_messages", Broker, Flag),
        newer("enable_control_api", Broker, Flag),
        newer("global_max_clients", Broker, Number),
        newer("global_max_connections", Broker, Number),
        known("log_dest", Broker, OneOf(LOG_DESTINATIONS)),
        known("log_facility", Broker, Number),
        known("log_timestamp", Broker, Flag),
        known("log_timestamp_format", Broker, Text),
        known("log_type", Broker, OneOf(LOG_TYPES)),
        known("max_inflight_bytes", Broker, Number),
        known("max_inflight_messages", Broker, Number),
        known("max_keepalive", Broker, Number),
        known("max_packet_size", Broker, Number),
        known("max_queued_bytes", Broker, Number),
        known("max_queued_messages", Broker, Number),
        known("memory_limit", Broker, Number),
        known("message_size_limit", Broker, Number),
        newer("packet_buffer_size", Broker, Number),
        known("persistence", Broker, Flag),
        known("retained_persistence", Broker, Flag),
        known("persistence_file", Broker, Text),
        known("persistence_location", Broker, Text),
        known("persistent_client_expiration", Broker, AnyText),
        known("pid_file", Broker, Text),
        known("queue_qos0_messages", Broker, Flag),
        known("retain_available", Broker, Flag),
        newer("retain_expiry_interval", Broker, Number),
        known("retry_interval", Broker, Any),
        known("set_tcp_nodelay", Broker, Flag),
        known("sys_interval", Broker, Number),
        known("upgrade_outgoing_qos", Broker, Flag),
        known("user", Broker, LastText),
        known("websockets_headers_size", Broker, Number),
        known("websockets_log_level", Broker, Number),

        known("address", Bridge, Text),
        known("addresses", Bridge, Text),
        known("bridge_alpn", Bridge, Text),
        known("bridge_attempt_unsubscribe", Bridge, Flag),
        known("bridge_bind_address", Bridge, Text),
        known("bridge_cafile", Bridge, Text),
        known("bridge_capath", Bridge, Text),
        known("bridge_certfile", Bridge, Text),
        newer("bridge_ciphers", Bridge, Text),
        newer("bridge_ciphers_tls1.3", Bridge, Text),
        known("bridge_identity", Bridge, Text),
        known("bridge_insecure", Bridge, Flag),
        known("bridge_keyfile", Bridge, LastText),
        known("bridge_max_packet_size", Bridge, Number),
        newer("bridge_max_topic_alias", Bridge, Number),
        known("bridge_outgoing_retain", Bridge, Flag),
        known("bridge_protocol_version", Bridge, AnyText),
        known("bridge_psk", Bridge, Text),
        newer("bridge_receive_maximum", Bridge, Number),
        newer("bridge_reload_type", Bridge, AnyText),
        known("bridge_require_ocsp", Bridge, Flag),
        newer("bridge_session_expiry_interval", Bridge, Number),
        newer("bridge_tcp_keepalive", Bridge, AnyText),
        newer("bridge_tcp_user_timeout", Bridge, Number),
        newer("bridge_tls_use_os_certs", Bridge, Flag),
        known("bridge_tls_version", Bridge, Text),
        known("cleansession", Bridge, Flag),
        known("clientid", Bridge, Text),
        known("idle_timeout", Bridge, Number),
        known("keepalive_interval", Bridge, Number),
        known("local_cleansession", Bridge, Flag),
        known("local_clientid", Bridge, Text),
        known("local_password", Bridge, Text),
        known("local_username", Bridge, Text),
        known("notification_topic", Bridge, Text),
        known("notifications", Bridge, Flag),
        known("notifications_local_only", Bridge, Flag),
        known("password", Bridge, Text),
        known("remote_clientid", Bridge, Text),
        known("remote_password", Bridge, Text),
        known("remote_username", Bridge, Text),
        known("restart_timeout", Bridge, AnyText),
        known("round_robin", Bridge, Flag),
        known("start_type", Bridge, OneOf(&["automatic", "lazy", "once"])),
        known("threshold", Bridge, Number),
        known("topic", Bridge, AnyText),
        known("try_private", Bridge, Flag),
        known("username", Bridge, Text),
    ]
};
