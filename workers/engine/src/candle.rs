//! Candles, folded from ticks.
//!
//! A partial candle is what one batch knows of one window. Merging is associative and commutative, so neither the order of
//! ticks nor the way they are cut into batches changes the result:
//!
//! | field | fold | tie-break |
//! |---|---|---|
//! | open | the tick with the smallest [`TickKey`] | the lower price |
//! | close | the tick with the largest [`TickKey`] | the higher price |
//! | high, low | largest, smallest price | none needed |
//! | running volume | that of the largest [`TickKey`] which has one | the larger total |
//! | count, sums | exact sums | none needed |
//!
//! Keys of numbered messages are unique, so the tie-breaks on price decide only among ticks that were published without
//! publisher and sequence.

use contract::{price::Price, tick::Tick};

use crate::{calendar::Window, key::TickKey};

/// What one batch of ticks makes of one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialCandle {
    /// The window.
    pub window: Window,
    /// Price of the first tick.
    pub open: Price,
    /// Highest price.
    pub high: Price,
    /// Lowest price.
    pub low: Price,
    /// Price of the last tick.
    pub close: Price,
    /// Key of the first tick.
    pub first_key: TickKey,
    /// Key of the last tick.
    pub last_key: TickKey,
    /// The day's running total of shares at the last tick that had one.
    pub volume: Option<RunningVolume>,
    /// Ticks.
    pub tick_count: i64,
    /// Sum of prices in units of 10^-10.
    pub price_sum: i128,
    /// Sum of squared prices in units of 10^-12.
    pub price_square_sum: i128,
    /// Ticks that came after the window had ended in event time: each is a revision of a final candle.
    pub revisions: i64,
}

/// A running total and the tick that it is from. Compared by the tick, then by the total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunningVolume {
    /// Key of the tick.
    pub key: TickKey,
    /// Shares since the day began.
    pub total: i64,
}

impl PartialCandle {
    /// The candle of a single tick.
    #[must_use]
    pub fn of(tick: &Tick, key: TickKey, window: Window, after_end: bool) -> Self {
        let price = tick.price;
        Self {
            window,
            open: price,
            high: price,
            low: price,
            close: price,
            first_key: key,
            last_key: key,
            volume: tick.volume.map(|total| RunningVolume { key, total }),
            tick_count: 1,
            price_sum: price.fixed(),
            price_square_sum: price.square(),
            revisions: i64::from(after_end),
        }
    }

    /// Folds another part of the same window into this one.
    pub fn merge(&mut self, other: &Self) {
        if (other.first_key, other.open) < (self.first_key, self.open) {
            (self.first_key, self.open) = (other.first_key, other.open);
        }
        if (other.last_key, other.close) > (self.last_key, self.close) {
            (self.last_key, self.close) = (other.last_key, other.close);
        }
        self.high = self.high.max(other.high);
        self.low = self.low.min(other.low);
        self.volume = self.volume.max(other.volume);
        self.tick_count += other.tick_count;
        self.price_sum += other.price_sum;
        self.price_square_sum += other.price_square_sum;
        self.revisions += other.revisions;
    }
}

#[cfg(test)]
mod tests;
