//! `fleetbadge-issuer device …`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use reqwest::Method;

use super::client::{AdminClient, Failure, Operator};
use super::static_password::{self, Password};
use super::{date, print, print_json};
use crate::admin::devices::{AddDevice, AddedDeviceDocument, DeviceDocument, DevicePage};
use crate::store::DeviceStatus;

#[derive(Args)]
pub(super) struct Device {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Add a device and print its secret, once
    Add(Add),
    /// List the devices, by name
    List {
        /// Only those that are pending, enabled or disabled
        #[arg(long, value_name = "STATUS")]
        status: Option<DeviceStatus>,
        #[command(flatten)]
        operator: Operator,
    },
    /// Show a device
    Show(Named),
    /// Give a device that enrolled its first tokens
    Approve(Named),
    /// Give a device no more tokens, until it is enabled again
    Disable(Named),
    /// Give a disabled device tokens again
    Enable(Named),
    /// Set and remove static passwords, for clients that cannot do OAuth
    Password(Password),
    /// Remove a device; its names are never used again
    Remove(Named),
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
    #[command(flatten)]
    operator: Operator,
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
            Verb::List { status, operator } => operator.run(|client| list(client, status, operator.json)),
            Verb::Show(Named { name, operator }) => operator.run(async |client| {
                let device: DeviceDocument = client.get(&["devices", &name]).await?;
                show(&device, operator.json)
            }),
            Verb::Approve(named) => named.change("approve", "gets tokens from now on"),
            Verb::Disable(named) => named.change("disable", "gets no more tokens; those it has stay good to their end"),
            Verb::Enable(named) => named.change("enable", "gets tokens again"),
            Verb::Password(password) => password.run(),
            Verb::Remove(Named { name, operator }) => operator.run(async |client| {
                client.delete(&["devices", &name]).await?;
                if operator.json {
                    return print_json(&serde_json::json!({ "client_id": name, "removed": true }));
                }
                print(&format!(
                    "Removed device {name} and its secrets. Tokens it has stay good to their end. Its names are \
                     never used again.\n"
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
        let Self { name, group, mqtt_client_id, operator } = self;
        operator.run(async |client| {
            let new =
                AddDevice { name, group, mqtt_client_ids: mqtt_client_id, attributes: BTreeMap::default() };
            let added: AddedDeviceDocument = client.send_json(Method::POST, &["devices"], &new).await?;
            if operator.json {
                return print_json(&added);
            }
            let AddedDeviceDocument { client_id, client_secret, mqtt_client_ids, group, token_endpoint } =
                added;
            print(&format!(
                "Added device {client_id} in group {group}.\n\n\
                 \x20 client_id        {client_id}\n\
                 \x20 client_secret    {client_secret}\n\
                 \x20 mqtt_client_ids  {}\n\n\
                 The secret is shown this once. Put it on the device, which gets a token with:\n\
                 \x20 curl -u '{client_id}:SECRET' -d grant_type=client_credentials {token_endpoint}\n",
                mqtt_client_ids.join(" "),
            ))
        })
    }
}

async fn list(client: AdminClient, status: Option<DeviceStatus>, json: bool) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let after_query = after.as_deref().map(|name| ("after", name));
        let status_query = status.map(|status| ("status", status.as_str()));
        let query: Vec<(&str, &str)> = after_query.into_iter().chain(status_query).collect();
        let page: DevicePage = client.get_with(&["devices"], &query).await?;
        for device in &page.devices {
            if json {
                print_json(device)?;
            } else {
                let DeviceDocument { client_id, group, status, mqtt_client_ids, .. } = device;
                print(&format!("{client_id}  {group}  {status}  {}\n", mqtt_client_ids.join(" ")))?;
            }
        }
        after = page.next_after;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn show(device: &DeviceDocument, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(device);
    }
    let secrets = device.secrets.iter().map(|secret| match secret.expires_at {
        Some(end) => format!("made {}, ends {}", date(secret.created_at), date(end)),
        None => format!("made {}", date(secret.created_at)),
    });
    print(&format!(
        "client_id        {}\n\
         group            {}\n\
         status           {}\n\
         mqtt_client_ids  {}\n\
         created          {}\n\
         secrets          {}\n\
         password         {}\n",
        device.client_id,
        device.group,
        device.status,
        device.mqtt_client_ids.join(" "),
        date(device.created_at),
        secrets.collect::<Vec<_>>().join("; "),
        static_password::line(device.password.as_ref()),
    ))
}
