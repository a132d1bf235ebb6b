//! A quote as FMP writes it.

use contract::symbol::Symbol;
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::listing::Listing;

/// A quote. Prices are written as JSON numbers with exactly the digits they have here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quote {
    /// The symbol.
    pub symbol: Symbol,
    /// The company.
    pub name: Option<&'static str>,
    /// The price.
    #[serde(serialize_with = "exact")]
    pub price: Decimal,
    /// The change in percent of the previous close, at most five decimals.
    #[serde(serialize_with = "exact_option")]
    pub change_percentage: Option<Decimal>,
    /// Price less previous close.
    #[serde(serialize_with = "exact_option")]
    pub change: Option<Decimal>,
    /// The day's running total.
    pub volume: i64,
    /// The day's lowest price so far.
    #[serde(serialize_with = "exact")]
    pub day_low: Decimal,
    /// The day's highest price so far.
    #[serde(serialize_with = "exact")]
    pub day_high: Decimal,
    /// The highest price of the past year.
    #[serde(serialize_with = "exact")]
    pub year_high: Decimal,
    /// The lowest price of the past year.
    #[serde(serialize_with = "exact")]
    pub year_low: Decimal,
    /// Price times shares, where the number of shares is known.
    #[serde(serialize_with = "exact_option")]
    pub market_cap: Option<Decimal>,
    /// The mean close of the 50 days before.
    #[serde(serialize_with = "exact_option")]
    pub price_avg50: Option<Decimal>,
    /// The mean close of the 200 days before.
    #[serde(serialize_with = "exact_option")]
    pub price_avg200: Option<Decimal>,
    /// The exchange.
    pub exchange: Option<&'static str>,
    /// The day's first price.
    #[serde(serialize_with = "exact")]
    pub open: Decimal,
    /// The last price of the day before.
    #[serde(serialize_with = "exact_option")]
    pub previous_close: Option<Decimal>,
    /// When, in seconds since 1970.
    pub timestamp: i64,
}

/// What a quote is made of; the rest follows from it.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Company and exchange.
    pub listing: Listing,
    /// The price.
    pub price: Decimal,
    /// The day's running total.
    pub volume: i64,
    /// The day's lowest price so far.
    pub day_low: Decimal,
    /// The day's highest price so far.
    pub day_high: Decimal,
    /// The highest price of the year before this day, if any.
    pub past_high: Option<Decimal>,
    /// The lowest price of the year before this day, if any.
    pub past_low: Option<Decimal>,
    /// The number of shares, where known.
    pub shares: Option<i64>,
    /// The mean close of the 50 days before.
    pub average_50: Option<Decimal>,
    /// The mean close of the 200 days before.
    pub average_200: Option<Decimal>,
    /// The day's first price.
    pub open: Decimal,
    /// The last price of the day before.
    pub previous_close: Option<Decimal>,
    /// When, in seconds since 1970.
    pub timestamp: i64,
}

impl Quote {
    /// Completes the facts to a quote.
    #[must_use]
    pub fn new(symbol: Symbol, facts: &Facts) -> Self {
        let change = facts.previous_close.map(|close| facts.price - close);
        let change_percentage = facts
            .previous_close
            .and_then(|close| (facts.price - close).checked_div(close))
            .map(|part| (part * Decimal::ONE_HUNDRED).round_dp(5).normalize());
        Self {
            symbol,
            name: facts.listing.name,
            price: facts.price,
            change_percentage,
            change,
            volume: facts.volume,
            day_low: facts.day_low,
            day_high: facts.day_high,
            year_high: facts
                .past_high
                .map_or(facts.day_high, |past| past.max(facts.day_high)),
            year_low: facts
                .past_low
                .map_or(facts.day_low, |past| past.min(facts.day_low)),
            market_cap: facts.shares.map(|shares| facts.price * Decimal::from(shares)),
            price_avg50: facts.average_50,
            price_avg200: facts.average_200,
            exchange: facts.listing.exchange,
            open: facts.open,
            previous_close: facts.previous_close,
            timestamp: facts.timestamp,
        }
    }
}

/// The mean, at most five decimals; `None` of nothing.
#[must_use]
pub fn mean(values: impl ExactSizeIterator<Item = Decimal>) -> Option<Decimal> {
    let count = Decimal::from(values.len());
    let sum: Decimal = values.sum();
    sum.checked_div(count).map(|mean| mean.round_dp(5).normalize())
}

fn exact<S: Serializer>(value: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    RawValue::from_string(value.to_string())
        .map_err(serde::ser::Error::custom)?
        .serialize(serializer)
}

fn exact_option<S: Serializer>(value: &Option<Decimal>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => exact(value, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::listing;

    #[test]
    fn digits_are_written_as_they_are() {
        let symbol: Symbol = "AAPL".parse().unwrap();
        let facts = Facts {
            listing: listing(&symbol),
            price: "127.0".parse().unwrap(),
            volume: 9_616_100,
            day_low: "118.50".parse().unwrap(),
            day_high: "9999999.123456789012345".parse().unwrap(),
            past_high: None,
            past_low: Some("1".parse().unwrap()),
            shares: None,
            average_50: mean(["1".parse().unwrap(), "2".parse().unwrap()].into_iter()),
            average_200: mean(std::iter::empty::<Decimal>().collect::<Vec<_>>().into_iter()),
            open: "118.56".parse().unwrap(),
            previous_close: Some("130.31".parse().unwrap()),
            timestamp: 951_921_000,
        };
        let text = serde_json::to_string(&Quote::new(symbol, &facts)).unwrap();
        let expected = concat!(
            r#"{"symbol":"AAPL","name":"Apple Inc.","price":127.0,"changePercentage":-2.5401,"change":-3.31,"#,
            r#""volume":9616100,"dayLow":118.50,"dayHigh":9999999.123456789012345,"yearHigh":9999999.123456789012345,"#,
            r#""yearLow":1,"marketCap":null,"priceAvg50":1.5,"priceAvg200":null,"exchange":"NASDAQ","open":118.56,"#,
            r#""previousClose":130.31,"timestamp":951921000}"#
        );
        assert_eq!(text, expected);
    }
}
