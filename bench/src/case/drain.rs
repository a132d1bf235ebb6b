//! A queue is filled, then a worker drains it: what a worker can do when it is behind.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sqlx::PgConnection;

use super::{Cost, Run, Worker, rate};
use crate::{
    child::{ClientProcess, Running},
    load::{Messages, Ticks},
    measure::process::peak_memory,
    publish::Publisher,
    stand::{Feed, Stand},
};

/// How often the row of a partition is read. It costs the database about a hundredth of a core.
const POLL: Duration = Duration::from_millis(10);
/// The slowest worker that is waited for, in ticks a second.
const SLOWEST: u64 = 3_000;

/// What to drain.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Ticks in all.
    pub ticks: u64,
    /// Ticks in a message.
    pub ticks_per_message: usize,
    /// Partitions.
    pub partitions: u16,
}

/// Fills the queues of a new feed, lets a worker drain them, and removes the feed.
pub async fn run(stand: &Stand, worker: Worker, drain: Drain) -> Result<Run> {
    let mut series = Series::new(stand, drain.ticks_per_message, drain.partitions).await?;
    let run = series.drain(stand, worker, drain.ticks).await?;
    series.remove(stand).await?;
    Ok(run)
}

/// A feed that is filled and drained several times.
#[derive(Debug)]
pub struct Series {
    feed: Feed,
    publisher: Publisher,
    messages: Messages,
    ticks_per_message: usize,
    /// Ticks drained so far.
    drained: u64,
}

impl Series {
    /// With a new feed.
    pub async fn new(stand: &Stand, ticks_per_message: usize, partitions: u16) -> Result<Self> {
        let feed = stand.feed(partitions).await?;
        Ok(Self {
            publisher: Publisher::connect(&feed).await?,
            messages: Messages::new(service::clock::event_time(), ticks_per_message, partitions)?,
            feed,
            ticks_per_message,
            drained: 0,
        })
    }

    /// Publishes the next ticks, then starts a worker and measures until it has committed them all.
    pub async fn drain(&mut self, stand: &Stand, worker: Worker, ticks: u64) -> Result<Run> {
        self.publisher.fill(self.messages.batch(ticks)).await?;
        stand.settle().await?;
        let limit = Duration::from_secs(30 + ticks / SLOWEST);
        let run = async {
            match worker {
                Worker::Processor => self.processor(stand, ticks).await,
                Worker::Naive => self.client(stand, worker, "naive", ticks).await,
                Worker::Reader | Worker::Copy(_) => self.client(stand, worker, "reader", ticks).await,
            }
        };
        let run = tokio::time::timeout(limit, run)
            .await
            .with_context(|| format!("{worker:?} did not drain {ticks} ticks within {limit:?}"))??;
        self.drained += ticks;
        if worker == Worker::Processor {
            check(&mut stand.connect(&self.feed).await?, self.drained).await?;
        }
        Ok(run)
    }

    /// Removes the feed.
    pub async fn remove(self, stand: &Stand) -> Result<()> {
        self.publisher.close().await?;
        stand.remove(self.feed).await
    }

    async fn client(&self, stand: &Stand, worker: Worker, role: &str, ticks: u64) -> Result<Run> {
        if worker == Worker::Naive {
            let base = Ticks::new(service::clock::event_time()).base().as_microseconds();
            sqlx::query(
                "SELECT ensure_stock_data_partition(timestamptz 'epoch' + $1 * interval '1 microsecond')",
            )
            .bind(base)
            .execute(&mut stand.connect(&self.feed).await?)
            .await?;
        }
        let arguments = [
            format!("--queues={}", self.feed.queues()),
            format!("--ticks={ticks}"),
            format!("--ticks-per-message={}", self.ticks_per_message),
        ];
        let before = stand.server_time()?;
        let mut client = ClientProcess::start(role, &self.feed, &arguments).await?;
        let done = client.work().await?;
        let run = self.measured(
            worker,
            ticks,
            rate(done.ticks, done.seconds),
            Cost::new(client.running.seconds()?, before, stand.server_time()?, ticks),
            peak_memory(client.running.pid)?,
        );
        client.running.end().await?;
        Ok(run)
    }

    async fn processor(&self, stand: &Stand, ticks: u64) -> Result<Run> {
        let mut poll = stand.connect(&self.feed).await?;
        let target = self.drained + ticks;
        let before = stand.server_time()?;
        let mut processor = processor(stand, &self.feed)?;
        let mut first = None;
        let last = loop {
            let committed = committed(&mut poll).await?;
            let now = Instant::now();
            if committed > self.drained {
                first.get_or_insert((now, committed));
            }
            if committed >= target {
                break now;
            }
            processor.check()?;
            tokio::time::sleep(POLL).await;
        };
        let cpu = Cost::new(processor.seconds()?, before, stand.server_time()?, ticks);
        let (first, already) = first.context("nothing was committed")?;
        let run = self.measured(
            Worker::Processor,
            ticks,
            rate(target - already, (last - first).as_secs_f64()),
            cpu,
            peak_memory(processor.pid)?,
        );
        processor.end().await?;
        Ok(run)
    }

    fn measured(
        &self,
        worker: Worker,
        ticks: u64,
        ticks_per_second: f64,
        cpu: Cost,
        peak_rss_mib: f64,
    ) -> Run {
        Run {
            worker,
            partitions: self.feed.partitions,
            ticks_per_message: self.ticks_per_message,
            ticks,
            ticks_per_second,
            cpu,
            peak_rss_mib,
        }
    }
}

/// Starts the processor for a feed, with its default settings.
pub fn processor(stand: &Stand, feed: &Feed) -> Result<Running> {
    let arguments = [
        "--config".to_owned(),
        feed.config.display().to_string(),
        "--log=warn".to_owned(),
        "--instance=benchmark".to_owned(),
    ];
    Running::start(&stand.processor, &arguments, false)
}

async fn committed(connection: &mut PgConnection) -> Result<u64> {
    let ticks: i64 = sqlx::query_scalar("SELECT coalesce(sum(ticks), 0)::bigint FROM partitions")
        .fetch_one(connection)
        .await?;
    Ok(ticks.cast_unsigned())
}

/// A fast processor that loses or repeats ticks would be worth nothing.
async fn check(connection: &mut PgConnection, ticks: u64) -> Result<()> {
    let (rows, candles, refused): (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM stock_data),
                (SELECT coalesce(sum(tick_count), 0)::bigint FROM candle_state WHERE width = '1m'),
                (SELECT coalesce(sum(quarantined + late + gaps + duplicates), 0)::bigint FROM partitions)",
    )
    .fetch_one(connection)
    .await?;
    let expected = ticks.cast_signed();
    ensure!(
        rows == expected && candles == expected && refused == 0,
        "of {ticks} ticks {rows} are in stock_data and {candles} in candles of a minute; {refused} were refused or late"
    );
    Ok(())
}
