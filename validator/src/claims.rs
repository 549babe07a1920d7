//! What a token contains: the only definition, shared by whoever mints and
//! whoever verifies (RFC 7519, RFC 9068 §2.2).
//!
//! Types are strict, for claims that are required and for those that are not:
//! a claim that is there must have the right type, `null` included, and no
//! claim may stand twice. A checker that takes a wrongly typed `nbf` for an
//! absent one is CVE-2026-25537. Claims that are not listed are passed over.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::time::UnixSeconds;

/// The `typ` of the header (RFC 9068 §2.1).
pub const TOKEN_TYPE: &str = "at+jwt";

/// The claims of an access token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims<'a> {
    /// Who issued the token: the issuer identifier, compared byte for byte.
    #[serde(borrow)]
    pub iss: Text<'a>,
    /// The device. Equal to `client_id`, as devices act for themselves.
    #[serde(borrow)]
    pub sub: Text<'a>,
    /// For which brokers the token is.
    #[serde(borrow)]
    pub aud: Audience<'a>,
    /// From when on the token is not to be accepted.
    pub exp: UnixSeconds,
    /// When the token was issued.
    pub iat: UnixSeconds,
    /// Before when the token is not to be accepted.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<UnixSeconds>,
    /// The token's own identifier, never used twice by one issuer.
    #[serde(borrow)]
    pub jti: Text<'a>,
    /// The OAuth client that asked for the token: the device.
    #[serde(borrow)]
    pub client_id: Text<'a>,
    /// What the token is for, see [`crate::scope`].
    #[serde(borrow)]
    pub scope: Text<'a>,
    /// The one MQTT client identifier that may connect with this token.
    #[serde(borrow)]
    pub mqtt_client_id: Text<'a>,
    /// The topics; absent means none.
    #[serde(borrow, default, deserialize_with = "present_object", skip_serializing_if = "Option::is_none")]
    pub acl: Option<Acl<'a>>,
    /// The groups that the device is in (RFC 9068 §2.2.3.1).
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Text<'a>>>,
    /// What the token is bound to (RFC 7800). A checker that cannot prove
    /// possession of it refuses such a token.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
}

/// Topic filters, placeholders replaced: allow-only, order-free, no match
/// denies. The meaning is RFC 9237's, the form EMQX's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acl<'a> {
    /// Filters of the topics that may be published to.
    #[serde(borrow, default, rename = "pub")]
    pub publish: Vec<Text<'a>>,
    /// Filters that may be subscribed to.
    #[serde(borrow, default, rename = "sub")]
    pub subscribe: Vec<Text<'a>>,
}

/// A string, borrowed from the token where it has no escapes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The `aud` claim: one audience or several (RFC 7519 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience<'a> {
    /// A string.
    One(Text<'a>),
    /// An array of strings.
    Many(Vec<Text<'a>>),
}

impl<'a> Audience<'a> {
    /// The audiences, whichever way they are written.
    #[must_use]
    pub fn as_slice(&self) -> &[Text<'a>] {
        match self {
            Self::One(audience) => std::slice::from_ref(audience),
            Self::Many(audiences) => audiences,
        }
    }
}

impl Serialize for Audience<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(audience) => audience.serialize(serializer),
            Self::Many(audiences) => {
                let mut sequence = serializer.serialize_seq(Some(audiences.len()))?;
                for audience in audiences {
                    sequence.serialize_element(audience)?;
                }
                sequence.end()
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Audience<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Audience<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Audience::One(text.into()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Audience::One(text.to_owned().into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut audiences = Vec::new();
                while let Some(audience) = sequence.next_element()? {
                    audiences.push(audience);
                }
                Ok(Audience::Many(audiences))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

/// What a token is bound to: a `cnf` claim of any kind is one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Confirmation {
    /// A certificate, and nothing else (RFC 8705 §3.1).
    #[serde(deserialize_with = "object")]
    Certificate(CertificateConfirmation),
    /// Anything else. Can be met, but not be written.
    #[serde(skip_serializing)]
    Other(IgnoredAny),
}

impl Confirmation {
    /// That of the certificate whose DER has this SHA-256.
    #[must_use]
    pub const fn certificate(sha256: [u8; 32]) -> Self {
        Self::Certificate(CertificateConfirmation { sha256: CertificateThumbprint(sha256) })
    }
}

/// The certificate that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfirmation {
    /// Which one.
    #[serde(rename = "x5t#S256")]
    pub sha256: CertificateThumbprint,
}

/// The SHA-256 of a certificate's DER; written in base64url, without padding
/// (RFC 8705 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateThumbprint(pub [u8; 32]);

impl CertificateThumbprint {
    /// Whether both are of one certificate; takes as long for any two.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Display for CertificateThumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl Serialize for CertificateThumbprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CertificateThumbprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(&text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| {
            de::Error::invalid_value(de::Unexpected::Str(&text), &"32 bytes in base64url without padding")
        })
    }
}

/// Reads a JSON object and nothing else: serde's own reading of a struct also
/// takes an array of its fields.
///
/// # Errors
/// If it is anything else, or has a member twice that `T` knows.
pub fn from_json_object<'de, T: Deserialize<'de>>(json: &'de [u8]) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = object(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object(PhantomData))
}

/// Like [`present`], for a member that is an object.
///
/// # Errors
/// What `T` says, and for an array.
pub fn present_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    object(deserializer).map(Some)
}

/// Reads a member that need not be there, but is: unlike serde's own reading
/// of an `Option`, does not take `null` for absent.
///
/// # Errors
/// What `T` says.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
