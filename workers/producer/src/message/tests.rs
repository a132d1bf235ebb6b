use contract::tick::decode;
use proptest::prelude::*;

use super::*;
use crate::source::{Failure, SourceError};

const PARTITIONS: u16 = 4;
const TRACE: Trace = Trace { id: 1, span: 2 };
const NOW: EventTime = EventTime::EPOCH;

fn tick(symbol: &str, second: i64, price: &str) -> Tick {
    Tick {
        symbol: symbol.parse().unwrap(),
        price: price.parse().unwrap(),
        event_time: EventTime::from_microseconds(second * 1_000_000).unwrap(),
        volume: Some(second),
        market_cap: None,
        open: None,
        day_high: None,
        day_low: None,
        previous_close: None,
        change: None,
        change_percentage: None,
        exchange: None,
        name: None,
    }
}

fn fetched(ticks: Vec<Tick>, bound: Option<i64>) -> Fetched {
    Fetched {
        ticks,
        bound: bound.and_then(|second| EventTime::from_microseconds(second * 1_000_000)),
        ..Fetched::default()
    }
}

const QUEUES: QueueGeneration = QueueGeneration {
    generation: 1,
    partitions: PARTITIONS,
};

fn composer() -> Composer {
    Composer::new(Uuid::from_u128(7), QUEUES, Recovered::default())
}

fn compose(composer: &mut Composer, fetched: &Fetched) -> Composed {
    composer.compose(fetched, Duplicates::Skip, TRACE, NOW)
}

fn keys(composed: &Composed) -> Vec<(String, u64)> {
    let messages = composed.addition.messages.iter();
    messages
        .map(|message| (message.routing_key.clone(), message.sequence))
        .collect()
}

#[test]
fn ticks_come_first_then_a_heartbeat_for_every_partition() {
    let mut composer = composer();
    // MSFT is of partition 1, IBM of 2, AAPL and GOOG of 3.
    let ticks = ["AAPL", "GOOG", "IBM", "MSFT"].map(|symbol| tick(symbol, 10, "1"));
    let composed = compose(&mut composer, &fetched(ticks.to_vec(), Some(10)));
    let expected = [
        ("1-1.MSFT", 1),
        ("1-2.IBM", 1),
        ("1-3.AAPL", 1),
        ("1-3.GOOG", 2),
        ("1-0.heartbeat", 1),
        ("1-1.heartbeat", 2),
        ("1-2.heartbeat", 2),
        ("1-3.heartbeat", 3),
    ];
    assert_eq!(
        keys(&composed),
        expected.map(|(key, sequence)| (key.to_owned(), sequence))
    );
    let first = &composed.addition.messages[0];
    assert_eq!(first.message_id, "00000000-0000-0000-0000-000000000007/1/1");
    assert_eq!(
        first.traceparent,
        "00-00000000000000000000000000000001-0000000000000002-01"
    );
    let entries = decode(first.body.as_bytes()).unwrap();
    assert_eq!(entries.len(), 1);
    let decoded = entries[0].as_ref().unwrap().to_tick().unwrap();
    assert_eq!(decoded, tick("MSFT", 10, "1"));
    let heartbeat = &composed.addition.messages[7];
    assert_eq!(
        (heartbeat.body.as_str(), heartbeat.bound),
        ("[]", EventTime::from_microseconds(10_000_000))
    );
}

#[test]
fn the_same_quote_is_not_published_twice() {
    let mut composer = composer();
    let mut compose = |second, price, volume| {
        let mut tick = tick("AAPL", second, price);
        tick.volume = volume;
        let composed = compose(&mut composer, &fetched(vec![tick], None));
        (composed.ticks, composed.unchanged.len())
    };
    assert_eq!(compose(10, "1.5", Some(1)), (1, 0));
    assert_eq!(
        compose(10, "1.50", Some(1)),
        (0, 1),
        "digits do not make it another one"
    );
    assert_eq!(compose(10, "1.6", Some(1)), (1, 0), "another price");
    assert_eq!(compose(10, "1.6", Some(2)), (1, 0), "another volume");
    assert_eq!(compose(11, "1.6", Some(2)), (1, 0), "another time");
    assert_eq!(
        compose(10, "1.6", Some(2)),
        (1, 0),
        "back again is a change as well"
    );
}

#[test]
fn the_same_quote_is_published_again_where_that_is_asked_for() {
    let mut composer = composer();
    let quotes = fetched(vec![tick("AAPL", 10, "1")], None);
    for _ in 0..2 {
        let composed = composer.compose(&quotes, Duplicates::Keep, TRACE, NOW);
        assert_eq!((composed.ticks, composed.unchanged.len()), (1, 0));
    }
}

