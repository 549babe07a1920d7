//! Mosquitto's values and types, after its `mosquitto_broker.h`: sizes and
//! places are the same in 2.0 and 2.1.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::mem::offset_of;

// Return codes.
/// Since Mosquitto 2.1.
pub(crate) const AUTH_DELAYED: c_int = -5;
pub(crate) const AUTH_CONTINUE: c_int = -4;
pub(crate) const SUCCESS: c_int = 0;
pub(crate) const INVALID: c_int = 3;
pub(crate) const NOT_SUPPORTED: c_int = 10;
pub(crate) const AUTH: c_int = 11;
pub(crate) const ACL_DENIED: c_int = 12;
pub(crate) const UNKNOWN: c_int = 13;
pub(crate) const PLUGIN_DEFER: c_int = 17;
pub(crate) const ALREADY_EXISTS: c_int = 31;

// Events.
pub(crate) const EVT_RELOAD: c_int = 1;
pub(crate) const EVT_ACL_CHECK: c_int = 2;
pub(crate) const EVT_BASIC_AUTH: c_int = 3;
pub(crate) const EVT_EXT_AUTH_START: c_int = 4;
pub(crate) const EVT_EXT_AUTH_CONTINUE: c_int = 5;
pub(crate) const EVT_TICK: c_int = 9;
pub(crate) const EVT_DISCONNECT: c_int = 10;
/// Since Mosquitto 2.1: a connection was let in.
pub(crate) const EVT_CONNECT: c_int = 11;
/// Since Mosquitto 2.1: the connection has ended, the session goes on. Before,
/// that is `EVT_DISCONNECT` too.
pub(crate) const EVT_CLIENT_OFFLINE: c_int = 28;

// Kinds of access.
pub(crate) const ACL_READ: c_int = 1;
pub(crate) const ACL_WRITE: c_int = 2;
pub(crate) const ACL_SUBSCRIBE: c_int = 4;
pub(crate) const ACL_UNSUBSCRIBE: c_int = 8;

// Levels of log lines.
pub(crate) const LOG_INFO: c_int = 1;
pub(crate) const LOG_NOTICE: c_int = 2;
pub(crate) const LOG_WARNING: c_int = 4;
pub(crate) const LOG_ERR: c_int = 8;

/// What the broker calls for each event, with the event's data and the
/// instance's.
pub(crate) type Callback = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void) -> c_int;

/// The broker's record of a client.
#[repr(C)]
pub(crate) struct MosquittoClient {
    opaque: [u8; 0],
}

/// An `X509` of the broker's OpenSSL.
#[repr(C)]
pub(crate) struct Certificate {
    opaque: [u8; 0],
}

/// An `EVP_MD` of the broker's OpenSSL.
#[repr(C)]
pub(crate) struct Digest {
    opaque: [u8; 0],
}

/// The broker's record of the plugin.
#[repr(C)]
pub(crate) struct PluginId {
    opaque: [u8; 0],
}

/// An option of the configuration, without its prefix.
#[repr(C)]
pub(crate) struct Opt {
    pub(crate) key: *mut c_char,
    pub(crate) value: *mut c_char,
}

#[repr(C)]
pub(crate) struct EvtBasicAuth {
    pub(crate) future: *mut c_void,
    pub(crate) client: *mut MosquittoClient,
    pub(crate) username: *mut c_char,
    pub(crate) password: *mut c_char,
    pub(crate) future2: [*mut c_void; 4],
}

#[repr(C)]
pub(crate) struct EvtExtendedAuth {
    pub(crate) future: *mut c_void,
    pub(crate) client: *mut MosquittoClient,
    pub(crate) data_in: *const u8,
    pub(crate) data_out: *mut c_void,
    pub(crate) data_in_length: u16,
    pub(crate) data_out_length: u16,
    /// NULL in `EVT_EXT_AUTH_CONTINUE` before Mosquitto 2.1.
    pub(crate) auth_method: *const c_char,
    pub(crate) future2: [*mut c_void; 3],
}

#[repr(C)]
pub(crate) struct EvtAclCheck {
    pub(crate) future: *mut c_void,
    pub(crate) client: *mut MosquittoClient,
    pub(crate) topic: *const c_char,
    pub(crate) payload: *const c_void,
    pub(crate) properties: *mut c_void,
    pub(crate) access: c_int,
    pub(crate) payload_length: u32,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) future2: [*mut c_void; 4],
}

#[repr(C)]
pub(crate) struct EvtTick {
    pub(crate) future: *mut c_void,
    pub(crate) now_ns: c_long,
    pub(crate) next_ms: c_long,
    pub(crate) now_s: libc::time_t,
    pub(crate) next_s: libc::time_t,
    pub(crate) future2: [*mut c_void; 4],
}

#[repr(C)]
pub(crate) struct EvtDisconnect {
    pub(crate) future: *mut c_void,
    pub(crate) client: *mut MosquittoClient,
    pub(crate) reason: c_int,
    pub(crate) future2: [*mut c_void; 4],
}

#[repr(C)]
pub(crate) struct EvtConnect {
    pub(crate) future: *mut c_void,
    pub(crate) client: *mut MosquittoClient,
    pub(crate) future2: [*mut c_void; 4],
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<Opt>() == 16);
    assert!(size_of::<EvtBasicAuth>() == 64);
    assert!(offset_of!(EvtBasicAuth, password) == 24);
    assert!(size_of::<EvtExtendedAuth>() == 72);
    assert!(offset_of!(EvtExtendedAuth, data_in_length) == 32);
    assert!(offset_of!(EvtExtendedAuth, data_out_length) == 34);
    assert!(offset_of!(EvtExtendedAuth, auth_method) == 40);
    assert!(size_of::<EvtAclCheck>() == 88);
    assert!(offset_of!(EvtAclCheck, topic) == 16);
    assert!(offset_of!(EvtAclCheck, access) == 40);
    assert!(size_of::<EvtTick>() == 72);
    assert!(offset_of!(EvtTick, next_ms) == 16);
    assert!(size_of::<EvtDisconnect>() == 56);
    assert!(offset_of!(EvtDisconnect, client) == 8);
    assert!(offset_of!(EvtConnect, client) == 8);
};
