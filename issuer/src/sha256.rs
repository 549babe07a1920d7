//! SHA-256, as the 32 bytes that things are known by.

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

/// The SHA-256 of these parts, one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut sum = [0; SHA256_OUTPUT_LEN];
    sum.copy_from_slice(context.finish().as_ref());
    sum
}
