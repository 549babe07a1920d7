//! The border to Mosquitto: version 5 of its plugin interface, written by hand
//! after `mosquitto_broker.h` and `mosquitto_plugin.h`; the same in Mosquitto
//! 2.0 and 2.1.
//!
//! - The broker's functions are looked up when the plugin starts, so that one
//!   binary serves brokers that have more of them and those that have fewer.
//! - Each event passes [`guarded`]: a panic becomes a denial, and nothing of
//!   its message, which may quote a token, is shown.
//! - What the broker lends for an event is wrapped in types that end with it.

#![expect(unsafe_code, reason = "the one module that speaks C")]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::mem::transmute_copy;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use fleetbadge_validator::claims::CertificateThumbprint;
use fleetbadge_validator::time::{Clock as _, SystemClock};

use self::abi::*;
use self::certificates::Certificates;
use crate::broker::{
    Access, Authentication, Broker, Client, ClientHandle, Level, UsernameRefused, Verdict, Will,
};
use crate::guard::Guard;
use crate::options::{InvalidOption, Options};

mod abi;
mod certificates;

// === What the plugin exports ===

/// Chooses a version of the interface: the fifth, or none.
///
/// # Safety
/// The broker passes an array of `count` versions.
#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_plugin_version(count: c_int, versions: *const c_int) -> c_int {
    const INTERFACE_VERSION: c_int = 5;
    // SAFETY: as the broker promises.
    match unsafe { slice(versions, count) }.contains(&INTERFACE_VERSION) {
        true => INTERFACE_VERSION,
        false => -1,
    }
}

/// Starts an instance of the plugin. Anything but 0 stops the broker's start.
///
/// # Safety
/// The broker passes its identifier for the instance, a place for the
/// instance's data, and an array of `count` options.
#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_plugin_init(
    identifier: *mut PluginId,
    userdata: *mut *mut c_void,
    options: *mut Opt,
    count: c_int,
) -> c_int {
    let Some(api) = Api::find() else { return NOT_SUPPORTED };
    keep_panics_quiet();
    guarded(&api, "start", UNKNOWN, || {
        // SAFETY: as the broker promises.
        let options = unsafe { slice(options, count) }
            .iter()
            .map(|option| unsafe { Some((text(option.key)?.to_owned(), text(option.value)?.to_owned())) })
            .collect();
        match start(api, identifier, options) {
            Ok(instance) => {
                // SAFETY: as the broker promises.
                unsafe { *userdata = instance.cast_mut().cast() };
                SUCCESS
            }
            Err(error) => {
                api.log(Level::Error, &format!("does not start: {error}"));
                INVALID
            }
        }
    })
}

/// Ends an instance and the threads that it may have.
///
/// # Safety
/// The broker passes what [`mosquitto_plugin_init`] left in `userdata`, once.
#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_plugin_cleanup(userdata: *mut c_void, _: *mut Opt, _: c_int) -> c_int {
    if !userdata.is_null() {
        // SAFETY: made by Box::into_raw in `start`, and given back only here.
        let instance = unsafe { Box::from_raw(userdata.cast::<Instance>()) };
        let api = instance.api;
        guarded(&api, "cleanup", SUCCESS, || {
            instance.unregister(EVENTS.into_iter().chain(OPTIONAL_EVENTS));
            drop(instance);
            SUCCESS
        });
    }
    SUCCESS
}

// === An instance ===

struct Instance {
    api: Api,
    identifier: *mut PluginId,
    guard: Guard<Api>,
}

/// The events that every broker has.
const EVENTS: [c_int; 7] = [
    EVT_RELOAD,
    EVT_ACL_CHECK,
    EVT_BASIC_AUTH,
    EVT_EXT_AUTH_START,
    EVT_EXT_AUTH_CONTINUE,
    EVT_TICK,
    EVT_DISCONNECT,
];
/// Those that only newer ones have.
const OPTIONAL_EVENTS: [c_int; 2] = [EVT_CLIENT_OFFLINE, EVT_CONNECT];

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Option(#[from] InvalidOption),
    #[error(
        "another instance already has event {event}: with more than one listener to guard, set \
         per_listener_settings true and give each its own plugin line"
    )]
    AlreadyRegistered { event: c_int },
    #[error("the broker refuses event {event} with code {code}")]
    Register { event: c_int, code: c_int },
}

