//! Several issuers.

use std::os::unix::fs::PermissionsExt as _;

use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::wire::Received;
use serde_json::json;

use super::*;

on_every_mosquitto!(
    each_issuer_opens_the_broker_with_its_own_keys_alone,
    what_one_issuer_takes_back_touches_no_device_of_the_other,
    devices_with_the_same_client_id_never_get_each_others_messages,
    options_that_leave_doubt_stop_the_start,
);

const ISSUERS: [&str; 2] = ["https://id.example", "https://factory.example"];

/// Keys of two issuers, and a broker that trusts each for its own.
fn two(version: MosquittoVersion) -> ([Badges; 2], MosquittoBuilder) {
    let badges = [Badges::new(), Badges::new()];
    let broker = authenticated_by("fleet  factory", version);
    let broker = trusting(broker, "fleet", ISSUERS[0], &badges[0]);
    let broker = trusting(broker, "factory", ISSUERS[1], &badges[1]);
    (badges, broker)
}

fn each_issuer_opens_the_broker_with_its_own_keys_alone(version: MosquittoVersion) {
    let (badges, builder) = two(version);
    let mut broker = builder.start();
    broker.wait_for_log("authenticators, in their order: fleet (tokens of https://id.example), factory");
    for _ in 0..2 {
        for (signer, issuer, code) in [
            (0, ISSUERS[0], 0),
            (1, ISSUERS[1], 0),
            (0, ISSUERS[1], 0x87),
            (1, ISSUERS[0], 0x87),
            (0, "https://id.example/", 0x87),
            (1, "https://nobody.example", 0x87),
        ] {
            let client_id = format!("pump-{signer}");
            let token = badges[signer].token_with(&client_id, &json!({"iss": issuer}));
            let (_, answer) = connect(&broker, &with_token(&client_id, &token));
            assert_eq!(answer, Some(code), "{issuer} signed by {signer}:\n{}", broker.log());
        }
        broker.signal_hup();
    }
    broker.wait_for_log("(issuer_unknown)");
    assert_eq!(broker.stop().code, Some(0));

    let (badges, builder) = two(version);
    let broker = builder.plugin_opt("factory.enabled", "false").start();
    for (index, code) in [(0, 0), (1, 0x87)] {
        let token = badges[index].token_with("pump-1", &json!({"iss": ISSUERS[index]}));
        assert_eq!(connect(&broker, &with_token("pump-1", &token)).1, Some(code));
    }
}

fn what_one_issuer_takes_back_touches_no_device_of_the_other(version: MosquittoVersion) {
    let issuers = [Issuer::start(), Issuer::start()];
    let mut builder = authenticated_by("fleet factory", version);
    let state = builder.dir().subdir("state");
    builder = builder.plugin_opt("state_dir", &state.to_string_lossy());
    for (name, issuer) in ["fleet", "factory"].into_iter().zip(&issuers) {
        let credentials =
            builder.dir().write(&format!("{name}-broker.json"), broker_at(issuer).to_string().as_bytes());
        builder = following(builder, name, issuer, &credentials);
    }
    let mut broker = builder.start();
    // Each has the devices, groups and keys that the other has, by name.
    let devices =
        issuers.each_ref().map(|issuer| [issuer.add_device("pump-1"), issuer.add_device("valve-1")]);
    let tokens = [issuers[0].token(&devices[0][0]), issuers[1].token(&devices[1][1])];
    let mut pump = admitted_in_time(&broker, &with_token("pump-1", &tokens[0]));
    let mut valve = admitted_in_time(&broker, &with_token("valve-1", &tokens[1]));
    for name in ["fleet", "factory"] {
        let mode = std::fs::metadata(state.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "a folder for each");
    }

    let disable =
        |issuer: &Issuer, device| assert_eq!(issuer.command(&["device", "disable", device]).code, Some(0));
    disable(&issuers[1], "pump-1");
    disable(&issuers[0], "valve-1");
    assert_eq!(pump.packet_within(Duration::from_millis(1500)), Received::Nothing, "{}", broker.log());
    assert_eq!(valve.packet_within(Duration::from_millis(10)), Received::Nothing);
    disable(&issuers[1], "valve-1");
    assert!(valve.ended_within(Duration::from_secs(2)), "{}", broker.log());
    assert_eq!(pump.packet_within(Duration::from_millis(50)), Received::Nothing);

    // With what each has kept, while one of the two is away.
    let [mut fleet, _factory] = issuers;
    fleet.stop();
    broker.restart();
    drop(admitted(&broker, &with_token("pump-1", &tokens[0])));
    assert_eq!(connect(&broker, &with_token("valve-1", &tokens[1])).1, Some(0x87), "still taken back");
}

