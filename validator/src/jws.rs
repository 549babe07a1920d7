//! Signed statements as they come (compact JWS, RFC 7515 §7.1), read strictly.
//!
//! Access tokens are read by [`crate::token`], which uses the same pieces.
//! [`Jws`] is for the other kinds: client assertions, proofs of possession and
//! the like. Each kind says which `typ` it has, so that none is taken for
//! another (RFC 8725 §3.12).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::signature::Verifier as _;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::claims::{from_json_object, present};
use crate::jwk::{Algorithm, Jwk, PublicJwk};
use crate::keys::VerifyingKey;

/// The most bytes that a statement may have.
pub const MAX_JWS_LENGTH: usize = 8 * 1024;
/// The most bytes that a decoded header may have: room for the JWK of an RSA
/// key of 4096 bits.
const MAX_HEADER_LENGTH: usize = 1024;

/// A string is not a statement that can be accepted. Each message goes on from
/// what the statement is called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJws {
    /// Nothing at all.
    #[error("is empty")]
    Missing,
    /// More bytes than are read.
    #[error("has {length} bytes; at most {max} are read")]
    TooLong {
        /// How many it has.
        length: usize,
        /// How many are read.
        max: usize,
    },
    /// Not three segments of base64url.
    #[error("is not three segments of base64url")]
    Malformed,
    /// The header is not one, or has a member that is not accepted.
    #[error("has a header that is not acceptable: {reason}")]
    Header {
        /// What is wrong.
        reason: String,
    },
    /// An `alg` that is not accepted.
    #[error("has alg {alg:?}, which is not accepted")]
    Algorithm {
        /// The `alg`.
        alg: String,
    },
    /// Of another kind.
    #[error("has typ {typ:?}, not {}", expected.join(" or "))]
    Type {
        /// The `typ`; empty if there is none.
        typ: String,
        /// What it should be.
        expected: &'static [&'static str],
    },
    /// The key is not for this `alg`, or did not sign this.
    #[error("has a signature that is not good")]
    Signature,
    /// The claims are not an object, or one is missing or of the wrong type.
    #[error("has claims that are not acceptable: {reason}")]
    Claims {
        /// What is wrong.
        reason: String,
    },
}

/// The three segments.
pub(crate) struct Segments<'a> {
    pub(crate) header: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) signature: &'a str,
    /// What the signature is over: header, dot, payload.
    pub(crate) signed: &'a str,
}

impl<'a> Segments<'a> {
    pub(crate) fn split(text: &'a str, max: usize) -> Result<Self, InvalidJws> {
        if text.is_empty() {
            return Err(InvalidJws::Missing);
        }
        if text.len() > max {
            return Err(InvalidJws::TooLong { length: text.len(), max });
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(InvalidJws::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(InvalidJws::Malformed)?;
        if header.is_empty() || payload.is_empty() || payload.contains('.') {
            return Err(InvalidJws::Malformed);
        }
        Ok(Self { header, payload, signature, signed })
    }
}

/// The header (RFC 7515 §4). Members that would change what the signature
/// means or bring a key along are known by name, to be refused.
#[derive(Deserialize)]
pub(crate) struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    typ: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) kid: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "present")]
    jwk: Option<PublicJwk>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    cty: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    enc: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    zip: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    jku: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    x5c: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    x5u: Option<IgnoredAny>,
}

impl<'a> Header<'a> {
    pub(crate) fn read(segment: &str, buffer: &'a mut [u8]) -> Result<Self, InvalidJws> {
        let max = buffer.len();
        let length = URL_SAFE_NO_PAD.decode_slice(segment, buffer).map_err(|error| match error {
            base64::DecodeSliceError::DecodeError(_) => InvalidJws::Malformed,
            base64::DecodeSliceError::OutputSliceTooSmall => {
                header(&format_args!("has more than {max} bytes"))
            }
        })?;
        let header: Self = from_json_object(buffer.split_at(length).0).map_err(|error| header(&error))?;
        header.refuse_members()?;
        Ok(header)
    }

    fn refuse_members(&self) -> Result<(), InvalidJws> {
        let refused = [
            ("crit", &self.crit),
            ("b64", &self.b64),
            ("cty", &self.cty),
            ("enc", &self.enc),
            ("zip", &self.zip),
            ("jku", &self.jku),
            ("x5c", &self.x5c),
            ("x5u", &self.x5u),
        ];
        match refused.into_iter().find(|(_, member)| member.is_some()) {
            Some((name, _)) => Err(header(&format_args!("has {name}, which is not accepted"))),
            None => Ok(()),
        }
    }

