//! The answers of one fetch, as they come in.

use std::time::Duration;

use contract::{
    event_time::EventTime,
    symbol::Symbol,
    tick::{Rejected, Tick},
};
use jiff::Timestamp;

use super::{Failure, Fetched, SourceError, budget::Budget};

/// The pause after a used-up quota when the source does not say how long.
pub const DEFAULT_PAUSE: Duration = Duration::from_secs(5);

/// One entry of an answer: a tick, or the reason why it is none, with its symbol where that is known.
pub type Entry = Result<Tick, (Option<Symbol>, Rejected)>;

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    /// Its quotes, good and bad.
    pub entries: Vec<Entry>,
    /// The source's clock.
    pub date: Option<Timestamp>,
}

/// The answers of one fetch.
#[derive(Debug, Default)]
pub struct Round {
    fetched: Fetched,
    date: Option<Timestamp>,
    undated: bool,
}

impl Round {
    /// Adds the answer to a request for some symbols.
    pub fn add(&mut self, asked: &[Symbol], answer: Answer) {
        let Answer { entries, date } = answer;
        self.fetched.succeeded += 1;
        match date {
            Some(date) => self.date = Some(self.date.map_or(date, |least| least.min(date))),
            None => self.undated = true,
        }
        let mut absent = asked.to_vec();
        for entry in entries {
            match entry {
                Ok(tick) => {
                    absent.retain(|symbol| *symbol != tick.symbol);
                    self.fetched.ticks.push(tick);
                }
                Err((symbol, rejected)) => {
                    absent.retain(|other| Some(other) != symbol.as_ref());
                    self.fetched.rejected.push((symbol, rejected));
                }
            }
        }
        self.fetched.absent.extend(absent);
    }

    /// Adds a request that failed.
    pub fn fail(&mut self, asked: &[Symbol], error: SourceError) {
        if let SourceError::RateLimited { retry_after, .. } = &error {
            let pause = retry_after.unwrap_or(DEFAULT_PAUSE);
            self.fetched.pause = self.fetched.pause.max(Some(pause));
        }
        self.fetched.failures.push(Failure {
            symbols: asked.to_vec(),
            error,
        });
    }

    /// What the fetch brought. The bound is the least `Date` of the answers less `delay`.
    #[must_use]
    pub fn finish(mut self, delay: Duration, budget: &Budget) -> Fetched {
        // One answer without a date, and there is no promise about its symbols.
        if !self.undated {
            let date = self.date.map(EventTime::from_timestamp);
            self.fetched.bound = date.map(|date| date.saturating_sub(delay));
        }
        self.fetched.calls = budget.made();
        self.fetched
    }
}
