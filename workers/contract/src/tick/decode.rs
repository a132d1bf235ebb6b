//! Reading a body. Nothing is copied that need not be: a tick borrows its texts from the message.

use std::borrow::Cow;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{MAX_TEXT, RejectReason, Rejected, Tick};
use crate::{
    event_time::{EventTime, InvalidTime},
    price::{InvalidPrice, Price, decimal},
    symbol::{self, InvalidSymbol, Symbol},
};

/// A tick as it stands in a body, checked. The fields are those of [`Tick`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Wire<'a>", bound(deserialize = "'de: 'a"))]
pub struct TickRef<'a> {
    /// Whose; by the rules of [`Symbol`].
    pub symbol: Cow<'a, str>,
    /// The price.
    pub price: Price,
    /// When, at the exchange.
    pub event_time: EventTime,
    /// The day's running total of shares.
    pub volume: Option<i64>,
    /// In the quote's currency.
    pub market_cap: Option<Decimal>,
    /// The day's first price.
    pub open: Option<Decimal>,
    /// The day's highest price so far.
    pub day_high: Option<Decimal>,
    /// The day's lowest price so far.
    pub day_low: Option<Decimal>,
    /// The day before's last price.
    pub previous_close: Option<Decimal>,
    /// Price less previous close.
    pub change: Option<Decimal>,
    /// The change in percent of the previous close.
    pub change_percentage: Option<Decimal>,
    /// The exchange's short name.
    pub exchange: Option<Cow<'a, str>>,
    /// The company's name.
    pub name: Option<Cow<'a, str>>,
}

/// One entry of a body: a tick, or the raw text of what is none with the reason.
pub type Entry<'a> = Result<TickRef<'a>, (Rejected, &'a str)>;

/// Reads a body: an array of ticks, or one tick. A tick that is wrong does not spoil its neighbours: each entry is a
/// result of its own, in the body's order.
///
/// # Errors
/// [`RejectReason::Undecodable`] when the body as a whole is neither a JSON array nor a JSON object.
pub fn decode(body: &[u8]) -> Result<Vec<Entry<'_>>, Rejected> {
    let text = std::str::from_utf8(body).map_err(|error| undecodable(&error))?;
    let is_array = text.trim_start().starts_with('[');
    // In one go, which almost every body passes. One that does not is read again, entry by entry, to tell which is wrong.
    if is_array && let Ok(ticks) = serde_json::from_str::<Vec<TickRef<'_>>>(text) {
        return Ok(ticks.into_iter().map(Ok).collect());
    }
    if is_array {
        let entries: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| undecodable(&error))?;
        return Ok(entries.into_iter().map(|entry| decode_one(entry.get())).collect());
    }
    let entry: &RawValue = serde_json::from_str(text).map_err(|error| undecodable(&error))?;
    if !entry.get().starts_with('{') {
        return Err(undecodable(&"neither an array nor an object"));
    }
    Ok(vec![decode_one(entry.get())])
}

/// The entries of a body as they stand in it, in its order; empty for a body that [`decode`] refuses.
#[must_use]
pub fn raw_entries(body: &[u8]) -> Vec<&str> {
    if let Ok(entries) = serde_json::from_slice::<Vec<&RawValue>>(body) {
        return entries.into_iter().map(RawValue::get).collect();
    }
    let entry = serde_json::from_slice::<&RawValue>(body);
    entry.map(RawValue::get).into_iter().collect()
}

fn undecodable(error: &dyn std::fmt::Display) -> Rejected {
    Rejected::new(RejectReason::Undecodable, error.to_string())
}

fn decode_one(text: &str) -> Entry<'_> {
    let wire: Result<Wire<'_>, _> = serde_json::from_str(text);
    wire.map_err(|error| undecodable(&error))
        .and_then(TickRef::try_from)
        .map_err(|rejected| (rejected, text))
}

/// A tick as it stands in the body: numbers stay text, so that no digit is lost on the way through a float.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    symbol: Option<Text<'a>>,
    #[serde(borrow, default)]
    price: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event_time: Option<Text<'a>>,
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
    exchange: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
}

/// Serde borrows a [`Cow`] only where it stands alone, not within an `Option`.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> TryFrom<Wire<'a>> for TickRef<'a> {
    type Error = Rejected;

    fn try_from(wire: Wire<'a>) -> Result<Self, Rejected> {
        let Text(symbol) = wire
            .symbol
            .ok_or_else(|| Rejected::new(RejectReason::InvalidSymbol, "symbol is missing"))?;
        symbol::check(&symbol)
            .map_err(|error: InvalidSymbol| Rejected::new(RejectReason::InvalidSymbol, error.to_string()))?;
        let Text(time) = wire
            .event_time
            .ok_or_else(|| Rejected::new(RejectReason::InvalidTime, "event_time is missing"))?;
        let event_time = time.parse().map_err(|error: InvalidTime| {
            Rejected::new(RejectReason::InvalidTime, format!("event_time is {error}"))
        })?;
        Ok(Self {
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
}

impl TickRef<'_> {
    /// A copy that outlives the message.
    ///
    /// # Errors
    /// None for a tick that was decoded: its symbol was checked.
    pub fn to_tick(&self) -> Result<Tick, InvalidSymbol> {
        let text = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
        Ok(Tick {
            symbol: self.symbol.parse::<Symbol>()?,
            price: self.price,
            event_time: self.event_time,
            volume: self.volume,
            market_cap: self.market_cap,
            open: self.open,
            day_high: self.day_high,
            day_low: self.day_low,
            previous_close: self.previous_close,
            change: self.change,
            change_percentage: self.change_percentage,
            exchange: text(&self.exchange),
            name: text(&self.name),
        })
    }
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
    // Whole numbers are plain digits, nearly always.
    if let Some(shares) = raw.and_then(|raw| digits(raw).parse::<i64>().ok())
        && shares >= 0
    {
        return Ok(Some(shares));
    }
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

fn short_text<'a>(field: &'static str, text: Option<Text<'a>>) -> Result<Option<Cow<'a, str>>, Rejected> {
    match text.map(|Text(text)| text) {
        Some(text) if text.len() > MAX_TEXT || text.contains('\0') => {
            let detail = format!("{field} is longer than {MAX_TEXT} bytes or holds a NUL");
            Err(Rejected::new(RejectReason::InvalidText, detail))
        }
        text => Ok(text),
    }
}

/// The digits of a JSON number, or of a JSON string that holds one.
fn digits(raw: &RawValue) -> &str {
    let text = raw.get();
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text)
}
