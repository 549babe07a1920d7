use proptest::prelude::*;

use super::*;

const START: Moment = Moment(Duration::from_secs(1_000));
const LOW: Draw = Draw::from_bits(0);
const MIDDLE: Draw = Draw::from_bits(1 << 63);
const HIGH: Draw = Draw::from_bits(u64::MAX);
const HOUR: Duration = Duration::from_secs(3600);

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// Started at `START` without spread, its request sent.
fn requesting() -> Renewal {
    let (renewal, action) = Renewal::start(None, Duration::ZERO, START, LOW).next(START);
    assert_eq!(action, Action::RequestToken);
    renewal
}

/// Connected with a token of an hour.
fn connected() -> Renewal {
    let obtained = requesting().after(Event::TokenObtained { lifetime: HOUR }, START, MIDDLE);
    let (connecting, action) = obtained.next(START);
    assert_eq!(action, Action::Connect);
    connecting.after(Event::Connected, START, LOW)
}

fn wait_after(renewal: &Renewal, now: Moment) -> Duration {
    renewal.request_at().expect("a request is planned").since(now)
}

#[test]
fn the_first_request_is_spread() {
    let start = |draw| Renewal::start(None, secs(5), START, draw).request_at().unwrap().since(START);
    assert_eq!(start(LOW), Duration::ZERO);
    assert_eq!(start(MIDDLE), Duration::from_millis(2500));
}

#[test]
fn a_token_from_before_the_start_is_used_until_its_refresh_point() {
    let validity = Validity { obtained_at: Moment::default(), expires_at: START.plus(secs(600)) };
    let cached = Cached { validity, refresh_at: START.plus(secs(100)) };
    let renewal = Renewal::start(Some(cached), secs(5), START, HIGH);
    assert_eq!(wait_after(&renewal, START), secs(100));
    assert_eq!(renewal.next(START).1, Action::Connect);

    let due = Cached { refresh_at: START, ..cached };
    assert!(wait_after(&Renewal::start(Some(due), secs(5), START, HIGH), START) <= secs(5));
}

#[test]
fn the_refresh_point_is_spread_wider_after_a_start() {
    let first = |draw| {
        let renewal = requesting().after(Event::TokenObtained { lifetime: HOUR }, START, draw);
        wait_after(&renewal, START)
    };
    assert_eq!(first(LOW), secs(360));
    assert!(first(HIGH) > secs(2879) && first(HIGH) <= secs(2880));

    let later = |draw| {
        let renewal = connected().after(Event::TokenObtained { lifetime: HOUR }, START, draw);
        wait_after(&renewal, START)
    };
    assert_eq!(later(LOW), secs(1800));
    assert!(later(HIGH) > secs(2879) && later(HIGH) <= secs(2880));
}

#[test]
fn an_unreachable_issuer_is_tried_less_and_less_often() {
    let mut renewal = requesting();
    let mut waits = Vec::new();
    for _ in 0..9 {
        renewal = renewal.after(Event::TokenRequestFailed(TokenFailure::Unreachable), START, MIDDLE);
        waits.push(wait_after(&renewal, START).as_secs_f64());
    }
    assert_eq!(waits, [2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 150.0, 150.0, 150.0]);
}

#[test]
fn a_token_that_is_about_to_expire_keeps_the_waits_short() {
    let mut renewal = connected();
    let almost = START.plus(HOUR - secs(40));
    for _ in 0..20 {
        renewal = renewal.after(Event::TokenRequestFailed(TokenFailure::Unreachable), almost, HIGH);
    }
    assert!(wait_after(&renewal, almost) <= secs(10));
    let at_the_end = START.plus(HOUR - secs(1));
    renewal = renewal.after(Event::TokenRequestFailed(TokenFailure::Unreachable), at_the_end, LOW);
    assert_eq!(wait_after(&renewal, at_the_end), MIN_BACKOFF);
}

#[test]
fn retry_after_is_honoured_within_reason() {
    let busy = |s| Event::TokenRequestFailed(TokenFailure::Busy { retry_after: secs(s) });
    assert!(wait_after(&requesting().after(busy(120), START, LOW), START) >= secs(120));
    assert!(wait_after(&requesting().after(busy(u64::MAX), START, HIGH), START) <= secs(3605));
}

#[test]
fn a_refused_device_slows_down_at_once() {
    let refused = Event::TokenRequestFailed(TokenFailure::Refused);
    assert_eq!(wait_after(&requesting().after(refused, START, LOW), START), secs(150));
    assert!(wait_after(&requesting().after(refused, START, HIGH), START) > secs(299));
}

#[test]
fn a_new_token_renews_the_connection_once() {
    let later = START.plus(secs(1800));
    let renewal = connected().after(Event::TokenObtained { lifetime: HOUR }, later, MIDDLE);
    let (renewal, action) = renewal.next(later);
    assert_eq!(action, Action::RenewConnection);
    assert!(matches!(renewal.next(later).1, Action::Wait(_)));
    let renewal = renewal.after(Event::Connected, later, LOW);
    assert!(matches!(renewal.next(later).1, Action::Wait(_)));
}

/// By AUTH on the open connection, or by a CONNECT in its place.
#[test]
fn a_refused_renewal_of_the_connection_gets_one_new_token_and_then_backs_off() {
    let later = START.plus(secs(1800));
    let renewal = connected().after(Event::TokenObtained { lifetime: HOUR }, later, MIDDLE).next(later).0;
    let (renewal, action) = renewal.after(Event::BrokerRefused, later, HIGH).next(later);
    assert_eq!(action, Action::RequestToken);
    assert_eq!(renewal.next(later).1, Action::Wait(None), "not with the refused token");
    let now = later.plus(secs(1));
    let (renewal, action) = renewal.after(Event::TokenObtained { lifetime: HOUR }, now, MIDDLE).next(now);
    assert_eq!(action, Action::Connect);
    assert_eq!(
        wait_after(&renewal.after(Event::BrokerRefused, now, MIDDLE), now),
        Duration::from_millis(2500)
    );
}