fn start(
    api: Api,
    identifier: *mut PluginId,
    options: Vec<Option<(String, String)>>,
) -> Result<*const Instance, StartError> {
    let options = options.into_iter().collect::<Option<Vec<_>>>().ok_or(InvalidOption::NotUtf8)?;
    let guard = Guard::new(api, Options::parse(options)?)?;
    let instance = Box::into_raw(Box::new(Instance { api, identifier, guard }));
    // SAFETY: just made, and shared only from here on.
    let registered = unsafe { &*instance }.register(instance.cast());
    if registered.is_err() {
        // SAFETY: `register` has taken back what refers to it.
        drop(unsafe { Box::from_raw(instance) });
    }
    registered.map(|()| instance.cast_const())
}

impl Instance {
    fn register(&self, userdata: *mut c_void) -> Result<(), StartError> {
        for event in EVENTS {
            let error = match self.register_event(event, userdata) {
                SUCCESS => continue,
                ALREADY_EXISTS => StartError::AlreadyRegistered { event },
                code => StartError::Register { event, code },
            };
            self.unregister(EVENTS.into_iter().take_while(|registered| *registered != event));
            return Err(error);
        }
        for event in OPTIONAL_EVENTS {
            self.register_event(event, userdata);
        }
        if let Some(set_info) = self.api.plugin_set_info {
            let version = concat!(env!("CARGO_PKG_VERSION"), "\0");
            // SAFETY: two C strings; the broker copies them.
            unsafe { set_info(self.identifier, c"fleetbadge".as_ptr(), version.as_ptr().cast()) };
        }
        Ok(())
    }

    fn register_event(&self, event: c_int, userdata: *mut c_void) -> c_int {
        // SAFETY: the callback and its data live until `unregister`.
        unsafe { (self.api.callback_register)(self.identifier, event, on_event, ptr::null(), userdata) }
    }

    fn unregister(&self, events: impl IntoIterator<Item = c_int>) {
        for event in events {
            // SAFETY: allowed for callbacks that are not registered, too.
            unsafe { (self.api.callback_unregister)(self.identifier, event, on_event, ptr::null()) };
        }
    }

    /// Makes the next tick come before the next packet: what a reload allows
    /// ends with it, and Mosquitto 2.1 lets a callback wait for its time unless
    /// it is new.
    fn tick_next(&self) {
        let userdata = ptr::from_ref(self).cast_mut().cast();
        self.unregister([EVT_TICK]);
        if self.register_event(EVT_TICK, userdata) != SUCCESS {
            self.api.log(Level::Error, "the broker gives no ticks any more; restart it");
        }
    }

