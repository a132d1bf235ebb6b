//! A seeded random walk: the price of a symbol is a function of the seed, the symbol and the second.
//!
//! It is a Brownian path built by midpoint displacement: both ends of a span are fixed, the middle is their mean plus a random
//! displacement, and so on down to the second. So any moment is found in 23 steps without walking through those before it,
//! neighbouring seconds lie close together, and nothing depends on when or how often somebody asks.

use std::collections::{BTreeSet, HashMap};

use contract::symbol::Symbol;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use rust_decimal::Decimal;

use crate::{
    listing::listing,
    market::Answer,
    quote::{Facts, Quote, mean},
};

/// Seconds between two fixed points (97 days), where every path is back at its base price. A power of two.
const SPAN: i64 = 1 << 23;
/// Relative standard deviation of one second: 25 % in a year.
const VOLATILITY: f64 = 4.5e-5;
const DAY: i64 = 86_400;
/// Seconds between the moments that a day's range is made of, beside those that were asked for.
const RANGE_STEP: i64 = 300;

/// All symbols' paths.
#[derive(Clone, Debug)]
pub struct RandomWalk {
    seed: u64,
    zone: TimeZone,
    /// The symbols there are; empty for all.
    known: BTreeSet<Symbol>,
    days: HashMap<Symbol, Day>,
}

/// What is known of a symbol's current day. Only an aid: all of it could be computed anew.
#[derive(Clone, Debug)]
struct Day {
    path: Path,
    date: Date,
    midnight: i64,
    /// The last second that `high` and `low` cover.
    covered: i64,
    high: i64,
    low: i64,
    past_high: i64,
    past_low: i64,
    average_50: Option<Decimal>,
    average_200: Option<Decimal>,
}

/// One symbol's path.
#[derive(Clone, Copy, Debug)]
struct Path {
    key: u64,
    /// In cents.
    base: i64,
    shares: i64,
    shares_per_minute: i64,
}

impl RandomWalk {
    /// A walk over some symbols, or over any when none is given.
    #[must_use]
    pub fn new(seed: u64, known: BTreeSet<Symbol>, zone: TimeZone) -> Self {
        Self {
            seed,
            zone,
            known,
            days: HashMap::new(),
        }
    }

    /// Answers a request: quotes of this very second.
    pub fn answer(&mut self, now: Timestamp, symbols: &[Symbol]) -> Answer {
        let date = now.to_zoned(self.zone.clone()).date();
        let quotes = symbols
            .iter()
            .filter(|symbol| self.known.is_empty() || self.known.contains(*symbol))
            .map(|symbol| {
                let path = Path::new(self.seed, symbol);
                let day = self
                    .days
                    .entry(symbol.clone())
                    .and_modify(|day| {
                        if day.date != date {
                            *day = Day::new(path, date, &self.zone, now);
                        }
                    })
                    .or_insert_with(|| Day::new(path, date, &self.zone, now));
                day.quote(symbol, now.as_second())
            })
            .collect();
        Answer { quotes, date: now }
    }
}

impl Day {
    fn new(path: Path, date: Date, zone: &TimeZone, now: Timestamp) -> Self {
        let start = date.to_zoned(zone.clone()).map_or(now, |start| start.timestamp());
        let midnight = start.as_second();
        // Past days are looked at once each, at the second before their end: enough for averages and a year's range.
        let closes: Vec<i64> = (0..365)
            .map(|days| path.price(midnight - 1 - days * DAY))
            .collect();
        let average = |days: usize| mean(closes[..days].iter().map(|cents| Decimal::new(*cents, 2)));
        let open = path.price(midnight);
        Self {
            path,
            date,
            midnight,
            covered: midnight,
            high: open,
            low: open,
            past_high: closes.iter().copied().max().unwrap_or(open),
            past_low: closes.iter().copied().min().unwrap_or(open),
            average_50: average(50),
            average_200: average(200),
        }
    }

    fn quote(&mut self, symbol: &Symbol, second: i64) -> Quote {
        // Times that nobody asked for count as well, so that a day's range does not begin with the first question.
        let mut mark = self.covered - (self.covered - self.midnight).rem_euclid(RANGE_STEP) + RANGE_STEP;
        while mark <= second {
            self.include(self.path.price(mark));
            mark += RANGE_STEP;
        }
        self.covered = self.covered.max(second);
        let price = self.path.price(second);
        self.include(price);
        let cents = |cents: i64| Decimal::new(cents, 2);
        let facts = Facts {
            listing: listing(symbol),
            price: cents(price),
            volume: self.path.volume(self.midnight, second),
            day_low: cents(self.low),
            day_high: cents(self.high),
            past_high: Some(cents(self.past_high)),
            past_low: Some(cents(self.past_low)),
            shares: Some(self.path.shares),
            average_50: self.average_50,
            average_200: self.average_200,
            open: cents(self.path.price(self.midnight)),
            previous_close: Some(cents(self.path.price(self.midnight - 1))),
            timestamp: second,
        };
        Quote::new(symbol.clone(), &facts)
    }

    fn include(&mut self, price: i64) {
        self.high = self.high.max(price);
        self.low = self.low.min(price);
    }
}

impl Path {
    fn new(seed: u64, symbol: &Symbol) -> Self {
        let key = symbol
            .as_str()
            .bytes()
            .fold(mix(seed), |key, byte| mix(key ^ u64::from(byte)));
        let pick = |salt: u64, low: i64, high: i64| {
            low + (mix(key ^ salt) >> 16).cast_signed().rem_euclid(high - low)
        };
        Self {
            key,
            base: pick(1, 2_000, 50_000),
            shares: pick(2, 100_000, 16_000_000) * 1_000,
            shares_per_minute: pick(3, 1_000, 100_000),
        }
    }

