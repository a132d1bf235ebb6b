//! A drain hands over without a redelivery: what a replica was given is committed and acknowledged when it ends.

use std::sync::Arc;

use anyhow::{Result, ensure};
use contract::config::{BatchConfig, QueueGeneration};
use rand::{SeedableRng as _, rngs::StdRng};
use test_servers::Addresses;
use tokio_util::sync::CancellationToken;

use crate::{
    ALONE,
    live::{
        feed::{Feed, PATIENCE, until},
        outbox::Outbox,
        replica::{self, Replica},
    },
    script::{self, Author, Script},
    seed,
};

const QUEUES: QueueGeneration = QueueGeneration {
    generation: 1,
    partitions: 3,
};
const HANDOVERS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_causes_no_redelivery() -> Result<()> {
    let _alone = ALONE.lock().await;
    let feed = Feed::new(&Addresses::shared(), &script::SYMBOLS).await?;
    feed.declare(QUEUES).await?;
    let logs = replica::logs("drain")?;
    let mut config = feed.config(QUEUES)?;
    config.batch = BatchConfig {
        max_messages: 50,
        ..BatchConfig::default()
    };
    let script = Arc::new(Script::new(QUEUES));
    let stop = CancellationToken::new();
    let publishing = {
        let (script, stop) = (Arc::clone(&script), stop.clone());
        let mut outbox = Outbox::new(feed.name.clone(), feed.broker_directory().to_owned());
        let mut random = StdRng::seed_from_u64(seed());
        tokio::spawn(async move {
            let mut author = Author::new();
            while !stop.is_cancelled() {
                // Without the repetitions and rotations of `Script::write`: only the drains could cause a duplicate here.
                outbox.send(&script.plain(&mut author, &mut random, 20)).await;
            }
            outbox.repeated
        })
    };
    let start = |number: usize| Replica::start(&config, &format!("d{number}"), "", &logs);
    let mut replicas = vec![start(0)?, start(1)?];
    for number in 0..HANDOVERS {
        let oldest = replicas.remove(0);
        // Under load: it drains while it has messages, unless its draw gave it no partition.
        let owned = format!(
            "SELECT count(*) FROM partitions WHERE owner LIKE '{}/%'",
            oldest.instance
        );
        let messages = "SELECT sum(messages) FROM partitions";
        let before = feed.number(messages).await?;
        let moved = async || Ok(feed.number(messages).await? > before + 100);
        until(PATIENCE, moved).await?;
        println!(
            "{} drains with {} partitions",
            oldest.instance,
            feed.number(&owned).await?
        );
        oldest.drain().await?;
        replicas.push(start(number + 2)?);
    }
    stop.cancel();
    let repeated = publishing.await?;
    ensure!(repeated == 0, "the publisher sent {repeated} messages twice");
    feed.until_empty(&feed.name.queue_prefix(), PATIENCE).await?;
    for replica in replicas {
        replica.drain().await?;
    }
    let said = i64::try_from(script.said().len())?;
    let found = feed.number("SELECT sum(messages) FROM partitions").await?;
    let duplicates = feed.number("SELECT sum(duplicates) FROM partitions").await?;
    ensure!(found == said, "{found} messages, not {said}");
    ensure!(duplicates == 0, "{duplicates} messages were delivered again");
    println!("{said} messages, {HANDOVERS} drains under load, no duplicate");
    std::fs::remove_dir_all(logs)?;
    Ok(())
}
