//! Bridges, which no plugin is asked about.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;

use crate::config::finding::Findings;
use crate::config::mosquitto::model::{Bridge, Configuration};

/// What a bridge proves itself with.
const SECRETS: [&str; 4] = ["remote_password", "password", "local_password", "bridge_psk"];

pub(super) fn check(configuration: &Configuration, found: &mut Findings) {
    for bridge in &configuration.bridges {
        whole(bridge, found);
        topics(bridge, found);
        secrets(bridge, found);
        encryption(bridge, found);
    }
}

fn whole(bridge: &Bridge, found: &mut Findings) {
    for (names, what) in [(["address", "addresses"], "address"), (["topic", "topic"], "topic")] {
        if names.iter().all(|name| bridge.settings.last(name).is_none()) {
            found.error(
                &bridge.place,
                "bridge_incomplete",
                format!("the bridge has no {what}: the broker does not start"),
                "add one or remove the bridge",
            );
        }
    }
}

fn topics(bridge: &Bridge, found: &mut Findings) {
    for topic in bridge.settings.all("topic") {
        let mut words = topic.words();
        let (filter, direction) = (words.next().unwrap_or_default(), words.next().unwrap_or("out"));
        let prefixes: Vec<_> = words.skip(1).filter(|prefix| *prefix != "\"\"").collect();
        if filter != "#" || !prefixes.is_empty() {
            continue;
        }
        let text = match direction.to_ascii_lowercase().as_str() {
            "in" => "the other broker may publish to every topic here",
            "both" => "the other broker gets every message, and may publish to every topic here",
            _ => "the other broker gets every message",
        };
        found.warning(
            &topic.place,
            "bridge_everything",
            format!("{text}: the plugin is not asked about bridges"),
            "name the topics that are needed, or put a prefix before what comes in",
        );
    }
}

fn secrets(bridge: &Bridge, found: &mut Findings) {
    for secret in SECRETS.iter().flat_map(|name| bridge.settings.all(name)) {
        let Ok(metadata) = std::fs::metadata(&secret.place.file) else { continue };
        if metadata.mode() & 0o004 != 0 {
            found.error(
                &secret.place,
                "secret_readable",
                format!(
                    "{} stands in a file with mode {:04o}: everybody on this machine can read it",
                    secret.name,
                    metadata.mode() & 0o7777
                ),
                "run chmod o-rwx on the file, and change the secret",
            );
        }
    }
}

fn encryption(bridge: &Bridge, found: &mut Findings) {
    if let Some(setting) = bridge.settings.last("bridge_insecure").filter(|setting| setting.is_on()) {
        found.error(
            &setting.place,
            "bridge_insecure",
            "the other broker's name is not checked: anybody with a certificate can take its place",
            "remove the line",
        );
    }
    let is_tls = ["bridge_cafile", "bridge_capath", "bridge_psk"]
        .iter()
        .any(|name| bridge.settings.last(name).is_some())
        || bridge.settings.is_on("bridge_tls_use_os_certs");
    let has_secret = ["remote_password", "password", "remote_username", "username"]
        .iter()
        .any(|name| bridge.settings.last(name).is_some());
    let addresses = bridge.settings.last("address").or(bridge.settings.last("addresses"));
    let Some(addresses) = addresses.filter(|_| has_secret && !is_tls) else { return };
    let is_remote = |address: &str| {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    if addresses.words().take_while(|word| !word.starts_with('#')).any(is_remote) {
        found.error(
            &addresses.place,
            "bridge_no_tls",
            "the bridge sends its name and password, or token, without TLS",
            "add bridge_cafile",
        );
    }
}
