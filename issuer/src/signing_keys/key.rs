//! One signing key: its two halves, and the headers of what it signs.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_validator::claims::TOKEN_TYPE;
use fleetbadge_validator::jwk::{Algorithm, PublicKey};
use jsonwebtoken::crypto::JwtSigner;
use jsonwebtoken::signature::{Error as SignatureError, Signer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::external::{ExternalKey, ExternalPrivateKey, ExternalSigner};
use crate::root_key::{KeySealer, SealBroken, Sealed};

/// The size of an RSA key that is made: what RFC 7518 §3.3 wants at least, and
/// every broker verifies. Ten times slower at signing than the others.
const RSA_SIZE: KeySize = KeySize::Rsa2048;

/// The length of an encoded signature.
pub(crate) const fn signature_length(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::ES256 | Algorithm::EdDSA => 86,
        Algorithm::RS256 => 342,
    }
}

/// The `typ` of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// `at+jwt` (RFC 9068 §2.1).
    AccessToken,
    /// `JWT` (RFC 7519 §5.1), for brokers that know no other.
    Jwt,
}

impl TokenType {
    /// The `typ` as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => TOKEN_TYPE,
            Self::Jwt => "JWT",
        }
    }

    /// The length of the encoded header of such a token: `alg`, `typ` and a
    /// thumbprint.
    pub(crate) const fn header_length(self) -> usize {
        match self {
            Self::AccessToken => 110,
            Self::Jwt => 106,
        }
    }
}

/// A private key, parsed: what `jsonwebtoken` calls a signer.
pub struct SigningKey {
    private: PrivateKey,
    public: PublicKey,
    kid: Box<str>,
    access_token_header: Box<str>,
    jwt_header: Box<str>,
}

enum PrivateKey {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
    External(Box<ExternalPrivateKey>),
}

/// Who keeps the private half of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrivateHalf {
    /// The database, encrypted under a root key.
    Sealed(Sealed),
    /// A PKCS #11 token; the database has what it is known by there, also
    /// encrypted under a root key.
    Pkcs11(Sealed),
}

impl PrivateHalf {
    /// What the database has.
    #[must_use]
    pub const fn sealed(&self) -> &Sealed {
        match self {
            Self::Sealed(sealed) | Self::Pkcs11(sealed) => sealed,
        }
    }
}

/// A signing key cannot be made or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableSigningKey {
    /// The cryptographic library cannot make or read it.
    #[error("the cryptographic library cannot make or read the key")]
    Cryptography,
    /// What was stored cannot be opened.
    #[error(transparent)]
    Seal(#[from] SealBroken),
    /// An external signer cannot make, find or destroy it; the log says why.
    #[error("the external signer that keeps its private half fails; see the log")]
    External,
    /// An external signer keeps it, and this server has none.
    #[error("its private half is in a PKCS #11 token; give pkcs11_module, pkcs11_token and pkcs11_pin_file")]
    NoSigner,
    /// The private key is another one than the stored `kid` says.
    #[error("the key is another one than its kid says")]
    OtherKid,
}

impl SigningKey {
    /// Makes a new key; also returns it sealed, to be stored.
    ///
    /// For RS256 this takes its time, most often under a second and sometimes
    /// several: never where a request or another task waits.
    ///
    /// # Errors
    /// [`UnusableSigningKey`].
    pub fn generate(algorithm: Algorithm, sealer: &KeySealer) -> Result<(Self, Sealed), UnusableSigningKey> {
        let private = PrivateKey::generate(algorithm).ok_or(UnusableSigningKey::Cryptography)?;
        let pkcs8 = private.to_pkcs8().ok_or(UnusableSigningKey::Cryptography)?;
        let key = Self::from_private(private)?;
        let sealed = sealer.seal(&key.kid, &pkcs8).map_err(|_| UnusableSigningKey::Cryptography)?;
        Ok((key, sealed))
    }

    /// Opens a key that was stored.
    ///
    /// # Errors
    /// [`UnusableSigningKey`].
    pub fn open(
        kid: &str,
        algorithm: Algorithm,
        sealed: &Sealed,
        sealer: &KeySealer,
    ) -> Result<Self, UnusableSigningKey> {
        let pkcs8 = sealer.open(kid, sealed)?;
        let private = PrivateKey::from_pkcs8(algorithm, &pkcs8).ok_or(UnusableSigningKey::Cryptography)?;
        let key = Self::from_private(private)?;
        if *key.kid == *kid { Ok(key) } else { Err(UnusableSigningKey::OtherKid) }
    }

