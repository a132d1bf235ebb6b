//! A bar history as quotes: each bar becomes four.
//!
//! A bar does not say whether its low or its high came first. Here a day that closed at or above its open went
//! open → low → high → close, any other went open → high → low → close; either order gives back the same bar. The four
//! quotes are of 09:30, 11:00, 14:00 and 16:00 in New York. The running volume grows by a quarter each and ends at the bar's.

use std::collections::BTreeMap;

use contract::symbol::Symbol;
use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, Time, time},
    tz::TimeZone,
};
use rust_decimal::Decimal;
use snafu::{ResultExt, Snafu, ensure};

use crate::{
    bars::{Bar, Bars},
    listing::listing,
    quote::{Facts, Quote, mean},
};

/// Quotes of one bar.
pub const QUOTES_PER_BAR: usize = 4;
/// When they are, in the exchange's time.
pub const TIMES: [Time; QUOTES_PER_BAR] = [
    time(9, 30, 0, 0),
    time(11, 0, 0, 0),
    time(14, 0, 0, 0),
    time(16, 0, 0, 0),
];
/// The exchange's time zone.
pub const EXCHANGE_ZONE: &str = "America/New_York";

/// The range has no bars, or the calendar does not reach them.
#[derive(Debug, Snafu)]
pub enum Error {
    /// No bar lies in the range.
    #[snafu(display("there are no bars from {from} to {to}"))]
    Empty {
        /// The first day.
        from: Date,
        /// The last day.
        to: Date,
    },
    /// A day that no time zone reaches.
    #[snafu(display("failed to find {date} in the exchange's time zone"))]
    Calendar {
        /// Which.
        date: Date,
        /// Why.
        source: jiff::Error,
    },
}

/// The history of all symbols that have a bar in the range.
#[derive(Clone, Debug)]
pub struct History {
    tracks: BTreeMap<Symbol, Track>,
    last_day: Date,
}

/// The history of one symbol: all its bars, and which of them are replayed. Bars before those only give context (previous
/// close, the year's high and low, averages).
#[derive(Clone, Debug)]
pub struct Track {
    symbol: Symbol,
    bars: Vec<Bar>,
    first: usize,
    /// Of the bars that are replayed, four each; ascending.
    times: Vec<Timestamp>,
}

impl History {
    /// Selects the bars of a range of days, both ends included.
    ///
    /// # Errors
    /// When there are none.
    pub fn new(bars: Bars, from: Option<Date>, to: Option<Date>, zone: &TimeZone) -> Result<Self, Error> {
        let from = from.unwrap_or(Date::MIN);
        let to = to.unwrap_or(Date::MAX);
        let mut tracks = BTreeMap::new();
        let mut last_day = None;
        for (symbol, mut bars) in bars {
            bars.retain(|bar| bar.date <= to);
            let first = bars.partition_point(|bar| bar.date < from);
            if first == bars.len() {
                continue;
            }
            last_day = last_day.max(bars.last().map(|bar| bar.date));
            let mut times = Vec::with_capacity((bars.len() - first) * QUOTES_PER_BAR);
            for bar in &bars[first..] {
                for time in TIMES {
                    let moment = bar.date.to_datetime(time).to_zoned(zone.clone());
                    times.push(moment.context(CalendarSnafu { date: bar.date })?.timestamp());
                }
            }
            let track = Track {
                symbol: symbol.clone(),
                bars,
                first,
                times,
            };
            tracks.insert(symbol, track);
        }
        ensure!(last_day.is_some(), EmptySnafu { from, to });
        Ok(Self {
            tracks,
            last_day: last_day.unwrap_or(to),
        })
    }

    /// The history of a symbol.
    #[must_use]
    pub fn track(&self, symbol: &Symbol) -> Option<&Track> {
        self.tracks.get(symbol)
    }