#[test]
fn nothing_connects_with_an_expired_token() {
    let expired = START.plus(HOUR);
    let renewal = connected().after(Event::ConnectionLost, expired, LOW).next(expired).0;
    assert_eq!(renewal.next(expired.plus(secs(10))).1, Action::Wait(None));
}

#[test]
fn a_refusal_renews_once_and_then_backs_off() {
    // The first refusal: a new token at once, and a new attempt with it.
    let renewal = connected().after(Event::BrokerRefused, START, HIGH);
    let (renewal, action) = renewal.next(START);
    assert_eq!(action, Action::RequestToken);
    assert_eq!(renewal.next(START).1, Action::Wait(None));
    let now = START.plus(secs(1));
    let (renewal, action) = renewal.after(Event::TokenObtained { lifetime: HOUR }, now, MIDDLE).next(now);
    assert_eq!(action, Action::Connect);

    // Each further one waits longer before the next request.
    let renewal = renewal.after(Event::BrokerRefused, now, MIDDLE);
    assert_eq!(wait_after(&renewal, now), Duration::from_millis(2500));
    let now = now.plus(secs(3));
    let renewal = renewal.next(now).0.after(Event::TokenObtained { lifetime: HOUR }, now, MIDDLE);
    let renewal = renewal.next(now).0.after(Event::BrokerRefused, now, MIDDLE);
    assert_eq!(wait_after(&renewal, now), secs(5));
}

#[test]
fn a_refusal_while_the_issuer_is_away_tries_the_old_token_again() {
    let renewal = connected().after(Event::BrokerRefused, START, LOW).next(START).0;
    let renewal = renewal.after(Event::TokenRequestFailed(TokenFailure::Refused), START, HIGH);
    let Action::Wait(Some(at)) = renewal.next(START).1 else { panic!("waits") };
    assert!(at.since(START) >= MIN_BACKOFF && at.since(START) <= FIRST_BACKOFF);
    assert_eq!(renewal.next(at).1, Action::Connect);
}

#[test]
fn only_a_stable_connection_forgives_earlier_refusals() {
    let refused_once = |up_for| {
        let renewal = connected().after(Event::BrokerRefused, START, LOW).next(START).0;
        let renewal = renewal.after(Event::TokenObtained { lifetime: HOUR }, START, MIDDLE);
        let renewal = renewal.next(START).0.after(Event::Connected, START, LOW);
        let now = START.plus(up_for);
        renewal.after(Event::BrokerRefused, now, MIDDLE).request_at().unwrap().since(now)
    };
    assert!(refused_once(secs(1)) >= MIN_BACKOFF);
    assert_eq!(refused_once(STABLE_AFTER), Duration::ZERO);
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1_u64..100_000).prop_map(|s| Event::TokenObtained { lifetime: secs(s) }),
        Just(Event::TokenRequestFailed(TokenFailure::Unreachable)),
        (0_u64..10_000).prop_map(|s| Event::TokenRequestFailed(TokenFailure::Busy { retry_after: secs(s) })),
        Just(Event::TokenRequestFailed(TokenFailure::Refused)),
        Just(Event::Connected),
        Just(Event::ConnectionLost),
        Just(Event::BrokerRefused),
    ]
}

proptest! {
    /// Whatever happens, in whatever order, at whatever distance.
    #[test]
    fn invariants(history in prop::collection::vec((events(), 0_u64..50_000_000, any::<u64>()), 1..60)) {
        let mut now = START;
        let mut renewal = Renewal::start(None, secs(5), now, LOW);
        for (event, gap_ms, bits) in history {
            now = now.plus(Duration::from_millis(gap_ms));
            renewal = renewal.after(event, now, Draw::from_bits(bits));
            let request_at = renewal.request_at();
            match event {
                Event::TokenObtained { lifetime } => {
                    let refresh = request_at.expect("planned").since(now);
                    prop_assert!(refresh >= lifetime.mul_f64(0.1) && refresh < lifetime);
                }
                Event::TokenRequestFailed(failure) => {
                    let wait = request_at.expect("planned").since(now);
                    prop_assert!(wait >= MIN_BACKOFF);
                    prop_assert!(wait <= MAX_BACKOFF + MAX_RETRY_AFTER);
                    if let TokenFailure::Busy { retry_after } = failure {
                        prop_assert!(wait >= retry_after.min(MAX_RETRY_AFTER));
                    }
                }
                Event::ConnectionLost => {
                    prop_assert_ne!(renewal.next(now).1, Action::Connect);
                }
                Event::Connected | Event::BrokerRefused => {}
            }
            // Each action comes once; the third thing to do at one moment is always to wait.
            let mut actions = Vec::new();
            loop {
                let (next, action) = renewal.next(now);
                renewal = next;
                match action {
                    Action::Wait(wake) => {
                        prop_assert!(wake.is_none_or(|wake| wake > now));
                        break;
                    }
                    Action::Connect | Action::RenewConnection => {
                        prop_assert!(renewal.token().is_some_and(|token| now < token.expires_at));
                    }
                    Action::RequestToken => {}
                }
                prop_assert!(!actions.contains(&action));
                actions.push(action);
            }
            prop_assert!(actions.len() <= 2);
        }
    }
}
