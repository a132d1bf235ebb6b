//! Candles, folded from ticks.
//!
//! A partial candle is what one batch knows of one window. The fold is associative and commutative, and whoever commits the
//! batch merges its parts into the stored candles by the same rules, so neither the order of ticks nor the way they are cut
//! into batches changes the result:
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

use contract::event_time::EventTime;

use crate::{calendar::Window, key::TickKey, partition::Quote};

/// What one batch of ticks makes of one window. Prices are in units of 10^-10, exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialCandle {
    /// The window.
    pub window: Window,
    /// Price of the first tick.
    pub open: i128,
    /// Highest price.
    pub high: i128,
    /// Lowest price.
    pub low: i128,
    /// Price of the last tick.
    pub close: i128,
    /// Key of the first tick.
    pub first_key: TickKey,
    /// Key of the last tick.
    pub last_key: TickKey,
    /// The day's running total of shares at the last tick that had one.
    pub volume: Option<RunningVolume>,
    /// Ticks.
    pub tick_count: i64,
    /// Sum of prices.
    pub price_sum: i128,
    /// Sum of squared prices.
    pub price_square_sum: SquareSum,
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

/// A sum of squares, exact to 20 decimals, in the two parts that [`contract::price::Price::square`] gives. 128 bits hold the
/// squares of fifty million of the largest prices in each part, which is more than fits a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SquareSum {
    /// Whole units.
    whole: i128,
    /// Units of 10^-20.
    fraction: i128,
}

/// A tick with all that is the same for each of its windows.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    price: i128,
    square: (i128, i128),
    key: TickKey,
    volume: Option<RunningVolume>,
}

impl SquareSum {
    fn add(&mut self, (whole, fraction): (i128, i128)) {
        self.whole += whole;
        self.fraction += fraction;
    }

    /// The sum as whole units and units of 10^-20 below one.
    #[must_use]
    pub const fn parts(self) -> (i128, i128) {
        const ONE: i128 = 10_i128.pow(20);
        (self.whole + self.fraction / ONE, self.fraction % ONE)
    }
}

impl Observation {
    /// Of a tick with its place in the order.
    #[must_use]
    pub fn new(quote: &Quote, key: TickKey) -> Self {
        let Quote { price, volume, .. } = quote;
        Self {
            price: price.fixed(),
            square: price.square(),
            key,
            volume: volume.map(|total| RunningVolume { key, total }),
        }
    }
}

impl PartialCandle {
    /// The candle of a single tick. `after_end`: it came after the window had ended in event time.
    #[must_use]
    pub fn of(observation: &Observation, window: Window, after_end: bool) -> Self {
        let Observation {
            price,
            square: (whole, fraction),
            key,
            volume,
        } = *observation;
        Self {
            window,
            open: price,
            high: price,
            low: price,
            close: price,
            first_key: key,
            last_key: key,
            volume,
            tick_count: 1,
            price_sum: price,
            price_square_sum: SquareSum { whole, fraction },
            revisions: i64::from(after_end),
        }
    }

    /// Folds one more tick of the same window into it.
    pub fn add(&mut self, observation: &Observation, after_end: bool) {
        let Observation {
            price,
            square,
            key,
            volume,
        } = *observation;
        if (key, price) < (self.first_key, self.open) {
            (self.first_key, self.open) = (key, price);
        }
        if (key, price) > (self.last_key, self.close) {
            (self.last_key, self.close) = (key, price);
        }
        self.high = self.high.max(price);
        self.low = self.low.min(price);
        self.volume = self.volume.max(volume);
        self.tick_count += 1;
        self.price_sum += price;
        self.price_square_sum.add(square);
        self.revisions += i64::from(after_end);
    }

    /// Whether nothing older than the watermark can change it any more, but for late ticks.
    #[must_use]
    pub fn is_final(&self, watermark: Option<EventTime>) -> bool {
        watermark.is_some_and(|watermark| self.window.end <= watermark)
    }
}

#[cfg(test)]
pub(crate) mod tests;
