//! Tokens that were seen before.
//!
//! A fleet that reconnects brings the same tokens again. What is remembered
//! is only that a token could be parsed and that its signature was good;
//! everything that depends on the client, the time or the issuer's present
//! keys is checked anew, see [`crate::verify`]. The key is the SHA-256 of the
//! whole token: two spellings of one token are two entries, and a digest says
//! nothing about the token to whoever reads the memory.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
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
}

type TokenDigest = [u8; 32];

impl Memory {
    /// How many tokens are remembered unless told otherwise.
    pub const DEFAULT_CAPACITY: usize = 200_000;

    /// A memory for up to `capacity` tokens. The one that expires first makes
    /// room for a new one.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { tokens: HashMap::new(), expiries: BinaryHeap::new(), capacity }
    }

    /// The token as remembered, or what `check` makes of it.
    ///
    /// # Errors
    /// Those of `check`, which are not remembered.
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
        let signed = Arc::new(check()?);
        self.forget_expired(now);
        while self.tokens.len() >= self.capacity {
            let Some(Reverse((_, first))) = self.expiries.pop() else { return Ok(signed) };
            self.tokens.remove(&first);
        }
        self.expiries.push(Reverse((signed.exp, digest)));
        self.tokens.insert(digest, Arc::clone(&signed));
        Ok(signed)
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
