//! Signing keys in a PKCS #11 token: a hardware security module, or software
//! that behaves like one.
//!
//! A few sessions are shared by all requests. When all are taken, some requests
//! wait for a second, and the others are told to come back: a token that hangs
//! holds a bounded number of threads. Whether it is there is tried every second
//! by a signature; when it is not, everything is begun anew, from
//! `C_Initialize` on, until it is back.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use fleetbadge_validator::jwk::{Algorithm, PublicKey};
use fleetbadge_validator::keys::VerifyingKey;
use jsonwebtoken::signature::Verifier as _;

use super::external::{ExternalKey, ExternalSigner, SignerFailed};
use crate::random::{Random, random_bytes};
use crate::started::Started;

/// How many signatures are made at a time.
const SESSIONS: usize = 8;
/// How many more may wait for one of them,
const MAX_WAITING: usize = 64;
/// and how long.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// How long a token that has not answered still counts as there.
const MAX_SILENCE: Duration = Duration::from_secs(5);
/// The bits of an RSA key, see [`super::key`].
const RSA_BITS: u64 = 2048;
/// The object identifier of P-256 (RFC 5480 §2.1.1.1), in DER.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// What all objects are labelled with.
const LABEL: &[u8] = b"fleetbadge signing key";
/// What is signed to see whether the token is there: no token begins so.
const PROBE: &[u8] = b"is anybody there?";

/// A token, by the library that reaches it.
pub struct Pkcs11Signer {
    module: PathBuf,
    token: String,
    pin: AuthPin,
    random: Random,
    connection: RwLock<Option<Connection>>,
    waiting: AtomicUsize,
    /// When the token last did what it should.
    answered: Mutex<Option<Started>>,
    /// The key that was last used, and what for.
    last_used: Mutex<Option<(ExternalKey, Algorithm)>>,
    is_missed: AtomicBool,
}

/// What is kept while the token is there.
struct Connection {
    library: Pkcs11,
    idle: Mutex<Vec<Session>>,
    returned: Condvar,
    private_keys: Mutex<HashMap<String, ObjectHandle>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone(error: &Error) -> SignerFailed {
    SignerFailed::Gone(error.to_string())
}

impl Pkcs11Signer {
    /// The token of this label. It need not be there yet.
    #[must_use]
    pub fn new(module: PathBuf, token: String, pin: &str, random: Random) -> Self {
        let signer = Self {
            module,
            token,
            pin: AuthPin::new(pin.into()),
            random,
            connection: RwLock::default(),
            waiting: AtomicUsize::new(0),
            answered: Mutex::default(),
            last_used: Mutex::default(),
            is_missed: AtomicBool::new(false),
        };
        signer.look_after();
        signer
    }

    /// Does something in a session of its own. Whatever fails but for a key
    /// that is not there, the token does not count as there until it is tried
    /// again.
    fn in_session<T>(
        &self,
        work: impl FnOnce(&Connection, &Session) -> Result<T, SignerFailed>,
    ) -> Result<T, SignerFailed> {
        // It is only ever held for writing while the token is begun anew.
        let connection = self.connection.try_read().map_err(|_| SignerFailed::Busy)?;
        let connection = connection.as_ref().ok_or_else(|| SignerFailed::Gone("it is not there".into()))?;
        let session = self.take(connection)?;
        let result = work(connection, &session);
        lock(&connection.idle).push(session);
        connection.returned.notify_one();
        match &result {
            Ok(_) => *lock(&self.answered) = Some(Started::now()),
            Err(SignerFailed::Gone(_)) => *lock(&self.answered) = None,
            Err(
                SignerFailed::Busy
                | SignerFailed::NoSuchKey { .. }
                | SignerFailed::Algorithm(_)
                | SignerFailed::Unexpected(_),
            ) => {}
        }
        result
    }

    fn take(&self, connection: &Connection) -> Result<Session, SignerFailed> {
        let mut idle = lock(&connection.idle);
        if let Some(session) = idle.pop() {
            return Ok(session);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(SignerFailed::Busy);
        }
        let waited = connection.returned.wait_timeout_while(idle, MAX_WAIT, |idle| idle.is_empty());
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let (mut idle, _) = waited.unwrap_or_else(PoisonError::into_inner);
        idle.pop().ok_or(SignerFailed::Busy)
    }

    fn connect(&self) -> Result<Connection, SignerFailed> {
        let library = Pkcs11::new(&self.module).map_err(|error| gone(&error))?;
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(gone(&error)),
        }
        match self.open_sessions(&library) {
            Ok(sessions) => Ok(Connection {
                library,
                idle: Mutex::new(sessions),
                returned: Condvar::new(),
                private_keys: Mutex::default(),
            }),
            Err(error) => {
                let _ = library.finalize();
                Err(error)
            }
        }
    }

