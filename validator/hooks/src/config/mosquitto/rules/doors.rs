//! Who gets in where, and who is asked.

use crate::config::finding::Findings;
use crate::config::mosquitto::Version;
use crate::config::mosquitto::model::{Address, Configuration, Guards, Listener, Plugin};

pub(super) fn check(configuration: &Configuration, found: &mut Findings) {
    if !configuration.plugins.iter().any(Plugin::is_ours) {
        found.error(
            &configuration.start,
            "no_plugin",
            "nothing loads Fleetbadge's plugin: no token is asked for",
            "add `plugin /usr/lib/mosquitto/libfleetbadge_mosquitto.so` and its options, as \
             `fleetbadge-validator config mosquitto` prints them",
        );
    }
    for plugin in &configuration.plugins {
        if plugin.guards == Guards::Only(Vec::new()) {
            found.error(
                &plugin.place,
                "plugin_unused",
                "the plugin is loaded, but no listener uses it",
                "add plugin_use to each listener, or load it with global_plugin",
            );
        }
    }
    if configuration.listeners.is_empty() {
        found.note(
            &configuration.start,
            "no_listener",
            "there is no listener: the broker can be reached from its own machine alone, on port 1883",
            "add one: listener 8883",
        );
    }
    for (number, listener) in configuration.listeners.iter().enumerate() {
        opened_unasked(listener, found);
        let plugins: Vec<_> = configuration.plugins_of(number).collect();
        match plugins.iter().position(|plugin| plugin.is_ours()) {
            None => unguarded(configuration, listener, !plugins.is_empty(), found),
            Some(first) => guarded(configuration, listener, &plugins, first, found),
        }
    }
}

/// A setting that belongs to a listener, and stands before all of them.
fn opened_unasked(listener: &Listener, found: &mut Findings) {
    let Some(opened_by) = &listener.opened_by else { return };
    if opened_by == "port" || opened_by == "bind_address" {
        return;
    }
    let Address::Tcp { port, host } = &listener.address else { return };
    let host = host.as_deref().unwrap_or("all addresses");
    found.warning(
        &listener.place,
        "default_listener",
        format!(
            "{opened_by} belongs to a listener, and stands before the first: the broker opens one more on port {port} of {host}"
        ),
        "move the line behind the `listener` that it is meant for",
    );
}

/// No plugin of ours is asked.
fn unguarded(
    configuration: &Configuration,
    listener: &Listener,
    has_other_plugin: bool,
    found: &mut Findings,
) {
    let name = listener.name();
    let anonymous = configuration.security_of(listener, "allow_anonymous").filter(|setting| setting.is_on());
    let password_file = configuration.security_of(listener, "password_file");
    let who = if anonymous.is_some() {
        "anybody gets in without a token and may do everything that an acl_file does not forbid"
    } else if password_file.is_some() {
        "the users of password_file get in without a token"
    } else if has_other_plugin {
        "another plugin decides who gets in, without a token"
    } else {
        "nobody gets in, and one more setting would open it"
    };
    let way_out = match (&configuration.per_listener, configuration.version) {
        (Some(_), Version::V2_0) => {
            "give it a plugin line with options of its own, or remove per_listener_settings"
        }
        (_, Version::V2_1) => "load the plugin with global_plugin, or add plugin_use to this listener",
        (None, Version::V2_0) => "load the plugin",
    };
    found.error(
        &listener.place,
        "listener_unguarded",
        format!("Fleetbadge does not guard {name}: {who}"),
        way_out,
    );
    if let Some(anonymous) = anonymous {
        found.error(
            &anonymous.place,
            "anonymous_allowed",
            format!("{name} lets in whoever gives no name"),
            "set it to false",
        );
    }
}

/// A plugin of ours is asked; what stands beside it has less to say than one
/// may think.
fn guarded(
    configuration: &Configuration,
    listener: &Listener,
    plugins: &[&Plugin],
    first: usize,
    found: &mut Findings,
) {
    let hands_on = plugins.get(first).is_some_and(|plugin| plugin.hands_on());
    for (number, plugin) in plugins.iter().enumerate() {
        if plugin.is_ours() {
            if number > first {
                one_too_many(configuration, plugin, found);
            }
        } else if number < first {
            found.warning(
                &plugin.place,
                "plugin_before",
                "this plugin is asked before Fleetbadge's: whom it lets in needs no token, and what it allows \
                 no token need allow",
                "load it after Fleetbadge's plugin, or remove it",
            );
        } else if !hands_on {
            found.note(
                &plugin.place,
                "plugin_after",
                "Fleetbadge's plugin decides first, and finally: this one is not asked who gets in or what a \
                 client may do",
                "remove it, unless it does something else",
            );
        }
    }
    for name in ["password_file", "acl_file"] {
        if let Some(setting) = configuration.security_of(listener, name).filter(|_| !hands_on) {
            let text = match name {
                "password_file" => {
                    "its users are not let in: Fleetbadge's plugin denies whoever has no token"
                }
                _ => {
                    "it neither allows nor forbids anything: Fleetbadge's plugin decides every topic by the token"
                }
            };
            found.warning(
                &setting.place,
                "without_effect",
                format!("{name} is never asked; {text}"),
                "remove the line; topics are given at the issuer, to groups of devices",
            );
        }
    }
    let anonymous = configuration.security_of(listener, "allow_anonymous").filter(|setting| setting.is_on());
    if let Some(setting) = anonymous {
        found.warning(
            &setting.place,
            "anonymous_allowed",
            "Fleetbadge's plugin denies clients without a token; should it not be loaded one day, anybody \
             gets in",
            "set it to false",
        );
    }
    for name in ["use_identity_as_username", "use_subject_as_username"] {
        if let Some(setting) = listener.settings.last(name).filter(|setting| setting.is_on()) {
            found.error(
                &setting.place,
                "certificate_as_username",
                "Mosquitto lets clients with a certificate in without asking the plugin, and puts the \
                 certificate's name where the token was",
                "remove the line; require_certificate may stay",
            );
        }
    }
    if let Some(setting) =
        listener.settings.last("use_username_as_clientid").filter(|setting| setting.is_on())
    {
        found.error(
            &setting.place,
            "username_as_clientid",
            "the token becomes the client ID before the plugin is asked: nobody gets in, and from 2.0.21 on \
             the token stands in the log",
            "remove the line; a token is good for one client ID anyway",
        );
    }
    if let Some(setting) = listener.settings.last("mount_point") {
        found.warning(
            &setting.place,
            "mount_point",
            format!(
                "the plugin sees every topic with {:?} before it, and the tokens' topics must have it, too",
                setting.text()
            ),
            "give the groups such topics, or remove the line",
        );
    }
}

/// A second instance of ours for the same listener.
fn one_too_many(configuration: &Configuration, plugin: &Plugin, found: &mut Findings) {
    match configuration.version {
        Version::V2_0 => found.error(
            &plugin.place,
            "plugin_twice",
            "the plugin is loaded a second time for the same listeners: the broker does not start",
            "leave one, or set per_listener_settings true and give each listener its own",
        ),
        Version::V2_1 => found.warning(
            &plugin.place,
            "plugin_twice",
            "the plugin is loaded a second time for the same listener: the first decides, this one is never asked",
            "leave one, or give each listener its own with plugin_load and plugin_use",
        ),
    }
}
