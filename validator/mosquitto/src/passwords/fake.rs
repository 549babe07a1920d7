//! An issuer that answers when a test says so.

use super::*;

/// What was asked, and what will be answered.
#[derive(Default)]
pub(crate) struct FakeExchange {
    pub(crate) asked: Vec<Question>,
    pub(crate) answers: Vec<(u64, Result<String, ExchangeError>)>,
}

impl std::fmt::Debug for FakeExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeExchange")
    }
}

impl Passwords {
    /// Asks nobody.
    pub(crate) fn fake() -> Self {
        Self::new(Exchange::Fake(std::cell::RefCell::default()))
    }

    /// What was asked since the last time.
    pub(crate) fn take_asked(&self) -> Vec<Question> {
        let Exchange::Fake(exchange) = &self.exchange else { panic!("it is fake") };
        std::mem::take(&mut exchange.borrow_mut().asked)
    }

    /// Answers.
    pub(crate) fn answer(&self, number: u64, answer: Result<String, ExchangeError>) {
        let Exchange::Fake(exchange) = &self.exchange else { panic!("it is fake") };
        exchange.borrow_mut().answers.push((number, answer));
    }
}
