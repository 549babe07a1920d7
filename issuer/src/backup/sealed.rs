//! A file that only the root key opens: encrypted piece by piece, so that a
//! large one needs little memory, and not to be cut short, reordered or spliced
//! unnoticed.
//!
//! 1. a line that says what it is, the ID of the root key, and 32 random bytes;
//! 2. pieces of 64 KiB, the last one shorter, each with AES-256-GCM under a key
//!    derived from the root key and those bytes. Its nonce is its number and
//!    whether it is the last (the STREAM construction of Hoang, Reyhanitabar,
//!    Rogaway and Vizár, 2015).

use std::io::{self, Read};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::root_key::{RootKeyId, RootKeySet};

/// What the file begins with.
const MAGIC: &[u8] = b"fleetbadge backup v1\n";
/// How much is encrypted at a time.
const PIECE: usize = 64 * 1024;
const TAG: usize = 16;
const ID_LENGTH: usize = 16;

/// A sealed file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SealedFileError {
    /// It begins otherwise.
    #[error("it is not a sealed file of this program")]
    NotSealed,
    /// It was sealed under a root key that is not there.
    #[error("it is under root key {0}, which is not among those that are here; add its line to the file")]
    RootKey(RootKeyId),
    /// It was changed, or is cut short.
    #[error("it cannot be opened: it was changed, or is not whole")]
    Broken,
    /// It is too long for its counter.
    #[error("it would be larger than a sealed file may be")]
    TooLong,
    /// The cryptographic library cannot.
    #[error("the cryptographic library cannot encrypt")]
    Cryptography,
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<SealedFileError> for io::Error {
    fn from(error: SealedFileError) -> Self {
        match error {
            SealedFileError::Io(error) => error,
            SealedFileError::NotSealed
            | SealedFileError::RootKey(_)
            | SealedFileError::Broken
            | SealedFileError::TooLong
            | SealedFileError::Cryptography => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}

struct Key {
    key: LessSafeKey,
    number: u32,
}

impl Key {
    #[expect(clippy::expect_used, reason = "32 bytes are what AES-256 takes")]
    fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("has 256 bits");
        Self { key: LessSafeKey::new(key), number: 0 }
    }

    /// That of the next piece; used once, as the number goes on.
    fn nonce(&mut self, is_last: bool) -> Result<Nonce, SealedFileError> {
        let [a, b, c, d] = self.number.to_be_bytes();
        self.number = self.number.checked_add(1).ok_or(SealedFileError::TooLong)?;
        let nonce: [u8; NONCE_LEN] = [0, 0, 0, 0, 0, 0, 0, a, b, c, d, u8::from(is_last)];
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

/// Seals what is pushed into it.
pub struct SealingWriter {
    key: Key,
    clear: Vec<u8>,
    sealed: Vec<u8>,
}

impl SealingWriter {
    /// Begins a file. The salt is random and never used again.
    #[must_use]
    pub fn new(root_keys: &RootKeySet, salt: [u8; 32]) -> Self {
        let id = root_keys.current().to_string();
        let key = Key::new(&root_keys.current_backup_key(&salt));
        Self { key, clear: Vec::new(), sealed: [MAGIC, id.as_bytes(), &salt].concat() }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`SealedFileError::TooLong`], [`SealedFileError::Cryptography`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SealedFileError> {
        self.clear.extend_from_slice(bytes);
        // The last piece is known as such at the end alone.
        while self.clear.len() > PIECE {
            let rest = self.clear.split_off(PIECE);
            let piece = std::mem::replace(&mut self.clear, rest);
            self.seal(piece, false)?;
        }
        Ok(())
    }

    /// What is to be written, until now.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sealed)
    }

    /// Ends the file; what is to be written last.
    ///
    /// # Errors
    /// [`SealedFileError::TooLong`], [`SealedFileError::Cryptography`].
    pub fn finish(mut self) -> Result<Vec<u8>, SealedFileError> {
        let piece = std::mem::take(&mut self.clear);
        self.seal(piece, true)?;
        Ok(self.sealed)
    }

    fn seal(&mut self, mut piece: Vec<u8>, is_last: bool) -> Result<(), SealedFileError> {
        let nonce = self.key.nonce(is_last)?;
        let sealed = self.key.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut piece);
        sealed.map_err(|_| SealedFileError::Cryptography)?;
        self.sealed.append(&mut piece);
        Ok(())
    }
}

/// Reads what was sealed; fails before it gives anything that was changed.
pub struct UnsealingReader<R> {
    key: Key,
    file: R,
    /// Sealed bytes that were read ahead: whether a piece is the last shows in
    /// what follows it.
    ahead: Vec<u8>,
    clear: io::Cursor<Vec<u8>>,
    is_over: bool,
}

impl<R: Read> UnsealingReader<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// [`SealedFileError::NotSealed`], [`SealedFileError::Io`].
    pub fn new(root_keys: &RootKeySet, mut file: R) -> Result<Self, SealedFileError> {
        let mut beginning = Vec::new();
        file.by_ref().take((MAGIC.len() + ID_LENGTH + 32) as u64).read_to_end(&mut beginning)?;
        let not_sealed = || SealedFileError::NotSealed;
        let beginning = beginning.strip_prefix(MAGIC).ok_or_else(not_sealed)?;
        let (id, salt) = beginning.split_at_checked(ID_LENGTH).ok_or_else(not_sealed)?;
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).ok_or_else(not_sealed)?;
        let salt = salt.try_into().map_err(|_| not_sealed())?;
        let key = root_keys.backup_key(id, salt).ok_or(SealedFileError::RootKey(id))?;
        let key = Key::new(&key);
        Ok(Self { key, file, ahead: Vec::new(), clear: io::Cursor::default(), is_over: false })
    }

    fn next_piece(&mut self) -> Result<(), SealedFileError> {
        let missing = PIECE + TAG + 1 - self.ahead.len();
        self.file.by_ref().take(missing as u64).read_to_end(&mut self.ahead)?;
        self.is_over = self.ahead.len() <= PIECE + TAG;
        let rest = if self.is_over { Vec::new() } else { self.ahead.split_off(PIECE + TAG) };
        let mut piece = std::mem::replace(&mut self.ahead, rest);
        let nonce = self.key.nonce(self.is_over)?;
        let opened = self.key.key.open_in_place(nonce, Aad::empty(), &mut piece);
        let length = opened.map_err(|_| SealedFileError::Broken)?.len();
        piece.truncate(length);
        self.clear = io::Cursor::new(piece);
        Ok(())
    }
}

