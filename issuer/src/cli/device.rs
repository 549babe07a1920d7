//! `fleetbadge-issuer device …`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use url::form_urlencoded;

use super::client::{AdminClient, Failure, Operator};
use super::device_certificate::{self, Certificate};
use super::device_key::{self, Key};
use super::secret::{self, DEVICE};
use super::static_password::{self, Password};
use super::table::show_list;
use super::{broker_status, date, device_secret, print, print_json};
use crate::admin::devices::{AddDevice, AddedDeviceDocument, DeviceDocument, DevicePage};
use crate::devices::DeviceChange;
use crate::store::DeviceStatus;

#[derive(Args)]
pub(super) struct Device {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Add a device and print its secret, once; or one with another credential
    Add(Add),
    /// List the devices, by name
    List(List),
    /// Show a device
    Show(Named),
    /// Change what is named of a device; takes effect with its next token
    Set(Set),
    /// Give a device that enrolled its first tokens
    Approve(Named),
    /// Give a device no more tokens, until it is enabled again, and take back
    /// those it has
    Disable(Named),
    /// Give a disabled device tokens again
    Enable(Named),
    /// Add, list and remove the public keys of a device, for private_key_jwt
    Key(Key),
    /// Set and remove static passwords, for clients that cannot do OAuth
    Password(Password),
    /// Remove a device and take back its tokens; its names are never used again
    Remove(Named),
    /// Make, list and remove the secrets of a device
    Secret(device_secret::Secret),
    /// Make a new secret and print it, once; the others end after a while
    RotateSecret(secret::Rotate),
    /// Set by which TLS certificate a device is known
    Certificate(Certificate),
}

#[derive(Args)]
struct Add {
    /// Name of the device: its OAuth client_id
    name: String,
    /// Group whose policy it gets [default: default]
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// MQTT client IDs that it may connect as, the first by default
    /// [default: its name]
    #[arg(long, value_name = "ID", num_args = 1..)]
    mqtt_client_id: Vec<String>,
    /// What stands in topics for ${attr.NAME}
    #[arg(long, value_name = "NAME=VALUE", num_args = 1.., value_parser = attribute)]
    attribute: Vec<(String, String)>,
    /// JWK Set with its public keys, {"keys":[…]}; - for stdin. It then proves
    /// itself with private_key_jwt, and no secret is made
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// Make a secret, too
    #[arg(long, requires = "jwks")]
    secret: bool,
    /// Make no secret: for a device that gets a certificate, a key or a static
    /// password afterwards
    #[arg(long, conflicts_with = "secret")]
    no_secret: bool,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Args)]
struct List {
    /// Only those of this group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Only those of this status
    #[arg(long, value_name = "STATUS")]
    status: Option<DeviceStatus>,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Args)]
struct Set {
    /// Name of the device
    name: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
struct Change {
    /// Group whose policy it gets
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// MQTT client IDs that it may connect as, the first by default, instead
    /// of those before; none after the flag: its name. One that is taken away
    /// stays its own for ever
    #[arg(long, value_name = "ID", num_args = 0..)]
    mqtt_client_id: Option<Vec<String>>,
    /// What stands in topics for ${attr.NAME}
    #[arg(long, value_name = "NAME=VALUE", num_args = 1.., value_parser = attribute)]
    attribute: Vec<(String, String)>,
    /// Attributes that it has no longer
    #[arg(long, value_name = "NAME", num_args = 1..)]
    no_attribute: Vec<String>,
}

#[derive(Args)]
struct Named {
    /// Name of the device
    name: String,
    #[command(flatten)]
    operator: Operator,
}

impl Device {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Add(add) => add.run(),
            Verb::List(list) => list.run(),
            Verb::Set(set) => set.run(),
            Verb::Secret(secret) => secret.run(),
            Verb::RotateSecret(rotate) => rotate.run(DEVICE, device_secret::show_added),
            Verb::Show(Named { name, operator }) => operator.run(async |client| {
                let device: DeviceDocument = client.get(&["devices", &name]).await?;
                show(&device, operator.json)
            }),
            Verb::Approve(named) => named.change("approve", "gets tokens from now on"),
            Verb::Disable(named) => named.change("disable", "gets no more tokens, and those it has are taken back"),
            Verb::Enable(named) => named.change("enable", "gets tokens again"),
            Verb::Key(key) => key.run(),
            Verb::Password(password) => password.run(),
            Verb::Certificate(certificate) => certificate.run(),
            Verb::Remove(Named { name, operator }) => operator.run(async |client| {
                client.delete(&["devices", &name]).await?;
                if operator.json {
                    return print_json(&serde_json::json!({ "client_id": name, "removed": true }));
                }
                print(&format!(
                    "Removed device {name} and its secrets. Tokens it has are taken back. Its names are never used \
                     again.\n"
                ))
            }),
        }
    }
}

impl Named {
    fn change(self, verb: &str, meaning: &str) -> Result<(), Failure> {
        let Self { name, operator } = self;
        operator.run(async |client| {
            let device: DeviceDocument = client.post(&["devices", &name, verb]).await?;
            if operator.json {
                return print_json(&device);
            }
            print(&format!("Device {name} is {}: it {meaning}.\n", device.status))
        })
    }
}

