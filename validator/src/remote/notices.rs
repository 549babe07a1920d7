//! What a thread has to tell an operator, kept until somebody takes it: it may
//! not write to a broker's log by itself.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Something that an operator should read, once per change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// For the record.
    Info(String),
    /// Something does not work.
    Warning(String),
}

/// Notices that were not taken yet: the last ones, if there are too many.
#[derive(Debug, Default)]
pub(crate) struct Notices(Mutex<VecDeque<Notice>>);

impl Notices {
    /// The most that are kept for a caller that does not take them.
    const MAX_LENGTH: usize = 64;

    pub(crate) fn info(&self, text: String) {
        self.push(Notice::Info(text));
    }

    pub(crate) fn warning(&self, text: String) {
        self.push(Notice::Warning(text));
    }

    pub(crate) fn take(&self) -> Vec<Notice> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    fn push(&self, notice: Notice) {
        let mut notices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() == Self::MAX_LENGTH {
            notices.pop_front();
        }
        notices.push_back(notice);
    }
}
