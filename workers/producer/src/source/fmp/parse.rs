//! Reads FMP's answers. Pure.
//!
//! Numbers are taken from their digits in the text, never through a float. A quote that is wrong does not spoil its
//! neighbours.

use std::borrow::Cow;

use contract::{
    event_time::EventTime,
    price::{InvalidPrice, Price, decimal},
    symbol::Symbol,
    tick::{MAX_TEXT, RejectReason, Rejected, Tick},
};
use rust_decimal::{Decimal, RoundingStrategy};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The first second after the year 9999.
const END_OF_TIME: i64 = 253_402_300_800;

/// One entry of an answer: a tick, or the reason why it is none, with its symbol where that is known.
pub type Entry = Result<Tick, (Option<Symbol>, Rejected)>;

/// An answer that is no list of quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoQuotes {
    /// FMP's error body, which comes with any status, 200 included.
    ErrorMessage(String),
    /// Nothing that FMP answers.
    Malformed(String),
}

/// Reads the answer to a request for some symbols.
///
/// # Errors
/// When the answer as a whole is no list of quotes.
pub fn quotes(body: &[u8], asked: &[Symbol]) -> Result<Vec<Entry>, NoQuotes> {
    let malformed = |error: serde_json::Error| NoQuotes::Malformed(error.to_string());
    if body.trim_ascii_start().starts_with(b"{") {
        return Err(match error_message(body) {
            Some(message) => NoQuotes::ErrorMessage(message),
            None => NoQuotes::Malformed("an object, not a list of quotes".to_owned()),
        });
    }
    let entries: Vec<&RawValue> = serde_json::from_slice(body).map_err(malformed)?;
    Ok(entries
        .into_iter()
        .map(|entry| quote(entry.get(), asked))
        .collect())
}

/// The text of FMP's error body, if this is one.
#[must_use]
pub fn error_message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct ErrorBody<'a> {
        #[serde(rename = "Error Message", borrow)]
        message: Cow<'a, str>,
    }
    let body: ErrorBody<'_> = serde_json::from_slice(body).ok()?;
    Some(body.message.into_owned())
}

/// A quote as FMP writes it; fields that are not named here are of no use to a feed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow, default)]
    symbol: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    price: Option<&'a RawValue>,
    #[serde(borrow, default)]
    change_percentage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    change: Option<&'a RawValue>,
    #[serde(borrow, default)]
    volume: Option<&'a RawValue>,
    #[serde(borrow, default)]
    day_low: Option<&'a RawValue>,
    #[serde(borrow, default)]
    day_high: Option<&'a RawValue>,
    #[serde(borrow, default)]
    market_cap: Option<&'a RawValue>,
    #[serde(borrow, default)]
    exchange: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    open: Option<&'a RawValue>,
    #[serde(borrow, default)]
    previous_close: Option<&'a RawValue>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
}

fn quote(text: &str, asked: &[Symbol]) -> Entry {
    let wire: Wire<'_> = serde_json::from_str(text)
        .map_err(|error| (None, Rejected::new(RejectReason::Undecodable, error.to_string())))?;
    let symbol = wire.symbol.as_deref().unwrap_or_default();
    let symbol: Symbol = symbol.parse().map_err(|error: contract::symbol::InvalidSymbol| {
        (
            None,
            Rejected::new(RejectReason::InvalidSymbol, error.to_string()),
        )
    })?;
    if !asked.contains(&symbol) {
        let detail = format!("{symbol} was not asked for");
        return Err((None, Rejected::new(RejectReason::UnknownSymbol, detail)));
    }
    tick(symbol.clone(), wire).map_err(|rejected| (Some(symbol), rejected))
}

fn tick(symbol: Symbol, wire: Wire<'_>) -> Result<Tick, Rejected> {
    Ok(Tick {
        symbol,
        price: price(wire.price)?,
        event_time: event_time(wire.timestamp)?,
        volume: volume(wire.volume)?,
        market_cap: number("marketCap", wire.market_cap)?,
        open: number("open", wire.open)?,
        day_high: number("dayHigh", wire.day_high)?,
        day_low: number("dayLow", wire.day_low)?,
        previous_close: number("previousClose", wire.previous_close)?,
        change: number("change", wire.change)?,
        change_percentage: number("changePercentage", wire.change_percentage)?,
        exchange: short_text("exchange", wire.exchange)?,
        name: short_text("name", wire.name)?,
    })
}

fn price(raw: Option<&RawValue>) -> Result<Price, Rejected> {
    let Some(raw) = raw else {
        return Err(Rejected::new(RejectReason::InvalidPrice, "price is missing"));
    };
    digits(raw).parse().map_err(|error: InvalidPrice| {
        let reason = match error {
            InvalidPrice::NotANumber => RejectReason::InvalidPrice,
            InvalidPrice::NotPositive => RejectReason::PriceNotPositive,
            InvalidPrice::OutOfRange => RejectReason::PriceOutOfRange,
        };
        Rejected::new(reason, format!("price: {error}"))
    })
}

/// Unix seconds, with or without a fraction.
fn event_time(raw: Option<&RawValue>) -> Result<EventTime, Rejected> {
    let seconds = raw.and_then(|raw| decimal(digits(raw)));
    let seconds = seconds
        .ok_or_else(|| Rejected::new(RejectReason::InvalidTime, "timestamp is missing or not a number"))?;
    if seconds <= Decimal::ZERO || seconds >= Decimal::from(END_OF_TIME) {
        let detail = "timestamp is not in the years 1970 to 9999: it must be in seconds";
        return Err(Rejected::new(RejectReason::TimeOutOfRange, detail));
    }
    let microseconds = (seconds * Decimal::from(1_000_000)).trunc().normalize();
    i64::try_from(microseconds.mantissa())
        .ok()
        .and_then(EventTime::from_microseconds)
        .ok_or_else(|| Rejected::new(RejectReason::TimeOutOfRange, "timestamp is out of range"))
}

/// Whole shares. FMP gives fractions for some instruments, and a running total cut off to whole ones still only grows.
fn volume(raw: Option<&RawValue>) -> Result<Option<i64>, Rejected> {
    let Some(value) = number("volume", raw)? else {
        return Ok(None);
    };
    let whole = value
        .round_dp_with_strategy(0, RoundingStrategy::ToNegativeInfinity)
        .normalize();
    let shares = i64::try_from(whole.mantissa()).ok().filter(|shares| *shares >= 0);
    shares.map(Some).ok_or_else(|| {
        let detail = "volume is negative, or more than 64 bits hold";
        Rejected::new(RejectReason::InvalidNumber, detail)
    })
}

fn number(field: &'static str, raw: Option<&RawValue>) -> Result<Option<Decimal>, Rejected> {
    let Some(raw) = raw else {
        return Ok(None);
    };
    decimal(digits(raw)).map(Some).ok_or_else(|| {
        let detail = format!("{field} is not a number of at most 28 digits");
        Rejected::new(RejectReason::InvalidNumber, detail)
    })
}

fn short_text(field: &'static str, text: Option<Cow<'_, str>>) -> Result<Option<String>, Rejected> {
    match text {
        Some(text) if text.len() > MAX_TEXT || text.contains('\0') => {
            let detail = format!("{field} is longer than {MAX_TEXT} bytes or holds a NUL");
            Err(Rejected::new(RejectReason::InvalidText, detail))
        }
        text => Ok(text.map(Cow::into_owned).filter(|text| !text.is_empty())),
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
