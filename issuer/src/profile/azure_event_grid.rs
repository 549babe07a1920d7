//! Azure Event Grid wants the five claims of its documentation, and makes
//! attributes of the client of the others, if they are strings, numbers or
//! arrays of strings. Its permission bindings, set there, say which topics
//! clients with which attributes may use.

use super::native::NativeClaims;
use super::{Checked, Content, Direction};
use crate::policy::FilterTemplate;

pub(super) const fn check_filter(_: &FilterTemplate, _: Direction) -> Checked {
    Err(
        "Azure Event Grid takes no topics from a token; leave them empty here and set them in its permission \
         bindings",
    )
}

pub(super) fn write(content: &Content<'_>, payload: &mut Vec<u8>) -> serde_json::Result<()> {
    serde_json::to_writer(payload, &NativeClaims::of(content))
}
