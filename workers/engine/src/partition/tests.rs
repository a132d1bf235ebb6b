use std::collections::{BTreeMap, btree_map::Entry};

use proptest::prelude::*;

use super::*;
use crate::{
    candle::{PartialCandle, tests::merge},
    candles::CandleKey,
};

const START: i64 = 1_700_000_000;

fn at(second: i64) -> EventTime {
    EventTime::from_microseconds((START + second) * 1_000_000).unwrap()
}

/// A message as the decoder would have it.
#[derive(Clone, Debug)]
struct Message {
    identity: Option<MessageIdentity>,
    ticks: Vec<Quote>,
    heartbeat: Option<EventTime>,
}

/// Whether a message was new.
#[derive(Debug, PartialEq)]
enum Observed {
    New,
    Duplicate,
}

impl PartitionState {
    /// Takes in a whole message, as the processor does.
    fn observe(&mut self, message: Message, effects: &mut Effects) -> Observed {
        let Message {
            identity,
            ticks,
            heartbeat,
        } = message;
        if self.contains(identity) {
            effects.duplicates += 1;
            return Observed::Duplicate;
        }
        for (place, quote) in (0..).zip(&ticks) {
            self.fold(quote, identity, place, Lateness::Judged, effects);
        }
        let newest = ticks.iter().map(|quote| quote.event_time).max();
        self.settle(identity, newest, heartbeat, effects);
        Observed::New
    }
}

fn tick(second: i64, price: i64) -> Quote {
    Quote {
        symbol: SymbolId(0),
        price: price.to_string().parse().unwrap(),
        event_time: at(second),
        volume: Some(second.max(0)),
    }
}

fn message(sequence: u64, ticks: &[(i64, i64)]) -> Message {
    let identity = Some(MessageIdentity {
        publisher: [1; 16],
        sequence,
    });
    let ticks = ticks
        .iter()
        .map(|(second, price)| tick(*second, *price))
        .collect();
    Message {
        identity,
        ticks,
        heartbeat: None,
    }
}

fn heartbeat(sequence: u64, second: i64) -> Message {
    Message {
        heartbeat: Some(at(second)),
        ..message(sequence, &[])
    }
}

fn settings(lateness: u64) -> Settings {
    Settings {
        widths: vec![WindowWidth::Second10, WindowWidth::Minute1, WindowWidth::Day1],
        out_of_orderness: Duration::from_secs(5),
        allowed_lateness: Duration::from_secs(lateness),
    }
}

fn state(lateness: u64) -> PartitionState {
    PartitionState::restore(settings(lateness), None, [])
}

/// What the database holds after some batches: parts merged as the SQL merges them.
#[derive(Default)]
struct Store {
    candles: BTreeMap<CandleKey, PartialCandle>,
    ticks: usize,
    late: usize,
}

impl Store {
    fn commit(&mut self, effects: &Effects) {
        for (key, part) in effects.candles.sorted() {
            match self.candles.entry(*key) {
                Entry::Occupied(mut entry) => merge(entry.get_mut(), part),
                Entry::Vacant(entry) => drop(entry.insert(part.clone())),
            }
        }
        self.ticks += usize::try_from(effects.ticks).unwrap();
        self.late += effects.late.len();
    }

    /// Candles without the count of revisions, which is about the order of arrival and nothing else.
    fn values(&self) -> Vec<(CandleKey, PartialCandle)> {
        let without = |part: &PartialCandle| PartialCandle {
            revisions: 0,
            ..part.clone()
        };
        self.candles
            .iter()
            .map(|(key, part)| (*key, without(part)))
            .collect()
    }
}

fn run(lateness: u64, batches: &[Vec<Message>]) -> Store {
    let mut state = state(lateness);
    let mut store = Store::default();
    for batch in batches {
        let mut effects = Effects::default();
        for message in batch {
            state.observe(message.clone(), &mut effects);
        }
        store.commit(&effects);
        // A restart between any two batches changes nothing.
        let publishers: Vec<_> = state
            .publishers()
            .map(|(publisher, sequences)| (*publisher, sequences.clone()))
            .collect();
        state = PartitionState::restore(settings(lateness), state.watermark(), publishers);
    }
    store
}

