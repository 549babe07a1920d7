//! The certificate that TLS has proven of a client, by the broker's own OpenSSL.

use std::ffi::{c_int, c_uint};

use fleetbadge_validator::claims::CertificateThumbprint;

use super::abi::{Certificate, Digest, MosquittoClient};
use super::function;

/// What it takes of the broker and its libcrypto. Without one of these no
/// connection has a certificate, so that tokens that are bound to one let
/// nobody in.
#[derive(Clone, Copy)]
pub(super) struct Certificates {
    of_client: unsafe extern "C" fn(*const MosquittoClient) -> *mut Certificate,
    digest: unsafe extern "C" fn(*const Certificate, *const Digest, *mut u8, *mut c_uint) -> c_int,
    sha256: unsafe extern "C" fn() -> *const Digest,
    free: unsafe extern "C" fn(*mut Certificate),
}

impl Certificates {
    pub(super) fn find() -> Option<Self> {
        // SAFETY: the types are those of the broker's and of OpenSSL's headers.
        unsafe {
            Some(Self {
                of_client: function(c"mosquitto_client_certificate")?,
                digest: function(c"X509_digest")?,
                sha256: function(c"EVP_sha256")?,
                free: function(c"X509_free")?,
            })
        }
    }

    /// The SHA-256 of the DER of a client's certificate.
    ///
    /// # Safety
    /// The client is there.
    pub(super) unsafe fn thumbprint(self, client: *const MosquittoClient) -> Option<CertificateThumbprint> {
        // SAFETY: as promised.
        let certificate = unsafe { (self.of_client)(client) };
        if certificate.is_null() {
            return None;
        }
        let (mut sha256, mut length) = ([0; 32], 0);
        // SAFETY: a certificate, which is ours until it is freed, once; SHA-256
        // writes 32 bytes.
        let outcome = unsafe {
            let outcome = (self.digest)(certificate, (self.sha256)(), sha256.as_mut_ptr(), &raw mut length);
            (self.free)(certificate);
            outcome
        };
        (outcome == 1 && length == 32).then_some(CertificateThumbprint(sha256))
    }
}
