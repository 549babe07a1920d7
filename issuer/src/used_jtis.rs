//! Signed statements that are good once, also over restarts: client assertions
//! and proofs of possession.
//!
//! A statement is remembered in the store before it counts. Those that come at
//! the same time share one write: whoever comes while a write is under way
//! waits for the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fleetbadge_validator::time::UnixSeconds;
use tokio::sync::{mpsc, oneshot};

use crate::sha256::sha256;
use crate::store::{Store, StoreError, UsedJti};

/// The most bytes of a `jti`.
pub(crate) const MAX_JTI_LENGTH: usize = 256;
/// The most statements of one write.
const MAX_BATCH: usize = 256;
/// The most statements that wait; who comes then waits to be let in.
const MAX_WAITING: usize = 4 * MAX_BATCH;
/// How long statements are remembered after their end, in seconds: longer than
/// a request that found one still good takes, and than a clock is set back by.
const KEPT_S: u64 = 600;

/// How far ahead a statement may end that is accepted, in seconds: the longest
/// life of any kind, and what clocks may be off.
pub const MAX_STATEMENT_LIFE_S: u64 = 360;

/// What kind of statement it is: a `jti` of one kind says nothing of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// A client assertion (RFC 7523), signed by a device.
    ClientAssertion,
    /// A DPoP proof (RFC 9449 §4), signed by a key.
    ProofOfPossession,
}

impl StatementKind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::ClientAssertion => b"client assertion",
            Self::ProofOfPossession => b"proof of possession",
        }
    }
}

/// The statement was used before, or nobody can say.
#[derive(Debug, thiserror::Error)]
pub enum JtiRefused {
    /// It was used before.
    #[error("the statement was used before")]
    Replayed,
    /// The database failed, for the whole batch.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// It may have been used before a backup was restored, or before the clock
    /// was set back.
    #[error("the statement may have been used before; a newer one is accepted")]
    MayBeReplayed {
        /// After how many seconds one of the same life would be accepted.
        retry_after_s: u64,
    },
    /// The server is ending.
    #[error("the server is ending")]
    Ending,
}

struct Waiting {
    jti: UsedJti,
    answer: oneshot::Sender<Result<bool, Arc<StoreError>>>,
}

/// Remembers statements.
pub struct UsedJtis {
    store: Arc<dyn Store>,
    queue: mpsc::Sender<Waiting>,
    /// Statements that end until then are refused.
    refused_until: AtomicU64,
}

impl UsedJtis {
    /// Starts the task that writes, on the Tokio runtime that this is called
    /// on. It ends with the last handle.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(write_batches(Arc::clone(&store), waiting));
        Self { store, queue, refused_until: AtomicU64::new(0) }
    }

    /// Refuses statements that end until then: nobody knows which of them were
    /// used.
    pub(crate) fn refuse_until(&self, moment: UnixSeconds) {
        self.refused_until.store(moment.0, Ordering::Release);
    }

    /// Uses up a statement that `signer` made, unless it is used up. From
    /// `expires_at` on it would be refused anyway; it is remembered longer, see
    /// [`UsedJtis::forget_ended`].
    ///
    /// # Errors
    /// [`JtiRefused`].
    pub async fn use_once(
        &self,
        kind: StatementKind,
        signer: &str,
        jti: &str,
        expires_at: UnixSeconds,
    ) -> Result<(), JtiRefused> {
        let refused_until = UnixSeconds(self.refused_until.load(Ordering::Acquire));
        if expires_at <= refused_until {
            return Err(JtiRefused::MayBeReplayed { retry_after_s: refused_until.since(expires_at) + 1 });
        }
        let (answer, answered) = oneshot::channel();
        let jti = UsedJti { id: id(kind, signer, jti), expires_at };
        self.queue.send(Waiting { jti, answer }).await.map_err(|_| JtiRefused::Ending)?;
        match answered.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(JtiRefused::Replayed),
            Ok(Err(error)) => Err(JtiRefused::Store(error)),
            Err(_) => Err(JtiRefused::Ending),
        }
    }

    /// Forgets the statements that ended more than ten minutes ago.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_ended(&self, now: UnixSeconds) -> Result<(), StoreError> {
        self.store.forget_jtis(now.minus(KEPT_S)).await
    }
}

/// Zero bytes stand between the parts; the signer is a name or a thumbprint
/// and has none.
fn id(kind: StatementKind, signer: &str, jti: &str) -> [u8; 32] {
    sha256(&[kind.label(), &[0], signer.as_bytes(), &[0], jti.as_bytes()])
}

async fn write_batches(store: Arc<dyn Store>, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let (jtis, answers): (Vec<UsedJti>, Vec<_>) =
            batch.drain(..).map(|Waiting { jti, answer }| (jti, answer)).unzip();
        // Nobody listening any more is no failure: the statement is used up.
        match store.use_jtis(&jtis).await {
            Ok(first) => {
                for (answer, is_first) in answers.into_iter().zip(first) {
                    let _ = answer.send(Ok(is_first));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for answer in answers {
                    let _ = answer.send(Err(Arc::clone(&error)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::SqliteStore;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    async fn open(folder: &tempfile::TempDir) -> UsedJtis {
        UsedJtis::new(Arc::new(SqliteStore::open(&folder.path().join("db")).await.unwrap()))
    }

    #[tokio::test]
    async fn once_for_each_kind_and_signer_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let jtis = open(&folder).await;
        let (assertion, proof) = (StatementKind::ClientAssertion, StatementKind::ProofOfPossession);
        jtis.use_once(assertion, "a", "1", NOW).await.unwrap();
        jtis.use_once(assertion, "b", "1", NOW).await.unwrap();
        jtis.use_once(proof, "a", "1", NOW).await.unwrap();
        jtis.use_once(assertion, "a", "2", NOW).await.unwrap();
        assert!(matches!(jtis.use_once(assertion, "a", "1", NOW).await, Err(JtiRefused::Replayed)));
        let again = open(&folder).await;
        assert!(matches!(again.use_once(assertion, "b", "1", NOW).await, Err(JtiRefused::Replayed)));
    }

    #[tokio::test]
    async fn what_may_have_been_used_before_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let jtis = open(&folder).await;
        jtis.refuse_until(NOW.plus(MAX_STATEMENT_LIFE_S));
        let kind = StatementKind::ClientAssertion;
        let early = jtis.use_once(kind, "a", "1", NOW.plus(300)).await;
        assert!(matches!(early, Err(JtiRefused::MayBeReplayed { retry_after_s: 61 })), "{early:?}");
        jtis.use_once(kind, "a", "1", NOW.plus(MAX_STATEMENT_LIFE_S + 1)).await.unwrap();
    }

    #[tokio::test]
    async fn of_many_at_once_one_is_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let jtis = Arc::new(open(&folder).await);
        let tries: Vec<_> = (0..64)
            .map(|_| {
                let jtis = Arc::clone(&jtis);
                tokio::spawn(async move {
                    jtis.use_once(StatementKind::ClientAssertion, "a", "1", NOW).await.is_ok()
                })
            })
            .collect();
        let mut let_in = 0;
        for one in tries {
            let_in += usize::from(one.await.unwrap());
        }
        assert_eq!(let_in, 1);
    }
}