#[test]
fn another_run_goes_on_with_the_same_publisher_and_numbers() {
    let mut first = composer();
    let quotes = fetched(vec![tick("AAPL", 10, "1")], Some(10));
    let added = compose(&mut first, &quotes).addition;
    let recovered = || Recovered {
        position: Some(added.position.clone()),
        last: added.last.clone(),
    };
    let mut second = Composer::new(Uuid::from_u128(8), QUEUES, recovered());
    assert_eq!(second.publisher(), Uuid::from_u128(7));
    let composed = compose(&mut second, &quotes);
    assert_eq!(
        (composed.ticks, composed.addition.messages.len()),
        (0, 0),
        "known already"
    );
    let composed = compose(&mut second, &fetched(vec![tick("AAPL", 11, "1")], None));
    assert_eq!(
        keys(&composed),
        [("1-3.AAPL".to_owned(), 3)],
        "after a tick and a heartbeat"
    );
    // Other queues are numbered anew, by another publisher.
    let queues = QueueGeneration {
        generation: 2,
        partitions: 2,
    };
    let mut third = Composer::new(Uuid::from_u128(9), queues, recovered());
    assert_eq!(third.publisher(), Uuid::from_u128(9));
    let composed = compose(&mut third, &fetched(vec![tick("AAPL", 12, "1")], None));
    assert_eq!(composed.addition.messages[0].sequence, 1);
    assert_eq!(
        composed.addition.position.added,
        added.position.added + 1,
        "keys of the spool go on"
    );
}

#[test]
fn a_bound_that_does_not_advance_makes_no_heartbeat() {
    let mut composer = composer();
    let mut heartbeats = |bound| {
        compose(&mut composer, &fetched(vec![], bound))
            .addition
            .messages
            .len()
    };
    assert_eq!(heartbeats(Some(10)), 4);
    assert_eq!(heartbeats(Some(10)), 0);
    assert_eq!(heartbeats(Some(9)), 0);
    assert_eq!(heartbeats(None), 0);
    assert_eq!(heartbeats(Some(11)), 4);
}

#[test]
fn a_partition_with_a_symbol_in_doubt_gets_no_heartbeat() {
    let mut composer = composer();
    let with = |error: SourceError| {
        let mut fetched = fetched(vec![], Some(10));
        fetched.failures.push(Failure {
            symbols: vec!["AAPL".parse().unwrap()],
            error,
        });
        fetched
    };
    let refused = SourceError::PaymentRequired {
        message: String::new(),
    };
    let composed = compose(&mut composer, &with(SourceError::ServerError { status: 500 }));
    assert_eq!(keys(&composed).len(), 3);
    let composed = compose(&mut composer, &with(refused));
    assert_eq!(
        keys(&composed),
        [("1-3.heartbeat".to_owned(), 1)],
        "what the plan excludes is not on its way"
    );
}

#[test]
fn many_ticks_of_a_symbol_are_split() {
    let ticks = (0..250).map(|second| tick("AAPL", 1_000 + second, "1")).collect();
    let composed = compose(&mut composer(), &fetched(ticks, None));
    let sizes: Vec<_> = composed
        .addition
        .messages
        .iter()
        .map(|message| decode(message.body.as_bytes()).unwrap().len())
        .collect();
    assert_eq!(sizes, [100, 100, 50]);
}

proptest! {
    #[test]
    fn numbers_have_no_gaps_and_nothing_is_lost(
        polls in proptest::collection::vec(
            (proptest::collection::vec(("[A-E]", 0_i64..5), 0..8), proptest::option::of(0_i64..20)),
            0..20,
        ),
    ) {
        let mut composer = composer();
        let mut sequences = [0; PARTITIONS as usize];
        let mut last: BTreeMap<String, i64> = BTreeMap::new();
        for (quotes, bound) in polls {
            let mut expected: BTreeMap<String, Vec<i64>> = BTreeMap::new();
            for (symbol, second) in &quotes {
                if last.insert(symbol.clone(), *second) != Some(*second) {
                    expected.entry(symbol.clone()).or_default().push(*second);
                }
            }
            let ticks = quotes.iter().map(|(symbol, second)| tick(symbol, *second, "1")).collect();
            let composed = compose(&mut composer, &fetched(ticks, bound));
            let mut seen: BTreeMap<String, Vec<i64>> = BTreeMap::new();
            for message in &composed.addition.messages {
                let sequence = &mut sequences[usize::from(message.partition)];
                *sequence += 1;
                prop_assert_eq!(message.sequence, *sequence);
                for entry in decode(message.body.as_bytes()).unwrap() {
                    let tick = entry.unwrap().to_tick().unwrap();
                    prop_assert_eq!(message.partition, partition_of(&tick.symbol, PARTITIONS));
                    let seconds = tick.event_time.as_microseconds() / 1_000_000;
                    seen.entry(tick.symbol.to_string()).or_default().push(seconds);
                }
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
