//! Who may read and write the files that a configuration names, by their
//! permission bits; access control lists are not looked at.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::config::finding::{Findings, Place};
use crate::config::mosquitto::model::Configuration;

/// The user that the broker becomes when root starts it.
#[derive(Debug)]
pub(super) struct BrokerUser {
    pub(super) name: String,
    uid: u32,
    gids: Vec<u32>,
}

impl BrokerUser {
    /// The user of a configuration; `None` if this machine has none of that
    /// name, since then the broker runs elsewhere.
    pub(super) fn of(configuration: &Configuration) -> Option<Self> {
        let name = configuration.broker_setting("user").map_or("mosquitto", |user| user.text());
        Self::find(name, &fs::read_to_string("/etc/passwd").ok()?, &fs::read_to_string("/etc/group").ok()?)
    }

    fn find(name: &str, passwd: &str, group: &str) -> Option<Self> {
        let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let entry =
            passwd.lines().map(fields).find(|fields| fields.first().is_some_and(|user| user == name))?;
        let (uid, gid) = (entry.get(2)?.parse().ok()?, entry.get(3)?.parse().ok()?);
        let mut gids = vec![gid];
        for entry in group.lines().map(fields) {
            let is_member =
                entry.get(3).is_some_and(|members| members.split(',').any(|member| member == name));
            if let Some(gid) = entry.get(2).and_then(|gid| gid.parse().ok()).filter(|_| is_member) {
                gids.push(gid);
            }
        }
        Some(Self { name: name.into(), uid, gids })
    }

    pub(super) fn may_read(&self, path: &Path) -> bool {
        self.may_reach(path) && fs::metadata(path).is_ok_and(|metadata| self.may(&metadata, 4))
    }

    /// Whether it may make files in a folder.
    pub(super) fn may_write_into(&self, folder: &Path) -> bool {
        self.may_reach(folder) && fs::metadata(folder).is_ok_and(|metadata| self.may(&metadata, 3))
    }

    /// Whether it may pass all folders above.
    fn may_reach(&self, path: &Path) -> bool {
        let Ok(path) = fs::canonicalize(path) else { return false };
        path.ancestors()
            .skip(1)
            .all(|folder| fs::metadata(folder).is_ok_and(|metadata| self.may(&metadata, 1)))
    }

    fn may(&self, metadata: &Metadata, bits: u32) -> bool {
        let shift = match () {
            () if self.uid == 0 => return true,
            () if metadata.uid() == self.uid => 6,
            () if self.gids.contains(&metadata.gid()) => 3,
            () => 0,
        };
        (metadata.mode() >> shift) & bits == bits
    }
}

pub(super) fn check(configuration: &Configuration, found: &mut Findings) {
    for (place, path) in &configuration.files {
        if let Some(mode) = writable_by_others(path) {
            found.error(
                place,
                "configuration_writable",
                format!(
                    "{} has mode {mode:04o}: others may write it, and so load a plugin of theirs",
                    path.display()
                ),
                "run chmod go-w on it",
            );
        }
    }
    for listener in &configuration.listeners {
        for name in ["certfile", "keyfile", "cafile", "crlfile"] {
            let Some(setting) = listener.settings.last(name) else { continue };
            if let Err(error) = fs::metadata(setting.path()) {
                found.error(
                    &setting.place,
                    "file_missing",
                    format!("{name} {}: {error}: the broker does not start", setting.path().display()),
                    "correct the path, or put the file there",
                );
            }
        }
        if let Some(setting) = listener.settings.last("keyfile") {
            secret(&setting.place, "keyfile", setting.path(), found);
        }
        if let Some(setting) = configuration.security_of(listener, "psk_file") {
            secret(&setting.place, "psk_file", setting.path(), found);
        }
    }
    persistence(configuration, found);
}

fn secret(place: &Place, name: &str, path: &Path, found: &mut Findings) {
    if let Some(mode) = readable_by_others(path) {
        found.error(
            place,
            "secret_readable",
            format!("{name} {} has mode {mode:04o}: everybody on this machine can read it", path.display()),
            "run chmod o-rwx on it, and get a new one",
        );
    }
}

fn persistence(configuration: &Configuration, found: &mut Findings) {
    if !configuration.broker.is_on("persistence") && !configuration.broker.is_on("retained_persistence") {
        return;
    }
    let Some(location) = configuration.broker_setting("persistence_location") else { return };
    let name = configuration.broker_setting("persistence_file").map_or("mosquitto.db", |name| name.text());
    let database = location.path().join(name);
    if let Some(mode) = readable_by_others(&database) {
        found.warning(
            &location.place,
            "database_readable",
            format!(
                "{} has mode {mode:04o}: everybody on this machine can read queued and retained messages",
                database.display()
            ),
            "run chmod o-rwx on it",
        );
    }
    if let Some(mode) = fs::metadata(location.path()).ok().map(|folder| folder.mode() & 0o7777)
        && mode & 0o002 != 0
    {
        found.error(
            &location.place,
            "database_writable",
            format!("{} has mode {mode:04o}: others may put a database there", location.path().display()),
            "run chmod o-w on it",
        );
    }
}

/// The mode of a file that everybody on the machine may read: neither it nor
/// a folder above forbids it.
pub(super) fn readable_by_others(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.mode() & 0o7777;
    let path = fs::canonicalize(path).ok()?;
    let can_pass = |folder: &Path| fs::metadata(folder).is_ok_and(|metadata| metadata.mode() & 0o001 != 0);
    (mode & 0o004 != 0 && path.ancestors().skip(1).all(can_pass)).then_some(mode)
}

/// The mode of a file or folder that others than its owner and root's group
/// may change.
pub(super) fn writable_by_others(path: &Path) -> Option<u32> {
    let metadata = fs::metadata(path).ok()?;
    let mode = metadata.mode() & 0o7777;
    (mode & 0o002 != 0 || mode & 0o020 != 0 && metadata.gid() != 0).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_with_their_groups() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nmosquitto:x:103:106::/var/lib/mosquitto:/sbin/nologin\n";
        let group = "root:x:0:\nmosquitto:x:106:\ncerts:x:200:alice,mosquitto\nothers:x:201:alice\n";
        let user = BrokerUser::find("mosquitto", passwd, group).unwrap();
        assert_eq!((user.uid, user.gids), (103, vec![106, 200]));
        assert!(BrokerUser::find("mosquito", passwd, group).is_none());
    }
}
