//! The names of devices, as the brokers of their group read them.
//!
//! What a broker would take for another name is refused when a device comes
//! into the group or gets the name, and when the group gets the broker. Both
//! can happen in the same moment: minting asks again.

use fleetbadge_validator::ids::GroupName;

use super::{GroupError, Groups};
use crate::brokers::Target;
use crate::enrolments::NamePattern;
use crate::profile::Misread;
use crate::store::{DeviceQuery, DeviceRecord};

/// How many devices are read at a time.
const PAGE: u32 = 1_000;

/// A name that a broker of the device's group would take for another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}; group {group} has its audience {audience}")]
pub struct MisreadName {
    /// The field that the name stands in.
    pub field: &'static str,
    /// The group.
    pub group: GroupName,
    /// That of the broker.
    pub audience: Box<str>,
    /// What the broker takes otherwise.
    pub reason: Misread,
}

/// A name that a broker is going to read.
#[derive(Clone, Copy)]
struct Name<'a> {
    field: &'static str,
    /// What it is, for people.
    what: &'static str,
    text: &'a str,
}

impl Groups {
    /// Whether the brokers of a device's group read all its names as they are
    /// meant. True of a group that is not there.
    ///
    /// # Errors
    /// [`MisreadName`].
    pub(crate) fn check_device(&self, device: &DeviceRecord) -> Result<(), MisreadName> {
        self.check_names(&device.group, names_of(device))
    }

    /// Whether the brokers of a group read every name of a pattern as it is
    /// meant.
    ///
    /// # Errors
    /// [`MisreadName`].
    pub(crate) fn check_name_pattern(
        &self,
        group: &GroupName,
        pattern: &NamePattern,
    ) -> Result<(), MisreadName> {
        let name = Name { field: "name_pattern", what: "the pattern", text: pattern.as_str() };
        self.check_names(group, [name])
    }

    fn check_names<'a>(
        &self,
        group: &GroupName,
        names: impl IntoIterator<Item = Name<'a>>,
    ) -> Result<(), MisreadName> {
        let Some(group) = self.find(group.as_str()) else {
            return Ok(());
        };
        let audiences = &group.policy.audiences;
        let targets: Vec<_> = audiences.iter().map(|audience| self.brokers.target(audience)).collect();
        for Name { field, what, text } in names {
            for target in &targets {
                target.profile.check_name(what, text).map_err(|reason| MisreadName {
                    field,
                    group: group.name.clone(),
                    audience: target.audience.into(),
                    reason,
                })?;
            }
        }
        Ok(())
    }

    /// Whether a broker that is new to a group reads the names of all devices
    /// in it as they are meant.
    ///
    /// # Errors
    /// [`GroupError::DeviceMisread`] names the first device whose it does not.
    pub(super) async fn check_devices(
        &self,
        group: &GroupName,
        target: &Target<'_>,
    ) -> Result<(), GroupError> {
        if !target.profile.misreads_names() {
            return Ok(());
        }
        let mut after = None;
        loop {
            let query = DeviceQuery {
                after: after.as_deref(),
                group: Some(group.as_str()),
                limit: PAGE,
                ..DeviceQuery::default()
            };
            let devices = self.store.devices(query).await?;
            for device in &devices {
                for Name { what, text, .. } in names_of(device) {
                    target.profile.check_name(what, text).map_err(|reason| GroupError::DeviceMisread {
                        device: device.name.clone(),
                        audience: target.audience.into(),
                        reason,
                    })?;
                }
            }
            match devices.last() {
                Some(last) => after = Some(last.name.to_string()),
                None => return Ok(()),
            }
        }
    }
}

fn names_of(device: &DeviceRecord) -> impl Iterator<Item = Name<'_>> {
    let name = Name { field: "name", what: "the device", text: device.name.as_str() };
    let ids = device.mqtt_client_ids.iter().map(|id| Name {
        field: "mqtt_client_ids",
        what: "mqtt_client_id",
        text: id.as_str(),
    });
    std::iter::once(name).chain(ids)
}

#[cfg(test)]
mod tests;
