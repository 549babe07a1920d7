//! What a person reads after the start: a shell script, exact for the ports
//! and paths at hand, with all that is prose in comments. It is made for a
//! POSIX shell, Debian's mosquitto clients and paho-mqtt 2, and has nothing
//! secret in it.

use crate::broker::WEBSOCKET_PATH;
use crate::demo_device::DEMO_DEVICE;
use crate::ports::Ports;

/// What the lines depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Welcome<'a> {
    /// Where everything listens.
    pub(crate) ports: Ports,
    /// The issuer identifier.
    pub(crate) issuer: &'a str,
    /// The data directory, absolute.
    pub(crate) data_dir: &'a str,
    /// The file with the secret of the demo device, absolute.
    pub(crate) secret_file: &'a str,
}

impl Welcome<'_> {
    /// The whole script.
    pub(crate) fn text(&self) -> String {
        let Self { ports, issuer, .. } = self;
        let (host, port) = (ports.mqtt.ip(), ports.mqtt.port());
        let (ws_host, ws_port) = (ports.websocket.ip(), ports.websocket.port());
        let (data_dir, secret_file) = (quoted(self.data_dir), quoted(self.secret_file));
        let client = format!(r#"-h {host} -p {port} -i {DEMO_DEVICE} -u "$TOKEN""#);
        format!(
            r#"
# Fleetbadge is running. All of this can be pasted into a shell, or any line of it.
#
#   Issuer               {issuer}
#   MQTT                 {mqtt}
#   MQTT over WebSocket  ws://{websocket}{WEBSOCKET_PATH}
#   Data                 {data_dir}
#   Device               {DEMO_DEVICE}, its secret is in {secret_file}

# 1. Get a token. It is good for minutes only: paste this again for a new one.

TOKEN=$(curl -sS -u "{DEMO_DEVICE}:$(cat {secret_file})" -d grant_type=client_credentials {issuer}/oauth2/token | sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p'); echo "$TOKEN"

# 2. Publish and subscribe. The token is the user name, the device is the client ID.
#    The first line leaves a retained message for the second.

mosquitto_pub {client} -t devices/{DEMO_DEVICE}/state -m hello -r -q 1
mosquitto_sub {client} -t 'devices/{DEMO_DEVICE}/#' -C 1

#    Refused: the token under another client ID, and the topics of other devices.

mosquitto_pub -h {host} -p {port} -i somebody-else -u "$TOKEN" -t devices/{DEMO_DEVICE}/state -m hello
mosquitto_sub {client} -t 'devices/#'

# 3. The same from Python, with paho-mqtt 2.

TOKEN="$TOKEN" python3 - <<'END'
import os
import paho.mqtt.client as mqtt

def on_connect(client, userdata, flags, reason_code, properties):
    print("connected:", reason_code)
    client.subscribe("devices/{DEMO_DEVICE}/#", qos=1)

def on_subscribe(client, userdata, mid, reason_codes, properties):
    client.publish("devices/{DEMO_DEVICE}/paho", "hello from paho", qos=1)

def on_message(client, userdata, message):
    print(message.topic, message.payload.decode())
    if message.topic.endswith("/paho"):
        client.disconnect()

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="{DEMO_DEVICE}", protocol=mqtt.MQTTv5)
client.username_pw_set(os.environ["TOKEN"])
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.connect("{host}", {port})
client.loop_forever()
END

# 4. In a window. The token is what step 1 printed.
#
#   MQTTX          Host: mqtt:// {host}   Port: {port}
#                  or Host: ws:// {ws_host}   Port: {ws_port}   Path: {WEBSOCKET_PATH}
#                  Client ID: {DEMO_DEVICE}   Username: the token   Password: empty
#                  New Subscription, Topic: devices/{DEMO_DEVICE}/#
#   MQTT Explorer  Protocol: mqtt://   Host: {host}   Port: {port}
#                  or Protocol: ws://   Host: {ws_host}   Port: {ws_port}   Basepath: {basepath}
#                  Username: the token   Password: empty
#                  ADVANCED, MQTT Client ID: {DEMO_DEVICE}
#                  ADVANCED, Topic: delete # and $SYS/#, add devices/{DEMO_DEVICE}/#

# 5. Add a device, from the folder with the source:
#
#   cargo run --release -p fleetbadge-issuer -- device add pump-1 --data-dir {data_dir}

# The broker in this process is for trying out: it keeps no session for a client that is
# away, forgets retained messages when it ends, and listens on this machine only. For a
# fleet, run fleetbadge-issuer, and Mosquitto with the plugin libfleetbadge_mosquitto.so:
# README.md says how.
#
# Ctrl-C ends it. Started again, the issuer, its keys and {DEMO_DEVICE} are the same.
"#,
            mqtt = ports.mqtt,
            websocket = ports.websocket,
            basepath = WEBSOCKET_PATH.trim_start_matches('/'),
        )
    }
}

/// A word for a POSIX shell that means exactly `text`.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Ports {
        Ports {
            issuer: "127.0.0.1:8080".parse().unwrap(),
            mqtt: "127.0.0.1:1883".parse().unwrap(),
            websocket: "[::1]:8083".parse().unwrap(),
        }
    }

    #[test]
    fn the_lines_name_these_ports_and_paths() {
        let welcome = Welcome {
            ports: ports(),
            issuer: "http://127.0.0.1:8080",
            data_dir: "/home/o'neil/data",
            secret_file: "/home/o'neil/data/demo-device.secret",
        };
        insta::assert_snapshot!(welcome.text());
    }

    #[test]
    fn a_path_is_one_word_of_the_shell() {
        let path = "it's $HOME `id` \"x\" \\ *";
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("printf %s {}", quoted(path))])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), path);
    }
}
