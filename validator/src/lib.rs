//! What a valid Fleetbadge token is, and what it allows.
//!
//! Five verbs cover it:
//!
//! 1. read the issuer's keys: [`keys::KeySet::from_json`];
//! 2. let a client in: [`verify::Verifier::verify`], or
//!    [`verify::Verifier::verify_remembered`] where the same tokens come again;
//! 3. ask what it may do: [`verify::VerifiedToken::allows`];
//! 4. end it in time: [`verify::VerifiedToken::ends_at`];
//! 5. say why not: [`denied::Denied::code`] and its text.
//!
//! The crate is synchronous and pure: it reads no clock, opens no file and no
//! socket. With the feature `remote`, `keys::remote` fetches keys over HTTP,
//! `revocations::remote` follows the feed of revocations and `reports::remote`
//! tells the issuer what is held, each on a thread of its own.
//!
//! ```
//! use fleetbadge_validator::keys::KeySet;
//! use fleetbadge_validator::revocations::RevocationState::NotFollowed;
//! use fleetbadge_validator::time::UnixSeconds;
//! use fleetbadge_validator::verify::Verifier;
//!
//! let keys = KeySet::empty("https://id.example");
//! let verifier = Verifier::new("https://id.example", "mqtt");
//! let denied =
//!     verifier.verify("not a token", "pump-1", &keys, &NotFollowed, UnixSeconds(0)).unwrap_err();
//! assert_eq!(denied.code(), "token_malformed");
//! ```

#![forbid(unsafe_code)]

pub mod access;
pub mod claims;
pub mod denied;
pub mod freshness;
pub mod ids;
pub mod jwk;
pub mod jws;
pub mod keys;
pub mod memory;
pub mod rate_limit;
#[cfg(feature = "remote")]
pub mod remote;
pub mod reports;
pub mod revocations;
pub mod scope;
pub mod static_password;
#[cfg(any(test, feature = "test-support"))]
pub mod test_support;
pub mod time;
pub mod token;
pub mod topic;
pub mod verify;
