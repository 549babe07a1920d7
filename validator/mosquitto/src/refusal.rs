//! Why the plugin refuses something.

use fleetbadge_validator::denied::{Denied, Excerpt};
use fleetbadge_validator::ids::InvalidName;

/// What the validator denies, and what can only go wrong inside a Mosquitto.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("the client ID {0}")]
    ClientIdMalformed(InvalidName),
    #[error(
        "the client ID is the user name, and so would be the token: use_username_as_clientid makes the \
         broker write tokens to its log; set it to false"
    )]
    ClientIdIsUsername,
    #[error("the client ID has {length} bytes; at most 256 are handed on")]
    ClientIdTooLong { length: usize },
    #[error("another client is connected with this client ID")]
    ClientIdTaken,
    #[error(
        "another client has left a session under this client ID, with what was queued for it; this one is \
         let in if it asks for a clean start"
    )]
    ClientIdKept,
    #[error("the client ID is that of a device's session, which only its tokens open")]
    ClientIdOfDevice,
    #[error("the client ID is not UTF-8")]
    ClientIdNotUtf8,
    #[error("the issuer gives no token for this user name, password and client ID")]
    PasswordRefused,
    #[error("the token that the issuer gave for the password is of another device than the user name says")]
    PasswordOfAnother,
    #[error("the password cannot be exchanged: {reason}")]
    ExchangeFailed { reason: String },
    #[error("too many passwords are being exchanged")]
    ExchangeBusy,
    #[error("too many passwords have failed for this client ID from this address")]
    TooManyFailures,
    #[error("this client was not let in with a token")]
    ClientUnknown,
    #[error(
        "since the broker or the plugin started, this client has not connected: its session queues nothing, \
         and what it retained is withheld under check_retain_source, until it does"
    )]
    ClientNotSeen,
    #[error("the topic is not UTF-8")]
    TopicNotUtf8,
    #[error("the broker did not take the device's name as the user name")]
    UsernameRefused,
    #[error("the authentication method is {found}, and can be OAUTH2-JWT or CUSTOM-JWT")]
    MethodUnknown { found: Excerpt },
    #[error("it authenticates again on a connection that began without an authentication method")]
    MethodMissing,
    #[error("it goes on with an authentication that has one step")]
    AuthenticationContinued,
    #[error("its new token is for {found}, its session is of {bound}")]
    SubjectDiffers { bound: Excerpt, found: Excerpt },
    #[error(
        "its new token lets it receive less; what the broker has queued already is checked at a new \
         connection, and only then"
    )]
    ReceivesLess,
}

impl Refusal {
    /// Whether a token was taken back: whoever had it has no last word.
    pub(crate) const fn is_revocation(&self) -> bool {
        matches!(self, Self::Denied(Denied::Revoked { .. }))
    }

    /// A stable code, as [`Denied::code`].
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Denied(denied) => denied.code(),
            Self::ClientIdMalformed(_) => "client_id_malformed",
            Self::ClientIdIsUsername => "client_id_is_username",
            Self::ClientIdTooLong { .. } => "client_id_too_long",
            Self::ClientIdTaken => "client_id_taken",
            Self::ClientIdKept => "client_id_kept",
            Self::ClientIdOfDevice => "client_id_of_device",
            Self::ClientIdNotUtf8 => "client_id_not_utf8",
            Self::PasswordRefused => "password_refused",
            Self::PasswordOfAnother => "password_of_another",
            Self::ExchangeFailed { .. } => "exchange_failed",
            Self::ExchangeBusy => "exchange_busy",
            Self::TooManyFailures => "too_many_failures",
            Self::ClientUnknown => "client_unknown",
            Self::ClientNotSeen => "client_not_seen",
            Self::TopicNotUtf8 => "topic_not_utf8",
            Self::UsernameRefused => "username_refused",
            Self::MethodUnknown { .. } => "authentication_method_unknown",
            Self::MethodMissing => "authentication_method_missing",
            Self::AuthenticationContinued => "authentication_continued",
            Self::SubjectDiffers { .. } => "subject_differs",
            Self::ReceivesLess => "receives_less",
        }
    }
}
