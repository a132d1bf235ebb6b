//! A processor's memory stays where it is, however much waits in its queues and however long the database is away; and it
//! resumes by itself, with everything once.
//!
//! `STOCKFEED_SOAK_SECONDS` says how long the database is away, 30 by default.

#[path = "../live/mod.rs"]
mod live;

mod load;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use contract::config::QueueGeneration;
use live::{
    feed::{Feed, until},
    replica::{self, Replica},
};
use load::Load;
use test_servers::{OwnServers, Server};
use tokio::sync::Mutex;

/// The most that a processor may hold, all of it: code, stacks, heap. A body of a mebibyte is ten thousand ticks, which are
/// decoded as a whole.
const BOUND_KIB: u64 = 64 * 1024;
const BOUND_LARGE_KIB: u64 = 96 * 1024;
const SAMPLE: Duration = Duration::from_millis(100);
/// How long a million messages may take to be worked off, by a program that is not optimized on a machine that is busy.
const CATCH_UP: Duration = Duration::from_secs(900);
const QUEUES: QueueGeneration = QueueGeneration {
    generation: 1,
    partitions: 4,
};

/// One test at a time: each keeps the machine busy.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_small_messages_wait_in_the_broker_and_not_in_memory() -> Result<()> {
    bounded("small", &Load::small(1_000_000), BOUND_KIB).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_wait_in_the_broker_and_not_in_memory() -> Result<()> {
    bounded("large", &Load::large(6_000, 8), BOUND_LARGE_KIB).await
}

async fn bounded(name: &str, load: &Load, bound: u64) -> Result<()> {
    let _alone = ALONE.lock().await;
    let symbols = load::symbols(QUEUES.partitions);
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    let servers = OwnServers::start().await?;
    let feed = Feed::new(servers.addresses(), &symbols).await?;
    feed.declare(QUEUES).await?;
    let started = Instant::now();
    let expected = load.publish(&feed, QUEUES, &symbols).await?;
    println!(
        "{name}: {} messages with {expected} ticks published in {:.0} s",
        load.messages(),
        started.elapsed().as_secs_f64()
    );
    let logs = replica::logs(&format!("memory_{name}"))?;
    let replica = Replica::start(&feed.config(QUEUES)?, name, "", &logs)?;
    let peak = AtomicU64::new(0);
    let story = async {
        for outage in [Outage::Killed, Outage::Stopped] {
            committing(&feed).await?;
            outage.begin(&servers).await?;
            tokio::time::sleep(soak() / 2).await;
            println!(
                "{name}: database {outage:?} for {:.0} s, at most {} KiB so far",
                (soak() / 2).as_secs_f64(),
                peak.load(Ordering::Relaxed)
            );
            outage.end(&servers).await?;
        }
        let since = Instant::now();
        feed.until_empty(&feed.name.queue_prefix(), CATCH_UP).await?;
        println!(
            "{name}: worked off in {:.0} s, at most {} KiB",
            since.elapsed().as_secs_f64(),
            peak.load(Ordering::Relaxed)
        );
        anyhow::Ok(())
    };
    tokio::select! {
        told = story => told?,
        error = watch(&replica, &peak) => error?,
    }
    replica.drain().await?;
    let ticks = feed.number("SELECT count(*) FROM stock_data").await?;
    let distinct = r#"SELECT count(*) FROM (SELECT DISTINCT symbol, "timestamp" FROM stock_data) AS ticks"#;
    let distinct = feed.number(distinct).await?;
    ensure!(
        (ticks, distinct) == (expected, expected),
        "{ticks} ticks, {distinct} of them distinct, not {expected}"
    );
    let peak = peak.load(Ordering::Relaxed);
    ensure!(peak <= bound, "{peak} KiB were held; {bound} KiB is the bound");
    std::fs::remove_dir_all(logs)?;
    Ok(())
}

/// Samples until the process ends. What is far too much ends the test at once; what is too much does so at its end, which
/// then says how much it was at most.
async fn watch(replica: &Replica, peak: &AtomicU64) -> Result<()> {
    let mut beat = tokio::time::interval(SAMPLE);
    loop {
        beat.tick().await;
        let held = replica.memory("VmRSS")?;
        peak.fetch_max(held, Ordering::Relaxed);
        ensure!(held <= 8 * BOUND_KIB, "{held} KiB are held");
    }
}

/// Waits for a commit: the queues are being consumed.
async fn committing(feed: &Feed) -> Result<()> {
    let messages = "SELECT sum(messages) FROM partitions";
    let before = feed.number(messages).await?;
    until(CATCH_UP, async || Ok(feed.number(messages).await? > before)).await
}

/// How the database is away.
#[derive(Clone, Copy, Debug)]
enum Outage {
    /// Connections are refused.
    Killed,
    /// Connections stay, and nothing answers.
    Stopped,
}

impl Outage {
    async fn begin(self, servers: &OwnServers) -> Result<()> {
        match self {
            Self::Killed => servers.kill(Server::Postgres).await,
            Self::Stopped => servers.stop(Server::Postgres).await,
        }
    }

    async fn end(self, servers: &OwnServers) -> Result<()> {
        match self {
            Self::Killed => servers.start_again(Server::Postgres).await,
            Self::Stopped => servers.resume(Server::Postgres).await,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "somebody who wants a longer run says so in the environment"
)]
fn soak() -> Duration {
    let given = std::env::var("STOCKFEED_SOAK_SECONDS").ok();
    Duration::from_secs(given.and_then(|seconds| seconds.parse().ok()).unwrap_or(30))
}