    fn open_sessions(&self, library: &Pkcs11) -> Result<Vec<Session>, SignerFailed> {
        let slot = self.slot(library)?;
        let open = || library.open_rw_session(slot).map_err(|error| gone(&error));
        let sessions: Vec<Session> = std::iter::repeat_with(open).take(SESSIONS).collect::<Result<_, _>>()?;
        // One login is for all sessions.
        let login = sessions.first().map_or(Ok(()), |first| first.login(UserType::User, Some(&self.pin)));
        match login {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(sessions),
            Err(error) => Err(gone(&error)),
        }
    }

    fn slot(&self, library: &Pkcs11) -> Result<Slot, SignerFailed> {
        let slots = library.get_slots_with_initialized_token().map_err(|error| gone(&error))?;
        let is_it = |slot: &Slot| library.get_token_info(*slot).is_ok_and(|info| info.label() == self.token);
        let found = slots.into_iter().find(is_it);
        found.ok_or_else(|| SignerFailed::Gone(format!("there is no token {:?}", self.token)))
    }

    fn begin_anew(&self) -> Result<(), SignerFailed> {
        // Not while somebody is in there: that would be undefined.
        let mut connection = self.connection.try_write().map_err(|_| SignerFailed::Busy)?;
        if let Some(Connection { library, idle, .. }) = connection.take() {
            drop(idle);
            let _ = library.finalize();
        }
        *connection = Some(self.connect()?);
        drop(connection);
        *lock(&self.answered) = Some(Started::now());
        Ok(())
    }

    /// The same; a key that another node has destroyed is no longer asked for.
    fn probe_without_lost_key(&self) -> Result<(), SignerFailed> {
        match self.probe() {
            Err(SignerFailed::NoSuchKey { id }) => {
                lock(&self.last_used).take_if(|(last, _)| last.id == id);
                self.probe()
            }
            other => other,
        }
    }

    /// That what is published is what signs.
    fn try_out(
        &self,
        id: &[u8],
        public: &PublicKey,
        algorithm: Algorithm,
    ) -> Result<ExternalKey, SignerFailed> {
        let key = ExternalKey { token: self.token.clone(), id: hex(id), public: public.to_jwk() };
        let signature = self.sign(&key, algorithm, PROBE)?;
        let verified = VerifyingKey::new(public).is_ok_and(|key| key.verify(PROBE, &signature).is_ok());
        if verified { Ok(key) } else { Err(SignerFailed::Unexpected("a public key of another private key")) }
    }

    fn destroy_by_id(&self, text: &str, id: Vec<u8>) -> Result<(), SignerFailed> {
        lock(&self.last_used).take_if(|(last, _)| last.id == text);
        self.in_session(|connection, session| {
            lock(&connection.private_keys).remove(text);
            let objects = session.find_objects(&[Attribute::Id(id)]).map_err(|error| gone(&error))?;
            objects.into_iter().try_for_each(|object| match session.destroy_object(object) {
                // Another node was faster.
                Ok(()) | Err(Error::Pkcs11(RvError::ObjectHandleInvalid, _)) => Ok(()),
                Err(error) => Err(gone(&error)),
            })
        })
    }

    /// Whether the token does what it should.
    fn probe(&self) -> Result<(), SignerFailed> {
        let last_used = lock(&self.last_used).clone();
        self.in_session(|connection, session| match &last_used {
            Some((key, algorithm)) => sign(connection, session, key, *algorithm, PROBE).map(drop),
            None => session.get_session_info().map(drop).map_err(|error| gone(&error)),
        })
    }
}

impl ExternalSigner for Pkcs11Signer {
    fn make(&self, algorithm: Algorithm) -> Result<ExternalKey, SignerFailed> {
        let id: [u8; 16] = random_bytes(&*self.random)
            .map_err(|_| SignerFailed::Unexpected("no key, as the system gives no random bytes"))?;
        let common = || [Attribute::Token(true), Attribute::Id(id.into()), Attribute::Label(LABEL.into())];
        let (mechanism, of_kind) = match algorithm {
            Algorithm::ES256 => (
                Mechanism::EccKeyPairGen,
                vec![Attribute::KeyType(KeyType::EC), Attribute::EcParams(P256.into())],
            ),
            Algorithm::RS256 => (
                Mechanism::RsaPkcsKeyPairGen,
                vec![Attribute::ModulusBits(RSA_BITS.into()), Attribute::PublicExponent(vec![1, 0, 1])],
            ),
            Algorithm::EdDSA => return Err(SignerFailed::Algorithm(algorithm)),
        };
        let public: Vec<Attribute> =
            of_kind.into_iter().chain(common()).chain([Attribute::Verify(true)]).collect();
        let private: Vec<Attribute> = common()
            .into_iter()
            .chain([
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
            ])
            .collect();
        let made = self
            .in_session(|_, session| {
                let (public, _) =
                    session.generate_key_pair(&mechanism, &public, &private).map_err(|error| gone(&error))?;
                read_public(session, public, algorithm)
            })
            .and_then(|public| self.try_out(&id, &public, algorithm));
        if made.is_err()
            && let Err(error) = self.destroy_by_id(&hex(&id), id.into())
        {
            tracing::warn!(id = hex(&id), %error, "a key that cannot be used may be left in the PKCS #11 token");
        }
        made
    }