    /// # Safety
    /// `data` is of the type that belongs to `event`.
    unsafe fn handle(&self, event: c_int, data: *mut c_void) -> c_int {
        let now = SystemClock.now();
        match event {
            EVT_BASIC_AUTH => {
                // SAFETY: as promised.
                let event = unsafe { &*data.cast::<EvtBasicAuth>() };
                let mut client = EventClient { api: &self.api, client: event.client };
                // SAFETY: a C string or NULL, which the broker keeps for longer
                // than this event.
                let password = unsafe { text(event.password) };
                match self.guard.connect(&mut client, password, now) {
                    Verdict::Allow => SUCCESS,
                    Verdict::Deny => AUTH,
                    Verdict::HandOn => PLUGIN_DEFER,
                    Verdict::Wait => AUTH_DELAYED,
                }
            }
            EVT_EXT_AUTH_START => {
                // SAFETY: as promised.
                let event = unsafe { &*data.cast::<EvtExtendedAuth>() };
                let mut client = EventClient { api: &self.api, client: event.client };
                // SAFETY: a C string or NULL, and as many bytes as it says;
                // the broker keeps both for longer than this event.
                let (method, data) =
                    unsafe { (text(event.auth_method), slice(event.data_in, event.data_in_length.into())) };
                authentication(self.guard.authenticate(&mut client, method, data, now))
            }
            EVT_EXT_AUTH_CONTINUE => {
                // SAFETY: as promised.
                let event = unsafe { &*data.cast::<EvtExtendedAuth>() };
                let client = EventClient { api: &self.api, client: event.client };
                authentication(self.guard.go_on(&client, now))
            }
            EVT_ACL_CHECK => {
                // SAFETY: as promised.
                let event = unsafe { &*data.cast::<EvtAclCheck>() };
                let Some(access) = access(event.access) else { return ACL_DENIED };
                let client = EventClient { api: &self.api, client: event.client };
                // SAFETY: a C string that the broker keeps for this event.
                let topic = unsafe { text(event.topic) };
                match self.guard.acl_check(&client, access, topic, now) {
                    Verdict::Allow => SUCCESS,
                    Verdict::Deny | Verdict::Wait => ACL_DENIED,
                    Verdict::HandOn => PLUGIN_DEFER,
                }
            }
            EVT_TICK => {
                self.guard.tick(now);
                let next_ms = if self.guard.is_awaited() { AWAITED_TICK_MS } else { TICK_MS };
                // SAFETY: as promised.
                unsafe { (*data.cast::<EvtTick>()).next_ms = next_ms };
                SUCCESS
            }
            EVT_CONNECT => {
                // SAFETY: as promised.
                let event = unsafe { &*data.cast::<EvtConnect>() };
                self.guard.connected(handle_of(event.client));
                SUCCESS
            }
            EVT_DISCONNECT | EVT_CLIENT_OFFLINE => {
                // SAFETY: as promised; both have this type.
                let event = unsafe { &*data.cast::<EvtDisconnect>() };
                self.guard.disconnect(handle_of(event.client));
                SUCCESS
            }
            EVT_RELOAD => {
                self.guard.reload(now);
                self.tick_next();
                SUCCESS
            }
            _ => NOT_SUPPORTED,
        }
    }
}

/// Mosquitto 2.1 asks when to tick next, 2.0 ignores it.
const TICK_MS: c_long = 100;
/// While a connection waits for an answer.
const AWAITED_TICK_MS: c_long = 10;

/// Every event comes in here.
unsafe extern "C" fn on_event(event: c_int, data: *mut c_void, userdata: *mut c_void) -> c_int {
    // SAFETY: the address of a live instance, as registered. Never made `&mut`:
    // the broker may come back in here from within an event.
    let instance = unsafe { &*userdata.cast::<Instance>() };
    let (name, on_panic) = match event {
        EVT_BASIC_AUTH => ("connect", AUTH),
        EVT_EXT_AUTH_START => ("authentication", AUTH),
        // To wait gives nobody a right, and a refusal harms the broker.
        EVT_EXT_AUTH_CONTINUE => ("authentication", AUTH_CONTINUE),
        EVT_ACL_CHECK => ("ACL check", ACL_DENIED),
        // These allow nothing, and Mosquitto 2.1 ends if a reload fails.
        EVT_RELOAD => ("reload", SUCCESS),
        EVT_TICK => ("tick", SUCCESS),
        EVT_DISCONNECT | EVT_CLIENT_OFFLINE => ("disconnect", SUCCESS),
        EVT_CONNECT => ("connected", SUCCESS),
        _ => ("unknown event", UNKNOWN),
    };
    // SAFETY: the broker sends each event with its own data.
    guarded(&instance.api, name, on_panic, || unsafe { instance.handle(event, data) })
}

// === Panics ===

thread_local! {
    /// Where the last panic of this thread was.
    static PANICKED_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Notes where a panic was, and nothing else: by default its message goes to
/// the broker's standard error, whatever it quotes.
fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        PANICKED_AT.with_borrow_mut(|panicked_at| *panicked_at = location);
    }));
}

