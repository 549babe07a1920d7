//! What can be read or forged on the way to the broker.

use std::net::IpAddr;

use crate::config::finding::Findings;
use crate::config::mosquitto::Version;
use crate::config::mosquitto::lines::Setting;
use crate::config::mosquitto::model::{Address, Configuration, Listener};

pub(super) fn check(configuration: &Configuration, found: &mut Findings) {
    for listener in &configuration.listeners {
        encryption(listener, found);
        certificates(listener, found);
        others(configuration, listener, found);
    }
}

fn encryption(listener: &Listener, found: &mut Findings) {
    let setting = |name| listener.settings.last(name);
    let (certfile, keyfile) = (setting("certfile"), setting("keyfile"));
    let is_tls = certfile.is_some() && keyfile.is_some();
    let half = [certfile, keyfile, setting("cafile"), setting("capath")].into_iter().flatten().next();
    if let Some(half) = half.filter(|_| !is_tls) {
        found.error(
            &half.place,
            "tls_incomplete",
            "TLS needs both certfile and keyfile: Mosquitto 2.0.11 listens without TLS, later ones do not start",
            "give both, or remove the line",
        );
    }
    if let Some(hint) = setting("psk_hint") {
        found.note(
            &hint.place,
            "psk",
            "a pre-shared key encrypts, but says nothing of who the client is: it still needs a token",
            "use certfile and keyfile, if devices can check a certificate",
        );
    } else if !is_tls && !listener.is_local() {
        let text = match setting("protocol").and_then(Setting::word) {
            Some("websockets") => "speaks WebSockets without TLS",
            _ => "speaks MQTT without TLS",
        };
        found.error(
            &listener.place,
            "no_tls",
            format!("{} {text}: whoever is on the way reads the tokens, and can use them", listener.name()),
            "add certfile and keyfile, or bind it to 127.0.0.1",
        );
    }
    if let Some(setting) = setting("tls_version") {
        match setting.text() {
            "tlsv1.2" | "tlsv1.3" => {}
            "tlsv1.1" => found.warning(
                &setting.place,
                "tls_version_old",
                "TLS 1.1 is broken: tokens may be read on the way",
                "set tlsv1.2 or tlsv1.3",
            ),
            other => found.error(
                &setting.place,
                "value_malformed",
                format!("tls_version is {other:?}: on a listener with TLS the broker does not start"),
                "set tlsv1.2 or tlsv1.3",
            ),
        }
    }
}

fn certificates(listener: &Listener, found: &mut Findings) {
    let setting = |name| listener.settings.last(name);
    let has_tls = setting("certfile").is_some();
    match (setting("cafile").or(setting("capath")), setting("require_certificate")) {
        (_, Some(required)) if required.is_on() && !has_tls => found.warning(
            &required.place,
            "without_effect",
            "require_certificate does nothing on a listener without TLS",
            "add certfile, keyfile and cafile",
        ),
        (Some(authorities), required) if has_tls && !required.is_some_and(Setting::is_on) => found.note(
            &authorities.place,
            "certificate_not_required",
            "clients are not asked for a certificate: tokens that are bound to one are refused here",
            "add require_certificate true if devices have certificates",
        ),
        _ => {}
    }
    if let Some(setting) = setting("disable_client_cert_date_checks").filter(|setting| setting.is_on()) {
        found.warning(
            &setting.place,
            "certificate_dates",
            "certificates that have ended are accepted",
            "remove the line; set the devices' clocks",
        );
    }
}

fn others(configuration: &Configuration, listener: &Listener, found: &mut Findings) {
    if let Some(setting) = listener.settings.last("http_dir") {
        found.note(
            &setting.place,
            "http_dir",
            "whoever reaches this listener gets the files in this folder, without a token",
            "keep nothing secret there",
        );
    }
    let proxy = listener.settings.last("enable_proxy_protocol");
    if let Some(setting) = proxy.filter(|_| configuration.version == Version::V2_1 && !listener.is_local()) {
        found.warning(
            &setting.place,
            "proxy_protocol",
            "whoever reaches this listener past the proxy can claim any address",
            "bind it to an address that the proxy alone can reach",
        );
    }
}

impl Listener {
    /// Whether it can be reached from this machine alone.
    fn is_local(&self) -> bool {
        let host = match &self.address {
            Address::Unix => return true,
            Address::Tcp { host, .. } => host.as_deref(),
        };
        let is_loopback = host.is_some_and(|host| {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        });
        is_loopback || self.settings.last("bind_interface").is_some_and(|interface| interface.text() == "lo")
    }
}