    /// All symbols there are.
    pub fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.tracks.keys()
    }

    /// The time of the first quote of all.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        let first = self.tracks.values().filter_map(|track| track.times.first());
        first.min().copied().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The time of the last quote of all.
    #[must_use]
    pub fn last_quote(&self) -> Timestamp {
        let last = self.tracks.values().filter_map(|track| track.times.last());
        last.max().copied().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Noon (UTC) of the second day after the last bar: late enough that every window of that bar's day has closed.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        let noon = self.last_day.saturating_add(2.days()).at(12, 0, 0, 0);
        noon.to_zoned(TimeZone::UTC)
            .map_or(Timestamp::MAX, |zoned| zoned.timestamp())
    }
}

impl Track {
    /// How many quotes there are; at least four.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Never: a track has at least one bar.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The times of all quotes.
    #[must_use]
    pub fn times(&self) -> &[Timestamp] {
        &self.times
    }

    /// The quote of that number; the last one for any number beyond.
    #[must_use]
    pub fn quote(&self, number: usize) -> Quote {
        let number = number.min(self.times.len().saturating_sub(1));
        let (day, step) = (self.first + number / QUOTES_PER_BAR, number % QUOTES_PER_BAR);
        let (past, bar) = (&self.bars[..day], &self.bars[day]);
        let prices = path(bar);
        let so_far = &prices[..=step];
        let year_ago = bar.date.saturating_sub(1.year());
        let year = &past[past.partition_point(|bar| bar.date < year_ago)..];
        let average = |days: usize| {
            mean(
                past[past.len().saturating_sub(days)..]
                    .iter()
                    .map(|bar| bar.close),
            )
        };
        let facts = Facts {
            listing: listing(&self.symbol),
            price: prices[step],
            volume: running_volume(bar.volume, step),
            day_low: so_far.iter().copied().min().unwrap_or(bar.low),
            day_high: so_far.iter().copied().max().unwrap_or(bar.high),
            past_high: year.iter().map(|bar| bar.high).max(),
            past_low: year.iter().map(|bar| bar.low).min(),
            // The history does not say how many shares there were, and an invented number would be taken for a fact.
            shares: None,
            average_50: average(50),
            average_200: average(200),
            open: bar.open,
            previous_close: past.last().map(|bar| bar.close),
            timestamp: self.times[number].as_second(),
        };
        Quote::new(self.symbol.clone(), &facts)
    }
}

/// The prices of a bar in the order they are quoted.
fn path(bar: &Bar) -> [Decimal; QUOTES_PER_BAR] {
    if bar.close >= bar.open {
        [bar.open, bar.low, bar.high, bar.close]
    } else {
        [bar.open, bar.high, bar.low, bar.close]
    }
}

