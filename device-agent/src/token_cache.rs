//! Tokens on disk, so that they outlive the program: a device that reboots
//! while the issuer is away still connects.
//!
//! One file per [`TokenRequest`], readable by its owner only, written whole or
//! not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::machine::UnixSeconds;
use crate::secret::AccessToken;
use crate::token_client::{IssuedToken, TokenRequest};

/// More than any kept token has, in bytes.
const MAX_FILE_LENGTH: u64 = 128 * 1024;

/// A token with what must be known to use it later.
#[derive(Clone, Serialize, Deserialize)]
pub struct CachedToken {
    /// What was asked for.
    pub request: TokenRequest,
    /// The token.
    pub access_token: AccessToken,
    /// The scope that it has.
    pub scope: Option<String>,
    /// The MQTT client identifier that it may connect as.
    pub mqtt_client_id: String,
    /// When it was obtained.
    pub obtained_at: UnixSeconds,
    /// When the next one should be asked for.
    pub refresh_at: UnixSeconds,
    /// When it ends.
    pub expires_at: UnixSeconds,
}

/// What a token from the disk is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Use it.
    Fresh,
    /// Ask for another; use it if there is none to be had.
    RefreshDue,
    /// It has ended.
    Expired,
}

impl CachedToken {
    /// A token that was just issued, with its refresh point after the
    /// beginning of its life.
    #[must_use]
    pub fn new(request: TokenRequest, issued: IssuedToken, refresh: Duration, now: UnixSeconds) -> Self {
        Self {
            request,
            access_token: issued.access_token,
            scope: issued.scope,
            mqtt_client_id: issued.mqtt_client_id,
            obtained_at: now,
            refresh_at: now.plus(refresh),
            expires_at: now.plus(issued.lifetime),
        }
    }

    /// What it is good for. A clock that went back behind the token's
    /// beginning says nothing about its end: another one is asked for.
    #[must_use]
    pub fn freshness(&self, now: UnixSeconds) -> Freshness {
        if now >= self.expires_at {
            Freshness::Expired
        } else if now >= self.refresh_at || now < self.obtained_at {
            Freshness::RefreshDue
        } else {
            Freshness::Fresh
        }
    }
}

/// The folder with the tokens.
#[derive(Clone, Debug)]
pub struct TokenCache {
    dir: PathBuf,
}

impl TokenCache {
    /// The cache in `dir`, which need not exist yet.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The token that was kept for this request, if there is one that can be
    /// used. A cache that fails costs a request, never the service: it is only
    /// worth a line in the log.
    #[must_use]
    pub fn find(&self, request: &TokenRequest) -> Option<CachedToken> {
        self.load(request).unwrap_or_else(|error| {
            tracing::warn!("the kept token is not used: {error}");
            None
        })
    }

    /// Keeps a token in place of the one before. Failing is only worth a line
    /// in the log.
    pub fn keep(&self, token: &CachedToken) {
        if let Err(error) = self.store(token) {
            tracing::warn!("the token cannot be kept in {}: {error}", self.dir.display());
        }
    }

    /// Fails if others can read the file, too: the token in it must then count
    /// as known to them.
    fn load(&self, request: &TokenRequest) -> io::Result<Option<CachedToken>> {
        let path = self.path(request);
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => {
                if !metadata?.is_file() {
                    return Err(unusable(&path, "not a file"));
                }
            }
        }
        let dir_mode = self.dir.metadata()?.permissions().mode() & 0o7777;
        if dir_mode & 0o022 != 0 {
            return Err(unusable(&self.dir, &format!("others can write to it (mode {dir_mode:04o})")));
        }
        let mut file = File::open(&path)?.take(MAX_FILE_LENGTH);
        let mode = file.get_ref().metadata()?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(unusable(&path, &format!("others can read it (mode {mode:04o})")));
        }
        let mut json = Zeroizing::new(Vec::new());
        file.read_to_end(&mut json)?;
        // What is wrong inside is not told: it may be a part of the token.
        let token: CachedToken =
            serde_json::from_slice(&json).map_err(|_| unusable(&path, "not a kept token"))?;
        Ok((token.request == *request).then_some(token))
    }

    fn store(&self, token: &CachedToken) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let json = Zeroizing::new(serde_json::to_vec(token)?);
        let mut file = tempfile::Builder::new()
            .prefix(".token-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.dir)?;
        file.write_all(&json)?;
        file.as_file().sync_all()?;
        file.persist(self.path(&token.request))?;
        Ok(())
    }

    fn path(&self, request: &TokenRequest) -> PathBuf {
        // Unit separators keep the fields apart; the file repeats them in full.
        let TokenRequest { issuer, client_id, scope, mqtt_client_id } = request;
        let key = format!("{issuer}\x1f{client_id}\x1f{scope:?}\x1f{mqtt_client_id:?}");
        let digest = Sha256::digest(key);
        let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(format!("token-{name}.json"))
    }
}

