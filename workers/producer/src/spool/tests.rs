use contract::{
    config::{Duplicates, QueueGeneration},
    event_time::EventTime,
    tick::Tick,
};
use uuid::Uuid;

use super::*;
use crate::{
    message::{Composer, Trace},
    source::Fetched,
};

const QUEUES: QueueGeneration = QueueGeneration {
    generation: 1,
    partitions: 2,
};

fn config(directory: &Path, max_bytes: u64) -> SpoolConfig {
    SpoolConfig {
        directory: directory.to_owned(),
        max_bytes,
    }
}

/// A quote of AAPL at this second.
fn addition(composer: &mut Composer, second: i64) -> Addition {
    let mut tick: Tick =
        contract::tick::decode(br#"[{"symbol":"AAPL","price":"1.5","event_time":"2026-11-25T14:30:00Z"}]"#)
            .unwrap()
            .remove(0)
            .unwrap()
            .to_tick()
            .unwrap();
    tick.event_time = EventTime::from_microseconds(second * 1_000_000).unwrap();
    let fetched = Fetched {
        ticks: vec![tick],
        ..Fetched::default()
    };
    let trace = Trace { id: 1, span: 1 };
    composer
        .compose(&fetched, Duplicates::Skip, trace, EventTime::EPOCH)
        .addition
}

fn sequences(spool: &Spool) -> Vec<u64> {
    let messages = spool.first(1_000).unwrap();
    messages.iter().map(|(_, message)| message.sequence).collect()
}

#[test]
fn what_was_added_is_there_after_a_restart_in_its_order_until_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), 1 << 20);
    let (spool, recovered) = Spool::open(Some(&config)).unwrap();
    assert!(recovered.position.is_none() && recovered.last.is_empty());
    let mut composer = Composer::new(Uuid::from_u128(1), QUEUES, recovered);
    for second in 1..=5 {
        spool.add(&addition(&mut composer, second)).unwrap();
    }
    let first: Vec<u64> = spool.first(2).unwrap().iter().map(|(key, _)| *key).collect();
    spool.remove(&first).unwrap();
    let before = spool.state();
    assert_eq!(before.messages, 3);
    drop(spool);

    let (spool, recovered) = Spool::open(Some(&config)).unwrap();
    assert_eq!(sequences(&spool), [3, 4, 5]);
    assert_eq!(spool.state(), before);
    assert_eq!(recovered.last.len(), 1);
    let mut composer = Composer::new(Uuid::from_u128(2), QUEUES, recovered);
    assert_eq!(composer.publisher(), Uuid::from_u128(1));
    spool.add(&addition(&mut composer, 6)).unwrap();
    assert_eq!(sequences(&spool), [3, 4, 5, 6]);
    // The last quote is known: it is not added again.
    assert!(addition(&mut composer, 6).messages.is_empty());
}

#[test]
fn a_producer_that_is_killed_loses_nothing_that_was_added() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), 1 << 20);
    let (spool, recovered) = Spool::open(Some(&config)).unwrap();
    let mut composer = Composer::new(Uuid::from_u128(1), QUEUES, recovered);
    for second in 1..=3 {
        spool.add(&addition(&mut composer, second)).unwrap();
    }
    // As the disk is at the moment of a kill: nothing is closed.
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join(FILE), copy.path().join(FILE)).unwrap();
    let (after, recovered) = Spool::open(Some(&SpoolConfig {
        directory: copy.path().to_owned(),
        ..config
    }))
    .unwrap();
    assert_eq!(sequences(&after), [1, 2, 3]);
    assert_eq!(recovered.position.unwrap().sequences.iter().max(), Some(&3));
}

#[test]
fn a_full_spool_says_so_and_has_room_again_when_messages_left() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, recovered) = Spool::open(Some(&config(folder.path(), 1_000))).unwrap();
    let mut composer = Composer::new(Uuid::from_u128(1), QUEUES, recovered);
    let mut second = 0;
    while !spool.state().full {
        second += 1;
        spool.add(&addition(&mut composer, second)).unwrap();
    }
    let state = spool.state();
    assert!(state.bytes >= 1_000 && state.messages >= 2, "{state:?}");
    let keys: Vec<u64> = spool.first(1_000).unwrap().iter().map(|(key, _)| *key).collect();
    spool.remove(&keys).unwrap();
    assert_eq!(
        spool.state(),
        SpoolState {
            max_bytes: Some(1_000),
            ..SpoolState::default()
        }
    );
}

#[test]
fn a_file_that_is_none_of_ours_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), "something else").unwrap();
    let error = Spool::open(Some(&config(folder.path(), 1)))
        .unwrap_err()
        .to_string();
    assert!(error.contains("spool.redb"), "{error}");
}