    fn sign(&self, key: &ExternalKey, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, SignerFailed> {
        if key.token != self.token {
            return Err(SignerFailed::NoSuchKey { id: key.id.clone() });
        }
        let signature =
            self.in_session(|connection, session| sign(connection, session, key, algorithm, message))?;
        let mut last_used = lock(&self.last_used);
        if last_used.as_ref().is_none_or(|(last, _)| last.id != key.id) {
            *last_used = Some((key.clone(), algorithm));
        }
        Ok(signature)
    }

    fn destroy(&self, key: &ExternalKey) -> Result<(), SignerFailed> {
        self.destroy_by_id(&key.id, id_of(key)?)
    }

    fn look_after(&self) {
        let result = match self.probe() {
            // A key that is not there may be all that is missing, or the first
            // thing that is noticed of a token that is gone.
            Err(SignerFailed::Gone(_) | SignerFailed::NoSuchKey { .. }) => {
                self.begin_anew().and_then(|()| self.probe_without_lost_key())
            }
            other => other,
        };
        match result {
            Ok(()) if self.is_missed.swap(false, Ordering::Relaxed) => {
                tracing::info!(token = self.token, "the PKCS #11 token is back");
            }
            Err(error) if !self.is_there() && !self.is_missed.swap(true, Ordering::Relaxed) => {
                tracing::error!(token = self.token, %error, "the PKCS #11 token is not there; it is looked for");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn is_there(&self) -> bool {
        let answered = *lock(&self.answered);
        answered.is_some_and(|at| at.elapsed() < MAX_SILENCE)
    }
}

fn sign(
    connection: &Connection,
    session: &Session,
    key: &ExternalKey,
    algorithm: Algorithm,
    message: &[u8],
) -> Result<Vec<u8>, SignerFailed> {
    let handle = private_key(connection, session, key)?;
    let signed = match algorithm {
        Algorithm::ES256 => session.sign(&Mechanism::Ecdsa, handle, digest(&SHA256, message).as_ref()),
        Algorithm::RS256 => session.sign(&Mechanism::Sha256RsaPkcs, handle, message),
        Algorithm::EdDSA => return Err(SignerFailed::Algorithm(algorithm)),
    };
    if let Err(Error::Pkcs11(RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid, _)) = &signed {
        // Another node has destroyed it.
        lock(&connection.private_keys).remove(&key.id);
        return Err(SignerFailed::NoSuchKey { id: key.id.clone() });
    }
    signed.map_err(|error| gone(&error))
}

/// Found once, and known by its handle from then on.
fn private_key(
    connection: &Connection,
    session: &Session,
    key: &ExternalKey,
) -> Result<ObjectHandle, SignerFailed> {
    if let Some(handle) = lock(&connection.private_keys).get(&key.id) {
        return Ok(*handle);
    }
    let wanted = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(id_of(key)?)];
    let found = session.find_objects(&wanted).map_err(|error| gone(&error))?;
    let handle = *found.first().ok_or_else(|| SignerFailed::NoSuchKey { id: key.id.clone() })?;
    lock(&connection.private_keys).insert(key.id.clone(), handle);
    Ok(handle)
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id_of(key: &ExternalKey) -> Result<Vec<u8>, SignerFailed> {
    let no_such_key = || SignerFailed::NoSuchKey { id: key.id.clone() };
    let number = u128::from_str_radix(&key.id, 16).map_err(|_| no_such_key())?;
    Ok(number.to_be_bytes().into())
}

fn read_public(
    session: &Session,
    object: ObjectHandle,
    algorithm: Algorithm,
) -> Result<PublicKey, SignerFailed> {
    let wanted = [AttributeType::EcPoint, AttributeType::Modulus, AttributeType::PublicExponent];
    let wanted = match algorithm {
        Algorithm::ES256 => wanted.get(..1),
        Algorithm::RS256 | Algorithm::EdDSA => wanted.get(1..),
    };
    let attributes =
        session.get_attributes(object, wanted.unwrap_or_default()).map_err(|error| gone(&error))?;
    let read = match attributes.as_slice() {
        // An OCTET STRING in DER around it (PKCS #11 §6.3.3).
        [Attribute::EcPoint(point)] => point.strip_prefix(&[0x04, 65]).and_then(PublicKey::from_p256_point),
        [Attribute::Modulus(modulus), Attribute::PublicExponent(exponent)]
        | [Attribute::PublicExponent(exponent), Attribute::Modulus(modulus)] => {
            PublicKey::from_rsa_numbers(modulus, exponent).ok()
        }
        _ => None,
    };
    read.ok_or(SignerFailed::Unexpected("a public key that cannot be read"))
}