fn unusable(path: &Path, reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn request() -> TokenRequest {
        TokenRequest {
            issuer: "https://id.example".into(),
            client_id: "pump-1".into(),
            scope: None,
            mqtt_client_id: None,
        }
    }

    fn token(request: TokenRequest) -> CachedToken {
        let issued = IssuedToken {
            access_token: AccessToken::new("t0ken".into()),
            lifetime: Duration::from_secs(900),
            scope: Some("mqtt.connect".into()),
            mqtt_client_id: "pump-1".into(),
        };
        CachedToken::new(request, issued, Duration::from_secs(600), NOW)
    }

    #[test]
    fn freshness_follows_the_refresh_point_the_end_and_the_clock() {
        let token = token(request());
        let at = |s: u64| token.freshness(UnixSeconds(NOW.0 + s));
        assert_eq!((at(0), at(599)), (Freshness::Fresh, Freshness::Fresh));
        assert_eq!((at(600), at(899)), (Freshness::RefreshDue, Freshness::RefreshDue));
        assert_eq!(at(900), Freshness::Expired);
        assert_eq!(token.freshness(UnixSeconds(0)), Freshness::RefreshDue);
    }

    #[test]
    fn a_token_is_found_again_by_its_request_alone() {
        let dir = tempfile::tempdir().unwrap();
        let cache = TokenCache::new(dir.path().join("a/b"));
        cache.store(&token(request())).unwrap();
        let found = cache.load(&request()).unwrap().expect("found");
        assert_eq!(found.access_token.expose(), "t0ken");
        assert_eq!(found.expires_at, UnixSeconds(NOW.0 + 900));

        let some = |text: &str| Some(text.to_owned());
        for other in [
            TokenRequest { issuer: "https://id.example/".into(), ..request() },
            TokenRequest { client_id: "pump-2".into(), ..request() },
            TokenRequest { scope: some("mqtt.connect"), ..request() },
            TokenRequest { mqtt_client_id: some("pump-1"), ..request() },
        ] {
            assert!(cache.load(&other).unwrap().is_none());
        }
    }

    #[test]
    fn only_the_owner_can_read_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cache = TokenCache::new(dir.path().join("state"));
        cache.store(&token(request())).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&dir.path().join("state")), 0o700);
        let path = cache.path(&request());
        assert_eq!(mode(&path), 0o600);

        // One that others could read is not used; the next one is private again.
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let error = cache.load(&request()).err().expect("refused").to_string();
        assert!(error.contains("others can read it (mode 0644)"), "{error}");
        cache.store(&token(request())).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(dir.path().join("state")).unwrap().count(), 1);
    }

    #[test]
    fn what_others_could_have_planted_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let cache = TokenCache::new(dir.path().into());
        cache.store(&token(request())).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        let error = cache.load(&request()).err().expect("refused").to_string();
        assert!(error.contains("others can write to it (mode 1777)"), "{error}");

        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let path = cache.path(&request());
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        let error = cache.load(&request()).err().expect("refused").to_string();
        assert!(error.contains("not a file"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_an_error_that_does_not_quote_it() {
        let dir = tempfile::tempdir().unwrap();
        let cache = TokenCache::new(dir.path().into());
        cache.store(&token(request())).unwrap();
        fs::write(cache.path(&request()), r#"{"access_token":"t0ken","scope":"#).unwrap();
        let error = cache.load(&request()).err().expect("refused").to_string();
        assert!(error.contains("not a kept token") && !error.contains("t0ken"), "{error}");
    }
}
