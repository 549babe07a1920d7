//! What a client's certificate says (RFC 5280), and whether it is the one that
//! a device was registered with (RFC 8705 §2.1.2): pure.
//!
//! Whether somebody trustworthy signed it is not asked here: TLS does that, or
//! the trusted proxy in front.

use std::net::IpAddr;

use fleetbadge_validator::time::UnixSeconds;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::{RdnSequence, RelativeDistinguishedName};

use crate::credentials::CertificateSubject;
use crate::sha256::sha256;

/// The most bytes of a name that a device is registered with.
pub const MAX_SUBJECT_LENGTH: usize = 512;

/// A name that no certificate can be found by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubject {
    /// Nothing, or more than [`MAX_SUBJECT_LENGTH`].
    #[error("{field}: has {length} bytes, between 1 and {MAX_SUBJECT_LENGTH} are allowed")]
    Length {
        /// Which member.
        field: &'static str,
        /// How long it is.
        length: usize,
    },
    /// Not what the member is to hold.
    #[error("{field}: {found:?} is not {expected}")]
    Form {
        /// Which member.
        field: &'static str,
        /// What was given.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl InvalidSubject {
    /// The member that is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Length { field, .. } | Self::Form { field, .. } => field,
        }
    }
}

impl CertificateSubject {
    /// The member of RFC 8705 §2.1.2 that says so.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::SubjectDn(_) => "tls_client_auth_subject_dn",
            Self::SanDns(_) => "tls_client_auth_san_dns",
            Self::SanUri(_) => "tls_client_auth_san_uri",
            Self::SanIp(_) => "tls_client_auth_san_ip",
            Self::SanEmail(_) => "tls_client_auth_san_email",
        }
    }

    /// What it says.
    #[must_use]
    pub fn value(&self) -> String {
        match self {
            Self::SubjectDn(text) | Self::SanDns(text) | Self::SanUri(text) | Self::SanEmail(text) => {
                text.clone()
            }
            Self::SanIp(address) => address.to_string(),
        }
    }

    /// Whether a certificate can have such a name at all.
    ///
    /// # Errors
    /// [`InvalidSubject`] names the member.
    pub fn check(&self) -> Result<(), InvalidSubject> {
        let field = self.field();
        let wrong =
            |found: &String, expected| Err(InvalidSubject::Form { field, found: found.clone(), expected });
        let length = self.value().len();
        if length == 0 || length > MAX_SUBJECT_LENGTH {
            return Err(InvalidSubject::Length { field, length });
        }
        match self {
            Self::SubjectDn(text) if parse_dn(text).is_none() => {
                wrong(text, "a distinguished name as RFC 4514 writes it, such as CN=pump-1,O=Example")
            }
            Self::SanDns(text) if !is_dns_name(text) => wrong(text, "a DNS name without wildcards"),
            Self::SanUri(text) if url::Url::parse(text).is_err() => wrong(text, "an absolute URI"),
            Self::SanEmail(text) if !text.is_ascii() || !text.contains('@') => {
                wrong(text, "an email address in ASCII")
            }
            Self::SubjectDn(_) | Self::SanDns(_) | Self::SanUri(_) | Self::SanIp(_) | Self::SanEmail(_) => {
                Ok(())
            }
        }
    }
}

/// A certificate that a client showed, read.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The SHA-256 of its DER.
    pub sha256: [u8; 32],
    subject: RdnSequence,
    alternative_names: Vec<GeneralName>,
    not_before: UnixSeconds,
    not_after: UnixSeconds,
}

