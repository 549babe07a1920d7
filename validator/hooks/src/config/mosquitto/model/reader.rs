//! Reads files into a configuration, as `config__read_file_core` of Mosquitto
//! does: what a setting belongs to depends on what stands before it.

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::{Address, Bridge, Configuration, Guards, Listener, Plugin, Settings};
use crate::config::finding::{Findings, Place};
use crate::config::mosquitto::Version;
use crate::config::mosquitto::lines::{self, Setting};
use crate::config::mosquitto::settings::{self, Known, Scope, Value};

pub(super) fn read(path: &Path, version: Version, found: &mut Findings) -> io::Result<Configuration> {
    let start = Place { file_number: 0, file: path.into(), line: None };
    let settings = lines::read(0, path)?;
    let mut reader = Reader {
        found,
        security_was_set: false,
        read: Configuration {
            version,
            start: start.clone(),
            files: vec![(start, path.into())],
            broker: Settings::default(),
            security: Settings::default(),
            per_listener: None,
            listeners: Vec::new(),
            plugins: Vec::new(),
            bridges: Vec::new(),
        },
    };
    reader.take_all(settings, true);
    Ok(reader.read)
}

/// Reads files into a configuration.
struct Reader<'a> {
    read: Configuration,
    security_was_set: bool,
    found: &'a mut Findings,
}

/// What settings of a file belong to; each file begins anew.
#[derive(Default)]
struct Current {
    listener: Option<usize>,
    bridge: Option<usize>,
    plugin: Option<usize>,
}

