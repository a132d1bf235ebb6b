//! A million messages that nobody should publish: the decoder never panics and never drops one silently.

mod generate;

use std::{thread, time::Duration};

use anyhow::{Result, anyhow};
use contract::event_time::EventTime;
use generate::Delivery;
use processor::decode::{Decoded, Rules, Scope, decode, header};
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::value::RawValue;

const CASES: u64 = 1_000_000;
const THREADS: u64 = 2;

/// What became of a message: the part that changes with the decoder's interface.
struct Outcome {
    ticks: usize,
    heartbeat: bool,
    refused: Vec<Vec<u8>>,
}

fn outcome(rules: &Rules, now: EventTime, Delivery { properties, body }: &Delivery) -> Outcome {
    let header = header(rules, properties, now);
    let Decoded {
        ticks,
        refused,
        whole,
    } = decode(rules, Scope::Partition, &header, body, now);
    Outcome {
        ticks: ticks.len(),
        heartbeat: header.heartbeat.is_some() && !whole,
        refused: refused.into_iter().map(|refused| refused.raw).collect(),
    }
}

#[test]
fn a_million_bad_messages_panic_nowhere_and_none_is_lost() -> Result<()> {
    let runs: Vec<_> = (0..THREADS)
        .map(|seed| thread::spawn(move || run(seed, CASES / THREADS)))
        .collect();
    let (mut ticks, mut refused) = (0, 0);
    for run in runs {
        let counted = run.join().map_err(|_| anyhow!("the decoder panicked"))??;
        ticks += counted.0;
        refused += counted.1;
    }
    println!("{CASES} messages: {ticks} ticks, {refused} refused");
    // The generator must not have gone astray: both are to be a good part of it.
    assert!(ticks > CASES / 10 && refused > CASES / 10);
    Ok(())
}

fn run(seed: u64, cases: u64) -> Result<(u64, u64)> {
    let mut random = StdRng::seed_from_u64(seed);
    let rules = Rules::new(&["AAPL".parse()?], 0, 1, Duration::from_secs(3_600), None);
    let now = "2026-11-20T21:00:00Z".parse()?;
    let (mut ticks, mut refused) = (0, 0);
    for _ in 0..cases {
        let delivery = generate::delivery(&mut random);
        let outcome = outcome(&rules, now, &delivery);
        check(&delivery, &outcome);
        ticks += outcome.ticks as u64;
        refused += outcome.refused.len() as u64;
    }
    Ok((ticks, refused))
}

fn check(delivery: &Delivery, outcome: &Outcome) {
    let Outcome {
        ticks,
        heartbeat,
        refused,
    } = outcome;
    let body = &delivery.body;
    assert!(
        *ticks > 0 || *heartbeat || !refused.is_empty(),
        "nothing came of {delivery:?}"
    );
    if refused.len() == 1 && *ticks == 0 && refused[0] == *body {
        // Refused as a whole, as it came.
        return;
    }
    // Otherwise every entry of the body came out, one way or the other, and what was refused is in the body.
    let entries = match serde_json::from_slice::<Vec<&RawValue>>(body) {
        Ok(entries) => entries.len(),
        Err(_not_an_array) => 1,
    };
    assert_eq!(ticks + refused.len(), entries, "of {delivery:?}");
    for raw in refused {
        let piece = body.windows(raw.len()).any(|piece| piece == raw);
        assert!(piece, "{:?} is not in {delivery:?}", String::from_utf8_lossy(raw));
    }
}
