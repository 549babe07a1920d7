//! What a static password looks like, which a broker exchanges for a token.

use aws_lc_rs::digest::{Context, SHA256};

/// What every static password begins with, so that scanners for leaked secrets
/// can know it, and tell it from a client secret.
pub const PASSWORD_PREFIX: &str = "fbp_";
/// The characters that follow: 256 bits in base64url, without padding.
const SECRET_LENGTH: usize = 43;

/// Whether a text may be a static password: others need not be asked about.
#[must_use]
pub fn looks_like_password(text: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.strip_prefix(PASSWORD_PREFIX)
        .is_some_and(|secret| secret.len() == SECRET_LENGTH && secret.bytes().all(is_base64url))
}

/// By what an exchange is remembered: the SHA-256 of what was exchanged, which
/// tells nothing of a password of 256 random bits.
#[must_use]
pub fn exchange_digest(username: &str, password: &str, mqtt_client_id: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in [username, password, mqtt_client_id] {
        context.update(&part.len().to_le_bytes());
        context.update(part.as_bytes());
    }
    let mut bytes = [0; 32];
    for (byte, digested) in bytes.iter_mut().zip(context.finish().as_ref()) {
        *byte = *digested;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_issuer_could_have_made_looks_like_one() {
        let secret = "A".repeat(SECRET_LENGTH);
        assert!(looks_like_password(&format!("fbp_{secret}")));
        for other in ["", "fbp_", "hunter2", &secret, &format!("fbs_{secret}"), &format!("fbp_{secret}A")] {
            assert!(!looks_like_password(other), "{other}");
        }
        assert!(!looks_like_password(&format!("fbp_{}.", "A".repeat(SECRET_LENGTH - 1))));
    }

    #[test]
    fn what_is_exchanged_is_told_apart() {
        let digest = exchange_digest("ab", "c", "d");
        for (username, password, id) in
            [("a", "bc", "d"), ("ab", "cd", ""), ("ab", "c", "e"), ("x", "c", "d")]
        {
            assert_ne!(exchange_digest(username, password, id), digest);
        }
        assert_eq!(exchange_digest("ab", "c", "d"), digest);
    }
}
