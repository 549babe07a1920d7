//! One line per denial, but not one per packet of somebody who keeps trying.
//!
//! Within a window a client is told once for each reason, and all clients
//! together get a bounded number of lines. What was left out is counted.

use std::collections::HashSet;

use fleetbadge_validator::ids::check_name;
use fleetbadge_validator::time::UnixSeconds;

use crate::refusal::Refusal;

/// Decides which denials become lines.
#[derive(Debug)]
pub(crate) struct DenialLog {
    window_start: UnixSeconds,
    told: HashSet<(String, &'static str)>,
    /// In this window.
    left_out: u64,
    /// In windows that are over, and not told yet.
    left_out_before: u64,
}

impl DenialLog {
    /// How long a window is, in seconds.
    pub(crate) const WINDOW_S: u64 = 10;
    /// The most lines in a window.
    pub(crate) const MAX_LINES: usize = 100;

    pub(crate) fn new() -> Self {
        Self { window_start: UnixSeconds(0), told: HashSet::new(), left_out: 0, left_out_before: 0 }
    }

    /// The line for a denial, unless there were enough.
    pub(crate) fn line(
        &mut self,
        client_id: Option<&str>,
        address: Option<&str>,
        refusal: &Refusal,
        now: UnixSeconds,
    ) -> Option<String> {
        self.start_window(now);
        // No text is made for a line that will not be.
        if self.told.len() < Self::MAX_LINES {
            let who = who(client_id, address);
            let line = format!("denied {who}: {refusal} ({})", refusal.code());
            if self.told.insert((who, refusal.code())) {
                return Some(line);
            }
        }
        self.left_out += 1;
        None
    }

    /// The line about what a window that is over left out.
    pub(crate) fn summary(&mut self, now: UnixSeconds) -> Option<String> {
        self.start_window(now);
        match std::mem::take(&mut self.left_out_before) {
            0 => None,
            count => Some(format!("lines left out about denials like the last ones: {count}")),
        }
    }

    fn start_window(&mut self, now: UnixSeconds) {
        // Also after the clock was set back.
        if now < self.window_start || now.since(self.window_start) >= Self::WINDOW_S {
            self.window_start = now;
            self.told.clear();
            self.left_out_before += std::mem::take(&mut self.left_out);
        }
    }
}

/// The client for people. A client ID that could not be a name is not shown:
/// it may be a token, or an attempt to write into the log.
fn who(client_id: Option<&str>, address: Option<&str>) -> String {
    let id = client_id.unwrap_or_default();
    let address = address.unwrap_or("an unknown address");
    match check_name(id) {
        Ok(()) => format!("client {id} at {address}"),
        Err(_) => format!("a client ID of {} bytes at {address}", id.len()),
    }
}

#[cfg(test)]
mod tests {
    use fleetbadge_validator::denied::Denied;

    use super::*;
    use crate::broker::Client as _;
    use crate::broker::fake::FakeClient;

    impl DenialLog {
        fn line_of(&mut self, client: &FakeClient, refusal: &Refusal, now: UnixSeconds) -> Option<String> {
            self.line(client.id(), client.address(), refusal, now)
        }
    }

    const MISSING: Refusal = Refusal::Denied(Denied::TokenMissing);

    #[test]
    fn a_line_names_client_address_reason_and_code() {
        let mut log = DenialLog::new();
        let line = log.line_of(&FakeClient::new(1, "pump-1"), &MISSING, UnixSeconds(100)).unwrap();
        assert_eq!(line, "denied client pump-1 at 192.0.2.1: there is no token (token_missing)");
    }

    #[test]
    fn a_client_id_that_is_no_name_is_not_shown() {
        let mut log = DenialLog::new();
        let line = log.line_of(&FakeClient::new(1, "a\nb"), &MISSING, UnixSeconds(100)).unwrap();
        assert_eq!(line, "denied a client ID of 3 bytes at 192.0.2.1: there is no token (token_missing)");
    }

    #[test]
    fn the_same_denial_is_told_once_in_a_window_and_counted() {
        let (mut log, client) = (DenialLog::new(), FakeClient::new(1, "pump-1"));
        assert!(log.line_of(&client, &MISSING, UnixSeconds(100)).is_some());
        assert_eq!(log.line_of(&client, &MISSING, UnixSeconds(101)), None);
        assert!(log.line_of(&client, &Refusal::ClientUnknown, UnixSeconds(101)).is_some(), "another reason");
        assert_eq!(log.summary(UnixSeconds(109)), None, "the window is not over");
        let summary = log.summary(UnixSeconds(110)).unwrap();
        assert!(summary.ends_with(": 1"), "{summary}");
        assert_eq!(log.summary(UnixSeconds(111)), None, "told once");
        assert!(log.line_of(&client, &MISSING, UnixSeconds(111)).is_some(), "a new window");
    }

    #[test]
    fn what_was_left_out_is_told_while_a_flood_goes_on() {
        let (mut log, client) = (DenialLog::new(), FakeClient::new(1, "pump-1"));
        let mut told = 0;
        for now in 100..130 {
            for _ in 0..5 {
                told += u64::from(log.line_of(&client, &MISSING, UnixSeconds(now)).is_some());
            }
            let summary = log.summary(UnixSeconds(now)).unwrap_or_default();
            told += summary.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
        }
        assert_eq!(told, 3 + 49 + 49, "a line for each window, and two windows that are over");
    }

    #[test]
    fn many_clients_together_get_a_bounded_number_of_lines() {
        let mut log = DenialLog::new();
        let lines = (0..1000).filter_map(|n| {
            log.line_of(&FakeClient::new(n, &format!("pump-{n}")), &MISSING, UnixSeconds(100))
        });
        assert_eq!(lines.count(), DenialLog::MAX_LINES);
        assert_eq!(log.told.len(), DenialLog::MAX_LINES);
    }

    #[test]
    fn a_clock_set_back_does_not_silence_the_log() {
        let (mut log, client) = (DenialLog::new(), FakeClient::new(1, "pump-1"));
        assert!(log.line_of(&client, &MISSING, UnixSeconds(100)).is_some());
        assert!(log.line_of(&client, &MISSING, UnixSeconds(50)).is_some());
    }
}
