//! Which Mosquitto, and how to run it.

use std::path::Path;
use std::process::Command;

use crate::debian;

/// The Mosquitto versions that tests run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MosquittoVersion {
    /// Debian 12, the machine's own.
    V2_0_11,
    /// Debian 13, from a private root.
    V2_0_21,
    /// Debian sid, from a private root: the newest 2.1, 2.1.2 or later.
    V2_1,
}

impl MosquittoVersion {
    pub(super) fn is_named_in(self, log_line: &str) -> bool {
        log_line.contains(match self {
            Self::V2_0_11 => "mosquitto version 2.0.11 ",
            Self::V2_0_21 => "mosquitto version 2.0.21 ",
            Self::V2_1 => "mosquitto version 2.1.",
        })
    }

    pub(super) fn command(self) -> Command {
        debian::command(self.root(), &self.root().join("usr/sbin/mosquitto"))
    }

    /// The root directory of the Debian in which it lives (`build.rs` knows).
    fn root(self) -> &'static Path {
        Path::new(match self {
            Self::V2_0_11 => env!("MOSQUITTO_2_0_11_ROOT"),
            Self::V2_0_21 => env!("MOSQUITTO_2_0_21_ROOT"),
            Self::V2_1 => env!("MOSQUITTO_2_1_ROOT"),
        })
    }
}

/// Makes a `#[test]` for each Mosquitto version from functions that take a
/// [`MosquittoVersion`]. Where a version is missing, its tests are ignored,
/// and say so.
///
/// ```text
/// on_every_mosquitto!(good_token_is_let_in, bad_token_is_refused);
///
/// fn good_token_is_let_in(version: MosquittoVersion) { … }
/// ```
#[macro_export]
macro_rules! on_every_mosquitto {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use $crate::broker::MosquittoVersion;

            #[test]
            #[cfg_attr(no_mosquitto_2_0_11, ignore = "SKIPPED, no Mosquitto 2.0.11 here: see tests/install")]
            fn mosquitto_2_0_11() {
                super::$test(MosquittoVersion::V2_0_11);
            }

            #[test]
            #[cfg_attr(no_mosquitto_2_0_21, ignore = "SKIPPED, no Mosquitto 2.0.21 here: see tests/install")]
            fn mosquitto_2_0_21() {
                super::$test(MosquittoVersion::V2_0_21);
            }

            #[test]
            #[cfg_attr(no_mosquitto_2_1, ignore = "SKIPPED, no Mosquitto 2.1 here: see tests/install")]
            fn mosquitto_2_1() {
                super::$test(MosquittoVersion::V2_1);
            }
        }
    )+};
}
