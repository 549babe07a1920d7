//! Tokens that were seen before.
//!
//! A fleet that reconnects brings the same tokens again. What is remembered
//! is only that a token could be parsed and that its signature was good;
//! everything that depends on the client, the time or the issuer's present
//! keys is checked anew, see [`crate::verify`]. The key is the SHA-256 of the
//! whole token: two spellings of one token are two entries, and a digest says
//! nothing about the token to whoever reads the memory.
//!
//! A token whose signature was not good is remembered too, for a few seconds,
//! by the same digest: whoever brings it again and again costs no signature.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use aws_lc_rs::digest;

use crate::denied::Denied;
use crate::time::UnixSeconds;
use crate::token::{MAX_TOKEN_LENGTH, SignedToken};

/// A bounded memory of signed tokens, for one thread.
#[derive(Debug)]
pub struct Memory {
    tokens: HashMap<TokenDigest, Arc<SignedToken>>,
    /// When to forget which: every key of `tokens` once, the first to expire
    /// on top.
    expiries: BinaryHeap<Reverse<(UnixSeconds, TokenDigest)>>,
    capacity: usize,
    /// Those whose signature was not good.
    bad: HashSet<TokenDigest>,
    /// When to forget which of them, the first to be forgotten in front.
    bad_until: VecDeque<(UnixSeconds, TokenDigest)>,
}

type TokenDigest = [u8; 32];

impl Memory {
    /// How many tokens are remembered unless told otherwise.
    pub const DEFAULT_CAPACITY: usize = 200_000;

    /// How long a bad signature is remembered, in seconds: not long, as the
    /// issuer's keys may be others then.
    pub const BAD_S: u64 = 5;
    /// How many of them.
    const MAX_BAD: usize = 4_096;

    /// A memory for up to `capacity` tokens. The one that expires first makes
    /// room for a new one.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            tokens: HashMap::new(),
            expiries: BinaryHeap::new(),
            capacity,
            bad: HashSet::new(),
            bad_until: VecDeque::new(),
        }
    }

    /// The token as remembered, or what `check` makes of it.
    ///
    /// # Errors
    /// Those of `check`, of which [`Denied::SignatureInvalid`] alone is
    /// remembered.
    pub fn recall(
        &mut self,
        token: &str,
        now: UnixSeconds,
        check: impl FnOnce() -> Result<SignedToken, Denied>,
    ) -> Result<Arc<SignedToken>, Denied> {
        // Not worth a digest.
        if token.len() > MAX_TOKEN_LENGTH {
            return check().map(Arc::new);
        }
        let digest = digest_of(token);
        if let Some(signed) = self.tokens.get(&digest) {
            return Ok(Arc::clone(signed));
        }
        self.forget_bad(now);
        if self.bad.contains(&digest) {
            return Err(Denied::SignatureInvalid);
        }
        let signed = Arc::new(check().inspect_err(|denied| {
            if *denied == Denied::SignatureInvalid {
                self.remember_bad(digest, now);
            }
        })?);
        self.forget_expired(now);
        while self.tokens.len() >= self.capacity {
            let Some(Reverse((_, first))) = self.expiries.pop() else { return Ok(signed) };
            self.tokens.remove(&first);
        }
        self.expiries.push(Reverse((signed.exp, digest)));
        self.tokens.insert(digest, Arc::clone(&signed));
        Ok(signed)
    }

    fn remember_bad(&mut self, digest: TokenDigest, now: UnixSeconds) {
        if self.bad.len() >= Self::MAX_BAD
            && let Some((_, first)) = self.bad_until.pop_front()
        {
            self.bad.remove(&first);
        }
        self.bad.insert(digest);
        self.bad_until.push_back((now.plus(Self::BAD_S), digest));
    }

    fn forget_bad(&mut self, now: UnixSeconds) {
        // Also what is of a future that a clock that was set back has left.
        while let Some((until, digest)) = self.bad_until.front()
            && (*until <= now || *until > now.plus(Self::BAD_S))
        {
            self.bad.remove(digest);
            self.bad_until.pop_front();
        }
    }

    /// Whose keys a token is known to be signed with, if it is remembered.
    #[must_use]
    pub fn issuer_of(&self, token: &str) -> Option<Arc<str>> {
        let signed = (token.len() <= MAX_TOKEN_LENGTH).then(|| self.tokens.get(&digest_of(token)))??;
        Some(Arc::clone(signed.issuer()))
    }

    /// Forgets the tokens whose `exp` has passed.
    pub fn forget_expired(&mut self, now: UnixSeconds) {
        while let Some(Reverse((exp, digest))) = self.expiries.peek()
            && *exp <= now
        {
            self.tokens.remove(digest);
            self.expiries.pop();
        }
    }

    /// How many tokens are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_capacity(Self::DEFAULT_CAPACITY)
    }
}

fn digest_of(token: &str) -> TokenDigest {
    let mut bytes = TokenDigest::default();
    for (byte, digested) in bytes.iter_mut().zip(digest::digest(&digest::SHA256, token.as_bytes()).as_ref()) {
        *byte = *digested;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_000);

    /// Whether the signature of a token was looked at.
    fn looks(memory: &mut Memory, token: &str, denied: &Denied, now: UnixSeconds) -> bool {
        let mut looked = false;
        let result = memory.recall(token, now, || {
            looked = true;
            Err(denied.clone())
        });
        assert_eq!(result.unwrap_err(), *denied);
        looked
    }

    #[test]
    fn a_bad_signature_is_looked_at_once_in_a_while() {
        let (mut memory, bad) = (Memory::default(), Denied::SignatureInvalid);
        assert!(looks(&mut memory, "a.b.c", &bad, NOW));
        assert!(!looks(&mut memory, "a.b.c", &bad, NOW.plus(Memory::BAD_S - 1)));
        assert!(looks(&mut memory, "a.b.d", &bad, NOW), "another token");
        assert!(looks(&mut memory, "a.b.c", &bad, NOW.plus(Memory::BAD_S)));
        assert!(looks(&mut memory, "a.b.c", &bad, NOW.minus(100)), "the clock was set back");
        assert!(
            looks(&mut memory, "x", &Denied::TokenMalformed, NOW)
                && looks(&mut memory, "x", &Denied::TokenMalformed, NOW)
        );
        assert!(memory.is_empty(), "what is good is another matter");
    }

    #[test]
    fn a_flood_of_bad_ones_takes_bounded_memory() {
        let mut memory = Memory::default();
        for number in 0..2 * Memory::MAX_BAD {
            assert!(looks(&mut memory, &number.to_string(), &Denied::SignatureInvalid, NOW));
        }
        assert_eq!((memory.bad.len(), memory.bad_until.len()), (Memory::MAX_BAD, Memory::MAX_BAD));
    }
}
