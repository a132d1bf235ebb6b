//! Servers that fail under the processors.

use std::time::Duration;

use anyhow::Result;
use contract::config::QueueGeneration;
use rand::{Rng, SeedableRng as _, rngs::StdRng};
use test_servers::Server;
use tokio_util::sync::CancellationToken;

use crate::faults::{Chaos, Fault, pause};

/// A broker takes seconds to come back, in which nothing else can go wrong: so this is done this often at most.
const BROKER_KILLS: u64 = 2;

/// Sessions of processors.
const SESSIONS: &str = "FROM pg_stat_activity WHERE application_name = 'stockfeed processor'";

impl Chaos {
    /// One outage after the other, until the token is cancelled. The servers are up afterwards.
    pub async fn outages(
        self: std::sync::Arc<Self>,
        queues: QueueGeneration,
        seed: u64,
        stop: CancellationToken,
    ) -> Result<()> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut broker_kills = 0;
        loop {
            pause(&mut random, 300..2_500, &stop).await;
            if stop.is_cancelled() {
                return Ok(());
            }
            match random.random_range(0..100) {
                0..8 if broker_kills < BROKER_KILLS => {
                    broker_kills += 1;
                    self.servers.kill(Server::Rabbitmq).await?;
                    self.servers.start_again(Server::Rabbitmq).await?;
                    self.counts.add(Fault::BrokerKill, 1);
                }
                0..25 => {
                    self.servers.kill(Server::Postgres).await?;
                    pause(&mut random, 0..1_500, &stop).await;
                    self.servers.start_again(Server::Postgres).await?;
                    self.counts.add(Fault::DatabaseKill, 1);
                }
                25..40 => self.read_only(&mut random, &stop).await?,
                40..65 => self.terminate().await?,
                65..80 => {
                    let closed = self.feed.broker.close_connections_of(" processor ").await?;
                    self.counts.add(Fault::Disconnect, u64::from(closed > 0));
                }
                _ => self.rob(queues, &mut random).await?,
            }
        }
    }

    /// As a disk that is full, or a primary that has become a standby.
    async fn read_only(&self, random: &mut StdRng, stop: &CancellationToken) -> Result<()> {
        for (setting, fault) in [("on", 0), ("off", 1)] {
            let set = format!("ALTER SYSTEM SET default_transaction_read_only = {setting}");
            self.feed.execute(&set).await?;
            self.feed.execute("SELECT pg_reload_conf()").await?;
            self.counts.add(Fault::ReadOnly, fault);
            if fault == 0 {
                pause(random, 200..1_500, stop).await;
            }
        }
        Ok(())
    }

    /// Ends the session that copies, if one is seen to, or else all.
    async fn terminate(&self) -> Result<()> {
        let copying = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_progress_copy
             WHERE pid IN (SELECT pid {SESSIONS})"
        );
        for _ in 0..100 {
            if self.feed.number(&copying).await? > 0 {
                self.counts.add(Fault::Terminate, 1);
                return Ok(());
            }
        }
        let all = self
            .feed
            .number(&format!("SELECT count(pg_terminate_backend(pid)) {SESSIONS}"))
            .await?;
        self.counts.add(Fault::Terminate, u64::from(all > 0));
        Ok(())
    }

    /// Claims a partition as a second processor does that believes it to be its own.
    async fn rob(&self, queues: QueueGeneration, random: &mut StdRng) -> Result<()> {
        let QueueGeneration {
            generation,
            partitions,
        } = queues;
        let partition = random.random_range(0..partitions);
        let name = random.random::<u64>();
        let claim = format!(
            "WITH robbed AS (
                 UPDATE partitions SET version = version + 1, owner = 'robber/{name}'
                 WHERE generation = {generation} AND partition = {partition} RETURNING 1
             ) SELECT count(*) FROM robbed"
        );
        let rows: Vec<(i64,)> = self.feed.rows(&claim).await?;
        let robbed = rows.first().is_some_and(|row| row.0 > 0);
        self.counts.add(Fault::Rob, u64::from(robbed));
        Ok(())
    }
}

/// How long the processors may take to work off what the faults held up.
pub const CATCH_UP: Duration = Duration::from_secs(120);
