//! The partial candles of one batch.

use std::collections::HashMap;

use contract::{event_time::EventTime, window::WindowWidth};

use crate::{
    calendar::Window,
    candle::{Observation, PartialCandle},
    partition::SymbolId,
};

/// Which candle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CandleKey {
    /// Whose.
    pub symbol: SymbolId,
    /// How wide.
    pub width: WindowWidth,
    /// Where it starts.
    pub start: EventTime,
}

/// Partial candles by symbol, width and window. The candle that a symbol's last tick went to is found without hashing: ticks
/// come in order, nearly.
#[derive(Clone, Debug, Default)]
pub struct Candles {
    parts: Vec<(CandleKey, PartialCandle)>,
    places: HashMap<CandleKey, usize>,
    /// For each symbol and width, the place of the candle that was folded into last, plus one; zero when there is none.
    latest: Vec<usize>,
}

impl Candles {
    /// Folds a tick into one window of one width. `slot` is dense over symbols and widths, and always the same for a pair.
    pub(crate) fn fold(
        &mut self,
        slot: usize,
        (symbol, width): (SymbolId, WindowWidth),
        window: Window,
        observation: &Observation,
        after_end: bool,
    ) {
        if slot >= self.latest.len() {
            self.latest.resize(slot + 1, 0);
        }
        if let Some(place) = self.latest[slot].checked_sub(1)
            && self.parts[place].0.start == window.start
        {
            return self.parts[place].1.add(observation, after_end);
        }
        let key = CandleKey {
            symbol,
            width,
            start: window.start,
        };
        let place = match self.places.get(&key) {
            Some(place) => {
                self.parts[*place].1.add(observation, after_end);
                *place
            }
            None => {
                let place = self.parts.len();
                self.parts
                    .push((key, PartialCandle::of(observation, window, after_end)));
                self.places.insert(key, place);
                place
            }
        };
        self.latest[slot] = place + 1;
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// All of them in the order of their keys, which is the order in which everybody locks the stored ones.
    #[must_use]
    pub fn sorted(&self) -> Vec<&(CandleKey, PartialCandle)> {
        let mut sorted: Vec<_> = self.parts.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        sorted
    }
}
