//! A thread with one asynchronous task, which ends with its owner.

use std::panic::AssertUnwindSafe;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::RemoteError;

/// Ends and joins its thread when dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Runs `task` on a thread until it is over, or the owner is gone, which
    /// is seen whenever the task waits. `on_fault` is called if it panics.
    pub(crate) fn start(
        thread: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
        on_fault: impl FnOnce() + Send + 'static,
    ) -> Result<Self, RemoteError> {
        let error = |error: std::io::Error| RemoteError::Start { thread, reason: error.to_string() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(error)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = task => {}
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name(thread.into())
            .spawn(move || {
                if std::panic::catch_unwind(AssertUnwindSafe(run)).is_err() {
                    on_fault();
                }
            })
            .map_err(error)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Dropping the sender is the signal.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panicked thread has nothing left to end.
            let _ = thread.join();
        }
    }
}
