//! Public keys that others can sign for.

use super::UnusableKey;

pub(super) fn check_rsa_strength(n: &[u8], e: &[u8]) -> Result<(), UnusableKey> {
    let leading_zeros = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = n.len() * 8 - leading_zeros;
    if !(2048..=8192).contains(&bits) {
        return Err(UnusableKey::ModulusSize { bits });
    }
    if e.last().is_none_or(|byte| byte % 2 == 0) || e == [1] {
        return Err(UnusableKey::WeakExponent);
    }
    if has_roca_fingerprint(n) { Err(UnusableKey::WeakPrimes) } else { Ok(()) }
}

/// The points of Ed25519 whose order divides 8: for the neutral one, one
/// signature is good for every message; for the others, for one in eight at
/// least. By their second coordinate, also where it is not reduced.
pub(super) fn has_small_order(mut point: [u8; 32]) -> bool {
    const COORDINATES: [[u8; 32]; 7] = [
        [0; 32],
        little_endian(1, 0, 0),
        [
            0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4, 0x89, 0xF2, 0xEF, 0x98, 0xF0,
            0xD5, 0xDF, 0xAC, 0x05, 0xD3, 0xC6, 0x33, 0x39, 0xB1, 0x38, 0x02, 0x88, 0x6D, 0x53, 0xFC, 0x05,
        ],
        [
            0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B, 0x76, 0x0D, 0x10, 0x67, 0x0F,
            0x2A, 0x20, 0x53, 0xFA, 0x2C, 0x39, 0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77, 0x92, 0xAC, 0x03, 0x7A,
        ],
        // p - 1, p and p + 1.
        little_endian(0xEC, 0xFF, 0x7F),
        little_endian(0xED, 0xFF, 0x7F),
        little_endian(0xEE, 0xFF, 0x7F),
    ];
    // The last bit is the sign of the first coordinate.
    let [.., last] = &mut point;
    *last &= 0x7F;
    COORDINATES.contains(&point)
}

const fn little_endian(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    (bytes[0], bytes[31]) = (first, last);
    bytes
}

/// CVE-2017-15361 made primes of the form k·M + (65537^a mod M), M the
/// product of the first primes: modulo each of them the modulus is a power of
/// 65537. A sound key passes for one with a chance of about 2⁻²⁷ over these.
pub(super) fn has_roca_fingerprint(n: &[u8]) -> bool {
    const PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.into_iter().all(|prime| {
        let residue = n.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        (0..prime).any(|_| {
            power = power * 65_537 % prime;
            power == residue
        })
    })
}
