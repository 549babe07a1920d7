//! Hashes of secrets and passwords that are under a former root key: made anew
//! when they are presented, which is the only time that they can be.
//!
//! Whoever proves who they are never waits for it: the new hash is only noted,
//! and written with the next tick, a bounded number at a time. A fleet that
//! comes back all at once is rewritten over minutes or hours, and what did not
//! fit is noted again with its next token. Once written, there is nothing left
//! to note: one write for each secret.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::app::App;
use crate::brokers::BrokerError;
use crate::credentials::{CredentialId, PasswordRecord, SecretRecord, SecretVerifier};
use crate::devices::DeviceError;
use crate::root_key::PresentedHashes;
use crate::secret::SecretHash;
use crate::started::Started;

/// The most that wait to be written.
const MAX_WAITING: usize = 10_000;
/// The most that are written with one tick,
const MAX_PER_TICK: usize = 200;
/// as long as that does not take longer.
const MAX_TIME_PER_TICK: Duration = Duration::from_millis(250);

/// The hashes that are to be written.
#[derive(Default)]
pub(crate) struct Rehashes(Mutex<BTreeMap<(Box<str>, CredentialId), Rehash>>);

/// What is to become of which.
enum Rehash {
    Secret { former: SecretVerifier, next: SecretHash },
    Password { former: SecretHash, next: SecretHash },
}

/// A hash could not be written: it will be noted again.
#[derive(Debug, thiserror::Error)]
enum NotWritten {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    SlowHash(#[from] crate::secret::imported::SlowHashFailed),
}

impl Rehashes {
    /// Notes the secret `right` of a client, which was presented, if its hash
    /// is to be made anew.
    pub(crate) fn secret(
        &self,
        client: &str,
        secrets: &[SecretRecord],
        right: &CredentialId,
        presented: &PresentedHashes,
    ) {
        if let Some(secret) = secrets.iter().find(|secret| secret.id == *right)
            && let Some(next) = presented.instead_of(secret.verifier.root_key())
        {
            let rehash = Rehash::Secret { former: secret.verifier.clone(), next: next.clone() };
            self.note(client, right, rehash);
        }
    }

    /// Notes the static password of a device, which was presented, if its hash
    /// is to be made anew.
    pub(crate) fn password(&self, device: &str, kept: &PasswordRecord, presented: &PresentedHashes) {
        if let Some(next) = presented.instead_of(kept.hash.root_key()) {
            let rehash = Rehash::Password { former: kept.hash.clone(), next: next.clone() };
            self.note(device, &kept.id, rehash);
        }
    }

    fn note(&self, client: &str, credential: &CredentialId, rehash: Rehash) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING {
            waiting.insert((client.into(), credential.clone()), rehash);
        }
    }

    /// Writes some of those that wait.
    pub(crate) async fn flush(&self, app: &App) {
        let began = Started::now();
        for _ in 0..MAX_PER_TICK {
            let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            let Some(((client, credential), rehash)) = next else {
                return;
            };
            if let Err(error) = write(app, &client, &credential, rehash).await {
                tracing::warn!(client = ?client, %credential, %error, "a hash could not be made anew");
            }
            if began.elapsed() > MAX_TIME_PER_TICK {
                return;
            }
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

async fn write(app: &App, client: &str, id: &CredentialId, rehash: Rehash) -> Result<(), NotWritten> {
    match rehash {
        Rehash::Password { former, next } => {
            app.devices.replace_password_hash(client, &former, &next).await?;
        }
        Rehash::Secret { former, next } => {
            let next = match former {
                SecretVerifier::Made(_) => SecretVerifier::Made(next),
                SecretVerifier::Imported(_) => {
                    SecretVerifier::Imported(app.imported_secrets.hash_again(&next).await?)
                }
            };
            if app.brokers.find(client).is_some() {
                app.brokers.replace_verifier(client, id, &former, &next).await?;
            } else {
                app.devices.replace_verifier(client, id, &former, &next).await?;
            }
        }
    }
    Ok(())
}