    /// A key that an external signer keeps.
    ///
    /// # Errors
    /// [`UnusableSigningKey`].
    pub(crate) fn external(
        signer: Arc<dyn ExternalSigner>,
        key: ExternalKey,
        algorithm: Algorithm,
    ) -> Result<Self, UnusableSigningKey> {
        let private = Box::new(ExternalPrivateKey::new(signer, key, algorithm));
        let key = Self::from_private(PrivateKey::External(private))?;
        if key.algorithm() == algorithm { Ok(key) } else { Err(UnusableSigningKey::Cryptography) }
    }

    /// Whether an external signer keeps it.
    #[must_use]
    pub const fn is_external(&self) -> bool {
        matches!(self.private, PrivateKey::External(_))
    }

    fn from_private(private: PrivateKey) -> Result<Self, UnusableSigningKey> {
        let public = private.public().ok_or(UnusableSigningKey::Cryptography)?;
        let kid = public.thumbprint();
        let header = |typ: TokenType| -> Box<str> {
            let (alg, typ) = (public.algorithm().as_str(), typ.as_str());
            // Nothing in it needs an escape: a thumbprint is base64url.
            URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{alg}","typ":"{typ}","kid":"{kid}"}}"#)).into()
        };
        Ok(Self {
            access_token_header: header(TokenType::AccessToken),
            jwt_header: header(TokenType::Jwt),
            private,
            kid: kid.into(),
            public,
        })
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The thumbprint of the public half (RFC 7638).
    #[must_use]
    pub const fn kid(&self) -> &str {
        &self.kid
    }

    /// What it signs with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }

    /// The header of the tokens of this type that it signs, encoded.
    pub(crate) const fn header(&self, typ: TokenType) -> &str {
        match typ {
            TokenType::AccessToken => &self.access_token_header,
            TokenType::Jwt => &self.jwt_header,
        }
    }
}

impl PrivateKey {
    fn generate(algorithm: Algorithm) -> Option<Self> {
        Some(match algorithm {
            Algorithm::ES256 => Self::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?),
            Algorithm::RS256 => Self::Rs256(RsaKeyPair::generate(RSA_SIZE).ok()?),
            Algorithm::EdDSA => Self::EdDsa(Ed25519KeyPair::generate().ok()?),
        })
    }

    /// PKCS #8 (RFC 5208) as it is: a key for another algorithm is none.
    fn from_pkcs8(algorithm: Algorithm, pkcs8: &[u8]) -> Option<Self> {
        Some(match algorithm {
            Algorithm::ES256 => {
                Self::Es256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok()?)
            }
            Algorithm::RS256 => {
                let pair = RsaKeyPair::from_pkcs8(pkcs8).ok()?;
                // The length of a signature is relied on.
                Self::Rs256((pair.public_modulus_len() == RSA_SIZE.len()).then_some(pair)?)
            }
            Algorithm::EdDSA => Self::EdDsa(Ed25519KeyPair::from_pkcs8(pkcs8).ok()?),
        })
    }

    fn to_pkcs8(&self) -> Option<Zeroizing<Vec<u8>>> {
        let pkcs8 = match self {
            Self::Es256(pair) => pair.to_pkcs8v1().ok()?.as_ref().to_vec(),
            Self::Rs256(pair) => pair.as_der().ok()?.as_ref().to_vec(),
            Self::EdDsa(pair) => pair.to_pkcs8().ok()?.as_ref().to_vec(),
            Self::External(_) => return None,
        };
        Some(Zeroizing::new(pkcs8))
    }

    fn public(&self) -> Option<PublicKey> {
        match self {
            Self::Es256(pair) => PublicKey::from_p256_point(pair.public_key().as_ref()),
            Self::Rs256(pair) => {
                let (modulus, exponent) = (pair.public_key().modulus(), pair.public_key().exponent());
                PublicKey::from_rsa_numbers(
                    modulus.big_endian_without_leading_zero(),
                    exponent.big_endian_without_leading_zero(),
                )
                .ok()
            }
            Self::EdDsa(pair) => PublicKey::from_ed25519_point(pair.public_key().as_ref()),
            Self::External(key) => PublicKey::from_jwk(key.public()).ok(),
        }
    }
}

impl Signer<Vec<u8>> for SigningKey {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        match &self.private {
            PrivateKey::Es256(pair) => {
                pair.sign_digest(&digest(&SHA256, message)).map(|signature| signature.as_ref().to_vec())
            }
            PrivateKey::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign_digest(&RSA_PKCS1_SHA256, &digest(&SHA256, message), &mut signature)
                    .map(|()| signature)
            }
            PrivateKey::EdDsa(pair) => pair.try_sign(message).map(|signature| signature.as_ref().to_vec()),
            PrivateKey::External(key) => return key.sign(message).map_err(SignatureError::from_source),
        }
        .map_err(|_| SignatureError::new())
    }
}

impl JwtSigner for SigningKey {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        match self.public.algorithm() {
            Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

#[cfg(test)]
mod tests;
