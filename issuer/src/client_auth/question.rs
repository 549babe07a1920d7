//! Somebody asks to be let in, and may be told no: always at the same time, and
//! after the same work.
//!
//! A device that is in memory is found without the store; that there is none,
//! the store has to say. Whoever keeps the store busy, by asking for many, could
//! tell the one from the other by the time. So what was found in memory owes
//! the store a question, before a no.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::devices::KnownDevice;
use crate::error::TokenError;
use crate::started::Started;

/// How long after a question a no is answered: longer than to read a device
/// from the database, short enough for people.
const REFUSAL_DELAY: Duration = Duration::from_millis(10);
/// How long after its turn came (see [`crate::imported_secrets`]) a no is
/// answered to a secret that somebody may have chosen: longer than the slow
/// hashes that may have been made.
pub(super) const CHOSEN_REFUSAL_DELAY: Duration = Duration::from_millis(100);

/// Somebody asks.
pub(crate) struct Question {
    asked: Started,
    owes_lookup: bool,
}

impl Question {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        Self { asked: Started::now(), owes_lookup: false }
    }

    /// The device that somebody claims to be.
    ///
    /// # Errors
    /// [`TokenError::ServerError`] if the database fails.
    pub(crate) async fn find_device(
        &mut self,
        app: &App,
        name: &str,
    ) -> Result<Option<Arc<KnownDevice>>, TokenError> {
        if let Some(device) = app.devices.find_in_memory(name) {
            self.was_in_memory();
            return Ok(Some(device));
        }
        Ok(app.devices.find(name).await.map_err(|error| app.store_failed(&error))?)
    }

    /// Whom somebody claims to be was found without the store.
    pub(super) const fn was_in_memory(&mut self) {
        self.owes_lookup = true;
    }

    /// Costs what it costs others, if it has not yet.
    ///
    /// # Errors
    /// [`TokenError::ServerError`] if the database fails.
    pub(super) async fn even_out(&mut self, app: &App) -> Result<(), TokenError> {
        if std::mem::take(&mut self.owes_lookup) {
            app.devices.look_for_nobody().await.map_err(|error| app.store_failed(&error))?;
        }
        Ok(())
    }

    /// Waits until the no may be answered.
    ///
    /// # Errors
    /// [`TokenError::ServerError`] if the database fails.
    pub(crate) async fn until_refusal(mut self, app: &App) -> Result<(), TokenError> {
        self.even_out(app).await?;
        wait(self.asked, REFUSAL_DELAY).await;
        Ok(())
    }
}

/// Waits until `delay` after `since`. Tokio's own timer wakes whole
/// milliseconds after its thread went to sleep: the fraction would tell how
/// long the work took.
pub(super) async fn wait(since: Started, delay: Duration) {
    let sleep = move || std::thread::sleep(delay.saturating_sub(since.elapsed()));
    // Fails only when the server ends.
    let _ = tokio::task::spawn_blocking(sleep).await;
}