impl Reader<'_> {
    fn take_all(&mut self, settings: Vec<Setting>, is_main: bool) {
        let mut current = Current::default();
        for setting in settings {
            self.take(setting, &mut current, is_main);
        }
    }

    fn take(&mut self, setting: Setting, current: &mut Current, is_main: bool) {
        let option = ["plugin_opt_", "auth_opt_"].iter().find_map(|prefix| setting.name.strip_prefix(prefix));
        if let Some(name) = option {
            let name = name.to_owned();
            return self.take_option(&setting, name, current);
        }
        let Some(known) = settings::find(&setting.name) else {
            let name = &setting.name;
            let way_out = if name.starts_with('#') {
                "a comment begins at the first character of its line: remove the spaces before it"
            } else if name.contains('\t') {
                "between a setting and its value there must be a space, not a tab"
            } else {
                "correct the spelling or remove the line"
            };
            return self.found.error(
                &setting.place,
                "setting_unknown",
                format!("Mosquitto has no setting {name:?}: the broker does not start"),
                way_out,
            );
        };
        if !known.is_in(self.read.version) {
            return self.found.error(
                &setting.place,
                "setting_unknown",
                format!("Mosquitto 2.0 has no setting {:?}: the broker does not start", setting.name),
                "give --mosquitto 2.1 if the broker is one, else remove the line",
            );
        }
        if !self.value_is_right(&setting, known) {
            return;
        }
        match known.scope {
            Scope::Special => self.take_special(&setting, current, is_main),
            Scope::Broker => self.keep(setting, known, Home::Broker),
            Scope::Security => self.take_security(setting, known, current),
            Scope::Listener | Scope::NamedListener => self.take_listeners(setting, known, current),
            Scope::Bridge => match current.bridge {
                Some(bridge) => self.keep(setting, known, Home::Bridge(bridge)),
                None => self.misplaced(&setting, "connection"),
            },
            Scope::Plugin => {
                if current.plugin.is_none() {
                    self.misplaced(&setting, "plugin");
                }
            }
        }
    }

    fn take_option(&mut self, setting: &Setting, name: String, current: &Current) {
        let value = setting.option().to_owned();
        let plugin = current.plugin.and_then(|plugin| self.read.plugins.get_mut(plugin));
        match plugin {
            None => self.misplaced(setting, "plugin"),
            // Mosquitto wants three letters at least.
            Some(_) if name.len() < 3 => self.malformed(setting, "its name must have three letters or more"),
            Some(_) if value.is_empty() => self.missing(setting),
            Some(plugin) => plugin.options.push((setting.place.clone(), name, value)),
        }
    }

    /// Settings that are the broker's, or the listener's under
    /// `per_listener_settings`.
    fn take_security(&mut self, setting: Setting, known: &Known, current: &mut Current) {
        self.security_was_set = true;
        if self.read.per_listener.is_none() {
            return self.keep(setting, known, Home::Security);
        }
        if current.listener.is_none() && self.read.version == Version::V2_1 {
            return self.misplaced(&setting, "listener");
        }
        // A default listener is not opened for these alone.
        let opens = match &*setting.name {
            "allow_anonymous" | "acl_file" | "auto_id_prefix" => false,
            "allow_zero_length_clientid" => !setting.is_on(),
            _ => true,
        };
        if let Some(listener) = self.current_listener(&setting, current, opens) {
            self.keep(setting, known, Home::ListenerSecurity(listener));
        }
    }

    fn take_listeners(&mut self, setting: Setting, known: &Known, current: &mut Current) {
        let is_2_1 = self.read.version == Version::V2_1;
        let wants_name = known.scope == Scope::NamedListener && (is_2_1 || setting.name == "mount_point");
        if current.listener.is_none() && wants_name {
            return self.misplaced(&setting, "listener");
        }
        // 2.0 opens a default listener only for what changes something.
        let opens = is_2_1
            || match &*setting.name {
                "require_certificate"
                | "use_identity_as_username"
                | "use_subject_as_username"
                | "use_username_as_clientid" => setting.is_on(),
                "max_connections" => setting.number() >= 0,
                "max_qos" | "maximum_qos" => setting.number() != 2,
                "protocol" => setting.word() != Some("mqtt"),
                "tls_version" | "tls_keyform" | "http_dir" | "max_topic_alias" => false,
                _ => true,
            };
        if let Some(listener) = self.current_listener(&setting, current, opens) {
            self.keep(setting, known, Home::Listener(listener));
        }
    }

    /// The listener that a setting belongs to; without one before it, the
    /// default one.
    fn current_listener(&mut self, setting: &Setting, current: &mut Current, opens: bool) -> Option<usize> {
        if let Some(listener) = current.listener {
            return Some(listener);
        }
        let existing = self.read.listeners.iter().position(|listener| listener.opened_by.is_some());
        if existing.is_none() && !opens {
            return None;
        }
        let listener = existing.unwrap_or_else(|| {
            let address = Address::Tcp { port: 1883, host: None };
            self.add_listener(setting.place.clone(), address, Some(setting.name.clone()))
        });
        if self.read.version == Version::V2_1 {
            current.listener = Some(listener);
        }
        Some(listener)
    }

    fn add_listener(&mut self, place: Place, address: Address, opened_by: Option<String>) -> usize {
        self.read.listeners.push(Listener {
            place,
            address,
            settings: Settings::default(),
            security: Settings::default(),
            opened_by,
        });
        self.read.listeners.len() - 1
    }

    fn take_special(&mut self, setting: &Setting, current: &mut Current, is_main: bool) {
        match &*setting.name {
            "listener" => self.take_listener(setting, current),
            "port" | "bind_address" => {
                let mut default = Current::default();
                let listener = self.current_listener(setting, &mut default, true);
                if self.read.version == Version::V2_1 {
                    current.listener = listener;
                }
                let listener = listener.and_then(|listener| self.read.listeners.get_mut(listener));
                if let Some(Address::Tcp { port, host }) = listener.map(|listener| &mut listener.address) {
                    match &*setting.name {
                        "port" => *port = setting.number(),
                        _ => *host = Some(setting.text().into()),
                    }
                }
            }
            "connection" => {
                let bridge = Bridge { place: setting.place.clone(), settings: Settings::default() };
                self.read.bridges.push(bridge);
                current.bridge = Some(self.read.bridges.len() - 1);
            }
            "per_listener_settings" => {
                if setting.is_on() && self.security_was_set && self.read.per_listener.is_none() {
                    self.found.error(
                        &setting.place,
                        "per_listener_settings_late",
                        "per_listener_settings true comes after a security setting or a plugin: the broker does \
                         not start",
                        "make it the first line",
                    );
                } else if setting.is_on() {
                    self.read.per_listener.get_or_insert_with(|| setting.place.clone());
                }
            }
            "include_dir" => self.include(setting, is_main),
            _ => self.take_plugin(setting, current),
        }
    }

    fn take_listener(&mut self, setting: &Setting, current: &mut Current) {
        let mut words = setting.words();
        let (port, host) = (setting.number(), words.nth(1).filter(|host| !host.starts_with('#')));
        let is_number = setting.is_number() || self.read.version == Version::V2_0;
        let address = match (port, host) {
            _ if !is_number || setting.word().is_none() => {
                return self.malformed(setting, "it must be a port, and an address if not all are meant");
            }
            (0, None) => return self.malformed(setting, "port 0 needs the path of a unix socket"),
            (0, Some(_)) => Address::Unix,
            (1..=65_535, host) => Address::Tcp { port, host: host.map(str::to_owned) },
            _ => return self.malformed(setting, "a port is 1 to 65535"),
        };
        current.listener = Some(self.add_listener(setting.place.clone(), address, None));
    }

    fn take_plugin(&mut self, setting: &Setting, current: &mut Current) {
        let is_2_1 = self.read.version == Version::V2_1;
        let (name, path) = match &*setting.name {
            "plugin_use" => return self.use_plugin(setting, current),
            "plugin_load" => {
                let (name, path) = setting.text().split_once(' ').unwrap_or((setting.text(), ""));
                (Some(name.to_owned()), path)
            }
            // 2.1 takes blanks at the end for a part of the path.
            _ if is_2_1 => (None, setting.option()),
            _ => (None, setting.text()),
        };
        let guards = match &*setting.name {
            "plugin_load" => Guards::Only(Vec::new()),
            "global_plugin" => Guards::All,
            _ => {
                self.security_was_set = true;
                match (&self.read.per_listener, current.listener) {
                    (None, _) => Guards::All,
                    (Some(_), None) if is_2_1 => return self.misplaced(setting, "listener"),
                    (Some(_), _) => {
                        Guards::Only(self.current_listener(setting, current, true).into_iter().collect())
                    }
                }
            }
        };
        if path.is_empty() {
            return self.missing(setting);
        }
        self.read.plugins.push(Plugin {
            place: setting.place.clone(),
            path: path.into(),
            options: Vec::new(),
            guards,
            name,
        });
        current.plugin = Some(self.read.plugins.len() - 1);
    }

    fn use_plugin(&mut self, setting: &Setting, current: &mut Current) {
        let Some(listener) = current.listener else { return self.misplaced(setting, "listener") };
        let name = setting.text();
        let plugin = self.read.plugins.iter().position(|plugin| plugin.name.as_deref() == Some(name));
        current.plugin = plugin;
        match plugin.and_then(|plugin| self.read.plugins.get_mut(plugin)) {
            Some(Plugin { guards: Guards::Only(listeners), .. }) => listeners.push(listener),
            Some(Plugin { guards: Guards::All, .. }) => {}
            None => self.found.error(
                &setting.place,
                "plugin_unknown",
                format!("no plugin_load before this line has the name {name:?}: the broker does not start"),
                "load it first: plugin_load NAME PATH",
            ),
        }
    }

    fn include(&mut self, setting: &Setting, is_main: bool) {
        if !is_main {
            return self.found.error(
                &setting.place,
                "include_dir_nested",
                "include_dir counts in the main file only: the broker does not start",
                "move the line there",
            );
        }
        let folder = setting.path();
        let unreadable =
            |path: &Path, error: io::Error| format!("{}: {error}: the broker does not start", path.display());
        let files = match lines::files_in(folder) {
            Ok(files) => files,
            Err(error) => {
                let text = unreadable(folder, error);
                return self.found.error(&setting.place, "file_unreadable", text, "correct the path");
            }
        };
        self.read.files.push((setting.place.clone(), folder.into()));
        for path in files {
            let number = self.read.files.len();
            match lines::read(number, &path) {
                Ok(settings) => {
                    let place = Place { file_number: number, file: Rc::from(&*path), line: None };
                    self.read.files.push((place, path));
                    self.take_all(settings, false);
                }
                Err(error) => {
                    let text = unreadable(&path, error);
                    self.found.error(&setting.place, "file_unreadable", text, "correct or remove the file");
                }
            }
        }
    }

    /// Keeps a setting, unless it may be given once.
    fn keep(&mut self, setting: Setting, known: &Known, home: Home) {
        let read = &mut self.read;
        let settings = match home {
            Home::Broker => Some(&mut read.broker),
            Home::Security => Some(&mut read.security),
            Home::Listener(listener) => read.listeners.get_mut(listener).map(|found| &mut found.settings),
            Home::ListenerSecurity(listener) => {
                read.listeners.get_mut(listener).map(|found| &mut found.security)
            }
            Home::Bridge(bridge) => read.bridges.get_mut(bridge).map(|found| &mut found.settings),
        };
        let Some(settings) = settings else { return };
        let once = match known.value {
            Value::Text => true,
            Value::LastText => read.version == Version::V2_0,
            Value::AnyText | Value::Flag | Value::Number | Value::OneOf(_) | Value::Any => false,
        };
        if once && settings.last(&setting.name).is_some() {
            return self.found.error(
                &setting.place,
                "setting_twice",
                format!("{} is given twice: the broker does not start", setting.name),
                "leave one",
            );
        }
        settings.0.push(setting);
    }

    fn value_is_right(&mut self, setting: &Setting, known: &Known) -> bool {
        let fault = match known.value {
            Value::Any => None,
            _ if setting.text().is_empty() => {
                self.missing(setting);
                return false;
            }
            Value::Flag if setting.flag().is_none() => Some("it must be true or false".to_owned()),
            Value::Number if self.read.version == Version::V2_1 && !setting.is_number() => {
                Some("it must be a number".into())
            }
            Value::OneOf(words) if !setting.word().is_some_and(|word| words.contains(&word)) => {
                Some(format!("it must be one of {}", words.join(", ")))
            }
            Value::OneOf(_) if self.read.version == Version::V2_0 && setting.word() == Some("http_api") => {
                Some("Mosquitto 2.0 has no such protocol".into())
            }
            Value::Number => out_of_range(setting, self.read.version).map(Into::into),
            Value::AnyText if setting.name == "persistent_client_expiration" => {
                let word = setting.word().unwrap_or_default();
                let has_unit = word.ends_with(['h', 'd', 'w', 'm', 'y'])
                    || (word.ends_with('s') && self.read.version == Version::V2_1);
                (!has_unit || setting.number() <= 0)
                    .then(|| "it must be a number with h, d, w, m or y behind it".into())
            }
            Value::Flag | Value::Text | Value::LastText | Value::AnyText | Value::OneOf(_) => None,
        };
        match fault {
            Some(fault) => {
                self.malformed(setting, &fault);
                false
            }
            None => true,
        }
    }

    fn missing(&mut self, setting: &Setting) {
        let text = format!("{} has no value: the broker does not start", setting.name);
        self.found.error(&setting.place, "value_missing", text, "give one or remove the line");
    }

    fn malformed(&mut self, setting: &Setting, fault: &str) {
        let text = format!(
            "{} is {:?}, but {fault}: the broker does not start",
            setting.name,
            setting.word().unwrap_or_default()
        );
        self.found.error(&setting.place, "value_malformed", text, "correct it");
    }

    fn misplaced(&mut self, setting: &Setting, what: &str) {
        let text =
            format!("{} stands before any {what} of its file: the broker does not start", setting.name);
        let way_out = format!("move it behind the {what} it belongs to, in the same file");
        self.found.error(&setting.place, "setting_misplaced", text, way_out);
    }
}

/// Where a setting is kept.
#[derive(Clone, Copy)]
enum Home {
    Broker,
    Security,
    Listener(usize),
    ListenerSecurity(usize),
    Bridge(usize),
}

/// Numbers that Mosquitto does not start with.
fn out_of_range(setting: &Setting, version: Version) -> Option<&'static str> {
    let number = setting.number();
    match &*setting.name {
        "port" if !(1..=65_535).contains(&number) => Some("a port is 1 to 65535"),
        "max_qos" | "maximum_qos" if !(0..=2).contains(&number) => Some("a QoS is 0, 1 or 2"),
        "max_packet_size" if number < 20 => Some("it must be 20 or more"),
        "sys_interval" if !(0..=65_535).contains(&number) => Some("it must be 0 to 65535"),
        "max_keepalive" if !(0..=65_535).contains(&number) => Some("it must be 0 to 65535"),
        "enable_proxy_protocol" if version == Version::V2_1 && !(1..=2).contains(&number) => {
            Some("it must be 1 or 2")
        }
        _ => None,
    }
}
