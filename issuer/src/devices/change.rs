//! What operators change of a device that is there.

use std::collections::BTreeMap;

use fleetbadge_validator::ids::{AttributeName, AttributeValue, GroupName};
use serde::{Deserialize, Serialize};

use super::{DeviceError, Devices, MAX_ATTRIBUTES, parse_attribute_value, parse_mqtt_client_ids};
use crate::groups::MisreadName;
use crate::names::parse_name;
use crate::store::{Attributes, DeviceRecord};

/// What is to become different of a device; the rest stays. As JSON it is a
/// merge patch (RFC 7396): an attribute that is null goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceChange {
    /// The group whose policy it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// As whom it may connect, the first by default; its name if empty. One
    /// that is no longer among them still is nobody else's, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt_client_ids: Option<Vec<String>>,
    /// Attributes to set, or to take away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Option<String>>,
}

impl Devices {
    /// Changes a device: all that is named, or nothing. Takes effect with its
    /// next token.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn set(&self, name: &str, change: DeviceChange) -> Result<DeviceRecord, DeviceError> {
        let DeviceChange { group, mqtt_client_ids, attributes } = change;
        let group: Option<GroupName> = group.map(|group| parse_name("group", group)).transpose()?;
        let attributes = attributes
            .into_iter()
            .map(|(name, value)| {
                let name = parse_name("attributes", name)?;
                let value = value.map(|value| parse_attribute_value(&name, value)).transpose()?;
                Ok((name, value))
            })
            .collect::<Result<Vec<(AttributeName, Option<AttributeValue>)>, DeviceError>>()?;
        let set = |device: &mut DeviceRecord| {
            if let Some(group) = &group {
                device.group = group.clone();
            }
            if let Some(ids) = &mqtt_client_ids {
                device.mqtt_client_ids = parse_mqtt_client_ids(&device.name, ids.clone())?;
            }
            if group.is_some() || mqtt_client_ids.is_some() {
                let field = if group.is_some() { "group" } else { "mqtt_client_ids" };
                self.groups.check_device(device).map_err(|misread| MisreadName { field, ..misread })?;
            }
            set_attributes(&mut device.attributes, &attributes)
        };
        self.change(name, set).await.map(|(device, ())| device)
    }
}

fn set_attributes(
    attributes: &mut Attributes,
    change: &[(AttributeName, Option<AttributeValue>)],
) -> Result<(), DeviceError> {
    for (name, value) in change {
        match value {
            Some(value) => attributes.insert(name.clone(), value.clone()),
            None => attributes.remove(name),
        };
    }
    let count = attributes.len();
    if count > MAX_ATTRIBUTES { Err(DeviceError::TooManyAttributes { count }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::TestIssuer;

    fn attributes(change: &[(&str, Option<&str>)]) -> DeviceChange {
        let attributes = change.iter().map(|(name, value)| ((*name).into(), value.map(Into::into)));
        DeviceChange { attributes: attributes.collect(), ..DeviceChange::default() }
    }

    fn ids(ids: &[&str]) -> DeviceChange {
        let ids = ids.iter().map(|id| (*id).into()).collect();
        DeviceChange { mqtt_client_ids: Some(ids), ..DeviceChange::default() }
    }

    fn group(name: &str) -> DeviceChange {
        DeviceChange { group: Some(name.into()), ..DeviceChange::default() }
    }

    #[tokio::test]
    async fn what_is_not_named_stays_and_what_is_wrong_changes_nothing() {
        let issuer = TestIssuer::new().await;
        issuer.add("pump-1", &["a", "b"]).await;
        let (app, before) = (issuer.app(), issuer.app().devices.get("pump-1").await.unwrap());
        assert_eq!(app.devices.set("pump-1", DeviceChange::default()).await.unwrap(), before);

        let set = attributes(&[("hall", Some("7")), ("line", Some("2"))]);
        let device = app.devices.set("pump-1", set).await.unwrap();
        assert_eq!(device.mqtt_client_ids, before.mqtt_client_ids);
        let device =
            app.devices.set("pump-1", attributes(&[("hall", Some("8")), ("line", None)])).await.unwrap();
        assert_eq!(device.attributes.len(), 1);
        assert_eq!(device.attributes.values().next().unwrap().as_str(), "8");

        let many: Vec<String> = (0..17).map(|n| format!("a{n}")).collect();
        let many: Vec<(&str, Option<&str>)> = many.iter().map(|name| (name.as_str(), Some("x"))).collect();
        for (wrong, field) in [
            (
                DeviceChange { mqtt_client_ids: ids(&["#"]).mqtt_client_ids, ..group("default") },
                "mqtt_client_ids",
            ),
            (ids(&["x", "x"]), "mqtt_client_ids"),
            (group("nowhere"), "group"),
            (group("a/b"), "group"),
            (attributes(&many), "attributes"),
            (attributes(&[("hall", Some("a/b"))]), "attributes: hall"),
            (attributes(&[("line", Some("9")), ("no line", Some("9"))]), "attributes"),
            (DeviceChange { group: Some("nowhere".into()), ..ids(&["c"]) }, "group"),
        ] {
            let refused = app.devices.set("pump-1", wrong).await.unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{field}: ")), "{refused}");
            assert_eq!(app.devices.get("pump-1").await.unwrap(), device, "{refused}");
        }
    }

    #[tokio::test]
    async fn a_client_id_that_was_taken_away_is_nobody_elses() {
        let issuer = TestIssuer::new().await;
        let secret = issuer.add("pump-1", &["a", "b"]).await;
        issuer.add("pump-2", &[]).await;
        let app = issuer.app();
        assert_eq!(issuer.token("pump-1", &secret, "&mqtt_client_id=b").await.status, 200);
        app.devices.set("pump-1", ids(&["a"])).await.unwrap();
        // At once, whatever was remembered of it.
        assert_eq!(issuer.token("pump-1", &secret, "&mqtt_client_id=b").await.error(), "invalid_request");
        for taken in ["b", "B", "pump-1"] {
            let refused = app.devices.set("pump-2", ids(&[taken])).await.unwrap_err();
            assert!(matches!(refused, DeviceError::NameTaken { field: "mqtt_client_ids", .. }), "{refused}");
            assert!(refused.to_string().starts_with("mqtt_client_ids: "), "{refused}");
        }
        app.devices.set("pump-1", ids(&["b"])).await.unwrap();
        assert_eq!(issuer.token("pump-1", &secret, "").await.json()["mqtt_client_id"], "b");
        let device = app.devices.set("pump-1", ids(&[])).await.unwrap();
        assert_eq!(device.mqtt_client_ids[..], ["pump-1".parse().unwrap()]);
    }
}
