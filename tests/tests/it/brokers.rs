//! The real parts do what the other tests take for granted.

use std::time::Duration;

use fleetbadge_tests::broker::{Mosquitto, MosquittoVersion};
use fleetbadge_tests::device::{mosquitto_pub, mosquitto_sub};
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::paho::{Disconnected, Message, Paho};
use fleetbadge_tests::patience::PATIENCE;
use fleetbadge_tests::process::{Running, run};
use fleetbadge_tests::wire::{Connect, Packet, Protocol, Received, Wire};

on_every_mosquitto!(
    mosquitto_clients_meet,
    paho_devices_meet,
    will_of_a_vanished_device_is_published,
    wrong_line_stops_the_start,
    refusals_have_the_codes_of_their_protocol,
    packets_by_hand_are_understood,
    retained_message_survives_a_restart,
    reload_is_noticed,
);

fn open_to_all(version: MosquittoVersion) -> Mosquitto {
    Mosquitto::builder(version).config_line("allow_anonymous true").start()
}

fn mosquitto_clients_meet(version: MosquittoVersion) {
    let broker = open_to_all(version);
    let mut subscribe = mosquitto_sub(broker.port());
    subscribe.args(["-d", "-t", "greetings/#", "-C", "1"]);
    let mut subscriber = Running::spawn(subscribe);
    subscriber.wait_for("Subscribed");

    let mut publish = mosquitto_pub(broker.port());
    publish.args(["-t", "greetings/all", "-m", "good morning"]);
    assert_eq!(run(publish).code, Some(0));

    subscriber.wait_for("good morning");
    assert_eq!(subscriber.wait().code, Some(0));
}

fn paho_devices_meet(version: MosquittoVersion) {
    let broker = open_to_all(version);
    for protocol in Protocol::ALL {
        let mut one = Paho::builder(protocol, broker.port()).client_id("one").connect();
        assert_eq!(one.connack(), Some(0));
        assert_eq!(one.subscribe("rooms/+", 1), 1);

        let mut other = Paho::builder(protocol, broker.port()).client_id("other").connect();
        assert_eq!(other.publish("rooms/1", "cold", 1), 0);
        assert_eq!(
            other.publish("rooms/2/window", "open", 1),
            if protocol == Protocol::V5 { 0x10 } else { 0 }
        );

        let (topic, payload) = ("rooms/1".to_owned(), "cold".to_owned());
        assert_eq!(one.message(), Message { topic, payload, qos: 1, retain: false });
        assert_eq!(one.message_within(Duration::from_millis(100)), None);
        other.disconnect();

        let usurper = Paho::builder(protocol, broker.port()).client_id("one").connect();
        assert_eq!(usurper.connack(), Some(0));
        let says_why = protocol == Protocol::V5 && version != MosquittoVersion::V2_0_11;
        let taken_over = if says_why { Disconnected::Packet } else { Disconnected::Closed };
        assert_eq!(one.disconnected_within(PATIENCE), Some(taken_over));
    }
}

fn will_of_a_vanished_device_is_published(version: MosquittoVersion) {
    let broker = open_to_all(version);
    for protocol in Protocol::ALL {
        let mut watcher = Paho::builder(protocol, broker.port()).client_id("watcher").connect();
        watcher.subscribe("last/words", 0);
        Paho::builder(protocol, broker.port()).will("last/words", "farewell", 1).connect().vanish();
        assert_eq!(watcher.message().payload, "farewell");
    }
}

fn wrong_line_stops_the_start(version: MosquittoVersion) {
    let ended = Mosquitto::builder(version).config_line("no_such_setting 7").fails_to_start();
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("Unknown configuration variable"), "{}", ended.stderr);
}

fn refusals_have_the_codes_of_their_protocol(version: MosquittoVersion) {
    let broker = Mosquitto::builder(version).config_line("allow_anonymous false").start();
    for (protocol, code) in [(Protocol::V3_1_1, 5), (Protocol::V5, 0x87)] {
        let mut wire = Wire::open(protocol, broker.port());
        assert_eq!(wire.connect(&Connect { client_id: "stranger", ..Connect::default() }), Some(code));
        assert_eq!(wire.packet(), None);
        let stranger = Paho::builder(protocol, broker.port()).connect();
        assert_eq!(stranger.connack(), Some(0x87));
    }
}

fn packets_by_hand_are_understood(version: MosquittoVersion) {
    let broker = open_to_all(version);
    for (protocol, client_id) in [(Protocol::V3_1_1, "by-hand-3"), (Protocol::V5, "by-hand-5")] {
        let mut wire = Wire::open(protocol, broker.port());
        let connect = Connect {
            client_id,
            username: Some("anybody"),
            password: Some(b"anything"),
            will: Some(("wills/by-hand", b"gone")),
            keep_session: true,
            authentication: None,
        };
        assert_eq!(wire.connect(&connect), Some(0));
        assert_eq!(wire.subscribe("echo/#", 1), Some(1));
        assert_eq!(wire.publish("echo/1", b"echo"), Some(0));
        let echo = Packet::Publish { topic: "echo/1".to_owned(), payload: b"echo".to_vec() };
        assert_eq!(wire.packet(), Some(echo.clone()));
        assert_eq!(wire.packet_within(Duration::from_millis(50)), Received::Nothing);
        drop(wire);

        let mut wire = Wire::open(protocol, broker.port());
        assert_eq!(wire.connect(&connect), Some(0));
        assert_eq!(wire.packet(), Some(echo), "what was not acknowledged comes again");
        let usurper = Wire::open(protocol, broker.port()).connect(&connect);
        assert_eq!(usurper, Some(0));
        if protocol == Protocol::V5 && version != MosquittoVersion::V2_0_11 {
            assert_eq!(wire.packet(), Some(Packet::Disconnect { code: 0x8E }));
        }
        assert_eq!(wire.packet(), None);
    }
    let mut wire = Wire::open(Protocol::V5, broker.port());
    let connect = Connect { authentication: Some(("UNHEARD-OF", b"data")), ..Connect::default() };
    assert_eq!(wire.connect(&connect), Some(0x8C));
}

fn retained_message_survives_a_restart(version: MosquittoVersion) {
    let broker = Mosquitto::builder(version);
    let location = format!("persistence_location {}/", broker.dir().path().display());
    let mut broker = broker
        .config_line("allow_anonymous true")
        .config_line("persistence true")
        .config_line(&location)
        .start();
    let mut publish = mosquitto_pub(broker.port());
    publish.args(["-r", "-q", "1", "-t", "kept", "-m", "still here"]);
    assert_eq!(run(publish).code, Some(0));

    broker.restart();
    let mut device = Paho::builder(Protocol::V5, broker.port()).connect();
    device.subscribe("kept", 0);
    let message = device.message();
    assert_eq!((message.payload.as_str(), message.retain), ("still here", true));
    assert_eq!(broker.stop().code, Some(0));
}

fn reload_is_noticed(version: MosquittoVersion) {
    let mut broker = open_to_all(version);
    broker.signal_hup();
    broker.signal_hup();
    assert!(broker.is_running());
    assert_eq!(broker.log().matches("Reloading config.").count(), 2);
}
