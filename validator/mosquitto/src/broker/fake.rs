//! A broker and clients for tests.

use std::cell::RefCell;

use fleetbadge_validator::claims::CertificateThumbprint;

use super::{Broker, Client, ClientHandle, Level, UsernameRefused, Will};

/// Remembers what it was told.
#[derive(Debug, Default)]
pub(crate) struct FakeBroker {
    pub(crate) lines: RefCell<Vec<(Level, String)>>,
    pub(crate) kicked: RefCell<Vec<String>>,
    /// Those of them whose will is not sent.
    pub(crate) without_will: RefCell<Vec<String>>,
    /// The client IDs of connections that have waited, and whether they were
    /// let in.
    pub(crate) completed: RefCell<Vec<(String, bool)>>,
    pub(crate) cannot_wait: bool,
}

impl Broker for &FakeBroker {
    fn log(&self, level: Level, line: &str) {
        self.lines.borrow_mut().push((level, line.to_owned()));
    }

    fn kick(&self, client_id: &str, will: Will) {
        if will == Will::Dropped {
            self.without_will.borrow_mut().push(client_id.to_owned());
        }
        self.kicked.borrow_mut().push(client_id.to_owned());
    }

    fn can_wait(&self) -> bool {
        !self.cannot_wait
    }

    fn complete(&self, client_id: &str, let_in: bool) {
        self.completed.borrow_mut().push((client_id.to_owned(), let_in));
    }
}

impl FakeBroker {
    /// Which connections that have waited were let in, and which not.
    pub(crate) fn take_completed(&self) -> Vec<(String, bool)> {
        self.completed.take()
    }

    /// The lines so far, which are then forgotten.
    pub(crate) fn take_log(&self) -> String {
        self.lines.take().into_iter().map(|(_, line)| line + "\n").collect()
    }
}

/// The broker's record of a client.
#[derive(Clone, Debug)]
pub(crate) struct FakeClient {
    pub(crate) handle: usize,
    pub(crate) id: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) has_connected: bool,
    pub(crate) starts_clean: bool,
    pub(crate) leaves_nothing: bool,
    pub(crate) takes_usernames: bool,
    pub(crate) certificate: Option<CertificateThumbprint>,
}

impl FakeClient {
    /// One that has sent a CONNECT.
    pub(crate) fn new(handle: usize, id: &str) -> Self {
        Self {
            handle,
            id: Some(id.into()),
            username: None,
            address: Some("192.0.2.1".into()),
            has_connected: true,
            starts_clean: false,
            leaves_nothing: false,
            takes_usernames: true,
            certificate: None,
        }
    }

    /// With a user name in its CONNECT.
    pub(crate) fn with_username(mut self, username: &str) -> Self {
        self.username = Some(username.into());
        self
    }

    /// With a clean start.
    pub(crate) fn cleanly(mut self) -> Self {
        self.starts_clean = true;
        self
    }

    /// As Mosquitto makes it up for the source of a retained message, or reads
    /// it from its database: no connection.
    pub(crate) fn without_connection(mut self) -> Self {
        self.address = None;
        self.has_connected = false;
        self
    }
}

impl Client for FakeClient {
    fn handle(&self) -> ClientHandle {
        ClientHandle(self.handle)
    }

    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    fn has_connected(&self) -> bool {
        self.has_connected
    }

    fn starts_clean(&self) -> bool {
        self.starts_clean
    }

    fn leaves_nothing(&self) -> bool {
        self.leaves_nothing
    }

    fn certificate(&self) -> Option<CertificateThumbprint> {
        self.certificate
    }

    fn set_username(&mut self, username: Option<&str>) -> Result<(), UsernameRefused> {
        if !self.takes_usernames {
            return Err(UsernameRefused);
        }
        self.username = username.map(Into::into);
        Ok(())
    }
}