/// Runs `body`; a panic must not unwind into C.
fn guarded(broker: &impl Broker, what: &str, on_panic: c_int, body: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|message| {
        // Dropping it could panic again.
        std::mem::forget(message);
        let panicked_at = PANICKED_AT.take();
        broker.log(
            Level::Error,
            &format!("a fault in the plugin at {panicked_at} during {what}; please report it"),
        );
        on_panic
    })
}

// === The broker ===

/// The broker's functions.
#[derive(Clone, Copy)]
struct Api {
    callback_register:
        unsafe extern "C" fn(*mut PluginId, c_int, Callback, *const c_void, *mut c_void) -> c_int,
    callback_unregister: unsafe extern "C" fn(*mut PluginId, c_int, Callback, *const c_void) -> c_int,
    log_printf: unsafe extern "C" fn(c_int, *const c_char, ...),
    client_id: ClientText,
    client_username: ClientText,
    client_address: ClientText,
    client_protocol_version: unsafe extern "C" fn(*const MosquittoClient) -> c_int,
    client_clean_session: unsafe extern "C" fn(*const MosquittoClient) -> bool,
    set_username: unsafe extern "C" fn(*mut MosquittoClient, *const c_char) -> c_int,
    kick_client_by_clientid: unsafe extern "C" fn(*const c_char, bool) -> c_int,
    /// Not in a broker without TLS.
    certificates: Option<Certificates>,
    /// Since Mosquitto 2.1.
    complete_basic_auth: Option<unsafe extern "C" fn(*const c_char, c_int)>,
    /// Since Mosquitto 2.1.
    plugin_set_info: Option<unsafe extern "C" fn(*mut PluginId, *const c_char, *const c_char) -> c_int>,
}

type ClientText = unsafe extern "C" fn(*const MosquittoClient) -> *const c_char;

impl Api {
    /// Looks up the functions; `None` where one is missing that every
    /// supported broker has.
    fn find() -> Option<Self> {
        // SAFETY: the types are those of the broker's headers.
        unsafe {
            Some(Self {
                callback_register: function(c"mosquitto_callback_register")?,
                callback_unregister: function(c"mosquitto_callback_unregister")?,
                log_printf: function(c"mosquitto_log_printf")?,
                client_id: function(c"mosquitto_client_id")?,
                client_username: function(c"mosquitto_client_username")?,
                client_address: function(c"mosquitto_client_address")?,
                client_protocol_version: function(c"mosquitto_client_protocol_version")?,
                client_clean_session: function(c"mosquitto_client_clean_session")?,
                set_username: function(c"mosquitto_set_username")?,
                kick_client_by_clientid: function(c"mosquitto_kick_client_by_clientid")?,
                complete_basic_auth: function(c"mosquitto_complete_basic_auth"),
                certificates: Certificates::find(),
                plugin_set_info: function(c"mosquitto_plugin_set_info"),
            })
        }
    }
}

/// # Safety
/// `F` is the type of the function with this name.
unsafe fn function<F: Copy>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: a C string.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: not null, and the caller's promise.
    (!address.is_null()).then(|| unsafe { transmute_copy(&address) })
}

impl Broker for Api {
    fn log(&self, level: Level, line: &str) {
        let level = match level {
            Level::Info => LOG_INFO,
            Level::Notice => LOG_NOTICE,
            Level::Warning => LOG_WARNING,
            Level::Error => LOG_ERR,
        };
        let Ok(line) = CString::new(format!("fleetbadge: {line}").replace('\0', "\\0")) else { return };
        // SAFETY: the format takes one C string. Only called on the broker's
        // own thread.
        unsafe { (self.log_printf)(level, c"%s".as_ptr(), line.as_ptr()) };
    }

    fn kick(&self, client_id: &str, will: Will) {
        let Ok(client_id) = CString::new(client_id) else { return };
        // SAFETY: a C string.
        unsafe { (self.kick_client_by_clientid)(client_id.as_ptr(), will == Will::Sent) };
    }

    fn can_wait(&self) -> bool {
        self.complete_basic_auth.is_some()
    }