    /// See [`Jws::refuse_jwk`].
    pub(crate) fn refuse_jwk(&self) -> Result<(), InvalidJws> {
        if self.jwk.is_some() { Err(jwk_refused()) } else { Ok(()) }
    }

    pub(crate) fn algorithm(&self) -> Result<Algorithm, InvalidJws> {
        Algorithm::from_name(&self.alg)
            .ok_or_else(|| InvalidJws::Algorithm { alg: self.alg.clone().into_owned() })
    }

    /// See [`Jws::expect_typ`].
    pub(crate) fn expect_typ(&self, expected: &'static [&'static str]) -> Result<(), InvalidJws> {
        expect_typ(self.typ(), expected)
    }

    /// The `typ` as it is compared: without `application/` (RFC 7515 §4.1.9).
    fn typ(&self) -> Option<&str> {
        let typ = self.typ.as_deref()?;
        match typ.split_at_checked("application/".len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => Some(rest),
            _ => Some(typ),
        }
    }
}

fn header(reason: &dyn std::fmt::Display) -> InvalidJws {
    InvalidJws::Header { reason: reason.to_string() }
}

fn jwk_refused() -> InvalidJws {
    header(&"has jwk, which is not accepted")
}

fn expect_typ(typ: Option<&str>, expected: &'static [&'static str]) -> Result<(), InvalidJws> {
    let typ = typ.unwrap_or_default();
    if expected.iter().any(|known| known.eq_ignore_ascii_case(typ)) {
        Ok(())
    } else {
        Err(InvalidJws::Type { typ: typ.into(), expected })
    }
}

/// A statement that was read. Nothing in it is to be believed before
/// [`Jws::claims`] has checked the signature.
pub struct Jws<'a> {
    segments: Segments<'a>,
    algorithm: Algorithm,
    typ: Option<String>,
    kid: Option<String>,
    jwk: Option<Jwk>,
}

impl<'a> Jws<'a> {
    /// Reads a statement.
    ///
    /// # Errors
    /// [`InvalidJws`] says what is wrong.
    pub fn read(text: &'a str) -> Result<Self, InvalidJws> {
        let segments = Segments::split(text, MAX_JWS_LENGTH)?;
        let mut buffer = [0; MAX_HEADER_LENGTH];
        let header = Header::read(segments.header, &mut buffer)?;
        Ok(Self {
            algorithm: header.algorithm()?,
            typ: header.typ().map(Into::into),
            kid: header.kid.clone().map(Cow::into_owned),
            jwk: header.jwk.map(|PublicJwk(jwk)| jwk),
            segments,
        })
    }