fn devices_with_the_same_client_id_never_get_each_others_messages(version: MosquittoVersion) {
    let (badges, builder) = two(version);
    let broker = builder.start();
    let token = |issuer: usize, client: &str, filter: &str| {
        let acl = json!({"pub": [filter], "sub": [filter]});
        badges[issuer].token_with(client, &json!({"iss": ISSUERS[issuer], "acl": acl}))
    };
    let tokens = [0, 1].map(|issuer| token(issuer, "pump-1", "devices/#"));
    let kept = |token| Connect { keep_session: true, ..with_token("pump-1", token) };
    let mut first = admitted(&broker, &kept(&tokens[0]));
    assert_eq!(first.subscribe("devices/pump-1/#", 1), Some(1));
    // Neither takes over what is connected.
    for asked in [kept(&tokens[1]), with_token("pump-1", &tokens[1])] {
        assert_eq!(connect(&broker, &asked).1, Some(0x87));
    }
    let writer = token(0, "writer", "devices/#");
    let mut writer = admitted(&broker, &with_token("writer", &writer));
    assert_eq!(writer.publish("devices/pump-1/x", b"live"), Some(0));
    assert_eq!(first.packet(), Some(message("devices/pump-1/x", b"live")));
    drop(first);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(writer.publish("devices/pump-1/x", b"queued"), Some(0));

    // Nor what was queued for the other.
    assert_eq!(connect(&broker, &kept(&tokens[1])).1, Some(0x87));
    broker.wait_for_log("(client_id_kept)");
    let mut again = admitted(&broker, &kept(&tokens[0]));
    let got = [again.packet(), again.packet()];
    assert!(got.contains(&Some(message("devices/pump-1/x", b"queued"))), "{got:?}");
    drop(again);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(writer.publish("devices/pump-1/x", b"queued again"), Some(0));
    // With a clean start there is nothing to get, and the other's is gone.
    let mut other = admitted(&broker, &with_token("pump-1", &tokens[1]));
    assert_eq!(other.packet_within(Duration::from_millis(300)), Received::Nothing);
    drop(other);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(connect(&broker, &kept(&tokens[0])).1, Some(0x87), "now it is the second's");
}

fn options_that_leave_doubt_stop_the_start(version: MosquittoVersion) {
    type Change = fn(MosquittoBuilder) -> MosquittoBuilder;
    let attempts: [(&str, Change); 7] = [
        ("plugin_opt_fleet.isuer is not an option", |broker| broker.plugin_opt("fleet.isuer", "x")),
        ("plugin_opt_other.issuer: other is not among", |broker| broker.plugin_opt("other.issuer", "x")),
        ("plugin_opt_issuer belongs to no authenticator", |broker| broker.plugin_opt("issuer", "x")),
        ("plugin_opt_fleet.skew_s is \"soon\"", |broker| broker.plugin_opt("fleet.skew_s", "soon")),
        ("plugin_opt_fleet.skew_s is given twice", |broker| {
            broker.plugin_opt("fleet.skew_s", "1").plugin_opt("fleet.skew_s", "1")
        }),
        ("plugin_opt_state_dir has no effect", |broker| broker.plugin_opt("state_dir", "/tmp")),
        ("plugin_opt_fleet.kind is \"ldap\"", |broker| broker.plugin_opt("fleet.kind", "ldap")),
    ];
    for (reason, change) in attempts {
        let (_, builder) = two(version);
        let ended = change(builder).fails_to_start();
        assert_ne!(ended.code, Some(0));
        assert!(ended.stderr.contains(reason), "{reason}: {}", ended.stderr);
    }
    let badges = Badges::new();
    let same = trusting(authenticated_by("fleet factory", version), "fleet", ISSUERS[0], &badges);
    let ended = trusting(same, "factory", ISSUERS[0], &badges).fails_to_start();
    assert!(ended.stderr.contains("plugin_opt_fleet.issuer and plugin_opt_factory.issuer are the same"));
    let first = trusting(authenticated_by("hand_on fleet", version), "fleet", ISSUERS[0], &badges);
    assert!(first.fails_to_start().stderr.contains("hand_on only as the last"));
}
