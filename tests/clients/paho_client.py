"""A device on paho-mqtt that a test leads step by step.

Standard input: one JSON object per line. The first says how to connect, each
further one is a step (`{"step": "subscribe", …}`). Standard output: one JSON
object per line for everything that happens (`{"event": "connack", …}`). It ends
with its input, with an orderly DISCONNECT.
"""

import json
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def tell(event, **details):
    sys.stdout.write(json.dumps({"event": event, **details}) + "\n")
    sys.stdout.flush()


def on_connect(client, userdata, flags, reason, properties):
    tell("connack", code=reason.value, session_present=flags.session_present)


def on_disconnect(client, userdata, flags, reason, properties):
    tell("disconnect", by_packet=flags.is_disconnect_packet_from_server)


def on_subscribe(client, userdata, mid, reasons, properties):
    tell("suback", mid=mid, code=reasons[0].value)


def on_publish(client, userdata, mid, reason, properties):
    tell("puback", mid=mid, code=reason.value)


def on_message(client, userdata, message):
    payload = message.payload.decode(errors="replace")
    tell("message", topic=message.topic, payload=payload, qos=message.qos, retain=message.retain)


def session(options):
    """What differs between the protocols: how long a session is kept."""
    expiry = options["session_expiry_s"]
    if options["protocol"] == 4:
        return {"constructor": {"clean_session": expiry == 0}, "connect": {}}
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = expiry
    return {"constructor": {}, "connect": {"clean_start": expiry == 0, "properties": properties}}


def will(options):
    """The will; with a delay only if asked for, since 3.1.1 has none."""
    if options["will_delay_s"] == 0:
        return options["will"]
    properties = Properties(PacketTypes.WILLMESSAGE)
    properties.WillDelayInterval = options["will_delay_s"]
    return {**options["will"], "properties": properties}


def main():
    options = json.loads(sys.stdin.readline())
    kept = session(options)
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=options["client_id"],
        protocol=options["protocol"],
        transport=options["transport"],
        reconnect_on_failure=False,
        **kept["constructor"],
    )
    client.on_connect = on_connect
    client.on_disconnect = on_disconnect
    client.on_subscribe = on_subscribe
    client.on_publish = on_publish
    client.on_message = on_message
    if options["username"] is not None:
        client.username_pw_set(options["username"], options["password"])
    if options["will"] is not None:
        client.will_set(**will(options))
    client.connect("127.0.0.1", options["port"], keepalive=options["keep_alive_s"], **kept["connect"])
    client.loop_start()
    for line in sys.stdin:
        step = json.loads(line)
        match step.pop("step"):
            case "subscribe":
                _, mid = client.subscribe(step["filter"], step["qos"])
                tell("subscribe", mid=mid)
            case "publish":
                mid = client.publish(**step).mid
                tell("publish", mid=mid)
    client.disconnect()
    client.loop_stop()


main()
