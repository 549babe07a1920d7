//! From bytes that somebody sent to a token whose signature is good.
//!
//! [`SignedToken::check`] makes the checks that need nothing but the token,
//! the issuer's keys and the time, the cheap ones before the signature, as a
//! broker's one thread pays for them:
//!
//! 1. format: length, alphabet, three segments (RFC 7519 §7.2, RFC 8725 §3)
//! 2. header: `alg` from a list without HMAC and `none`, `typ` (RFC 9068 §4),
//!    no `crit`, no key that the token brings along (RFC 8725 §3.10)
//! 3. key: by `kid`, for exactly this `alg`
//! 4. claims: strict types, see [`crate::claims`]
//! 5. issuer: `iss` is whose keys these are
//! 6. expiry
//! 7. signature
//!
//! The filters of `acl`, the grammar of `scope` and that `sub` is `client_id`
//! belong to the claims, but are looked at when the signature is known to be
//! good: no stranger's token is worth that work.
//!
//! What depends on who asks comes after, in [`crate::verify`].

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::signature::Verifier as _;
use serde::Deserialize;

use crate::claims::{Claims, Confirmation, TOKEN_TYPE, Text, from_json_object};
use crate::denied::{Denied, Excerpt};
use crate::jwk::Algorithm;
use crate::jws::{Header, InvalidJws, Segments};
use crate::keys::KeySet;
use crate::revocations::Revocations;
use crate::scope::Scope;
use crate::time::UnixSeconds;
use crate::topic::{InvalidTopic, TopicFilter};

/// The most bytes that a token may have.
pub const MAX_TOKEN_LENGTH: usize = 8 * 1024;
/// The most bytes that a decoded header may have. Ours have 90.
const MAX_HEADER_LENGTH: usize = 512;

/// A token that was signed by the issuer it names. Nothing is said yet about
/// whether it is good for anything; only [`SignedToken::check`] makes one.
#[derive(Debug)]
pub struct SignedToken {
    pub(crate) issuer: Arc<str>,
    pub(crate) exp: UnixSeconds,
    pub(crate) iat: UnixSeconds,
    pub(crate) nbf: Option<UnixSeconds>,
    pub(crate) scope: Scope,
    /// What it is bound to; boxed, as most tokens are not.
    pub(crate) confirmation: Option<Box<Confirmation>>,
    /// The thumbprint of the key that signed it: a `kid` may come to mean
    /// another key.
    pub(crate) signed_with: Arc<str>,
    texts: Texts,
}

impl SignedToken {
    /// Makes checks 1 to 7.
    ///
    /// # Errors
    /// [`Denied`] says which check failed and on what.
    pub fn check(token: &str, keys: &KeySet, now: UnixSeconds, skew_s: u64) -> Result<Self, Denied> {
        Self::check_if(token, keys, now, skew_s, || Ok(()))
    }

    /// The same, but asks `admit` before the signature, which costs more than
    /// all else.
    ///
    /// # Errors
    /// [`Denied`], and what `admit` says.
    pub fn check_if(
        token: &str,
        keys: &KeySet,
        now: UnixSeconds,
        skew_s: u64,
        admit: impl FnOnce() -> Result<(), Denied>,
    ) -> Result<Self, Denied> {
        let segments = Segments::split(token, MAX_TOKEN_LENGTH)?;
        let mut buffer = [0; MAX_HEADER_LENGTH];
        let (header, algorithm) = read_header(segments.header, &mut buffer)?;
        let kid = header.kid.as_deref().unwrap_or_default();
        let key = keys.get(kid).ok_or_else(|| Denied::key_unknown(kid, keys))?;
        if key.algorithm() != algorithm {
            return Err(Denied::KeyForOtherAlgorithm {
                kid: Excerpt::of(kid),
                key_alg: key.algorithm().as_str(),
                alg: algorithm.as_str(),
            });
        }

        let payload = URL_SAFE_NO_PAD.decode(segments.payload).map_err(|_| Denied::TokenMalformed)?;
        let claims: Claims<'_> = from_json_object(&payload).map_err(|error| claims_malformed(&error))?;
        if *claims.iss != **keys.issuer() {
            return Err(Denied::IssuerDiffers {
                found: Excerpt::of(&claims.iss),
                expected: Excerpt::of(keys.issuer()),
            });
        }
        if now >= claims.exp.plus(skew_s) {
            return Err(Denied::Expired { exp: claims.exp, now, skew_s });
        }

        let signature = URL_SAFE_NO_PAD.decode(segments.signature).map_err(|_| Denied::TokenMalformed)?;
        admit()?;
        key.verify(segments.signed.as_bytes(), &signature).map_err(|_| Denied::SignatureInvalid)?;

        Ok(Self {
            issuer: Arc::clone(keys.issuer()),
            exp: claims.exp,
            iat: claims.iat,
            nbf: claims.nbf,
            scope: Scope::from_claim(&claims.scope).map_err(|error| claims_malformed(&error))?,
            confirmation: claims.cnf.clone().map(Box::new),
            signed_with: Arc::clone(key.thumbprint()),
            texts: Texts::collect(kid, &claims)?,
        })
    }