    /// Which algorithm it says that it is signed with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its kind, in any case, without `application/`.
    #[must_use]
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// That it is of one of these kinds, in any case (RFC 8725 §3.11). One
    /// without `typ` is of none.
    ///
    /// # Errors
    /// [`InvalidJws::Type`].
    pub fn expect_typ(&self, expected: &'static [&'static str]) -> Result<(), InvalidJws> {
        expect_typ(self.typ(), expected)
    }

    /// For statements whose key is known beforehand: that none comes along
    /// (RFC 8725 §3.10).
    ///
    /// # Errors
    /// [`InvalidJws::Header`].
    pub fn refuse_jwk(&self) -> Result<(), InvalidJws> {
        if self.jwk.is_some() { Err(jwk_refused()) } else { Ok(()) }
    }

    /// Which key it says that it is signed with.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The key that it brings along, which proves nothing but that whoever
    /// signed it has that key.
    #[must_use]
    pub const fn jwk(&self) -> Option<&Jwk> {
        self.jwk.as_ref()
    }

    /// Claims that nobody has signed yet: to find the key by, and nothing else.
    ///
    /// # Errors
    /// [`InvalidJws::Claims`].
    pub fn unverified_claims<T: for<'de> Deserialize<'de>>(&self) -> Result<T, InvalidJws> {
        let payload = URL_SAFE_NO_PAD.decode(self.segments.payload).map_err(|_| InvalidJws::Malformed)?;
        from_json_object(&payload).map_err(|error| InvalidJws::Claims { reason: error.to_string() })
    }

    /// Checks the signature, and reads the claims.
    ///
    /// # Errors
    /// [`InvalidJws::Signature`]; [`InvalidJws::Claims`].
    pub fn claims<T: for<'de> Deserialize<'de>>(&self, key: &VerifyingKey) -> Result<T, InvalidJws> {
        let signature = URL_SAFE_NO_PAD.decode(self.segments.signature).map_err(|_| InvalidJws::Malformed)?;
        if key.algorithm() != self.algorithm
            || key.verify(self.segments.signed.as_bytes(), &signature).is_err()
        {
            return Err(InvalidJws::Signature);
        }
        self.unverified_claims()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::test_support::TestKey;

    fn read(text: &str) -> Result<(), InvalidJws> {
        Jws::read(text).map(|_| ())
    }

    #[test]
    fn the_claims_of_whoever_has_the_key() {
        let key = TestKey::generate();
        let text = key.token_of(r#"{"alg":"ES256","typ":"application/X+jwt","kid":"k"}"#, r#"{"iss":"a"}"#);
        let jws = Jws::read(&text).unwrap();
        assert_eq!((jws.typ(), jws.kid(), jws.algorithm()), (Some("X+jwt"), Some("k"), Algorithm::ES256));
        assert_eq!(jws.expect_typ(&["y+jwt", "x+jwt"]), Ok(()));
        let other_kind = jws.expect_typ(&["y+jwt", "JWT"]).unwrap_err();
        assert_eq!(other_kind.to_string(), r#"has typ "X+jwt", not y+jwt or JWT"#);
        assert_eq!(jws.refuse_jwk(), Ok(()));
        let verifying = VerifyingKey::new(&key.public()).unwrap();
        assert_eq!(jws.claims::<Value>(&verifying).unwrap(), json!({"iss": "a"}));
        let other = VerifyingKey::new(&TestKey::generate().public()).unwrap();
        assert_eq!(jws.claims::<Value>(&other), Err(InvalidJws::Signature));
        let tampered = text.replacen('.', ".e", 1);
        assert_eq!(Jws::read(&tampered).unwrap().claims::<Value>(&verifying), Err(InvalidJws::Signature));
    }

    #[test]
    fn what_would_change_the_meaning_of_a_signature_is_refused() {
        let key = TestKey::generate();
        for member in ["crit", "b64", "cty", "enc", "zip", "jku", "x5c", "x5u"] {
            let text = key.token_of(json!({"alg": "ES256", member: null}).to_string(), "{}");
            assert!(matches!(read(&text), Err(InvalidJws::Header { .. })), "{member}");
        }
        for alg in ["none", "None", "HS256", "es256", "ES384", ""] {
            let text = key.token_of(json!({"alg": alg}).to_string(), "{}");
            assert_eq!(read(&text), Err(InvalidJws::Algorithm { alg: alg.into() }));
        }
        assert!(matches!(
            read(&key.token_of(r#"{"alg":"ES256","alg":"ES256"}"#, "{}")),
            Err(InvalidJws::Header { .. })
        ));
        assert_eq!(read(""), Err(InvalidJws::Missing));
        for malformed in ["a", "a.b", "a.b.c.d", "..", "YQ==.YQ.YQ"] {
            assert!(read(malformed).is_err(), "{malformed}");
        }
        assert!(matches!(read(&"a".repeat(MAX_JWS_LENGTH + 1)), Err(InvalidJws::TooLong { .. })));
    }

    #[test]
    fn a_key_that_comes_along_is_told() {
        let key = TestKey::generate();
        let text =
            key.token_of(json!({"alg": "ES256", "jwk": key.public().to_jwk()}).to_string(), r#"{"a":1}"#);
        let jws = Jws::read(&text).unwrap();
        assert_eq!(jws.jwk(), Some(&key.public().to_jwk()));
        assert!(matches!(jws.refuse_jwk(), Err(InvalidJws::Header { .. })));
        assert!(matches!(jws.expect_typ(&["JWT"]), Err(InvalidJws::Type { .. })));
        // Its private half says that whoever sends it has lost it.
        for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            let mut jwk = json!(key.public().to_jwk());
            jwk[member] = json!("AQ");
            let error = read(&key.token_of(json!({"alg": "ES256", "jwk": jwk}).to_string(), "{}"));
            assert!(error.unwrap_err().to_string().contains("private or symmetric"), "{member}");
        }
        let array = json!({"alg": "ES256", "jwk": ["EC", "P-256", "x", "y"]});
        assert!(read(&key.token_of(array.to_string(), "{}")).is_err());
    }
}