#[test]
fn the_watermark_waits_for_what_is_missing() {
    let mut state = state(60);
    let mut effects = Effects::default();
    state.observe(message(1, &[(10, 1)]), &mut effects);
    assert_eq!(state.watermark(), Some(at(5)));
    state.observe(message(3, &[(30, 1)]), &mut effects);
    assert_eq!(state.watermark(), Some(at(5)), "message 2 is still in flight");
    state.observe(heartbeat(4, 40), &mut effects);
    assert_eq!(
        state.watermark(),
        Some(at(5)),
        "a heartbeat does not overtake it either"
    );
    state.observe(message(2, &[(20, 1)]), &mut effects);
    assert_eq!(state.watermark(), Some(at(40)));
    assert!(effects.late.is_empty());
}

#[test]
fn a_heartbeat_moves_a_quiet_partition() {
    let mut state = state(60);
    let mut effects = Effects::default();
    state.observe(heartbeat(1, 100), &mut effects);
    assert_eq!(state.watermark(), Some(at(100)));
    assert!(effects.ticks == 0 && effects.candles.is_empty());
}

#[test]
fn a_gap_is_reported_once_and_the_watermark_goes_on() {
    let mut state = state(60);
    let mut effects = Effects::default();
    state.observe(message(1, &[(10, 1)]), &mut effects);
    state.observe(message(4, &[(40, 1)]), &mut effects);
    assert_eq!(
        state.abandon_holes(),
        [Gap {
            publisher: [1; 16],
            first: 2,
            last: 3
        }]
    );
    assert_eq!(state.abandon_holes(), []);
    assert_eq!(state.watermark(), Some(at(35)));
    assert_eq!(state.observe(message(2, &[(12, 9)]), &mut effects), Observed::New);
    assert_eq!(effects.ticks, 3);
}

#[test]
fn a_late_tick_is_kept_and_counted_for_the_widths_it_missed() {
    let mut state = state(30);
    let mut effects = Effects::default();
    state.observe(heartbeat(1, 200), &mut effects);
    state.observe(message(2, &[(105, 7)]), &mut effects);
    assert_eq!(effects.ticks, 1, "the raw tick is stored all the same");
    let missed: Vec<_> = effects.late.iter().map(|late| late.width).collect();
    // 10 s: ended at 110 (aligned), closed at 140. 1 m: ended at 160 at the latest, closed at 190. 1 d: open.
    assert_eq!(missed, [WindowWidth::Second10, WindowWidth::Minute1]);
    assert_eq!(effects.candles.len(), 1);
}

#[test]
fn a_tick_after_the_end_is_a_revision() {
    let mut state = state(3_600);
    let mut effects = Effects::default();
    state.observe(message(1, &[(1, 5)]), &mut effects);
    state.observe(heartbeat(2, 300), &mut effects);
    state.observe(message(3, &[(2, 6)]), &mut effects);
    let revisions: BTreeMap<_, _> = effects
        .candles
        .sorted()
        .iter()
        .map(|(key, part)| (key.width, part.revisions))
        .collect();
    assert_eq!(revisions[&WindowWidth::Second10], 1);
    assert_eq!(revisions[&WindowWidth::Day1], 0);
}

#[test]
fn a_late_tick_that_was_asked_for_by_name_revises_the_candle() {
    let mut state = state(30);
    let mut effects = Effects::default();
    state.observe(heartbeat(1, 200), &mut effects);
    state.fold(&tick(105, 7), None, 0, Lateness::Forgiven, &mut effects);
    assert!(effects.late.is_empty());
    assert_eq!(effects.candles.len(), 3);
}

#[test]
fn another_publishers_hole_holds_the_watermark_back_too() {
    let mut state = state(60);
    let mut effects = Effects::default();
    let other = |sequence, second| Message {
        identity: Some(MessageIdentity {
            publisher: [2; 16],
            sequence,
        }),
        ..message(1, &[(second, 1)])
    };
    state.observe(message(1, &[(10, 1)]), &mut effects);
    state.observe(other(2, 50), &mut effects);
    state.observe(message(2, &[(30, 1)]), &mut effects);
    assert_eq!(state.watermark(), Some(at(5)));
    state.observe(other(1, 20), &mut effects);
    assert_eq!(state.watermark(), Some(at(45)));
}