impl Add {
    fn run(self) -> Result<(), Failure> {
        let Self { name, group, mqtt_client_id, attribute, jwks, secret, no_secret, operator } = self;
        let has_jwks = jwks.is_some();
        let new = AddDevice {
            name,
            group,
            mqtt_client_ids: mqtt_client_id,
            attributes: each_once(attribute)?,
            jwks: jwks.as_deref().map(device_key::read).transpose()?,
            make_secret: if no_secret { Some(false) } else { secret.then_some(true) },
        };
        operator.run(async |client| {
            let added: AddedDeviceDocument = client.send_json(Method::POST, &["devices"], &new).await?;
            if operator.json {
                return print_json(&added);
            }
            let AddedDeviceDocument { client_id, client_secret, mqtt_client_ids, group, token_endpoint } =
                added;
            let ids = mqtt_client_ids.join(" ");
            let Some(client_secret) = client_secret else {
                let way = if has_jwks {
                    format!(
                        "It gets a token with an assertion that its key signs (private_key_jwt) at\n\
                         \x20 {token_endpoint}\n"
                    )
                } else {
                    "It has nothing to prove itself with, and gets no tokens before it has. Go on with device\n\
                     certificate set, device key add, device secret add or device password set.\n"
                        .to_owned()
                };
                return print(&format!(
                    "Added device {client_id} in group {group}.\n\n\
                     \x20 client_id        {client_id}\n\
                     \x20 mqtt_client_ids  {ids}\n\n\
                     {way}"
                ));
            };
            // RFC 6749 §2.3.1. Secrets have no character that this would change.
            let user: String = form_urlencoded::byte_serialize(client_id.as_bytes()).collect();
            print(&format!(
                "Added device {client_id} in group {group}.\n\n\
                 \x20 client_id        {client_id}\n\
                 \x20 client_secret    {client_secret}\n\
                 \x20 mqtt_client_ids  {ids}\n\n\
                 The secret is shown this once. Put it on the device, which gets a token with:\n\
                 \x20 curl -u '{user}:SECRET' -d grant_type=client_credentials {token_endpoint}\n"
            ))
        })
    }
}

impl Set {
    fn run(self) -> Result<(), Failure> {
        let Self { name, change, operator } = self;
        let Change { group, mqtt_client_id, attribute, no_attribute } = change;
        let set = attribute.into_iter().map(|(name, value)| (name, Some(value)));
        let attributes = each_once(set.chain(no_attribute.into_iter().map(|name| (name, None))))?;
        let change = DeviceChange { group, mqtt_client_ids: mqtt_client_id, attributes };
        operator.run(async |client| {
            let device: DeviceDocument =
                client.send_json(Method::PATCH, &["devices", &name], &change).await?;
            show(&device, operator.json)
        })
    }
}

impl List {
    fn run(self) -> Result<(), Failure> {
        let Self { group, status, operator } = self;
        operator.run(async |client| list(&client, group.as_deref(), status, operator.json).await)
    }
}

async fn list(
    client: &AdminClient,
    group: Option<&str>,
    status: Option<DeviceStatus>,
    json: bool,
) -> Result<(), Failure> {
    let mut after: Option<String> = None;
    loop {
        let query =
            [("after", after.as_deref()), ("group", group), ("status", status.map(DeviceStatus::as_str))];
        let query: Vec<(&str, &str)> =
            query.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let page: DevicePage = client.get_with(&["devices"], &query).await?;
        let header = ["CLIENT_ID", "GROUP", "STATUS", "MQTT_CLIENT_IDS"];
        show_list(&page.devices, json, header, |device| {
            let DeviceDocument { client_id, group, status, mqtt_client_ids, .. } = device;
            [client_id.clone(), group.clone(), status.to_string(), mqtt_client_ids.join(" ")]
        })?;
        after = page.next_after;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Attributes by name. Of two values for one, neither is the one that is meant.
fn each_once<V>(attributes: impl IntoIterator<Item = (String, V)>) -> Result<BTreeMap<String, V>, Failure> {
    let mut once = BTreeMap::new();
    for (name, value) in attributes {
        match once.entry(name) {
            Entry::Vacant(place) => place.insert(value),
            Entry::Occupied(place) => {
                return Err(Failure::Usage(format!(
                    "attribute {} is named twice; name it once",
                    place.key()
                )));
            }
        };
    }
    Ok(once)
}

/// Reads `NAME=VALUE`.
fn attribute(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

fn show(device: &DeviceDocument, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(device);
    }
    let attributes = device.attributes.iter().map(|(name, value)| format!("{name}={value}"));
    let secrets = device.secrets.iter().map(secret::line);
    let keys = device.keys.iter().map(device_key::line);
    let online = device.online.iter().map(broker_status::line);
    print(&format!(
        "client_id        {}\n\
         group            {}\n\
         status           {}\n\
         mqtt_client_ids  {}\n\
         attributes       {}\n\
         created          {}\n\
         secrets          {}\n\
         keys             {}\n\
         password         {}\n\
         online           {}\n",
        device.client_id,
        device.group,
        device.status,
        device.mqtt_client_ids.join(" "),
        attributes.collect::<Vec<_>>().join(" "),
        date(device.created_at),
        secrets.collect::<Vec<_>>().join("\n                 "),
        keys.collect::<Vec<_>>().join("\n                 "),
        static_password::line(device.password.as_ref()),
        if device.online.is_empty() {
            "no broker says so".into()
        } else {
            online.collect::<Vec<_>>().join("\n                 ")
        },
    ))?;
    device_certificate::show(device.certificate.as_ref())
}
