//! The two ways to replay a history.

use std::collections::BTreeMap;

use contract::symbol::Symbol;
use jiff::{SignedDuration, Timestamp};

use crate::{history::History, market::Answer, quote::Quote};

/// A symbol that was not asked for in as many requests no longer holds the simulated time back: its client has gone on
/// without it.
const FORGOTTEN_AFTER: u64 = 2_000;

/// By step: each request gives the next quote of each symbol asked for, whatever the time, and at the end the last one
/// again. Each symbol has its own place, so that none of its quotes is missed; for one client at a time.
///
/// The simulated time is the least of the times reached by the symbols that were asked for and have more to come.
/// When none has, it is [`History::end`], so that every window closes.
#[derive(Clone, Debug)]
pub struct StepReplay {
    history: History,
    places: BTreeMap<Symbol, Place>,
    requests: u64,
}

/// How far a symbol has come.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The number of its next quote.
    next: usize,
    /// The request that asked for it last.
    asked: u64,
}

impl StepReplay {
    /// From the start.
    #[must_use]
    pub fn new(history: History) -> Self {
        Self {
            history,
            places: BTreeMap::new(),
            requests: 0,
        }
    }

    /// What a request would be answered, without going on.
    #[must_use]
    pub fn peek(&self, symbols: &[Symbol]) -> Answer {
        let tracks = symbols
            .iter()
            .filter_map(|symbol| self.history.track(symbol).map(|track| (symbol, track)));
        let next = |symbol| self.places.get(symbol).map_or(0, |place| place.next);
        Answer {
            quotes: tracks.map(|(symbol, track)| track.quote(next(symbol))).collect(),
            date: self.now(),
        }
    }

    /// Answers a request and goes on.
    pub fn advance(&mut self, symbols: &[Symbol]) -> Answer {
        self.requests += 1;
        let mut quotes = Vec::with_capacity(symbols.len());
        for symbol in symbols {
            let Some(track) = self.history.track(symbol) else {
                continue;
            };
            let place = self
                .places
                .entry(symbol.clone())
                .or_insert(Place { next: 0, asked: 0 });
            quotes.push(track.quote(place.next));
            place.next = (place.next + 1).min(track.len());
            place.asked = self.requests;
        }
        Answer {
            quotes,
            date: self.now(),
        }
    }

    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        if self.places.is_empty() {
            return self.history.start();
        }
        let waiting = self.places.iter().filter_map(|(symbol, place)| {
            let times = self.history.track(symbol)?.times();
            let holds = place.next < times.len() && self.requests - place.asked < FORGOTTEN_AFTER;
            if holds {
                place.next.checked_sub(1).map(|latest| times[latest])
            } else {
                None
            }
        });
        waiting.min().unwrap_or_else(|| self.history.end())
    }

    /// Whether every symbol that was asked for has been served to its end.
    #[must_use]
    pub fn exhausted(&self) -> bool {
        let at_end = |(symbol, place): (&Symbol, &Place)| {
            self.history
                .track(symbol)
                .is_none_or(|track| place.next == track.len())
        };
        !self.places.is_empty() && self.places.iter().all(at_end)
    }

    /// How many different quotes each symbol has been served, and how many it has.
    pub fn progress(&self) -> impl Iterator<Item = (&Symbol, usize, usize)> {
        self.places.iter().filter_map(|(symbol, place)| {
            let track = self.history.track(symbol)?;
            Some((symbol, place.next, track.len()))
        })
    }

    /// Back to the start.
    pub fn reset(&mut self) {
        self.places.clear();
        self.requests = 0;
    }
}

/// By time: a simulated clock runs from the first quote on, and an answer holds the newest quote of each symbol up to its
/// time. Quotes between two requests are passed over, as at a real source.
#[derive(Clone, Debug)]
pub struct TimeReplay {
    history: History,
    started: Timestamp,
    speed: f64,
}

impl TimeReplay {
    /// Starts the simulated clock.
    #[must_use]
    pub const fn new(history: History, started: Timestamp, speed: f64) -> Self {
        Self {
            history,
            started,
            speed,
        }
    }

    /// Answers a request.
    #[must_use]
    pub fn answer(&self, now: Timestamp, symbols: &[Symbol]) -> Answer {
        let date = self.simulated(now);
        Answer {
            quotes: symbols
                .iter()
                .filter_map(|symbol| self.newest(symbol, date))
                .collect(),
            date,
        }
    }

    /// The simulated time.
    #[must_use]
    pub fn simulated(&self, now: Timestamp) -> Timestamp {
        let passed = now.duration_since(self.started).as_secs_f64().max(0.0) * self.speed;
        let passed = SignedDuration::try_from_secs_f64(passed).unwrap_or(SignedDuration::MAX);
        self.history
            .start()
            .saturating_add(passed)
            .unwrap_or(Timestamp::MAX)
    }

    /// Whether the last quote of all has been reached.
    #[must_use]
    pub fn exhausted(&self, now: Timestamp) -> bool {
        self.history.last_quote() <= self.simulated(now)
    }

