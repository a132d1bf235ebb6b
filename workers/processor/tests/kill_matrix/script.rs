//! What is published: ticks in and out of order, ties, heartbeats, poison. Everything from a seed.

use std::{
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

use contract::{
    config::QueueGeneration, event_time::EventTime, names, partition::partition_of, symbol::Symbol, tick,
};
use rand::{Rng, rngs::StdRng};
use uuid::Uuid;

use crate::live::outbox::Letter;

pub const SYMBOLS: [&str; 9] = [
    "AAPL", "MSFT", "IBM", "GOOG", "BRK.B", "^GSPC", "EURUSD=X", "BF-B", "0700.HK",
];

/// Their prices have eight decimals, so squares of them have sixteen; those of the others have eight.
pub const MANY_DECIMALS: &[&str] = SYMBOLS.split_at(3).0;

/// A Sunday evening: the run goes through the end of a week (UTC) and of a New York day.
const BEGIN: &str = "2025-03-02T23:40:00Z";
/// How far a partition's event time moves on with a message, at most.
const STEP: i64 = 400_000;
/// Out of order, but not behind the watermark.
const JITTER: i64 = 4_900_000;
/// Behind the watermark, and within the allowed lateness.
const LATE: i64 = 20 * 60 * 1_000_000;

/// A tick as the oracle knows it: numbers only, none of the project's types.
#[derive(Clone, Debug)]
pub struct Tick {
    pub symbol: usize,
    /// Microseconds since the epoch.
    pub time: i64,
    /// In units of 10^-10.
    pub price: i128,
    pub volume: Option<i64>,
    /// Its place in the body.
    pub place: u32,
}

/// What one message says.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub generation: u32,
    pub partition: u16,
    pub publisher: Uuid,
    pub sequence: u64,
    pub ticks: Vec<Tick>,
    pub heartbeat: Option<i64>,
    /// Reasons of what is to be quarantined; the whole body where there is one.
    pub poison: Vec<(&'static str, Option<Vec<u8>>)>,
}

/// Where event time stands, and what was said: shared by all publishers.
#[derive(Debug)]
pub struct Script {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queues: QueueGeneration,
    clocks: Vec<i64>,
    volumes: [i64; SYMBOLS.len()],
    prices: [i128; SYMBOLS.len()],
    said: Vec<Said>,
}

/// One publisher run: its name, and the last number of each partition.
#[derive(Debug)]
pub struct Author {
    id: Uuid,
    generation: u32,
    sequences: Vec<u64>,
}

impl Script {
    pub fn new(queues: QueueGeneration) -> Self {
        let begin = BEGIN.parse::<EventTime>().map_or(0, EventTime::as_microseconds);
        let state = State {
            queues,
            clocks: vec![begin; queues.partitions.into()],
            volumes: [1_000; SYMBOLS.len()],
            prices: [1_000_000_000_000; SYMBOLS.len()],
            said: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Everything after this goes to another generation of queues.
    pub fn move_to(&self, queues: QueueGeneration) {
        let mut state = self.lock();
        let newest = state.clocks.iter().copied().max().unwrap_or_default();
        state.queues = queues;
        state.clocks = vec![newest; queues.partitions.into()];
    }

    /// A number of messages, in the order in which they are to be published: now and then newer ones before older ones, and
    /// one twice.
    pub fn write(&self, author: &mut Author, random: &mut StdRng, count: usize) -> Vec<Letter> {
        let mut letters = self.plain(author, random, count);
        if random.random_bool(0.1) {
            // Newer before older, as a quorum queue does when a consumer died.
            let middle = random.random_range(0..letters.len());
            letters.rotate_left(middle);
        }
        if random.random_bool(0.2) {
            // Twice, as a publisher does that missed a confirmation.
            letters.push(letters[random.random_range(0..letters.len())].clone());
        }
        letters
    }

    /// The same, each once and in the order of their numbers.
    pub fn plain(&self, author: &mut Author, random: &mut StdRng, count: usize) -> Vec<Letter> {
        let mut state = self.lock();
        (0..count).map(|_| state.message(author, random)).collect()
    }

    /// A heartbeat for each partition, later than everything.
    pub fn close(&self, author: &mut Author) -> Vec<Letter> {
        let mut state = self.lock();
        let newest = state.clocks.iter().copied().max().unwrap_or_default();
        (0..state.queues.partitions)
            .map(|partition| state.heartbeat(author, partition, newest + 1))
            .collect()
    }

    pub fn said(&self) -> Vec<Said> {
        self.lock().said.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Author {
    pub fn new() -> Self {
        Self {
            id: Uuid::now_v7(),
            generation: 0,
            sequences: Vec::new(),
        }
    }

    fn next(&mut self, queues: QueueGeneration, partition: u16) -> u64 {
        if self.generation != queues.generation {
            self.generation = queues.generation;
            self.sequences = vec![0; queues.partitions.into()];
        }
        let sequence = &mut self.sequences[usize::from(partition)];
        *sequence += 1;
        *sequence
    }
}

impl State {
    fn message(&mut self, author: &mut Author, random: &mut StdRng) -> Letter {
        let symbol = random.random_range(0..SYMBOLS.len());
        let partition = self.partition(symbol);
        let clock = &mut self.clocks[usize::from(partition)];
        *clock += random.random_range(0..STEP);
        let clock = *clock;
        match random.random_range(0..100) {
            0..3 => self.heartbeat(author, partition, clock - JITTER),
            3..5 => self.poison(author, partition, random),
            kind => self.ticks(author, partition, symbol, kind < 8, random),
        }
    }

    fn ticks(
        &mut self,
        author: &mut Author,
        partition: u16,
        symbol: usize,
        spoiled: bool,
        random: &mut StdRng,
    ) -> Letter {
        let mut said = self.begin(author, partition);
        let mut entries = Vec::new();
        for place in 0..random.random_range(1..4) {
            if spoiled && place == 1 {
                let bad = random.random_range(0..BAD_ENTRIES.len());
                let (reason, entry) = BAD_ENTRIES[bad];
                said.poison.push((reason, None));
                entries.push(entry.to_owned());
                continue;
            }
            let tick = self.tick(symbol, partition, place, random);
            entries.push(wire(&tick, random));
            said.ticks.push(tick);
        }
        let letter = Letter {
            routing_key: format!("{}-{partition}.{}", said.generation, SYMBOLS[symbol]),
            kind: tick::MESSAGE_TYPE,
            publisher: said.publisher,
            sequence: said.sequence,
            heartbeat: None,
            body: format!("[{}]", entries.join(",")).into_bytes(),
        };
        self.said.push(said);
        letter
    }

    fn tick(&mut self, symbol: usize, partition: u16, place: u32, random: &mut StdRng) -> Tick {
        let back = if random.random_bool(0.03) { LATE } else { JITTER };
        let mut time = self.clocks[usize::from(partition)] - random.random_range(0..back);
        if random.random_bool(0.3) {
            // A tie: others have the same second.
            time -= time % 1_000_000;
        }
        let unit = if symbol < MANY_DECIMALS.len() {
            100
        } else {
            1_000_000
        };
        let price = &mut self.prices[symbol];
        *price = (*price + random.random_range(-50_000..=50_000) * unit).clamp(unit, 10_i128.pow(15));
        let price = *price - *price % unit;
        let volume = &mut self.volumes[symbol];
        *volume += random.random_range(0..500);
        Tick {
            symbol,
            time,
            price,
            volume: random.random_bool(0.9).then_some(*volume),
            place,
        }
    }

    fn heartbeat(&mut self, author: &mut Author, partition: u16, time: i64) -> Letter {
        let mut said = self.begin(author, partition);
        said.heartbeat = Some(time);
        let letter = Letter {
            routing_key: names::heartbeat_routing_key(said.generation, partition),
            kind: tick::MESSAGE_TYPE,
            publisher: said.publisher,
            sequence: said.sequence,
            heartbeat: Some(instant(time)),
            body: b"[]".to_vec(),
        };
        self.said.push(said);
        letter
    }

    fn poison(&mut self, author: &mut Author, partition: u16, random: &mut StdRng) -> Letter {
        let mut said = self.begin(author, partition);
        let number = said.sequence;
        let (reason, kind, body) = match random.random_range(0..3) {
            0 => ("undecodable", tick::MESSAGE_TYPE, format!("nonsense {number}")),
            1 => ("unknown_type", "another.type", format!("[{number}]")),
            _ => ("undecodable", tick::MESSAGE_TYPE, format!("[{{}}, {number}")),
        };
        let body = body.into_bytes();
        said.poison.push((reason, Some(body.clone())));
        let letter = Letter {
            routing_key: format!("{}-{partition}.POISON", said.generation),
            kind,
            publisher: said.publisher,
            sequence: said.sequence,
            heartbeat: None,
            body,
        };
        self.said.push(said);
        letter
    }

    fn begin(&self, author: &mut Author, partition: u16) -> Said {
        Said {
            generation: self.queues.generation,
            partition,
            publisher: author.id,
            sequence: author.next(self.queues, partition),
            ..Said::default()
        }
    }

    fn partition(&self, symbol: usize) -> u16 {
        partition(symbol, self.queues.partitions)
    }
}

/// The partition of a symbol. Which one it is, producer and processor must agree on; so the test asks the contract.
pub fn partition(symbol: usize, partitions: u16) -> u16 {
    SYMBOLS[symbol]
        .parse::<Symbol>()
        .map_or(0, |symbol| partition_of(&symbol, partitions))
}

/// Entries of a body that are refused, with the reason.
const BAD_ENTRIES: [(&str, &str); 4] = [
    (
        "unknown_symbol",
        r#"{"symbol":"NOPE","price":"1","event_time":"2025-03-03T00:00:00Z"}"#,
    ),
    (
        "price_not_positive",
        r#"{"symbol":"AAPL","price":"0","event_time":"2025-03-03T00:00:00Z"}"#,
    ),
    (
        "invalid_price",
        r#"{"symbol":"AAPL","event_time":"2025-03-03T00:00:00Z"}"#,
    ),
    (
        "invalid_time",
        r#"{"symbol":"AAPL","price":1.5,"event_time":"yesterday"}"#,
    ),
];

/// A tick in JSON, its price a string or a number.
fn wire(tick: &Tick, random: &mut StdRng) -> String {
    let whole = tick.price / 10_i128.pow(10);
    let fraction = format!("{:010}", tick.price % 10_i128.pow(10));
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let quote = if random.random_bool(0.5) { "\"" } else { "" };
    let mut text = format!(
        r#"{{"symbol":"{}","price":{quote}{whole}{point}{fraction}{quote},"event_time":"{}""#,
        SYMBOLS[tick.symbol],
        instant(tick.time)
    );
    if let Some(volume) = tick.volume {
        // Writing to a String cannot fail.
        let _infallible = write!(text, r#","volume":{volume}"#);
    }
    text.push('}');
    text
}

fn instant(microseconds: i64) -> String {
    EventTime::from_microseconds(microseconds).map_or_else(String::new, |time| time.to_string())
}