#[test]
fn messages_without_identity_are_taken_each_time() {
    let mut state = state(60);
    let mut effects = Effects::default();
    let anonymous = Message {
        identity: None,
        ..message(1, &[(10, 1)])
    };
    assert_eq!(state.observe(anonymous.clone(), &mut effects), Observed::New);
    assert_eq!(state.observe(anonymous, &mut effects), Observed::New);
    assert_eq!((effects.ticks, state.watermark()), (2, Some(at(5))));
}

/// Messages whose ticks lie within 100 s, in a shuffled order with some repeated, cut into batches.
fn arrivals() -> impl Strategy<Value = (Vec<Message>, Vec<Message>, Vec<usize>)> {
    let ticks = proptest::collection::vec(proptest::collection::vec((0_i64..100, 1_i64..30), 0..4), 1..12);
    let inputs = (
        ticks,
        any::<u64>(),
        proptest::collection::vec(0_usize..12, 0..4),
        proptest::collection::vec(1_usize..6, 20),
    );
    inputs.prop_map(|(bodies, seed, repeated, cuts)| {
        let ordered: Vec<Message> = (1..)
            .zip(&bodies)
            .map(|(sequence, body)| message(sequence, body))
            .collect();
        let mut shuffled = ordered.clone();
        shuffled.extend(
            repeated
                .iter()
                .map(|index| ordered[index % ordered.len()].clone()),
        );
        let count = shuffled.len();
        let mut state = seed | 1;
        for index in (1..count).rev() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            shuffled.swap(index, usize::try_from(state % (index as u64 + 1)).unwrap());
        }
        (ordered, shuffled, cuts)
    })
}

fn cut(messages: &[Message], cuts: &[usize]) -> Vec<Vec<Message>> {
    let mut rest = messages;
    let mut batches = Vec::new();
    for size in cuts {
        let (batch, after) = rest.split_at((*size).min(rest.len()));
        batches.push(batch.to_vec());
        rest = after;
    }
    batches.push(rest.to_vec());
    batches
}

proptest! {
    #[test]
    fn order_batches_repeats_and_restarts_do_not_change_candles((ordered, shuffled, cuts) in arrivals()) {
        // All ticks lie within 100 s and the allowed lateness is longer, so every order is within it.
        let expected = run(200, &[ordered]);
        let actual = run(200, &cut(&shuffled, &cuts));
        prop_assert_eq!(expected.values(), actual.values());
        prop_assert_eq!((expected.ticks, expected.late), (actual.ticks, 0));
    }

    #[test]
    fn batches_do_not_change_what_is_late((_, shuffled, cuts) in arrivals(), lateness in 0_u64..60) {
        let whole = run(lateness, std::slice::from_ref(&shuffled));
        let parts = run(lateness, &cut(&shuffled, &cuts));
        prop_assert_eq!(whole.candles, parts.candles, "revisions included");
        prop_assert_eq!((whole.ticks, whole.late), (parts.ticks, parts.late));
    }

    #[test]
    fn every_tick_is_in_each_width_or_late((_, shuffled, cuts) in arrivals(), lateness in 0_u64..60) {
        let store = run(lateness, &cut(&shuffled, &cuts));
        let in_candles: i64 = store.candles.values().map(|part| part.tick_count).sum();
        prop_assert_eq!(usize::try_from(in_candles).unwrap() + store.late, store.ticks * 3);
    }

    #[test]
    fn the_watermark_never_goes_back((_, shuffled, _) in arrivals(), beats in proptest::collection::vec(0_i64..200, 20)) {
        let mut state = state(10);
        let mut before = None;
        for (index, message) in shuffled.into_iter().enumerate() {
            let heartbeat = (index % 3 == 0).then(|| at(beats[index % beats.len()]));
            state.observe(Message { heartbeat, ..message }, &mut Effects::default());
            if index % 5 == 4 {
                state.abandon_holes();
            }
            prop_assert!(state.watermark() >= before);
            before = state.watermark();
        }
    }
}
