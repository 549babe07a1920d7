//! Where a part of a list of sessions belongs: the same for every database.

use fleetbadge_validator::reports::sessions::{SessionsKept, SessionsPart};
use sqlx::FromRow;

use super::row::count_to_sql;

/// A row of `session_lists`, but for whose it is.
#[derive(Clone, Copy, FromRow)]
pub(super) struct SessionListRow {
    pub(super) epoch: i64,
    pub(super) next_part: i64,
    pub(super) online: i64,
}

/// What has to be done with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It takes the place of all that there is.
    First,
    /// It is the next after what there is, so many clients.
    Next { online: i64 },
    /// Nothing: it is there, or does not belong here.
    Nowhere(SessionsKept),
}

impl Place {
    pub(super) fn of(part: &SessionsPart, list: Option<SessionListRow>) -> Self {
        let number = count_to_sql(part.part);
        let list = list.filter(|list| list.epoch == count_to_sql(part.epoch));
        match (number, list) {
            (0, _) => Self::First,
            (_, Some(SessionListRow { next_part, online, .. })) if next_part == number => {
                Self::Next { online }
            }
            // The validator has not heard that it was kept.
            (_, Some(SessionListRow { next_part, .. })) if next_part == number.saturating_add(1) => {
                Self::Nowhere(SessionsKept::Kept)
            }
            (_, Some(_) | None) => Self::Nowhere(SessionsKept::BeginAnew),
        }
    }
}