    /// The issuer, whose key signed it.
    #[must_use]
    pub fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// The device.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.texts.get(SUBJECT)
    }

    /// The token's own identifier.
    #[must_use]
    pub fn token_id(&self) -> &str {
        self.texts.get(TOKEN_ID)
    }

    /// The key that signed it.
    #[must_use]
    pub fn key_id(&self) -> &str {
        self.texts.get(KEY_ID)
    }

    /// The MQTT client identifier that it is bound to.
    #[must_use]
    pub fn mqtt_client_id(&self) -> &str {
        self.texts.get(MQTT_CLIENT_ID)
    }

    /// The audiences.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.texts.list(&self.texts.lists.audiences)
    }

    /// The groups of the device.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.texts.list(&self.texts.lists.groups)
    }

    /// The filters of topics that may be published to.
    pub fn publish_filters(&self) -> impl Iterator<Item = TopicFilter<'_>> {
        self.texts.list(&self.texts.lists.publish).map(TopicFilter::parsed_before)
    }

    /// The filters that may be subscribed to.
    pub fn subscribe_filters(&self) -> impl Iterator<Item = TopicFilter<'_>> {
        self.texts.list(&self.texts.lists.subscribe).map(TopicFilter::parsed_before)
    }

    /// Whether nothing takes the token back. What it says of time is not
    /// asked: a session may queue under a token that has ended.
    ///
    /// # Errors
    /// [`Denied::Revoked`].
    pub fn check_not_revoked(&self, revocations: &Revocations) -> Result<(), Denied> {
        match revocations.find_signed(self) {
            Some(by) => Err(Denied::Revoked { by: by.into(), iat: self.iat }),
            None => Ok(()),
        }
    }

    /// The bytes that the token takes in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + self.confirmation.as_deref().map_or(0, size_of_val)
            + self.texts.text.len()
            + size_of_val(&*self.texts.spans)
    }
}

/// Whom a token names as its issuer, for whoever accepts those of several and
/// has to choose by whose keys to judge it. Nothing of the token is proven:
/// only checks 1 and 2 were made, and of the claims only `iss` was read.
///
/// # Errors
/// [`Denied`], as those checks say it.
pub fn unverified_issuer(token: &str) -> Result<String, Denied> {
    /// The one claim; others are passed over.
    #[derive(Deserialize)]
    struct Issuer<'a> {
        #[serde(borrow)]
        iss: Text<'a>,
    }

    let segments = Segments::split(token, MAX_TOKEN_LENGTH)?;
    read_header(segments.header, &mut [0; MAX_HEADER_LENGTH])?;
    let payload = URL_SAFE_NO_PAD.decode(segments.payload).map_err(|_| Denied::TokenMalformed)?;
    let claims: Issuer<'_> = from_json_object(&payload).map_err(|error| claims_malformed(&error))?;
    Ok(claims.iss.0.into_owned())
}

/// Makes check 2.
fn read_header<'a>(segment: &str, buffer: &'a mut [u8]) -> Result<(Header<'a>, Algorithm), Denied> {
    let header = Header::read(segment, buffer)?;
    let algorithm = header.algorithm()?;
    header.expect_typ(&[TOKEN_TYPE])?;
    header.refuse_jwk()?;
    Ok((header, algorithm))
}

