use super::*;
use crate::broker::fake::FakeBroker;

#[test]
fn a_panic_becomes_the_denial_and_its_message_goes_nowhere() {
    let broker = FakeBroker::default();
    let code = guarded(&&broker, "connect", AUTH, || panic!("eyJhbGciOiJFUzI1NiJ9"));
    assert_eq!(code, AUTH);
    let log = broker.take_log();
    assert!(log.contains("a fault in the plugin") && log.contains("during connect"), "{log}");
    assert!(!log.contains("eyJ"), "{log}");
    assert_eq!(guarded(&&broker, "connect", AUTH, || SUCCESS), SUCCESS);
}

#[test]
fn the_fifth_version_of_the_interface_or_none() {
    let version = |offered: &[c_int]| {
        let count = offered.len().try_into().unwrap();
        // SAFETY: an array of that length.
        unsafe { mosquitto_plugin_version(count, offered.as_ptr()) }
    };
    assert_eq!(version(&[2, 3, 4, 5]), 5);
    assert_eq!(version(&[2, 3, 4]), -1);
    // SAFETY: an array without elements.
    assert_eq!(unsafe { mosquitto_plugin_version(0, ptr::null()) }, -1);
}

#[test]
fn a_program_that_is_no_broker_gets_an_error_code() {
    let mut userdata = ptr::null_mut();
    // SAFETY: no options.
    let code = unsafe { mosquitto_plugin_init(ptr::null_mut(), &raw mut userdata, ptr::null_mut(), 0) };
    assert_eq!((code, userdata), (NOT_SUPPORTED, ptr::null_mut()));
    // SAFETY: as after a start that failed.
    assert_eq!(unsafe { mosquitto_plugin_cleanup(userdata, ptr::null_mut(), 0) }, SUCCESS);
}

#[test]
fn text_from_c_is_utf8_or_nothing() {
    // SAFETY: C strings that live on.
    let read = |c_string: &'static CStr| unsafe { text(c_string.as_ptr()) };
    assert_eq!(read(c"pump-1"), Some("pump-1"));
    assert_eq!(read(c"\xff"), None);
    // SAFETY: NULL is allowed.
    assert_eq!(unsafe { text(ptr::null()) }, None);
}

#[test]
fn an_unknown_kind_of_access_is_none() {
    assert_eq!(access(ACL_SUBSCRIBE), Some(Access::Subscribe));
    assert_eq!(access(ACL_READ | ACL_WRITE), None);
}
