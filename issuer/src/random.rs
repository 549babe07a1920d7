//! Random bytes from whoever was given as their source.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::SecureRandom;

/// A source of randomness that several own.
pub type Random = Arc<dyn SecureRandom + Send + Sync>;

/// The system has no randomness to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

/// `N` random bytes.
///
/// # Errors
/// [`NoRandomness`].
pub(crate) fn random_bytes<const N: usize>(random: &dyn SecureRandom) -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    random.fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// How many bytes are fetched at a time.
const STOCK: usize = 2_000;

/// Random bytes in stock, for what everybody may see: a `jti`, a delay. To ask
/// the system costs the same for few as for many. For no secret: what is in
/// stock is in memory.
pub(crate) struct RandomStock {
    random: Random,
    stock: Mutex<Stock>,
}

struct Stock {
    bytes: [u8; STOCK],
    used: usize,
}

impl RandomStock {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, stock: Mutex::new(Stock { bytes: [0; STOCK], used: STOCK }) }
    }

    /// `N` random bytes, which nobody else gets.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub(crate) fn take<const N: usize>(&self) -> Result<[u8; N], NoRandomness> {
        // Nothing that panics is done while it is held.
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        if stock.used + N > STOCK {
            stock.bytes = random_bytes(&*self.random)?;
            stock.used = 0;
        }
        let next =
            stock.bytes.get(stock.used..).and_then(<[u8]>::first_chunk).copied().ok_or(NoRandomness)?;
        stock.used += N;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU64, Ordering};

    use aws_lc_rs::rand::SystemRandom;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "that they differ is what is tested")]
    fn nothing_is_given_out_twice() {
        let stock = RandomStock::new(Arc::new(SystemRandom::new()));
        let given = Mutex::new(HashSet::new());
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        given.lock().unwrap().insert(stock.take::<20>().unwrap());
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!((given.into_inner().unwrap().len(), taken.into_inner()), (4_000, 4_000));
        assert!(stock.take::<{ STOCK + 1 }>().is_err());
    }
}