    fn complete(&self, client_id: &str, let_in: bool) {
        let (Some(complete), Ok(client_id)) = (self.complete_basic_auth, CString::new(client_id)) else {
            return;
        };
        // SAFETY: a C string. Only called on the broker's own thread.
        unsafe { complete(client_id.as_ptr(), if let_in { SUCCESS } else { AUTH }) };
    }
}

/// The client of an event, which the broker keeps for as long as the event.
struct EventClient<'a> {
    api: &'a Api,
    client: *mut MosquittoClient,
}

impl EventClient<'_> {
    fn text(&self, function: ClientText) -> Option<&str> {
        // SAFETY: the client is there during the event. What comes back is a C
        // string or NULL; it is the client's own, and changed only by
        // `set_username`, which the borrow excludes.
        unsafe { text(function(self.client)) }
    }
}

impl Client for EventClient<'_> {
    fn handle(&self) -> ClientHandle {
        handle_of(self.client)
    }

    fn id(&self) -> Option<&str> {
        self.text(self.api.client_id)
    }

    fn username(&self) -> Option<&str> {
        self.text(self.api.client_username)
    }

    fn address(&self) -> Option<&str> {
        self.text(self.api.client_address)
    }

    fn has_connected(&self) -> bool {
        // SAFETY: the client is there during the event. The broker answers 0
        // unless a CONNECT has named a version.
        unsafe { (self.api.client_protocol_version)(self.client) != 0 }
    }

    fn starts_clean(&self) -> bool {
        // SAFETY: the client is there during the event.
        unsafe { (self.api.client_clean_session)(self.client) }
    }

    fn leaves_nothing(&self) -> bool {
        // SAFETY: the client is there during the event. In MQTT 5 a clean start
        // says nothing about the end.
        self.starts_clean() && unsafe { (self.api.client_protocol_version)(self.client) } < 5
    }

    fn certificate(&self) -> Option<CertificateThumbprint> {
        // SAFETY: the client is there during the event.
        unsafe { self.api.certificates?.thumbprint(self.client) }
    }

    fn set_username(&mut self, username: Option<&str>) -> Result<(), UsernameRefused> {
        let username = username.map(CString::new).transpose().map_err(|_| UsernameRefused)?;
        let username = username.as_ref().map_or(ptr::null(), |username| username.as_ptr());
        // SAFETY: the client is there during the event, the name is a C string
        // or NULL, which the broker copies.
        match unsafe { (self.api.set_username)(self.client, username) } {
            SUCCESS => Ok(()),
            _ => Err(UsernameRefused),
        }
    }
}

fn handle_of(client: *mut MosquittoClient) -> ClientHandle {
    ClientHandle(client.addr())
}

/// What the broker makes of the codes is in its `handle_auth.c`: all but the
/// first and the last end a connection that is in use.
fn authentication(authentication: Authentication) -> c_int {
    match authentication {
        Authentication::Succeeded => SUCCESS,
        Authentication::Failed => AUTH,
        Authentication::MethodUnknown => NOT_SUPPORTED,
        Authentication::ConnectAgain => UNKNOWN,
        Authentication::Awaited => AUTH_CONTINUE,
    }
}

fn access(access: c_int) -> Option<Access> {
    match access {
        ACL_READ => Some(Access::Read),
        ACL_WRITE => Some(Access::Write),
        ACL_SUBSCRIBE => Some(Access::Subscribe),
        ACL_UNSUBSCRIBE => Some(Access::Unsubscribe),
        _ => None,
    }
}

/// # Safety
/// A C string that lives as long as `'a`, or NULL.
unsafe fn text<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as promised.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// # Safety
/// An array of `count` that lives as long as `'a`, or `count` is 0.
unsafe fn slice<'a, T>(start: *const T, count: c_int) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: as promised.
        Ok(count) if count > 0 && !start.is_null() => unsafe { std::slice::from_raw_parts(start, count) },
        _ => &[],
    }
}

#[cfg(test)]
mod tests;
