//! Where quotes come from.

use contract::symbol::Symbol;
use jiff::Timestamp;

use crate::{
    quote::Quote,
    replay::{StepReplay, TimeReplay},
    walk::RandomWalk,
};

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// One of each symbol that is known, in the order they were asked for.
    pub quotes: Vec<Quote>,
    /// The simulated time: no quote older than it will follow.
    pub date: Timestamp,
}

/// A source of quotes.
#[derive(Clone, Debug)]
pub enum Market {
    /// A history, by step.
    Step(StepReplay),
    /// A history, by time.
    Time(TimeReplay),
    /// A random walk.
    Walk(RandomWalk),
}

impl Market {
    /// Answers a request that will be delivered.
    pub fn advance(&mut self, now: Timestamp, symbols: &[Symbol]) -> Answer {
        match self {
            Self::Step(replay) => replay.advance(symbols),
            Self::Time(replay) => replay.answer(now, symbols),
            Self::Walk(walk) => walk.answer(now, symbols),
        }
    }

    /// The same quotes for a request that will not be delivered: nothing goes on.
    pub fn peek(&mut self, now: Timestamp, symbols: &[Symbol]) -> Answer {
        match self {
            Self::Step(replay) => replay.peek(symbols),
            Self::Time(replay) => replay.answer(now, symbols),
            Self::Walk(walk) => walk.answer(now, symbols),
        }
    }

    /// The simulated time.
    #[must_use]
    pub fn simulated(&self, now: Timestamp) -> Timestamp {
        match self {
            Self::Step(replay) => replay.now(),
            Self::Time(replay) => replay.simulated(now),
            Self::Walk(_) => now,
        }
    }

    /// Whether nothing new will come.
    #[must_use]
    pub fn exhausted(&self, now: Timestamp) -> bool {
        match self {
            Self::Step(replay) => replay.exhausted(),
            Self::Time(replay) => replay.exhausted(now),
            Self::Walk(_) => false,
        }
    }

    /// Back to the start.
    pub fn reset(&mut self, now: Timestamp) {
        match self {
            Self::Step(replay) => replay.reset(),
            Self::Time(replay) => replay.reset(now),
            Self::Walk(_) => {}
        }
    }
}
