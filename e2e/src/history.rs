//! What a replay of the history must leave in the database, worked out from the file alone.
//!
//! Nothing of the simulator or the engine is used here: the rule of its quotes (`fmp-simulator --help`) is written once more.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use flate2::read::GzDecoder;
use jiff::{
    civil::{Date, time},
    tz::TimeZone,
};
use rust_decimal::Decimal;
use serde::Deserialize;

/// The file that the simulator brings along.
const FILE: &[u8] = include_bytes!("../../workers/fmp-simulator/data/daily-bars.csv.gz");

/// A day of a symbol.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Bar {
    /// The symbol.
    #[serde(rename = "Ticker")]
    pub symbol: String,
    /// The exchange's day.
    pub date: Date,
    /// First price.
    pub open: Decimal,
    /// Highest price.
    pub high: Decimal,
    /// Lowest price.
    pub low: Decimal,
    /// Last price.
    pub close: Decimal,
    /// Shares.
    pub volume: i64,
}

/// A row of `stock_data`, as far as the bar decides it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick {
    /// The symbol.
    pub symbol: String,
    /// Seconds since 1970.
    pub second: i64,
    /// The price.
    pub price: Decimal,
    /// The day's running total.
    pub volume: Option<i64>,
}

/// The bars of some symbols in a range of days, both ends included.
///
/// # Errors
/// When the file is not what it should be.
pub fn bars(symbols: &[&str], from: Date, to: Date) -> Result<Vec<Bar>> {
    let mut bars = Vec::new();
    for line in csv::Reader::from_reader(GzDecoder::new(FILE)).deserialize() {
        let bar: Bar = line.context("failed to read a bar")?;
        if symbols.contains(&bar.symbol.as_str()) && (from..=to).contains(&bar.date) {
            bars.push(bar);
        }
    }
    Ok(bars)
}

/// The four ticks of a bar: 09:30, 11:00, 14:00 and 16:00 in New York, open first and close last, low before high on a day that
/// did not fall; the volume in quarters, all of it at the end.
///
/// # Errors
/// When the day is on no calendar.
pub fn ticks(bar: &Bar) -> Result<[Tick; 4]> {
    let zone = TimeZone::get("America/New_York")?;
    let (second, third) = if bar.close < bar.open {
        (bar.high, bar.low)
    } else {
        (bar.low, bar.high)
    };
    let tick = |hour: i8, minute: i8, price: Decimal, volume: i64| -> Result<Tick> {
        let moment = bar
            .date
            .to_datetime(time(hour, minute, 0, 0))
            .to_zoned(zone.clone())?;
        Ok(Tick {
            symbol: bar.symbol.clone(),
            second: moment.timestamp().as_second(),
            price,
            volume: Some(volume),
        })
    };
    let quarter = bar.volume / 4;
    Ok([
        tick(9, 30, bar.open, quarter)?,
        tick(11, 0, second, 2 * quarter)?,
        tick(14, 0, third, 3 * quarter)?,
        tick(16, 0, bar.close, bar.volume)?,
    ])
}

/// What is missing in one list and what is too much, each with its count; empty when both hold the same.
#[must_use]
pub fn differences<T: Clone + Ord + std::fmt::Debug>(expected: &[T], found: &[T]) -> Vec<String> {
    let mut counts: BTreeMap<&T, i64> = BTreeMap::new();
    for item in expected {
        *counts.entry(item).or_default() -= 1;
    }
    for item in found {
        *counts.entry(item).or_default() += 1;
    }
    counts
        .into_iter()
        .filter(|(_, count)| *count != 0)
        .map(|(item, count)| {
            if count < 0 {
                format!("{} × missing: {item:?}", -count)
            } else {
                format!("{count} × too much: {item:?}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_the_test_has_873_bars_and_3492_ticks() {
        let day = |text: &str| text.parse::<Date>().unwrap();
        let bars = bars(&["AAPL", "IBM", "MSFT"], day("2012-01-01"), day("2013-12-31")).unwrap();
        assert_eq!(bars.len(), 873);
        let ticks: Vec<_> = bars.iter().flat_map(|bar| ticks(bar).unwrap()).collect();
        assert_eq!(ticks.len(), 3_492);
        let unique: std::collections::BTreeSet<_> = ticks.iter().collect();
        assert_eq!(unique.len(), ticks.len());
    }

    #[test]
    fn differences_name_what_is_missing_and_what_is_too_much() {
        assert!(differences(&[1, 2, 2], &[2, 1, 2]).is_empty());
        assert_eq!(
            differences(&[1, 2], &[2, 2]),
            ["1 × missing: 1", "1 × too much: 2"]
        );
    }
}
