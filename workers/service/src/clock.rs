//! The one place where workers read the time of day. Everything else takes time as an argument.

use contract::event_time::EventTime;
use jiff::Timestamp;

/// The time of day.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The time of day in whole microseconds.
#[must_use]
pub fn event_time() -> EventTime {
    EventTime::from_timestamp(now())
}
