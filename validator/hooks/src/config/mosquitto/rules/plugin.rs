//! What the plugin of ours is told.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fleetbadge_mosquitto_options::option_table;
use fleetbadge_validator::keys::{KeySet, file};
use fleetbadge_validator::remote::credentials::Credentials;
use fleetbadge_validator::remote::http::is_loopback;
use url::Url;

use super::files::{self, BrokerUser};
use crate::config::finding::{Findings, Place};
use crate::config::mosquitto::Version;
use crate::config::mosquitto::model::{Configuration, Plugin};

/// From when on a clock that far off is one to be set, in seconds.
const LARGE_SKEW_S: u64 = 60;
/// A day, in seconds: how long revoked tokens may be good in an outage, and
/// tokens altogether, without anybody having to think about it.
const DAY_S: u64 = 86_400;

pub(super) fn check(configuration: &Configuration, user: Option<&BrokerUser>, found: &mut Findings) {
    for plugin in &configuration.plugins {
        shared_object(plugin, user, found);
        if plugin.is_ours() {
            options(plugin, found);
            exchange(plugin, configuration.version, found);
            network(plugin, found);
            numbers(plugin, found);
            paths(plugin, user, found);
        }
    }
}

/// The file that the broker loads, ours or not.
fn shared_object(plugin: &Plugin, user: Option<&BrokerUser>, found: &mut Findings) {
    let path = &plugin.path;
    let Err(error) = fs::metadata(path) else {
        if let Some(user) = user.filter(|user| !user.may_read(path)) {
            unreadable(&plugin.place, "plugin", path, user, found);
        }
        return replaceable(plugin, found);
    };
    let way_out = match path.to_str() {
        Some(text) if text.ends_with(' ') => "remove the blanks at the end of the line",
        _ => "correct the path, or install the plugin",
    };
    found.error(
        &plugin.place,
        "file_missing",
        format!("plugin {:?}: {error}: the broker does not start", path.display().to_string()),
        way_out,
    );
}

/// Whether others could put their own in its place.
fn replaceable(plugin: &Plugin, found: &mut Findings) {
    let path = fs::canonicalize(&plugin.path).unwrap_or_else(|_| plugin.path.clone());
    // What others own cannot be replaced in a folder with the sticky bit.
    let is_sticky = |path: &Path| {
        fs::metadata(path).is_ok_and(|metadata| metadata.is_dir() && metadata.mode() & 0o1000 != 0)
    };
    let writable = path.ancestors().filter(|path| !is_sticky(path));
    for (path, mode) in writable.filter_map(|path| Some((path, files::writable_by_others(path)?))) {
        found.error(
            &plugin.place,
            "plugin_writable",
            format!("{} has mode {mode:04o}: others may put a plugin of theirs in its place", path.display()),
            "run chmod go-w on it",
        );
    }
}

/// What the plugin itself says of its options.
fn options(plugin: &Plugin, found: &mut Findings) {
    let given = plugin.options.iter().map(|(_, name, value)| (name.clone(), value.clone()));
    if let Err(refused) = option_table::check(given) {
        let text = refused.to_string();
        let subject = text.strip_prefix("plugin_opt_").map(|text| {
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.')
                .next()
                .unwrap_or_default()
        });
        let line = plugin.options.iter().rev().find(|(_, name, _)| Some(name.as_str()) == subject);
        let place = line.map_or(&plugin.place, |(place, ..)| place);
        found.error(place, "plugin_option", text, "the broker does not start until that is mended");
    }
    for (place, name, value) in &plugin.options {
        if value.ends_with([' ', '\t']) || value.contains(" #") {
            found.warning(
                place,
                "option_blank",
                format!("the value of plugin_opt_{name} is {value:?}: blanks, and what stands behind them, belong to it"),
                "remove them; a comment needs a line of its own",
            );
        }
    }
}

/// What makes clients wait.
fn exchange(plugin: &Plugin, version: Version, found: &mut Findings) {
    let exchanged = plugin.options.iter().find(|(_, name, kind)| {
        let of = name.strip_suffix(".kind");
        kind == "static_password" && of.is_some_and(|authenticator| plugin.is_enabled(authenticator))
    });
    if let (Some((place, ..)), Version::V2_0) = (exchanged, version) {
        found.error(
            place,
            "exchange_needs_2_1",
            "static passwords are exchanged while their clients wait, which plugins of Mosquitto 2.0 cannot have \
             them do: the broker does not start",
            "run Mosquitto 2.1, or give these clients tokens",
        );
    }
}

