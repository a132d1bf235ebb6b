//! What the tables must hold, from what was said alone: a fold of a few lines that shares nothing with the engine.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::script::{SYMBOLS, Said, partition};

pub const WIDTHS: [&str; 4] = ["5s", "1m", "1h", "1d"];
pub const OUT_OF_ORDERNESS: i64 = 5_000_000;

/// Midnight in New York is at five in the morning, UTC, on the days of the script.
const MIDNIGHT: i64 = 5 * 3_600 * 1_000_000;
const DAY: i64 = 24 * 3_600 * 1_000_000;

/// A row of `stock_data`: symbol, time, price in units of 10^-10, volume.
pub type Row = (String, i64, i128, Option<i64>);
/// A candle's key: symbol, width, start of its window.
pub type CandleKey = (String, String, i64);
/// Reason, publisher, number, and the whole body where that is what was refused.
pub type PoisonKey = (String, Uuid, i64, Option<Vec<u8>>);
/// A partition's key: generation and number.
pub type PartitionKey = (i64, i64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candle {
    pub end: i64,
    pub open: i128,
    pub high: i128,
    pub low: i128,
    pub close: i128,
    pub volume: Option<i64>,
    pub count: i64,
    /// In units of 10^-10.
    pub sum: i128,
    /// In units of 10^-20.
    pub squares: i128,
    pub is_final: bool,
}

#[derive(Debug, Default)]
pub struct Expected {
    /// How often each row is there.
    pub rows: BTreeMap<Row, usize>,
    pub candles: BTreeMap<CandleKey, Candle>,
    /// Where each partition's watermark stands at the end.
    pub watermarks: BTreeMap<PartitionKey, i64>,
    /// The last number of each publisher in each partition.
    pub publishers: BTreeMap<(PartitionKey, Uuid), i64>,
    /// What is quarantined; how often.
    pub poison: BTreeMap<PoisonKey, usize>,
    pub messages: i64,
    pub ticks: i64,
}

/// Where a tick stands among those of its window.
type Order = (i64, Uuid, u64, u32);

pub fn expect(said: &[Said], partitions: &BTreeMap<u32, u16>) -> Expected {
    let mut expected = Expected::default();
    let mut orders: BTreeMap<CandleKey, (Order, Order, Option<Order>)> = BTreeMap::new();
    for message in said {
        let key = (i64::from(message.generation), i64::from(message.partition));
        let number = i64::try_from(message.sequence).unwrap_or(i64::MAX);
        let last = expected.publishers.entry((key, message.publisher)).or_default();
        *last = number.max(*last);
        expected.messages += 1;
        let bounds = message.ticks.iter().map(|tick| tick.time - OUT_OF_ORDERNESS);
        if let Some(bound) = bounds.chain(message.heartbeat).max() {
            let watermark = expected.watermarks.entry(key).or_insert(bound);
            *watermark = bound.max(*watermark);
        }
        for (reason, raw) in &message.poison {
            let poison = ((*reason).to_owned(), message.publisher, number, raw.clone());
            *expected.poison.entry(poison).or_default() += 1;
        }
        for tick in &message.ticks {
            let symbol = SYMBOLS[tick.symbol].to_owned();
            let row = (symbol.clone(), tick.time, tick.price, tick.volume);
            *expected.rows.entry(row).or_default() += 1;
            expected.ticks += 1;
            let order = (tick.time, message.publisher, message.sequence, tick.place);
            for width in WIDTHS {
                let (start, end) = window(width, tick.time);
                let key = (symbol.clone(), width.to_owned(), start);
                let with_volume = tick.volume.map(|_| order);
                let (first, last, last_with_volume) =
                    orders.entry(key.clone()).or_insert((order, order, with_volume));
                let candle = expected.candles.entry(key).or_insert(Candle {
                    end,
                    open: tick.price,
                    high: tick.price,
                    low: tick.price,
                    close: tick.price,
                    volume: tick.volume,
                    count: 0,
                    sum: 0,
                    squares: 0,
                    is_final: false,
                });
                if order < *first {
                    (*first, candle.open) = (order, tick.price);
                }
                if order > *last {
                    (*last, candle.close) = (order, tick.price);
                }
                if with_volume > *last_with_volume {
                    (*last_with_volume, candle.volume) = (with_volume, tick.volume);
                }
                candle.high = candle.high.max(tick.price);
                candle.low = candle.low.min(tick.price);
                candle.count += 1;
                candle.sum += tick.price;
                candle.squares += tick.price * tick.price;
            }
        }
    }
    for ((symbol, ..), candle) in &mut expected.candles {
        let place = SYMBOLS
            .iter()
            .position(|known| known == symbol)
            .unwrap_or_default();
        candle.is_final = partitions.iter().any(|(generation, partitions)| {
            let key = (i64::from(*generation), i64::from(partition(place, *partitions)));
            let watermark = expected.watermarks.get(&key);
            watermark.is_some_and(|watermark| candle.end <= *watermark)
        });
    }
    expected
}

fn window(width: &str, time: i64) -> (i64, i64) {
    let (length, offset) = match width {
        "5s" => (5_000_000, 0),
        "1m" => (60_000_000, 0),
        "1h" => (3_600_000_000, 0),
        _ => (DAY, MIDNIGHT),
    };
    let start = (time - offset).div_euclid(length) * length + offset;
    (start, start + length)
}
