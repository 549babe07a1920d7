//! What the plugin wants from a broker and from the client that an event is
//! about: traits, so that everything but [`crate::ffi`] is tested without a
//! broker.

use fleetbadge_validator::claims::CertificateThumbprint;

/// The broker, for as long as it has the plugin loaded.
pub(crate) trait Broker {
    /// Writes one line to the broker's log. The broker may publish it
    /// (`log_dest topic`) and so ask about a delivery before this returns.
    fn log(&self, level: Level, line: &str);

    /// Ends the connection of a client. Mosquitto reports the end of the
    /// connection before this returns.
    fn kick(&self, client_id: &str, will: Will);

    /// Whether a connection can wait for [`Broker::complete`], see
    /// [`Verdict::Wait`].
    fn can_wait(&self) -> bool;

    /// Lets in the connection that waits with this client ID, or denies it.
    /// Mosquitto asks about queued messages, and reports the end of a
    /// connection that is taken over, before this returns; if it lets the
    /// connection in, it reports that too.
    fn complete(&self, client_id: &str, let_in: bool);
}

/// What becomes of the will of a client that is disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Will {
    /// It goes out, if the ACL check allows it.
    Sent,
    /// It never does.
    Dropped,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Info,
    Notice,
    Warning,
    Error,
}

/// The client that an event is about, for as long as the event lasts.
pub(crate) trait Client {
    /// Which client it is.
    fn handle(&self) -> ClientHandle;
    /// Its MQTT client identifier, if it has one in UTF-8.
    fn id(&self) -> Option<&str>;
    /// The user name, if it has one in UTF-8: what the client sent, until
    /// [`Client::set_username`].
    fn username(&self) -> Option<&str>;
    /// From where it is or was connected.
    fn address(&self) -> Option<&str>;
    /// Whether it came with a CONNECT. A session that Mosquitto has read from
    /// its database did not, nor did the client that it makes up to ask about
    /// the source of a retained message.
    fn has_connected(&self) -> bool;
    /// Whether it wants a new session, and the end of one that there may be.
    fn starts_clean(&self) -> bool;
    /// Whether it is known that its session ends with its connection.
    fn leaves_nothing(&self) -> bool;
    /// The certificate of the client whose key TLS has proven, if the broker
    /// can tell it. Takes a digest, so it is asked for only if it matters.
    fn certificate(&self) -> Option<CertificateThumbprint>;
    /// Replaces the user name in the broker.
    fn set_username(&mut self, username: Option<&str>) -> Result<(), UsernameRefused>;
}

/// The broker does not take a user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsernameRefused;

/// The address of the broker's record of a client. Only compared, never
/// followed: the record may be gone and the address in use again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientHandle(pub(crate) usize);

/// What `ACL_CHECK` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// A message is about to be sent to the client, or queued for it.
    Read,
    /// The client publishes, or its will is about to be published.
    Write,
    /// The client subscribes.
    Subscribe,
    /// The client unsubscribes.
    Unsubscribe,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow,
    Deny,
    /// Somebody else's: who comes next in the broker decides.
    HandOn,
    /// It is not known yet; the connection waits.
    Wait,
}

/// What becomes of a client that authenticates with a method (MQTT 5 §4.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authentication {
    /// It is let in, or stays with its new token.
    Succeeded,
    /// It is not.
    Failed,
    /// Nor is it, and another method might do.
    MethodUnknown,
    /// It is connected, and nothing is wrong with its token, but only a new
    /// connection can take it up.
    ConnectAgain,
    /// The broker is to wait for a next step, which will not come: the
    /// connection ends at the next tick.
    Awaited,
}

#[cfg(test)]
pub(crate) mod fake;