impl ClientCertificate {
    /// Reads a certificate. None if it is not one.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let certificate = x509_cert::Certificate::from_der(der).ok()?;
        let body = certificate.tbs_certificate();
        // An error also if there are two of them: no choice is made.
        let alternative_names = body.get_extension::<SubjectAltName>().ok()?;
        let validity = body.validity();
        Some(Self {
            sha256: sha256(&[der]),
            subject: body.subject().as_ref().clone(),
            alternative_names: alternative_names.map(|(_, names)| names.0).unwrap_or_default(),
            not_before: UnixSeconds(validity.not_before.to_unix_duration().as_secs()),
            not_after: UnixSeconds(validity.not_after.to_unix_duration().as_secs()),
        })
    }

    /// Whether `now` is in its validity, both ends included (RFC 5280
    /// §4.1.2.5).
    #[must_use]
    pub fn is_in_time(&self, now: UnixSeconds) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whether it has the name.
    ///
    /// Texts are compared exactly, only DNS names without regard to case. A
    /// distinguished name is compared by what it says, not by how it is
    /// written: escapes, the names of attribute types and the kind of ASN.1
    /// string make no difference, nor the order inside of one RDN. The order
    /// of the RDNs does.
    #[must_use]
    pub fn is_of(&self, subject: &CertificateSubject) -> bool {
        match subject {
            CertificateSubject::SubjectDn(text) => {
                parse_dn(text).is_some_and(|expected| is_same_name(&expected, &self.subject))
            }
            CertificateSubject::SanDns(expected) => self.has_name(|name| {
                matches!(name, GeneralName::DnsName(found) if found.as_str().eq_ignore_ascii_case(expected))
            }),
            CertificateSubject::SanUri(expected) => self.has_name(|name| {
                matches!(name, GeneralName::UniformResourceIdentifier(found) if found.as_str() == expected)
            }),
            CertificateSubject::SanIp(expected) => {
                let octets = match expected {
                    IpAddr::V4(address) => address.octets().to_vec(),
                    IpAddr::V6(address) => address.octets().to_vec(),
                };
                self.has_name(|name| {
                    matches!(name, GeneralName::IpAddress(found) if found.as_bytes() == octets)
                })
            }
            CertificateSubject::SanEmail(expected) => self.has_name(|name| {
                matches!(name, GeneralName::Rfc822Name(found) if found.as_str() == expected)
            }),
        }
    }

    fn has_name(&self, is_it: impl Fn(&GeneralName) -> bool) -> bool {
        self.alternative_names.iter().any(is_it)
    }
}

/// Reads what RFC 4514 writes. None if it is something else, or nothing.
fn parse_dn(text: &str) -> Option<RdnSequence> {
    if !has_whole_escapes(text) {
        return None;
    }
    let name: RdnSequence = text.parse().ok()?;
    let has_values =
        name.iter().flat_map(RelativeDistinguishedName::iter).all(|part| !part.value.value().is_empty());
    (!name.is_empty() && has_values).then_some(name)
}

/// The library passes over an escape that a value ends in the middle of.
fn has_whole_escapes(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_whole = byte != b'\\'
            || match bytes.next() {
                Some(first) if first.is_ascii_hexdigit() => {
                    bytes.next().is_some_and(|b| b.is_ascii_hexdigit())
                }
                Some(_) => true,
                None => false,
            };
        if !is_whole {
            return false;
        }
    }
    true
}

fn is_same_name(left: &RdnSequence, right: &RdnSequence) -> bool {
    left.len() == right.len()
        && left.iter().zip(right.iter()).all(|(left, right)| {
            let sorted = |rdn: &RelativeDistinguishedName| {
                let mut parts: Vec<_> = rdn.iter().map(meaning).collect();
                parts.sort_unstable();
                parts
            };
            sorted(left) == sorted(right)
        })
}

/// Type, kind and content of an attribute. All kinds of string whose bytes are
/// ASCII or UTF-8 are one.
fn meaning(part: &AttributeTypeAndValue) -> (ObjectIdentifier, Tag, Vec<u8>) {
    let tag = part.value.tag();
    let is_text = matches!(tag, Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
    let tag = if is_text { Tag::Utf8String } else { tag };
    (part.oid, tag, part.value.value().into())
}

fn is_dns_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests;
