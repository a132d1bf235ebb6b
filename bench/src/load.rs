//! The ticks: 50 symbols, each once a second of event time, in order, the same in every run.

use std::fmt::Write as _;

use contract::{event_time::EventTime, partition::partition_of, symbol::Symbol};

/// How many symbols tick.
pub const SYMBOLS: usize = 50;

/// Microseconds between the ticks of two symbols: together they tick evenly.
const STEP: i64 = 1_000_000 / SYMBOLS as i64;

/// The name of the n-th symbol.
pub fn symbol(index: usize) -> String {
    format!("BENCH{index:02}")
}

/// All symbols.
pub fn symbols() -> anyhow::Result<Vec<Symbol>> {
    (0..SYMBOLS).map(|index| Ok(symbol(index).parse()?)).collect()
}

/// A tick before it is written in any format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Which symbol.
    pub symbol: usize,
    /// The price in hundredths.
    pub cents: i64,
    /// When.
    pub time: EventTime,
    /// The day's running total.
    pub volume: i64,
}

impl Tick {
    /// Appends it as JSON.
    pub fn json(self, text: &mut String) {
        let Self {
            symbol,
            cents,
            time,
            volume,
        } = self;
        let (whole, hundredths) = (cents / 100, cents % 100);
        // Writing to a String cannot fail.
        let _infallible = write!(
            text,
            r#"{{"symbol":"BENCH{symbol:02}","price":"{whole}.{hundredths:02}","event_time":"{time}","volume":{volume},"exchange":"NASDAQ"}}"#
        );
    }
}

/// An endless series of ticks.
#[derive(Clone, Debug)]
pub struct Ticks {
    base: EventTime,
    next: u64,
    cents: Vec<i64>,
    random: u64,
}

impl Ticks {
    /// From the Monday before last, 14:30 UTC. A run of three million ticks then lies in one week, so that no
    /// run pays for a second weekly table, and no tick is in the future.
    pub fn new(now: EventTime) -> Self {
        const DAY: i64 = 86_400_000_000;
        let days = now.as_microseconds().div_euclid(DAY);
        // 1970-01-01 was a Thursday.
        let monday = (days + 3).div_euclid(7) * 7 - 3 - 14;
        let base = monday * DAY + (14 * 60 + 30) * 60_000_000;
        Self {
            base: EventTime::from_microseconds(base).unwrap_or(EventTime::EPOCH),
            next: 0,
            cents: (0..SYMBOLS)
                .map(|index| 10_000 + 613 * i64::try_from(index).unwrap_or(0))
                .collect(),
            random: 0x2545_f491_4f6c_dd1d,
        }
    }

    /// The first tick's time.
    pub const fn base(&self) -> EventTime {
        self.base
    }
}

impl Iterator for Ticks {
    type Item = Tick;

    fn next(&mut self) -> Option<Tick> {
        let number = self.next;
        self.next += 1;
        let symbol = usize::try_from(number % SYMBOLS as u64).unwrap_or(0);
        // xorshift64: a price walk needs no better one.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let step = i64::try_from(self.random % 21).unwrap_or(10) - 10;
        let cents = &mut self.cents[symbol];
        *cents = (*cents + step).max(1_000);
        let offset = i64::try_from(number).unwrap_or(i64::MAX) * STEP;
        Some(Tick {
            symbol,
            cents: *cents,
            time: EventTime::from_microseconds(self.base.as_microseconds() + offset)?,
            volume: 10_000_000 + i64::try_from(number).unwrap_or(0) * 7,
        })
    }
}

/// A message, ready to be published.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its partition.
    pub partition: u16,
    /// The symbol in its routing key: that of its first tick.
    pub symbol: usize,
    /// Its number among those of its partition, from 1.
    pub sequence: u64,
    /// Its body.
    pub body: String,
    /// Ticks in it.
    pub ticks: usize,
}

/// Packs ticks into messages, each of one partition, in the order in which they fill up.
#[derive(Debug)]
pub struct Messages {
    ticks: Ticks,
    ticks_per_message: usize,
    partition_of: Vec<u16>,
    open: Vec<Message>,
}

