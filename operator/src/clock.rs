//! The one place where the operator reads the clock; everywhere else time is an argument.

use jiff::Timestamp;

/// Now.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the operator's one look at the clock; `service::clock` belongs to the workers"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}