    /// The price at a second, in cents.
    fn price(&self, second: i64) -> i64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "a made-up price of at most 50,000 cents; nothing is computed from it as a float"
        )]
        let price = (self.base as f64 * (1.0 + self.displacement(second))).round() as i64;
        price.max(1)
    }

    fn displacement(&self, second: i64) -> f64 {
        let (mut low, mut width) = (second.div_euclid(SPAN) * SPAN, SPAN);
        let (mut left, mut right) = (0.0, 0.0);
        while low != second {
            width /= 2;
            let middle = low + width;
            #[expect(clippy::cast_precision_loss, reason = "a width of at most 2^22 is exact")]
            let deviation = VOLATILITY * (width as f64 / 2.0).sqrt();
            let value =
                f64::midpoint(left, right) + deviation * normal(mix(self.key ^ middle.cast_unsigned()));
            if middle <= second {
                (low, left) = (middle, value);
            } else {
                right = value;
            }
        }
        left
    }

    /// The day's running total at a second: grows, and begins anew at midnight of the exchange.
    fn volume(&self, midnight: i64, second: i64) -> i64 {
        let since = second - midnight;
        let at = |minute: i64| {
            // Less than one minute's shares are added, so that a later minute never has less.
            let extra = mix(self.key ^ mix((midnight + minute * 60).cast_unsigned())) >> 16;
            let extra = if minute == 0 {
                0
            } else {
                extra.cast_signed().rem_euclid(self.shares_per_minute)
            };
            minute * self.shares_per_minute + extra
        };
        let minute = since.div_euclid(60);
        let (from, to) = (at(minute), at(minute + 1));
        from + (to - from) * since.rem_euclid(60) / 60
    }
}

/// Sixty-four well-mixed bits (`SplitMix64`).
const fn mix(value: u64) -> u64 {
    let mut bits = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Nearly a standard normal number: the sum of four uniform ones, scaled. Only additions, so every machine agrees.
fn normal(bits: u64) -> f64 {
    let sum: u32 = (0..4)
        .map(|part| u32::try_from((bits >> (16 * part)) & 0xffff).unwrap_or(0))
        .sum();
    (f64::from(sum) / 65_536.0 - 2.0) * 1.732_050_807_568_877_2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::EXCHANGE_ZONE;

    fn walk(seed: u64) -> RandomWalk {
        RandomWalk::new(seed, BTreeSet::new(), TimeZone::get(EXCHANGE_ZONE).unwrap())
    }

    fn at(walk: &mut RandomWalk, second: i64) -> Quote {
        let now = Timestamp::from_second(second).unwrap();
        walk.answer(now, &["AAPL".parse().unwrap()]).quotes.remove(0)
    }

    /// 2026-11-01 05:00 UTC, when the day of 25 hours began in New York an hour ago.
    const START: i64 = 1_793_509_200;

    #[test]
    fn the_same_seed_gives_the_same_quotes_whoever_asked_before() {
        let (mut busy, mut idle, mut other) = (walk(7), walk(7), walk(8));
        let mut differs = false;
        for second in (START..START + 7_200).step_by(7) {
            let quote = at(&mut busy, second);
            differs |= quote.price != at(&mut other, second).price;
        }
        assert!(differs);
        let (busy, idle) = (at(&mut busy, START + 7_200), at(&mut idle, START + 7_200));
        assert_eq!(
            (busy.price, busy.volume, busy.open),
            (idle.price, idle.volume, idle.open)
        );
    }

    #[test]
    fn prices_move_little_and_stay_within_the_days_range() {
        let mut walk = walk(1);
        let mut previous = at(&mut walk, START);
        let mut moves = 0;
        for second in START + 1..START + 5_000 {
            let quote = at(&mut walk, second);
            assert!((quote.price - previous.price).abs() < quote.price / Decimal::ONE_HUNDRED);
            assert!(quote.day_low <= quote.price && quote.price <= quote.day_high);
            assert!(quote.day_high >= previous.day_high && quote.day_low <= previous.day_low);
            assert_eq!(quote.timestamp, second);
            moves += u32::from(quote.price != previous.price);
            previous = quote;
        }
        assert!(moves > 500, "{moves}");
    }

    #[test]
    fn volume_grows_within_a_day_and_begins_anew() {
        let mut walk = walk(1);
        let zone = TimeZone::get(EXCHANGE_ZONE).unwrap();
        let day = |second: i64| {
            Timestamp::from_second(second)
                .unwrap()
                .to_zoned(zone.clone())
                .date()
        };
        let mut previous = at(&mut walk, START);
        let mut resets = 0;
        for second in (START..START + 3 * DAY + 3_600).step_by(13).skip(1) {
            let quote = at(&mut walk, second);
            if day(second) == day(previous.timestamp) {
                assert!(quote.volume >= previous.volume, "at {second}");
            } else {
                assert!(quote.volume < previous.volume, "at {second}");
                resets += 1;
            }
            previous = quote;
        }
        assert_eq!(resets, 3);
    }

    #[test]
    fn only_known_symbols_are_quoted_when_some_are_named() {
        let known = BTreeSet::from(["IBM".parse().unwrap()]);
        let mut walk = RandomWalk::new(1, known, TimeZone::UTC);
        let asked = ["AAPL".parse().unwrap(), "IBM".parse().unwrap()];
        let answer = walk.answer(Timestamp::from_second(START).unwrap(), &asked);
        assert_eq!(answer.quotes.len(), 1);
    }
}
