//! Everything dies, at every step, again and again; afterwards the tables are as if nothing had happened.
//!
//! Processors are real processes that end themselves by SIGKILL at their fault points, or are killed, drained and frozen
//! from outside, while broker and database fail, connections break and partitions change hands. A publisher goes on all the
//! while. What it said is folded by an oracle of the test's own, and compared with the tables cell by cell.
//!
//! `STOCKFEED_SEED` repeats a run's choices, though not the moments at which they meet.

#[path = "../live/mod.rs"]
mod live;

mod check;
mod drain;
mod faults;
mod oracle;
mod outages;
mod proxy;
mod script;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use contract::config::QueueGeneration;
use rand::{SeedableRng as _, rngs::StdRng};
use test_servers::OwnServers;
use tokio::{
    sync::Mutex,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use faults::{Chaos, Fault};
use live::{
    feed::{Feed, until},
    outbox::Outbox,
    replica,
};
use script::{Author, Script};

/// Faults that a run has before it ends: some more than it is named after.
const FAULTS: u64 = 220;
/// Of them, those before the number of partitions changes.
const BEFORE_CHANGE: u64 = 110;
/// A phase that has not had its faults by then has failed.
const PHASE: Duration = Duration::from_secs(150);
/// Replicas at a time.
const SLOTS: u64 = 4;
/// Publishers at a time, and what each publishes: so many messages each so often.
const AUTHORS: u64 = 2;
const MESSAGES: usize = 8;
const INTERVAL: Duration = Duration::from_millis(40);

/// One test at a time: each keeps the machine busy.
static ALONE: Mutex<()> = Mutex::const_new(());

const FIRST: QueueGeneration = QueueGeneration {
    generation: 1,
    partitions: 3,
};
const SECOND: QueueGeneration = QueueGeneration {
    generation: 2,
    partitions: 5,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_faults_lose_and_double_nothing() -> Result<()> {
    let _alone = ALONE.lock().await;
    let seed = seed();
    println!("seed {seed}");
    let started = Instant::now();
    let servers = OwnServers::start().await?;
    let feed = Feed::new(servers.addresses(), &script::SYMBOLS).await?;
    feed.declare(FIRST).await?;
    feed.execute(check::AUDIT).await?;
    let logs = replica::logs("kill_matrix")?;
    let chaos = Arc::new(Chaos::new(servers, feed, logs.clone(), seed).await?);
    let script = Arc::new(Script::new(FIRST));
    let result = run(&chaos, &script, seed).await;
    report(&chaos, &script, seed, started.elapsed());
    result
        .map_err(|error| error.context(format!("seed {seed}; logs of the replicas: {}", logs.display())))?;
    std::fs::remove_dir_all(logs)?;
    Ok(())
}

async fn run(chaos: &Arc<Chaos>, script: &Arc<Script>, seed: u64) -> Result<()> {
    let mut publishing = Publishing::start(chaos, script, seed);
    phase(chaos, FIRST, seed + 100, BEFORE_CHANGE, async || {
        // Under load: what is published meanwhile waits in the new queues.
        publishing.end().await?;
        chaos.feed.declare(SECOND).await?;
        script.move_to(SECOND);
        publishing = Publishing::start(chaos, script, seed + 10);
        let old = format!("{}{}.", chaos.feed.name.queue_prefix(), FIRST.generation);
        chaos.feed.until_empty(&old, outages::CATCH_UP).await
    })
    .await?;
    chaos.counts.add(Fault::Repartition, 1);
    phase(chaos, SECOND, seed + 200, FAULTS, async || publishing.end().await).await?;

    let mut outbox = Outbox::new(chaos.feed.name.clone(), chaos.feed.broker_directory().to_owned());
    outbox.send(&script.close(&mut Author::new())).await;
    let healthy = [chaos.healthy(SECOND)?, chaos.healthy(SECOND)?];
    let queues = chaos.feed.name.queue_prefix();
    let caught_up = chaos.feed.until_empty(&queues, outages::CATCH_UP).await;
    for replica in healthy {
        replica.drain().await?;
    }
    caught_up?;
    let dead = chaos
        .feed
        .messages_in(&chaos.feed.name.dead_letter_queue())
        .await?;
    ensure!(dead == 0, "the broker gave up on {dead} messages");
    let partitions = BTreeMap::from([
        (FIRST.generation, FIRST.partitions),
        (SECOND.generation, SECOND.partitions),
    ]);
    check::check(&chaos.feed, &oracle::expect(&script.said(), &partitions)).await
}

/// Faults against one generation's processors until there were so many in all, and then until a condition holds.
async fn phase(
    chaos: &Arc<Chaos>,
    queues: QueueGeneration,
    seed: u64,
    faults: u64,
    end: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let (no_outages, stop) = (CancellationToken::new(), CancellationToken::new());
    let mut slots = JoinSet::new();
    for slot in 0..SLOTS {
        slots.spawn(Arc::clone(chaos).replicas(queues, seed + slot, stop.clone()));
    }
    let outages = tokio::spawn(Arc::clone(chaos).outages(queues, seed + SLOTS, no_outages.clone()));
    let enough = until(PHASE, async || {
        // A task that has failed will not get there.
        Ok(chaos.counts.total() >= faults || outages.is_finished() || slots.len() < SLOTS as usize)
    });
    let enough = enough.await;
    // The servers are up from here on; the replicas go on dying.
    no_outages.cancel();
    outages.await??;
    let ended = end().await;
    stop.cancel();
    while let Some(slot) = slots.join_next().await {
        slot??;
    }
    enough?;
    ended
}

/// Publishers, until they are told to end; then everything they wrote is confirmed.
struct Publishing {
    stop: CancellationToken,
    authors: Vec<JoinHandle<u64>>,
}

impl Publishing {
    fn start(chaos: &Chaos, script: &Arc<Script>, seed: u64) -> Self {
        let stop = CancellationToken::new();
        let author = |number| {
            let (script, stop) = (Arc::clone(script), stop.clone());
            let feed = chaos.feed.name.clone();
            let mut outbox = Outbox::new(feed, chaos.feed.broker_directory().to_owned());
            let mut random = StdRng::seed_from_u64(seed + number);
            let mut author = Author::new();
            tokio::spawn(async move {
                let mut beat = tokio::time::interval(INTERVAL);
                while !stop.is_cancelled() {
                    beat.tick().await;
                    outbox
                        .send(&script.write(&mut author, &mut random, MESSAGES))
                        .await;
                }
                outbox.repeated
            })
        };
        let authors = (0..AUTHORS).map(author).collect();
        Self { stop, authors }
    }

    async fn end(&mut self) -> Result<()> {
        self.stop.cancel();
        for author in self.authors.drain(..) {
            println!(
                "{} messages were sent more than once for want of a confirmation",
                author.await?
            );
        }
        Ok(())
    }
}

fn report(chaos: &Chaos, script: &Script, seed: u64, duration: Duration) {
    let said = script.said();
    let ticks: usize = said.iter().map(|said| said.ticks.len()).sum();
    println!(
        "seed {seed}: {} faults, {} messages, {ticks} ticks, {:.0} s",
        chaos.counts.total(),
        said.len(),
        duration.as_secs_f64()
    );
    for (fault, times) in chaos.counts.by_kind() {
        println!("{times:>6} {fault}");
    }
}

/// From the environment, or the clock.
#[expect(
    clippy::disallowed_methods,
    reason = "somebody who repeats a run says its seed in the environment"
)]
fn seed() -> u64 {
    let given = std::env::var("STOCKFEED_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| service::clock::event_time().as_microseconds().cast_unsigned() % 1_000_000_000)
}
