//! Clients that bring a static password, and wait until it was exchanged.

use super::*;
use crate::authenticators::PasswordAuthenticator;
use crate::passwords::Presented;

impl<B: Broker> Guard<B> {
    /// A client brings what may be a static password.
    pub(super) fn by_password(
        &self,
        client: &impl Client,
        authenticator: &PasswordAuthenticator,
        presented: &Presented<'_>,
        now: UnixSeconds,
    ) -> Result<Verdict, Refusal> {
        let PasswordAuthenticator { passwords, counters, .. } = authenticator;
        check_name(presented.client_id).map_err(Refusal::ClientIdMalformed)?;
        check_name(presented.username).map_err(|_| Refusal::PasswordRefused)?;
        let remembered = passwords.borrow().remembered(presented).map(str::to_owned);
        if let Some(token) = remembered {
            let Presented { client_id, username, .. } = *presented;
            match self.verify_exchanged(&token, client_id, username, client.starts_clean(), now) {
                Ok(token) => {
                    self.let_in(client.handle(), token, counters, Sessions::connect, now);
                    return Ok(Verdict::Allow);
                }
                Err(refusal @ (Refusal::ClientIdTaken | Refusal::ClientIdKept)) => return Err(refusal),
                // It has ended or was revoked: the password may be good for
                // another.
                Err(_) => passwords.borrow_mut().forget(presented),
            }
        }
        // While it waits, a device that comes back with this client ID is dropped.
        if self.sessions.borrow().is_of_another(presented.client_id, presented.username) {
            return Err(Refusal::ClientIdTaken);
        }
        passwords.borrow_mut().ask(client, presented, now)?;
        Ok(Verdict::Wait)
    }

    /// Lets in and denies those whose answer has come.
    pub(super) fn complete_waiting(&self, now: UnixSeconds) {
        let Some(PasswordAuthenticator { passwords, counters, .. }) = self.authenticators.passwords() else {
            return;
        };
        let answered = passwords.borrow_mut().take_answered(now);
        for (waiting, answer) in answered {
            let verified = answer.and_then(|token| {
                let (client_id, username) = (&waiting.client_id, &waiting.username);
                let verified =
                    self.verify_exchanged(&token, client_id, username, waiting.starts_clean, now)?;
                passwords.borrow_mut().remember(&waiting, token, verified.ends_at());
                Ok(verified)
            });
            match verified {
                Ok(token) => {
                    self.handed_on.borrow_mut().end(waiting.handle);
                    self.sessions.borrow_mut().expect(waiting.handle, token.clone());
                    self.broker.complete(&waiting.client_id, true);
                    if self.sessions.borrow_mut().expectation_met() {
                        counters.let_in();
                        self.authenticators.connected(&token, now);
                        self.handed_on.borrow_mut().end_session(&waiting.client_id);
                    }
                }
                Err(refusal) => {
                    counters.denied(refusal.code());
                    self.log_denial(Some(&waiting.client_id), waiting.address.as_deref(), &refusal, now);
                    self.broker.complete(&waiting.client_id, false);
                }
            }
        }
    }

    /// Whether the token that a password was exchanged for lets a client in.
    fn verify_exchanged(
        &self,
        token: &str,
        client_id: &str,
        username: &str,
        starts_clean: bool,
        now: UnixSeconds,
    ) -> Result<VerifiedToken, Refusal> {
        // It comes from the issuer, wherever the client is, and is bound to no
        // certificate.
        let origin = Origin { id: client_id, address: None, is_known: true };
        let token = self.authenticators.verify(token, &origin, || None, now)?;
        // The user name that the broker has stays, and is that of the session.
        if token.subject() != username {
            return Err(Refusal::PasswordOfAnother);
        }
        self.may_resume(&token, starts_clean)?;
        Ok(token)
    }

    /// `CONNECT`: the broker has let somebody in.
    pub(crate) fn connected(&self, handle: ClientHandle) {
        self.sessions.borrow_mut().connected(handle);
    }

    /// Whether anybody waits.
    pub(crate) fn is_awaited(&self) -> bool {
        self.authenticators.passwords().is_some_and(|one| one.passwords.borrow().is_awaited())
    }
}