impl Messages {
    /// Of these many ticks a message, over these many partitions.
    pub fn new(now: EventTime, ticks_per_message: usize, partitions: u16) -> anyhow::Result<Self> {
        let open = |partition| Message {
            partition,
            symbol: 0,
            sequence: 1,
            body: String::new(),
            ticks: 0,
        };
        Ok(Self {
            ticks: Ticks::new(now),
            ticks_per_message,
            partition_of: symbols()?
                .iter()
                .map(|symbol| partition_of(symbol, partitions))
                .collect(),
            open: (0..partitions).map(open).collect(),
        })
    }

    /// Messages with the next `count` ticks; what does not fill a message at the end is one all the same.
    pub fn batch(&mut self, count: u64) -> Batch<'_> {
        Batch {
            messages: self,
            left: count,
            flushed: 0,
        }
    }

    fn close(&mut self, partition: usize) -> Message {
        let open = &mut self.open[partition];
        let next = Message {
            partition: open.partition,
            symbol: 0,
            sequence: open.sequence + 1,
            body: String::with_capacity(open.body.len() + 8),
            ticks: 0,
        };
        let mut full = std::mem::replace(open, next);
        full.body.push(']');
        full
    }
}

/// See [`Messages::batch`].
#[derive(Debug)]
pub struct Batch<'a> {
    messages: &'a mut Messages,
    left: u64,
    flushed: usize,
}

impl Iterator for Batch<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        while self.left > 0 {
            self.left -= 1;
            let tick = self.messages.ticks.next()?;
            let partition = usize::from(self.messages.partition_of[tick.symbol]);
            let open = &mut self.messages.open[partition];
            if open.ticks == 0 {
                open.symbol = tick.symbol;
            }
            open.body.push(if open.ticks == 0 { '[' } else { ',' });
            tick.json(&mut open.body);
            open.ticks += 1;
            if open.ticks == self.messages.ticks_per_message {
                return Some(self.messages.close(partition));
            }
        }
        while self.flushed < self.messages.open.len() {
            self.flushed += 1;
            if self.messages.open[self.flushed - 1].ticks > 0 {
                return Some(self.messages.close(self.flushed - 1));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> EventTime {
        "2026-11-20T20:59:59Z".parse().unwrap()
    }

    #[test]
    fn a_message_is_what_the_contract_reads_and_of_the_size_that_is_said() {
        let mut messages = Messages::new(now(), 1, 1).unwrap();
        let bodies: Vec<_> = messages.batch(5_000).map(|message| message.body).collect();
        let size = bodies.iter().map(String::len).sum::<usize>() / bodies.len();
        assert!((112..=122).contains(&size), "{size} bytes: {}", bodies[4_999]);
        for body in bodies {
            let entries = contract::tick::decode(body.as_bytes()).unwrap();
            assert!(entries.len() == 1 && entries[0].is_ok(), "{body}");
        }
    }

    #[test]
    fn each_symbol_ticks_once_a_second_of_one_week_in_the_past() {
        let ticks: Vec<Tick> = Ticks::new(now()).take(3_300_000).collect();
        let second = |tick: &Tick| tick.time.as_microseconds().div_euclid(1_000_000);
        assert_eq!(ticks[0].time.to_string(), "2026-11-02T14:30:00Z");
        assert_eq!(second(&ticks[SYMBOLS]) - second(&ticks[0]), 1);
        assert_eq!(second(&ticks[300_000]) - second(&ticks[0]), 6_000);
        assert!(ticks[3_299_999].time < "2026-11-09T00:00:00Z".parse().unwrap());
        assert!(ticks.windows(2).all(|pair| pair[0].time < pair[1].time));
    }

    #[test]
    fn messages_are_numbered_densely_and_hold_every_tick_of_their_partition() {
        let mut messages = Messages::new(now(), 100, 4).unwrap();
        let mut sequences = [0; 4];
        let mut ticks = 0;
        for count in [1_234, 777] {
            for message in messages.batch(count) {
                let sequence = &mut sequences[usize::from(message.partition)];
                *sequence += 1;
                assert_eq!(message.sequence, *sequence);
                assert_eq!(
                    contract::tick::decode(message.body.as_bytes()).unwrap().len(),
                    message.ticks
                );
                ticks += message.ticks;
            }
        }
        assert_eq!(ticks, 2_011);
    }
}