impl<R: Read> Read for UnsealingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.clear.read(buffer)? {
                0 if !self.is_over && !buffer.is_empty() => self.next_piece()?,
                length => return Ok(length),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_key::RootKey;

    const SALT: [u8; 32] = [9; 32];

    const BEGINNING: usize = MAGIC.len() + ID_LENGTH + 32;

    fn key(byte: u8) -> RootKeySet {
        RootKeySet::of_one(&RootKey::from_bytes([byte; 32]))
    }

    fn sealed(clear: &[u8]) -> Vec<u8> {
        let mut writer = SealingWriter::new(&key(1), SALT);
        let mut file = Vec::new();
        for part in clear.chunks(50_000) {
            writer.push(part).unwrap();
            file.append(&mut writer.take());
        }
        file.append(&mut writer.finish().unwrap());
        file
    }

    fn opened(file: &[u8], key: &RootKeySet) -> Result<Vec<u8>, SealedFileError> {
        let mut clear = Vec::new();
        UnsealingReader::new(key, file)?.read_to_end(&mut clear)?;
        Ok(clear)
    }

    fn clear(length: usize) -> Vec<u8> {
        (0..=255).cycle().take(length).collect()
    }

    #[test]
    fn what_was_sealed_is_read_whatever_its_length() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 5] {
            assert_eq!(opened(&sealed(&clear(length)), &key(1)).unwrap(), clear(length), "{length}");
        }
    }

    /// Cut short, longer, another key, one bit, pieces in another order.
    #[test]
    fn nothing_else_is_read_to_its_end() {
        let begin = BEGINNING;
        for length in [0, PIECE, 2 * PIECE, 2 * PIECE + 100] {
            let file = sealed(&clear(length));
            assert!(opened(&file, &key(2)).is_err(), "{length}");
            for cut in [begin, begin + 1, begin + PIECE + TAG, file.len() - 1] {
                assert!(cut >= file.len() || opened(&file[..cut], &key(1)).is_err(), "{length} cut at {cut}");
            }
            assert!(opened(&[&file[..], &[0]].concat(), &key(1)).is_err(), "{length}");
            for place in [begin - 1, begin, file.len() - 1] {
                let mut other = file.clone();
                other[place] ^= 1;
                assert!(opened(&other, &key(1)).is_err(), "{length} at {place}");
            }
        }
        let file = sealed(&clear(3 * PIECE));
        let (first, second) = (begin..begin + PIECE + TAG, begin + PIECE + TAG..begin + 2 * (PIECE + TAG));
        let swapped = [&file[..begin], &file[second.clone()], &file[first], &file[second.end..]].concat();
        assert!(opened(&swapped, &key(1)).is_err());
        assert!(matches!(opened(b"SQLite format 3\0", &key(1)), Err(SealedFileError::NotSealed)));
    }

    #[test]
    fn two_files_share_no_key() {
        let other = {
            let mut writer = SealingWriter::new(&key(1), [8; 32]);
            writer.push(&clear(100)).unwrap();
            writer.finish().unwrap()
        };
        assert_ne!(sealed(&clear(100))[BEGINNING..], other[BEGINNING..]);
    }
}
