//! When a source may be polled, and how often: the exchange's hours, and the calls that a plan allows.
//!
//! The producer asks right before every round (a round polls each symbol once) whether there may be one, and how long to
//! wait afterwards. The operator says in the status what a feed takes and what would suffice. Both use the same arithmetic.
//!
//! ```text
//!             ┌─ closed ──────────────► Closed, until the next session opens
//! a round is  │
//! due, is ────┼─ too few calls left ──► Exhausted, until the first open moment of the next day in New York
//! the market  │
//!             └─ else ────────────────► Every interval: make the round, wait for the interval, ask again
//! ```
//!
//! For example, five symbols one by one at 60 s take 7200 calls a day, and the free plan allows 250, which is 50 rounds.
//! Policy `Stretch` spreads them: a round every 86400 s / 50 = 28 min 48 s. It is computed anew for every round from what
//! is left of the day and of the calls, so a restart, a half day, the days of 23 and 25 hours and calls made by hand come
//! out right by themselves. Policy `Enforce` keeps to 60 s and is done at 00:50.
//!
//! * [`calendar`]: sessions of NYSE and NASDAQ, by rules.
//! * [`plan`]: calls that a feed takes, calls that it may make, and the interval that follows.
//! * [`offer`]: what the provider's plans allow.
//! * [`sentence`]: the same for people.
//!
//! Architecture invariant: pure and total. No clock, no IO, no floating point, and nothing panics: time is an argument, and
//! at the ends of representable time answers are the ends of time. Intervals are rounded up, shares of calls down.

pub mod calendar;
pub mod offer;
pub mod plan;
pub mod sentence;
