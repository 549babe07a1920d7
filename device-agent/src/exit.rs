//! How the program ends.

use std::process::ExitCode;

/// The exit codes. They are stable: scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was asked for is done.
    Done = 0,
    /// The issuer refused the device, or the broker refused the token, a
    /// message or a subscription. The same again will not help.
    Refused = 1,
    /// The command line, the configuration or the secret is wrong.
    Usage = 2,
    /// The issuer cannot be reached or does not answer as it should.
    IssuerUnreachable = 3,
    /// The broker cannot be reached.
    BrokerUnreachable = 4,
    /// Ended before the broker had acknowledged every line.
    Unacknowledged = 5,
}

impl Exit {
    /// The same for `--help`.
    pub const HELP: &str = "Exit codes:
  0  everything that was asked for is done
  1  refused: by the issuer (invalid_client, ...) or by the broker (token, message, subscription)
  2  the command line, the configuration or the secret is wrong
  3  the issuer cannot be reached or does not answer as it should
  4  the broker cannot be reached
  5  ended before the broker had acknowledged every line";
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_code() {
        let codes = [
            Exit::Done,
            Exit::Refused,
            Exit::Usage,
            Exit::IssuerUnreachable,
            Exit::BrokerUnreachable,
            Exit::Unacknowledged,
        ];
        for (number, exit) in codes.into_iter().enumerate() {
            assert_eq!(exit as usize, number);
            assert!(Exit::HELP.contains(&format!("\n  {number}  ")), "{number}");
        }
    }
}