/// What goes over the network.
fn network(plugin: &Plugin, found: &mut Findings) {
    let has_credentials = plugin.options("credentials_file").next().is_some();
    let is_allowed = |(_, value): &(&Place, &str)| *value == "true";
    let allowed = plugin.options("allow_insecure_http").find(is_allowed);
    let mut is_insecure = false;
    for name in ["issuer", "jwks_url", "revocations_url", "reports_url", "token_url"] {
        for (place, url) in plugin.options(name) {
            let Ok(url) = Url::parse(url) else { continue };
            if url.scheme() == "https" || is_loopback(&url) {
                continue;
            }
            is_insecure |= name != "issuer" || has_credentials;
            found.error(
                place,
                "insecure_http",
                format!("{url} is plain HTTP: whoever is on the way can put keys of their own there, and let anyone in"),
                "use https",
            );
        }
    }
    if let Some((place, _)) = allowed.filter(|_| !is_insecure) {
        found.warning(
            place,
            "insecure_http_allowed",
            "no URL needs it, but a later one could be plain HTTP unnoticed",
            "remove the line",
        );
    }
    if !has_credentials {
        found.warning(
            &plugin.place,
            "revocations_not_followed",
            "without plugin_opt_credentials_file nobody tells the plugin what is revoked: such tokens are good \
             until they end",
            "add it, with what `fleetbadge-issuer broker add --json` prints, and plugin_opt_state_dir",
        );
    }
}

fn numbers(plugin: &Plugin, found: &mut Findings) {
    let above = |name, limit: u64| {
        plugin.options(name).filter(move |(_, value)| value.parse().is_ok_and(|value: u64| value > limit))
    };
    for (place, value) in above("skew_s", LARGE_SKEW_S) {
        found.warning(
            place,
            "skew_large",
            format!("tokens go on for {value} s after their end, everywhere"),
            "set the clocks by NTP and leave it at 5",
        );
    }
    for (place, value) in above("max_staleness_s", DAY_S) {
        found.note(
            place,
            "staleness_long",
            format!("for {value} s without news from the issuer, what it revokes is let in all the same"),
            "leave it at 86400, if outages are shorter than a day",
        );
    }
    for (place, value) in above("max_lifetime_s", DAY_S) {
        found.note(
            place,
            "lifetime_long",
            format!("a stolen token is good for up to {value} s, if it is not revoked"),
            "leave it at 86400 or less",
        );
    }
}

/// The files and folders that its options name.
fn paths(plugin: &Plugin, user: Option<&BrokerUser>, found: &mut Findings) {
    for (place, path) in plugin.options("state_dir").map(|(place, path)| (place, Path::new(path))) {
        state_dir(place, path, user, found);
    }
    let issuer = plugin.options("issuer").map(|(_, issuer)| issuer).next().unwrap_or_default();
    for (place, path) in plugin.options("jwks_file").map(|(place, path)| (place, Path::new(path))) {
        let fault = match file::read(path) {
            Ok(json) => KeySet::from_json(issuer, &json).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        usable(place, "jwks_file", path, fault, user, found);
    }
    for (place, path) in plugin.options("credentials_file").map(|(place, path)| (place, Path::new(path))) {
        let fault = Credentials::read(path).err().map(|error| error.reason.to_string());
        usable(place, "credentials_file", path, fault, user, found);
    }
    for (place, path) in plugin.options("ca_file").map(|(place, path)| (place, Path::new(path))) {
        let fault = fs::metadata(path).err().map(|error| error.to_string());
        usable(place, "ca_file", path, fault, user, found);
    }
}

fn state_dir(place: &Place, path: &Path, user: Option<&BrokerUser>, found: &mut Findings) {
    let mode = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => metadata.mode() & 0o7777,
        Ok(_) => return unusable(place, "state_dir", path, "is not a folder", found),
        Err(error) => return unusable(place, "state_dir", path, &error.to_string(), found),
    };
    if mode & 0o022 != 0 {
        unusable(
            place,
            "state_dir",
            path,
            &format!("has mode {mode:04o}: others may write it; run chmod go-w"),
            found,
        );
    } else if let Some(user) = user.filter(|user| !user.may_write_into(path)) {
        unusable(place, "state_dir", path, &format!("cannot be written to by {}", user.name), found);
    }
    if mode & 0o005 == 0o005 {
        found.note(
            place,
            "state_readable",
            format!("{} has mode {mode:04o}: others may see what is in it", path.display()),
            "run chmod o-rx on it; its files are for the broker alone",
        );
    }
}

fn usable(
    place: &Place,
    name: &str,
    path: &Path,
    fault: Option<String>,
    user: Option<&BrokerUser>,
    found: &mut Findings,
) {
    match (fault, user) {
        (Some(fault), _) => unusable(place, name, path, &fault, found),
        (None, Some(user)) if !user.may_read(path) => unreadable(place, name, path, user, found),
        (None, _) => {}
    }
}

fn unusable(place: &Place, name: &str, path: &Path, fault: &str, found: &mut Findings) {
    found.error(
        place,
        "file_unusable",
        format!("{name} {}: {fault}", path.display()),
        "the broker does not start until that is mended",
    );
}

fn unreadable(place: &Place, name: &str, path: &Path, user: &BrokerUser, found: &mut Findings) {
    found.error(
        place,
        "file_unreadable",
        format!("{name} {} cannot be read by {}, which the broker becomes", path.display(), user.name),
        "run chgrp and chmod g+r on it, and see to the folders above",
    );
}
