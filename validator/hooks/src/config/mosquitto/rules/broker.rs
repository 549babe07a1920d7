//! What holds for the whole broker: limits, sessions, logs.

use fleetbadge_validator::ids::check_name;
use fleetbadge_validator::token::MAX_TOKEN_LENGTH;

use crate::config::finding::Findings;
use crate::config::mosquitto::Version;
use crate::config::mosquitto::lines::Setting;
use crate::config::mosquitto::model::{Configuration, Guards, Plugin};

/// What a CONNECT may have beside the token: client ID, will, properties.
const CONNECT_WITHOUT_TOKEN: i64 = 2048;

pub(super) fn check(configuration: &Configuration, found: &mut Findings) {
    names(configuration, found);
    limits(configuration, found);
    sessions(configuration, found);
    logs(configuration, found);
    if let Some(setting) = on(configuration, "enable_control_api") {
        found.note(
            &setting.place,
            "control_api",
            "the broker can be controlled over topics below $CONTROL, by clients whose token has them",
            "give no group such topics, but to those who run the broker",
        );
    }
    if let Some(user) = configuration.broker_setting("user").filter(|user| user.text() == "root") {
        found.error(
            &user.place,
            "runs_as_root",
            "the broker keeps all rights: a fault in it, or in a plugin, is one of the whole machine",
            "remove the line: it becomes `mosquitto`",
        );
    }
    let is_per_listener = |plugin: &&Plugin| plugin.is_ours() && matches!(plugin.guards, Guards::Only(_));
    if let (Some(place), Version::V2_0) = (&configuration.per_listener, configuration.version)
        && configuration.plugins.iter().any(|plugin| is_per_listener(&plugin))
    {
        found.note(
            place,
            "no_clock",
            "Mosquitto 2.0.11 gives plugins of a listener no clock: a client whose token has ended may do \
             nothing, but is disconnected only when the next one connects",
            "remove it if all listeners are guarded alike, or use a later Mosquitto",
        );
    }
}

fn on<'a>(configuration: &'a Configuration, name: &str) -> Option<&'a Setting> {
    configuration.broker_setting(name).filter(|setting| setting.is_on())
}

fn off<'a>(configuration: &'a Configuration, name: &str) -> Option<&'a Setting> {
    configuration.broker_setting(name).filter(|setting| !setting.is_on())
}

/// Client IDs.
fn names(configuration: &Configuration, found: &mut Findings) {
    if let Some(setting) = configuration.broker_setting("clientid_prefixes") {
        let prefix = setting.text();
        // It may be the beginning of a name only if it is one itself.
        if check_name(prefix).is_err() && prefix != "." && prefix != ".." {
            found.error(
                &setting.place,
                "clientid_prefixes",
                format!("no client ID of a token begins with {prefix:?}: nobody gets in"),
                "remove the line",
            );
        } else {
            found.note(
                &setting.place,
                "clientid_prefixes",
                format!("devices whose client ID does not begin with {prefix:?} do not get in, whatever their token says"),
                "remove the line: a token is good for one client ID anyway",
            );
        }
    }
    for listener in &configuration.listeners {
        for name in ["allow_zero_length_clientid", "auto_id_prefix"] {
            let set = configuration.security_of(listener, name);
            if let Some(setting) = set.filter(|setting| name == "auto_id_prefix" || setting.is_on()) {
                found.note(
                    &setting.place,
                    "empty_client_id",
                    format!("{name} lets nobody in: the plugin denies clients without the client ID of their token"),
                    "remove the line, or set allow_zero_length_clientid false",
                );
            }
        }
    }
}

fn limits(configuration: &Configuration, found: &mut Findings) {
    let needed = i64::try_from(MAX_TOKEN_LENGTH).unwrap_or(i64::MAX).saturating_add(CONNECT_WITHOUT_TOKEN);
    if let Some(setting) = configuration.broker_setting("max_packet_size")
        && setting.number() < needed
    {
        found.warning(
            &setting.place,
            "packet_too_small",
            format!(
                "a CONNECT with a long token does not fit into {} bytes: its device cannot connect",
                setting.number()
            ),
            format!("set {needed} or more"),
        );
    }
    for listener in &configuration.listeners {
        let limit = listener.settings.last("max_connections");
        if limit.is_none_or(|limit| limit.number() < 0) {
            let place = limit.map_or(&listener.place, |limit| &limit.place);
            found.note(
                place,
                "connections_unlimited",
                format!(
                    "{} takes connections until the broker has no file descriptors left",
                    listener.name()
                ),
                "set max_connections to somewhat more than the fleet has devices",
            );
        }
    }
    if let Some(setting) =
        configuration.broker_setting("max_keepalive").filter(|setting| setting.number() == 0)
    {
        found.note(
            &setting.place,
            "keepalive_unlimited",
            "a client that is gone may stay connected for ever; Mosquitto 2.0.11 does not start",
            "set a number of seconds, such as 1800",
        );
    }
    if let Some(setting) =
        configuration.broker_setting("max_queued_messages").filter(|setting| setting.number() <= 0)
    {
        found.warning(
            &setting.place,
            "queue_unlimited",
            "a device that is away can fill the broker's memory with messages",
            "set a number, such as 1000",
        );
    }
}

fn sessions(configuration: &Configuration, found: &mut Findings) {
    if configuration.broker_setting("persistent_client_expiration").is_none() {
        found.note(
            &configuration.start,
            "sessions_never_end",
            "sessions of devices that never come back stay, and go on queueing what their last token allowed",
            "add persistent_client_expiration 14d",
        );
    }
    if let Some(setting) = on(configuration, "queue_qos0_messages") {
        found.note(
            &setting.place,
            "queues_qos_0",
            "messages of QoS 0 are queued too for devices that are away",
            "remove the line, unless that is meant",
        );
    }
    if let Some(setting) = off(configuration, "check_retain_source") {
        found.warning(
            &setting.place,
            "retain_source_unchecked",
            "what a device retained goes on being delivered after it was revoked or lost the topic",
            "remove the line",
        );
    }
}

fn logs(configuration: &Configuration, found: &mut Findings) {
    for setting in configuration.broker.all("log_dest").filter(|setting| setting.word() == Some("topic")) {
        found.warning(
            &setting.place,
            "log_to_topic",
            "the log, with client IDs and addresses, is published below $SYS/broker/log",
            "log to syslog or a file, or see to it that no group has topics below $SYS",
        );
    }
    for setting in configuration.broker.all("log_type") {
        let text = match setting.word() {
            Some("all" | "debug") => "client IDs and topics of every message stand in the log",
            Some("subscribe" | "unsubscribe") => {
                "client IDs and topics of every subscription stand in the log"
            }
            Some("websockets" | "internal") => {
                "what libraries and the broker itself say for debugging stands in the log"
            }
            _ => continue,
        };
        found.note(
            &setting.place,
            "log_verbose",
            format!("{text}; a token that a client sends as its client ID, too"),
            "leave it at error, warning, notice and information, but for finding a fault",
        );
    }
    if let Some(setting) = off(configuration, "connection_messages") {
        found.note(
            &setting.place,
            "connections_not_logged",
            "the log does not say who connects and leaves; denials are logged by the plugin all the same",
            "remove the line, if an audit needs it",
        );
    }
    if let Some(setting) =
        configuration.broker.last("log_dest").filter(|setting| setting.word() == Some("none"))
    {
        found.warning(
            &setting.place,
            "no_log",
            "nothing is logged: neither denials nor that keys cannot be fetched",
            "set log_dest syslog",
        );
    }
}
