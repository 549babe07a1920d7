//! What a broker makes of its configuration: listeners, plugins, bridges, and
//! what belongs to which; and what it would not start with.

use std::io;
use std::path::{Path, PathBuf};

use super::Version;
use super::lines::Setting;
use crate::config::finding::{Findings, Place};

mod reader;

/// A whole configuration.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) version: Version,
    /// The main file, for what is missing.
    pub(super) start: Place,
    /// Every file that was read, the main one first, and the folders of
    /// `include_dir` with the lines that name them.
    pub(super) files: Vec<(Place, PathBuf)>,
    /// What holds for the whole broker.
    pub(super) broker: Settings,
    /// Security settings that hold for every listener.
    pub(super) security: Settings,
    pub(super) per_listener: Option<Place>,
    pub(super) listeners: Vec<Listener>,
    pub(super) plugins: Vec<Plugin>,
    pub(super) bridges: Vec<Bridge>,
}

/// Settings of one thing.
#[derive(Debug, Default)]
pub(super) struct Settings(Vec<Setting>);

/// A door.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) place: Place,
    pub(super) address: Address,
    pub(super) settings: Settings,
    /// Security settings of its own.
    pub(super) security: Settings,
    /// The setting without a `listener` before it that made it.
    pub(super) opened_by: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp { port: i64, host: Option<String> },
    Unix,
}

/// A shared object that the broker loads.
#[derive(Debug)]
pub(super) struct Plugin {
    pub(super) place: Place,
    pub(super) path: PathBuf,
    /// As the broker passes them on, without the prefix.
    pub(super) options: Vec<(Place, String, String)>,
    pub(super) guards: Guards,
    /// The name in `plugin_load`.
    name: Option<String>,
}

/// Which listeners a plugin is asked about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Guards {
    All,
    /// These, by number.
    Only(Vec<usize>),
}

#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) place: Place,
    pub(super) settings: Settings,
}

impl Configuration {
    /// Reads a file and what it includes. What the broker would refuse is
    /// found, and read over.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read(path: &Path, version: Version, found: &mut Findings) -> io::Result<Self> {
        reader::read(path, version, found)
    }

    /// The last value of a setting of the whole broker.
    pub(super) fn broker_setting(&self, name: &str) -> Option<&Setting> {
        self.broker.last(name)
    }

    /// The plugins that are asked about a listener, in order.
    pub(super) fn plugins_of(&self, listener: usize) -> impl Iterator<Item = &Plugin> {
        let is_asked = move |plugin: &&Plugin| match &plugin.guards {
            Guards::All => true,
            Guards::Only(listeners) => listeners.contains(&listener),
        };
        let globally = |plugin: &&Plugin| plugin.guards == Guards::All;
        // The broker's own come before a listener's.
        let plugins = self.plugins.iter().filter(globally);
        plugins.chain(self.plugins.iter().filter(move |plugin| !globally(plugin))).filter(is_asked)
    }

    /// A security setting as it holds for a listener.
    pub(super) fn security_of<'a>(&'a self, listener: &'a Listener, name: &str) -> Option<&'a Setting> {
        let own = listener.settings.last(&format!("listener_{name}"));
        own.or_else(|| match self.per_listener {
            Some(_) => listener.security.last(name),
            None => self.security.last(name),
        })
    }
}

impl Settings {
    pub(super) fn last(&self, name: &str) -> Option<&Setting> {
        self.all(name).next_back()
    }

    pub(super) fn all(&self, name: &str) -> impl DoubleEndedIterator<Item = &Setting> {
        self.0.iter().filter(move |setting| setting.name == name)
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        self.last(name).is_some_and(Setting::is_on)
    }
}

impl Listener {
    /// How people call it.
    pub(super) fn name(&self) -> String {
        match &self.address {
            Address::Tcp { port, host: Some(host) } => format!("the listener on {host}, port {port}"),
            Address::Tcp { port, host: None } => format!("the listener on port {port}"),
            Address::Unix => "the listener on a unix socket".into(),
        }
    }
}
