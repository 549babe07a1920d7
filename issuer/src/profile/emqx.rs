//! EMQX reads the validator's own `acl` (its closed form: no match denies), and
//! compares as its `emqx_topic` and `emqx_authz_rule` do.

use super::{Checked, Direction, check_no_eq, takes_hash_for_a_level};
use crate::policy::FilterTemplate;

pub(super) fn check_filter(filter: &FilterTemplate, direction: Direction) -> Checked {
    if filter.as_str().starts_with(['+', '#']) {
        return Err("some versions of EMQX let a wildcard in front reach $-topics; name the first level");
    }
    if direction == Direction::Subscribe && takes_hash_for_a_level(filter) {
        return Err("EMQX would let a client subscribe to \"#\" in place of the last \"+\"; \
                    grant \"#\" there, or name a level behind it");
    }
    check_no_eq(filter)
}
