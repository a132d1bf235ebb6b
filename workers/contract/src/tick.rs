//! The wire format: one message, one or more ticks of one partition; or a heartbeat.
//!
//! Properties of a message: `content_type` [`CONTENT_TYPE`], `type` [`MESSAGE_TYPE`], persistent, `message_id`
//! `<publisher>/<partition>/<sequence>`; headers [`header`]. The body is a JSON array of ticks, or one tick.
//! A heartbeat has an empty array and the header `event_time`: nothing older than it will follow.

use rust_decimal::Decimal;
use serde::Serialize;
use snafu::Snafu;

use crate::{event_time::EventTime, price::Price, symbol::Symbol};

mod decode;

pub use decode::{Entry, TickRef, decode, raw_entries};

/// The AMQP property `type`.
pub const MESSAGE_TYPE: &str = "stockfeed.ticks.v1";
/// The AMQP property `content_type`.
pub const CONTENT_TYPE: &str = "application/json";

/// AMQP headers.
pub mod header {
    /// One producer run: a UUID in text, time-ordered (version 7), never reused.
    pub const PUBLISHER: &str = "publisher";
    /// The number of this message among those of its publisher and partition: 1, 2, 3, … without gaps. A long.
    pub const SEQUENCE: &str = "sequence";
    /// On a heartbeat: nothing older will follow. RFC 3339.
    pub const EVENT_TIME: &str = "event_time";
    /// When the publisher first sent the message: microseconds since the epoch, a long. Optional; the processor measures the
    /// time to the commit from it.
    pub const PUBLISHED_AT: &str = "published_at";
    /// W3C trace context.
    pub const TRACEPARENT: &str = "traceparent";
}

/// One observation of one symbol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tick {
    /// Whose.
    pub symbol: Symbol,
    /// The price, exact. A JSON string when written, a string or a number when read.
    pub price: Price,
    /// When, at the exchange.
    pub event_time: EventTime,
    /// The day's running total of shares, not this trade's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<i64>,
    /// In the quote's currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub market_cap: Option<Decimal>,
    /// The day's first price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<Decimal>,
    /// The day's highest price so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_high: Option<Decimal>,
    /// The day's lowest price so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_low: Option<Decimal>,
    /// The day before's last price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_close: Option<Decimal>,
    /// Price less previous close.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Decimal>,
    /// The change in percent of the previous close.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_percentage: Option<Decimal>,
    /// The exchange's short name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
    /// The company's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The longest `exchange` or `name`, in bytes; longer ones are refused.
pub const MAX_TEXT: usize = 256;

/// Why a message, or one tick of it, cannot be used. Closed: it is a column, a metric label and a user's search word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// The property `type` is not [`MESSAGE_TYPE`].
    UnknownType,
    /// Headers `publisher`, `sequence` or `event_time` are wrong or half there.
    InvalidHeaders,
    /// The body is not JSON of the right form.
    Undecodable,
    /// The symbol is not one.
    InvalidSymbol,
    /// The symbol is not the feed's, or not of this partition.
    UnknownSymbol,
    /// The price is missing or not a number.
    InvalidPrice,
    /// The price is zero or less.
    PriceNotPositive,
    /// The price is beyond what can be summed exactly.
    PriceOutOfRange,
    /// The event time is not a time.
    InvalidTime,
    /// The event time lies in the future by more than the limit, or before 1970.
    TimeOutOfRange,
    /// Another number is not one, or negative where it must not be.
    InvalidNumber,
    /// A text is too long or holds a NUL, which PostgreSQL cannot store.
    InvalidText,
    /// The broker gave up on the message: it was delivered too often without an answer.
    DeliveryLimit,
}

impl RejectReason {
    /// All reasons.
    pub const ALL: [Self; 13] = [
        Self::UnknownType,
        Self::InvalidHeaders,
        Self::Undecodable,
        Self::InvalidSymbol,
        Self::UnknownSymbol,
        Self::InvalidPrice,
        Self::PriceNotPositive,
        Self::PriceOutOfRange,
        Self::InvalidTime,
        Self::TimeOutOfRange,
        Self::InvalidNumber,
        Self::InvalidText,
        Self::DeliveryLimit,
    ];

    /// The word for it in `quarantine.reason` and in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownType => "unknown_type",
            Self::InvalidHeaders => "invalid_headers",
            Self::Undecodable => "undecodable",
            Self::InvalidSymbol => "invalid_symbol",
            Self::UnknownSymbol => "unknown_symbol",
            Self::InvalidPrice => "invalid_price",
            Self::PriceNotPositive => "price_not_positive",
            Self::PriceOutOfRange => "price_out_of_range",
            Self::InvalidTime => "invalid_time",
            Self::TimeOutOfRange => "time_out_of_range",
            Self::InvalidNumber => "invalid_number",
            Self::InvalidText => "invalid_text",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A body, or one tick of it, that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Snafu)]
#[snafu(display("{}: {detail}", reason.label()))]
pub struct Rejected {
    /// The class.
    pub reason: RejectReason,
    /// For people: which field and why. Short.
    pub detail: String,
}

impl Rejected {
    /// A refusal with its explanation.
    pub fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

/// Writes a body. An empty slice is a heartbeat's body.
#[must_use]
pub fn encode(ticks: &[Tick]) -> Vec<u8> {
    // Cannot fail: no map keys, no custom serializer that errs, and a Vec as writer.
    serde_json::to_vec(ticks).unwrap_or_default()
}

#[cfg(test)]
mod tests;