    /// Back to the start.
    pub fn reset(&mut self, now: Timestamp) {
        self.started = now;
    }

    fn newest(&self, symbol: &Symbol, date: Timestamp) -> Option<Quote> {
        let track = self.history.track(symbol)?;
        let reached = track.times().partition_point(|time| *time <= date);
        reached.checked_sub(1).map(|number| track.quote(number))
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::{bars, history::EXCHANGE_ZONE};

    fn history(from: &str, to: &str) -> History {
        let zone = TimeZone::get(EXCHANGE_ZONE).unwrap();
        let date = |text: &str| Some(text.parse().unwrap());
        History::new(bars::sample().unwrap(), date(from), date(to), &zone).unwrap()
    }

    fn symbols(texts: &[&str]) -> Vec<Symbol> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_symbol_steps_through_all_its_quotes() {
        let mut replay = StepReplay::new(history("2012-05-17", "2012-05-18"));
        let both = symbols(&["AAPL", "FB"]);
        assert_eq!(
            replay.now().to_string(),
            "2012-05-17T13:30:00Z",
            "before the first request"
        );
        let mut seen = Vec::new();
        for _ in 0..8 {
            assert!(!replay.exhausted());
            let peeked = replay.peek(&both).quotes;
            let answer = replay.advance(&both);
            assert_eq!(peeked, answer.quotes);
            seen.push(answer);
        }
        assert!(replay.exhausted());
        let of = |name: &str| -> Vec<i64> {
            let quotes = seen.iter().flat_map(|answer| &answer.quotes);
            quotes
                .filter(|quote| quote.symbol.as_str() == name)
                .map(|quote| quote.timestamp)
                .collect()
        };
        assert!(of("AAPL").windows(2).all(|pair| pair[0] < pair[1]), "none twice");
        // FB has one bar in the range (its first day), so it repeats its last quote from the fifth request on.
        assert_eq!(of("FB")[3..], [of("FB")[3]; 5]);
        assert_eq!(
            replay
                .progress()
                .map(|(_, next, of)| (next, of))
                .collect::<Vec<_>>(),
            [(8, 8), (4, 4)]
        );
        assert_eq!(seen[7].date.to_string(), "2012-05-20T12:00:00Z");
        assert_eq!(replay.advance(&both).date, seen[7].date, "and stays there");
    }

    #[test]
    fn nothing_older_than_the_date_follows() {
        let mut replay = StepReplay::new(history("2012-03-01", "2012-03-30"));
        let chunks = [symbols(&["AAPL", "IBM"]), symbols(&["MSFT"]), symbols(&["NONE"])];
        let mut bound = Timestamp::MIN;
        for round in 0..200 {
            for chunk in &chunks {
                let answer = replay.advance(chunk);
                // The first round has no promise to break yet: a symbol may join with older quotes.
                if round > 0 {
                    assert!(answer.date >= bound);
                    let known = answer.quotes.iter().filter(|_| !replay.exhausted());
                    assert!(known.clone().all(|quote| quote.timestamp >= bound.as_second()));
                }
                bound = answer.date;
            }
        }
        assert_eq!(bound.to_string(), "2012-04-01T12:00:00Z");
    }

    #[test]
    fn a_symbol_that_nobody_asks_for_any_more_does_not_hold_time_back() {
        let mut replay = StepReplay::new(history("2012-01-01", "2012-12-31"));
        replay.advance(&symbols(&["AAPL", "IBM"]));
        let held = replay.now();
        for _ in 1..FORGOTTEN_AFTER {
            replay.advance(&symbols(&["AAPL"]));
        }
        assert_eq!(replay.now(), held);
        replay.advance(&symbols(&["AAPL"]));
        assert!(replay.now() > held);
    }

    #[test]
    fn time_runs_at_its_speed() {
        let started: Timestamp = "2026-11-20T00:00:00Z".parse().unwrap();
        let replay = TimeReplay::new(history("2012-03-01", "2012-03-02"), started, 60.0);
        let after = |seconds: i64| started + SignedDuration::from_secs(seconds);
        let asked = symbols(&["AAPL", "NONE"]);
        let first = replay.answer(after(0), &asked);
        assert_eq!(first.date.to_string(), "2012-03-01T14:30:00Z");
        assert_eq!(first.quotes.len(), 1);
        let before = replay.answer(after(89), &asked);
        assert_eq!(before.quotes, first.quotes);
        let second = replay.answer(after(90), &asked);
        assert_eq!(second.quotes[0].timestamp - first.quotes[0].timestamp, 90 * 60);
        assert!(!replay.exhausted(after(90)));
        assert!(replay.exhausted(after(86_400)));
        let end = replay.answer(after(86_400), &asked);
        assert_eq!(
            end.quotes[0].timestamp,
            "2012-03-02T21:00:00Z".parse::<Timestamp>().unwrap().as_second()
        );
        assert!(
            end.date.as_second() > end.quotes[0].timestamp,
            "time goes on after the last quote"
        );
    }
}