/// The running total at a step. Divides before it multiplies so that no volume overflows; the remainder comes with the close.
fn running_volume(volume: i64, step: usize) -> i64 {
    let quarter = volume / 4;
    match step {
        0 => quarter,
        1 => quarter * 2,
        2 => quarter * 3,
        _ => volume,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bars;

    fn zone() -> TimeZone {
        TimeZone::get(EXCHANGE_ZONE).unwrap()
    }

    fn sample(from: &str, to: &str) -> History {
        let date = |text: &str| Some(text.parse().unwrap());
        History::new(bars::sample().unwrap(), date(from), date(to), &zone()).unwrap()
    }

    /// What a candle of one day's quotes would be.
    fn candle(quotes: &[Quote]) -> (Decimal, Decimal, Decimal, Decimal, i64) {
        let prices = || quotes.iter().map(|quote| quote.price);
        (
            quotes[0].price,
            prices().max().unwrap(),
            prices().min().unwrap(),
            quotes[quotes.len() - 1].price,
            quotes[quotes.len() - 1].volume,
        )
    }

    #[test]
    fn every_bar_is_reproduced_by_its_four_quotes() {
        let bars = bars::sample().unwrap();
        let history = History::new(bars.clone(), None, None, &zone()).unwrap();
        for (symbol, days) in &bars {
            let track = history.track(symbol).unwrap();
            assert_eq!(track.len(), days.len() * QUOTES_PER_BAR);
            let mut previous: Option<Quote> = None;
            for (number, bar) in days.iter().enumerate() {
                let quotes: Vec<_> = (0..QUOTES_PER_BAR)
                    .map(|step| track.quote(number * QUOTES_PER_BAR + step))
                    .collect();
                assert_eq!(
                    candle(&quotes),
                    (bar.open, bar.high, bar.low, bar.close, bar.volume)
                );
                let last = &quotes[3];
                assert_eq!(
                    (last.day_high, last.day_low, last.open),
                    (bar.high, bar.low, bar.open)
                );
                for quote in &quotes {
                    let day = Timestamp::from_second(quote.timestamp)
                        .unwrap()
                        .to_zoned(zone())
                        .date();
                    assert_eq!(day, bar.date);
                    assert!(quote.day_low <= quote.price && quote.price <= quote.day_high);
                    assert!(quote.year_low <= quote.day_low && quote.day_high <= quote.year_high);
                    if let Some(previous) = &previous {
                        assert!(previous.timestamp < quote.timestamp);
                    }
                    previous = Some(quote.clone());
                }
                assert!(quotes.windows(2).all(|pair| pair[0].volume <= pair[1].volume));
                assert_eq!(
                    quotes[0].previous_close,
                    number.checked_sub(1).map(|before| days[before].close)
                );
            }
        }
    }

    #[test]
    fn exchange_times_follow_daylight_saving() {
        // 2012-03-09 is the last trading day of winter time, 2012-03-12 the first of summer time.
        let history = sample("2012-03-09", "2012-03-12");
        let times = history.track(&"AAPL".parse().unwrap()).unwrap().times();
        let text: Vec<_> = times.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "2012-03-09T14:30:00Z",
                "2012-03-09T16:00:00Z",
                "2012-03-09T19:00:00Z",
                "2012-03-09T21:00:00Z",
                "2012-03-12T13:30:00Z",
                "2012-03-12T15:00:00Z",
                "2012-03-12T18:00:00Z",
                "2012-03-12T20:00:00Z",
            ]
        );
    }

    #[test]
    fn the_range_keeps_its_context() {
        let history = sample("2013-03-01", "2013-03-01");
        let quote = history.track(&"AAPL".parse().unwrap()).unwrap().quote(3);
        assert_eq!(quote.previous_close.unwrap().to_string(), "441.4");
        assert_eq!(quote.change.unwrap(), quote.price - quote.previous_close.unwrap());
        assert_eq!(quote.year_high.to_string(), "705.07");
        assert!(quote.price_avg50.is_some() && quote.price_avg200.is_some());
        assert_eq!(history.end().to_string(), "2013-03-03T12:00:00Z");
        assert_eq!(history.start().to_string(), "2013-03-01T14:30:00Z");
        assert_eq!(history.last_quote().to_string(), "2013-03-01T21:00:00Z");
    }

    #[test]
    fn a_range_without_bars_is_refused() {
        let date = |text: &str| Some(text.parse().unwrap());
        let error = History::new(
            bars::sample().unwrap(),
            date("2020-01-01"),
            date("2020-12-31"),
            &zone(),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "there are no bars from 2020-01-01 to 2020-12-31"
        );
    }

    proptest! {
        #[test]
        fn any_bar_is_reproduced(
            mut cents in proptest::array::uniform4(1_i64..10_000_000),
            falls: bool,
            volume in 0_i64..=i64::MAX,
        ) {
            cents.sort_unstable();
            let [low, first, second, high] = cents.map(|cents| Decimal::new(cents, 2));
            let (open, close) = if falls { (second, first) } else { (first, second) };
            let bar = Bar { date: "2012-01-03".parse().unwrap(), open, high, low, close, volume };
            let symbol: Symbol = "A".parse().unwrap();
            let history = History::new(Bars::from([(symbol.clone(), vec![bar])]), None, None, &zone()).unwrap();
            let track = history.track(&symbol).unwrap();
            let quotes: Vec<_> = (0..QUOTES_PER_BAR).map(|step| track.quote(step)).collect();
            prop_assert_eq!(candle(&quotes), (open, high, low, close, volume));
            prop_assert!(quotes.windows(2).all(|pair| pair[0].volume <= pair[1].volume));
        }
    }
}
