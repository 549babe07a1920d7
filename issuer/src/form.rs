//! `application/x-www-form-urlencoded`, strictly (RFC 6749 Appendix B).
//!
//! Form parsers of the web pass over what they cannot read; a security
//! endpoint must not: what one side passes over, the other may count on.

use std::borrow::Cow;

/// The most parameters that a request may have.
const MAX_PARAMETERS: usize = 64;

/// The parameters of a request, each at most once.
#[derive(Default)]
pub(crate) struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// A body is not a form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidForm {
    /// A `%` without two hexadecimal digits, or bytes that are not UTF-8.
    #[error("the body is not well-formed application/x-www-form-urlencoded in UTF-8")]
    Encoding,
    /// A parameter twice (RFC 6749 §3.2).
    #[error("a parameter is repeated")]
    Repeated,
    /// More parameters than any request has: looking for repeated ones would
    /// cost more than the rest of the request.
    #[error("the body has more than {MAX_PARAMETERS} parameters")]
    TooMany,
}

impl<'a> Form<'a> {
    /// Reads a form.
    ///
    /// # Errors
    /// [`InvalidForm`].
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, InvalidForm> {
        let text = std::str::from_utf8(body).map_err(|_| InvalidForm::Encoding)?;
        let mut parameters: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(6);
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or(InvalidForm::Encoding)?;
            let value = decode(value).ok_or(InvalidForm::Encoding)?;
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(InvalidForm::Repeated);
            }
            if parameters.len() == MAX_PARAMETERS {
                return Err(InvalidForm::TooMany);
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter. One without a value counts as omitted
    /// (RFC 6749 §3.2).
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        (!value.is_empty()).then_some(value)
    }
}

/// Undoes form-urlencoding: `+` is a space, `%XX` a byte.
pub(crate) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|b| matches!(b, b'+' | b'%')) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decoding() {
        assert_eq!(decode("plain").as_deref(), Some("plain"));
        assert_eq!(decode("a+b%20c%2Bd%25%3a").as_deref(), Some("a b c+d%:"));
        assert_eq!(decode("%C3%A4").as_deref(), Some("ä"));
        for bad in ["%", "%1", "%g0", "%0g", "a%", "%ff", "%C3", "%+1"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn parameters() {
        let form = Form::parse(b"a=1&b=&c&&d=x=y").unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.get("c")), (Some("1"), None, None));
        assert_eq!(form.get("d"), Some("x=y"));
        assert_eq!(form.get("e"), None);
    }

    #[test]
    fn no_parameter_twice_however_it_is_written() {
        for body in ["a=1&a=1", "a=1&a=", "a&a", "a=1&%61=2", "x=1&y=2&x=3"] {
            assert_eq!(Form::parse(body.as_bytes()).err(), Some(InvalidForm::Repeated), "{body}");
        }
        assert_eq!(Form::parse(b"a=\xff").err(), Some(InvalidForm::Encoding));
    }

    proptest! {
        #[test]
        fn what_a_form_library_writes_is_read(value in "\\PC{0,20}") {
            let encoded: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            prop_assert_eq!(decode(&encoded).unwrap(), value);
        }

        #[test]
        fn no_input_is_a_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Form::parse(&body);
        }
    }

    #[test]
    fn a_flood_of_parameters_is_refused() {
        let body = |count: usize| (0..count).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
        assert!(Form::parse(body(MAX_PARAMETERS).as_bytes()).is_ok());
        assert_eq!(Form::parse(body(MAX_PARAMETERS + 1).as_bytes()).err(), Some(InvalidForm::TooMany));
    }
}