impl From<InvalidJws> for Denied {
    fn from(error: InvalidJws) -> Self {
        match error {
            InvalidJws::Missing => Self::TokenMissing,
            InvalidJws::TooLong { length, max } => Self::TokenTooLong { length, max },
            InvalidJws::Malformed => Self::TokenMalformed,
            InvalidJws::Header { reason } => Self::HeaderMalformed { reason: Excerpt::of(&reason) },
            InvalidJws::Algorithm { alg } => Self::AlgorithmNotAllowed { alg: Excerpt::of(&alg) },
            InvalidJws::Type { typ, expected: _ } => Self::TypeNotAllowed { typ: Excerpt::of(&typ) },
            InvalidJws::Signature => Self::SignatureInvalid,
            InvalidJws::Claims { reason } => Self::ClaimsMalformed { reason: Excerpt::of(&reason) },
        }
    }
}

/// All texts of a token in one allocation, as hundreds of
/// thousands may be remembered.
#[derive(Debug)]
struct Texts {
    text: Box<str>,
    spans: Box<[Span]>,
    /// Where in `spans` each list stands.
    lists: Lists<Span>,
}

/// One thing for each list that a token has.
#[derive(Debug)]
struct Lists<T> {
    audiences: T,
    groups: T,
    publish: T,
    subscribe: T,
}

type Span = Range<u16>;

const SUBJECT: usize = 0;
const TOKEN_ID: usize = 1;
const KEY_ID: usize = 2;
const MQTT_CLIENT_ID: usize = 3;

impl Texts {
    fn collect(kid: &str, claims: &Claims<'_>) -> Result<Self, Denied> {
        if claims.sub != claims.client_id {
            return Err(claims_malformed(&format_args!(
                "sub is {}, client_id {}; a device acts for itself",
                Excerpt::of(&claims.sub),
                Excerpt::of(&claims.client_id)
            )));
        }
        let acl = claims.acl.as_ref();
        let publish = acl.map_or(&[][..], |acl| &acl.publish);
        let subscribe = acl.map_or(&[][..], |acl| &acl.subscribe);
        let groups = claims.groups.as_deref().unwrap_or_default();
        let audiences = claims.aud.as_slice();
        for filter in publish.iter().chain(subscribe) {
            TopicFilter::parse(filter).map_err(|error| acl_malformed(filter, error))?;
        }

        let singles = [&*claims.sub, &claims.jti, kid, &claims.mqtt_client_id];
        let listed = [audiences, groups, publish, subscribe];
        let all = || singles.into_iter().chain(listed.into_iter().flatten().map(|text| &**text));
        let mut text = String::with_capacity(all().map(str::len).sum());
        let mut spans = Vec::with_capacity(all().count());
        for piece in all() {
            let start = length(text.len())?;
            text.push_str(piece);
            spans.push(start..length(text.len())?);
        }
        let mut end = length(singles.len())?;
        let mut next = |list: &[Text<'_>]| -> Result<Span, Denied> {
            let start = end;
            end += length(list.len())?;
            Ok(start..end)
        };
        let lists = Lists {
            audiences: next(audiences)?,
            groups: next(groups)?,
            publish: next(publish)?,
            subscribe: next(subscribe)?,
        };
        Ok(Self { text: text.into(), spans: spans.into(), lists })
    }

    fn get(&self, index: usize) -> &str {
        self.spans.get(index).map_or("", |span| self.piece(span))
    }

    fn list(&self, list: &Span) -> impl Iterator<Item = &str> {
        let spans = self.spans.get(usize::from(list.start)..usize::from(list.end)).unwrap_or_default();
        spans.iter().map(|span| self.piece(span))
    }

    /// The empty string, which no filter and no name is, if a span were wrong.
    fn piece(&self, span: &Span) -> &str {
        self.text.get(usize::from(span.start)..usize::from(span.end)).unwrap_or_default()
    }
}

/// A token has at most 8 KiB, so that no length in it is out of range.
fn length(length: usize) -> Result<u16, Denied> {
    length.try_into().map_err(|_| claims_malformed(&"more text than a token has room for"))
}

fn claims_malformed(reason: &dyn fmt::Display) -> Denied {
    Denied::ClaimsMalformed { reason: Excerpt::of(&reason.to_string()) }
}

fn acl_malformed(filter: &str, error: InvalidTopic) -> Denied {
    claims_malformed(&format_args!("filter {} of acl {error}", Excerpt::of(filter)))
}
