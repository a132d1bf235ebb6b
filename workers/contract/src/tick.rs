//! The wire format: one message, one or more ticks of one partition; or a heartbeat.
//!
//! Properties of a message: `content_type` [`CONTENT_TYPE`], `type` [`MESSAGE_TYPE`], persistent, `message_id`
//! `<publisher>/<partition>/<sequence>`; headers [`header`]. The body is a JSON array of ticks, or one tick.
//! A heartbeat has an empty array and the header `event_time`: nothing older than it will follow.

use std::borrow::Cow;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use snafu::Snafu;

use crate::{
    event_time::EventTime,
    price::{InvalidPrice, Price, decimal},
    symbol::Symbol,
};

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
}

impl RejectReason {
    /// All reasons.
    pub const ALL: [Self; 12] = [
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

/// One entry of a body: a tick, or the raw text of what is none with the reason.
pub type Entry<'a> = Result<Tick, (Rejected, &'a str)>;

/// Writes a body. An empty slice is a heartbeat's body.
#[must_use]
pub fn encode(ticks: &[Tick]) -> Vec<u8> {
    // Cannot fail: no map keys, no custom serializer that errs, and a Vec as writer.
    serde_json::to_vec(ticks).unwrap_or_default()
}

/// Reads a body: an array of ticks, or one tick. A tick that is wrong does not spoil its neighbours: each entry is a
/// result of its own, in the body's order.
///
/// # Errors
/// [`RejectReason::Undecodable`] when the body as a whole is neither a JSON array nor a JSON object.
pub fn decode(body: &[u8]) -> Result<Vec<Entry<'_>>, Rejected> {
    let undecodable =
        |error: &dyn std::fmt::Display| Rejected::new(RejectReason::Undecodable, error.to_string());
    let text = std::str::from_utf8(body).map_err(|error| undecodable(&error))?;
    if text.trim_start().starts_with('[') {
        let entries: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| undecodable(&error))?;
        return Ok(entries.into_iter().map(|entry| decode_one(entry.get())).collect());
    }
    let entry: &RawValue = serde_json::from_str(text).map_err(|error| undecodable(&error))?;
    if !entry.get().starts_with('{') {
        return Err(undecodable(&"neither an array nor an object"));
    }
    Ok(vec![decode_one(entry.get())])
}

fn decode_one(text: &str) -> Entry<'_> {
    read(text).map_err(|rejected| (rejected, text))
}

/// A tick as it stands in the body: numbers stay text, so that no digit is lost on the way through a float.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    symbol: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    price: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event_time: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    volume: Option<&'a RawValue>,
    #[serde(borrow, default)]
    market_cap: Option<&'a RawValue>,
    #[serde(borrow, default)]
    open: Option<&'a RawValue>,
    #[serde(borrow, default)]
    day_high: Option<&'a RawValue>,
    #[serde(borrow, default)]
    day_low: Option<&'a RawValue>,
    #[serde(borrow, default)]
    previous_close: Option<&'a RawValue>,
    #[serde(borrow, default)]
    change: Option<&'a RawValue>,
    #[serde(borrow, default)]
    change_percentage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    exchange: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
}

fn read(text: &str) -> Result<Tick, Rejected> {
    let wire: Wire<'_> = serde_json::from_str(text)
        .map_err(|error| Rejected::new(RejectReason::Undecodable, error.to_string()))?;
    let symbol = wire
        .symbol
        .ok_or_else(|| Rejected::new(RejectReason::InvalidSymbol, "symbol is missing"))?;
    let symbol = symbol.parse().map_err(|error: crate::symbol::InvalidSymbol| {
        Rejected::new(RejectReason::InvalidSymbol, error.to_string())
    })?;
    let time = wire
        .event_time
        .ok_or_else(|| Rejected::new(RejectReason::InvalidTime, "event_time is missing"))?;
    let event_time = time.parse().map_err(|error: crate::event_time::InvalidTime| {
        Rejected::new(RejectReason::InvalidTime, format!("event_time is {error}"))
    })?;
    Ok(Tick {
        symbol,
        price: price(wire.price)?,
        event_time,
        volume: volume(wire.volume)?,
        market_cap: number("market_cap", wire.market_cap)?,
        open: number("open", wire.open)?,
        day_high: number("day_high", wire.day_high)?,
        day_low: number("day_low", wire.day_low)?,
        previous_close: number("previous_close", wire.previous_close)?,
        change: number("change", wire.change)?,
        change_percentage: number("change_percentage", wire.change_percentage)?,
        exchange: short_text("exchange", wire.exchange)?,
        name: short_text("name", wire.name)?,
    })
}

fn price(raw: Option<&RawValue>) -> Result<Price, Rejected> {
    let raw = raw.ok_or_else(|| Rejected::new(RejectReason::InvalidPrice, "price is missing"))?;
    digits(raw).parse().map_err(|error: InvalidPrice| {
        let reason = match error {
            InvalidPrice::NotANumber => RejectReason::InvalidPrice,
            InvalidPrice::NotPositive => RejectReason::PriceNotPositive,
            InvalidPrice::OutOfRange => RejectReason::PriceOutOfRange,
        };
        Rejected::new(reason, format!("price: {error}"))
    })
}

fn number(field: &'static str, raw: Option<&RawValue>) -> Result<Option<Decimal>, Rejected> {
    raw.map(|raw| {
        decimal(digits(raw)).ok_or_else(|| {
            Rejected::new(
                RejectReason::InvalidNumber,
                format!("{field} is not a number of at most 28 digits"),
            )
        })
    })
    .transpose()
}

fn volume(raw: Option<&RawValue>) -> Result<Option<i64>, Rejected> {
    let Some(value) = number("volume", raw)? else {
        return Ok(None);
    };
    let whole = value.normalize();
    let shares = i64::try_from(whole.mantissa())
        .ok()
        .filter(|shares| whole.scale() == 0 && *shares >= 0);
    shares.map(Some).ok_or_else(|| {
        Rejected::new(
            RejectReason::InvalidNumber,
            "volume is not a whole number of shares",
        )
    })
}

fn short_text(field: &'static str, text: Option<Cow<'_, str>>) -> Result<Option<String>, Rejected> {
    match text {
        Some(text) if text.len() > MAX_TEXT || text.contains('\0') => {
            let detail = format!("{field} is longer than {MAX_TEXT} bytes or holds a NUL");
            Err(Rejected::new(RejectReason::InvalidText, detail))
        }
        text => Ok(text.map(Cow::into_owned)),
    }
}

/// The digits of a JSON number, or of a JSON string that holds one.
fn digits(raw: &RawValue) -> &str {
    let text = raw.get();
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests;
