//! Reads FMP's answers. Pure.
//!
//! Fields that are not known are ignored. A quote that is wrong does not spoil its neighbours.

use std::borrow::Cow;

use contract::{
    config::TimeFormat,
    symbol::Symbol,
    tick::{MAX_TEXT, RejectReason, Rejected, Tick},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::source::{
    round::Entry,
    value::{self, event_time, number, price, volume},
};

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
    symbol: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
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
    exchange: Option<&'a RawValue>,
    #[serde(borrow, default)]
    open: Option<&'a RawValue>,
    #[serde(borrow, default)]
    previous_close: Option<&'a RawValue>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
}

fn quote(text: &str, asked: &[Symbol]) -> Entry {
    let undecodable = |error: serde_json::Error| {
        let rejected = Rejected::new(RejectReason::Undecodable, error.to_string());
        (None, rejected)
    };
    let wire: Wire<'_> = serde_json::from_str(text).map_err(undecodable)?;
    let symbol: Cow<'_, str> = match wire.symbol {
        Some(raw) => serde_json::from_str(raw.get()).map_err(undecodable)?,
        None => Cow::Borrowed(""),
    };
    let symbol = value::symbol(&symbol, asked).map_err(|rejected| (None, rejected))?;
    tick(symbol.clone(), &wire).map_err(|rejected| (Some(symbol), rejected))
}

fn tick(symbol: Symbol, wire: &Wire<'_>) -> Result<Tick, Rejected> {
    Ok(Tick {
        symbol,
        price: price("price", wire.price)?,
        event_time: event_time("timestamp", wire.timestamp, TimeFormat::UnixSeconds)?,
        volume: volume("volume", wire.volume)?,
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

fn short_text(field: &str, raw: Option<&RawValue>) -> Result<Option<String>, Rejected> {
    let Some(raw) = raw else {
        return Ok(None);
    };
    let text: Option<String> = serde_json::from_str(raw.get()).ok();
    match text {
        Some(text) if text.len() <= MAX_TEXT && !text.contains('\0') => {
            Ok(Some(text).filter(|text| !text.is_empty()))
        }
        _ => {
            let detail = format!("{field} is not a text, longer than {MAX_TEXT} bytes, or holds a NUL");
            Err(Rejected::new(RejectReason::InvalidText, detail))
        }
    }
}

#[cfg(test)]
mod tests;
