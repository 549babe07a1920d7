//! What a validator has let in and denied since it started.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::time::UnixSeconds;

/// The most codes that are counted, each for itself.
pub const MAX_CODES: usize = 64;
const MAX_CODE_LENGTH: usize = 64;

/// Counts, as they are told. Members may be added; none changes its meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Since when: the start of the process, or of its plugin.
    pub started_at: UnixSeconds,
    /// How many connections were let in.
    pub let_in: u64,
    /// How many connections, publications, subscriptions and deliveries were
    /// denied, by [code](crate::denied::Denied::code). Codes never met are left
    /// out.
    #[serde(default)]
    pub denied: BTreeMap<String, u64>,
}

/// Whether this may be a code: a newer validator may have some that are not
/// known here.
pub(super) fn is_code(text: &str) -> bool {
    let is_of_code = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=MAX_CODE_LENGTH).contains(&text.len()) && text.bytes().all(is_of_code)
}

/// Counts while it is asked, on any thread, without a lock and without memory
/// of its own making.
#[derive(Debug)]
pub struct Counting {
    started_at: UnixSeconds,
    let_in: AtomicU64,
    denied: [Slot; MAX_CODES],
}

/// One code, from when it is first met.
#[derive(Debug, Default)]
struct Slot {
    code: OnceLock<&'static str>,
    count: AtomicU64,
}

impl Counting {
    /// Counts from now on.
    #[must_use]
    pub fn new(started_at: UnixSeconds) -> Self {
        let denied = std::array::from_fn(|_| Slot::default());
        Self { started_at, let_in: AtomicU64::new(0), denied }
    }

    /// A connection was let in.
    pub fn let_in(&self) {
        self.let_in.fetch_add(1, Ordering::Relaxed);
    }

    /// Something was denied. Of more than [`MAX_CODES`] codes, those that come
    /// last are not counted.
    pub fn denied(&self, code: &'static str) {
        let slot = self.denied.iter().find(|slot| *slot.code.get_or_init(|| code) == code);
        if let Some(Slot { count, .. }) = slot {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// As it is now.
    #[must_use]
    pub fn read(&self) -> Counters {
        let denied = self.denied.iter().map_while(|Slot { code, count }| {
            Some(((*code.get()?).to_owned(), count.load(Ordering::Relaxed)))
        });
        Counters {
            started_at: self.started_at,
            let_in: self.let_in.load(Ordering::Relaxed),
            denied: denied.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_counted_for_itself() {
        let counting = Counting::new(UnixSeconds(7));
        assert_eq!(counting.read(), Counters { started_at: UnixSeconds(7), let_in: 0, denied: [].into() });
        counting.let_in();
        for code in ["expired", "revoked", "expired"] {
            counting.denied(code);
        }
        let read = counting.read();
        assert_eq!(read.let_in, 1);
        assert_eq!(read.denied, [("expired".to_owned(), 2), ("revoked".to_owned(), 1)].into());
    }

    #[test]
    fn many_threads_lose_nothing_and_too_many_codes_do_no_harm() {
        let counting = Counting::new(UnixSeconds(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..1000 {
                        counting.denied(["a", "b", "c"][n % 3]);
                    }
                });
            }
        });
        assert_eq!(counting.read().denied.values().sum::<u64>(), 4000);
        for n in 0..200 {
            counting.denied(String::leak(format!("code_{n}")));
        }
        let denied = counting.read().denied;
        assert_eq!(denied.len(), MAX_CODES);
        assert!(denied.keys().all(|code| is_code(code)));
    }
}
