//! What the processor is compared with. Each runs in a process of its own, so that its processor time and its memory are
//! counted just as the processor's are.
//!
//! A client says when it is ready, waits for a line, works, says what it did, and waits for the end of its input, so that
//! its figures can be read before it ends.

use std::{
    io::BufRead as _,
    path::PathBuf,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use contract::names::FeedName;
use futures::{StreamExt as _, future::try_join_all};
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use serde::{Deserialize, Serialize};
use service::credentials::{BrokerCredentials, DatabaseCredentials};
use sqlx::PgConnection;
use tokio::sync::Notify;

use crate::copy::Format;

mod copy;
mod naive;
mod reader;

/// Deliveries that the broker may be ahead of acknowledgements; the processor's default.
const PREFETCH: u16 = 10_000;
/// Messages that are committed, or acknowledged, together; the processor's default.
const BATCH: usize = 5_000;
/// How long a batch may wait to fill up; the processor's default.
const LINGER: Duration = Duration::from_millis(5);

/// Which client to be.
#[derive(Debug, Subcommand)]
pub enum Client {
    /// Consumes and acknowledges, nothing else
    Reader(Queues),
    /// Consumes, decodes, copies, acknowledges, in the plainest way
    Naive(Queues),
    /// Copies rows, nothing else
    Copy(Copy),
}

/// What to consume.
#[derive(Args, Debug)]
pub struct Queues {
    #[command(flatten)]
    places: Places,
    /// Names of the queues
    #[arg(long, value_delimiter = ',')]
    queues: Vec<String>,
    /// Ticks in all of them
    #[arg(long)]
    ticks: u64,
    /// Ticks in a message
    #[arg(long)]
    ticks_per_message: u64,
}

/// What to copy.
#[derive(Args, Debug)]
pub struct Copy {
    #[command(flatten)]
    places: Places,
    /// Rows in all
    #[arg(long)]
    ticks: u64,
    /// Rows in a COPY
    #[arg(long)]
    rows: usize,
    /// Connections that copy at once
    #[arg(long)]
    connections: usize,
    /// The format of COPY
    #[arg(long, value_enum)]
    format: Format,
}

#[derive(Args, Debug)]
struct Places {
    /// Folder of the broker's credentials
    #[arg(long)]
    broker_directory: PathBuf,
    /// Folder of the database's credentials
    #[arg(long)]
    database_directory: PathBuf,
    /// The feed, as namespace/name
    #[arg(long, value_parser = feed)]
    feed: FeedName,
}

/// What a client did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Ticks within the time: all but those that were there when it began.
    pub ticks: u64,
    /// From the first commit (or delivery) to the last.
    pub seconds: f64,
}

/// Does the work of one client.
pub async fn run(client: Client) -> Result<()> {
    match client {
        Client::Reader(queues) => {
            say("ready")?;
            wait_for_line()?;
            report(reader::run(&queues).await?)
        }
        Client::Naive(queues) => {
            say("ready")?;
            wait_for_line()?;
            report(naive::run(&queues).await?)
        }
        Client::Copy(copy) => {
            let prepared = copy::prepare(&copy).await?;
            say("ready")?;
            wait_for_line()?;
            report(copy::run(prepared).await?)
        }
    }
}

fn report(done: Done) -> Result<()> {
    say(&serde_json::to_string(&done)?)?;
    wait_for_line()
}

fn say(line: &str) -> Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn wait_for_line() -> Result<()> {
    std::io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

fn feed(text: &str) -> Result<FeedName> {
    let (namespace, name) = text.split_once('/').context("not namespace/name")?;
    Ok(FeedName::new(namespace, name)?)
}

impl Places {
    async fn broker(&self) -> Result<Connection> {
        let credentials = BrokerCredentials::read(&self.broker_directory)?;
        Ok(service::amqp::connect(&credentials, &self.feed, "benchmark").await?)
    }

    /// Connects as the processor does.
    async fn database(&self) -> Result<PgConnection> {
        let credentials = DatabaseCredentials::read(&self.database_directory)?;
        let options = service::postgres::options(&credentials, "stockfeed benchmark")
            .options([("search_path", self.feed.schema())]);
        Ok(service::postgres::connect(options).await?)
    }
}

async fn consume(connection: &Connection, queue: &str) -> Result<(Channel, Consumer)> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let consumer = channel
        .basic_consume(
            queue.into(),
            "benchmark".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok((channel, consumer))
}

/// Takes a batch: full, or as old as the processor's default linger.
async fn receive(consumer: &mut Consumer, batch: &mut Vec<Delivery>) -> Result<()> {
    let ended = "the broker cancelled the consumer";
    batch.push(consumer.next().await.context(ended)??);
    let mut due = pin!(tokio::time::sleep(LINGER));
    while batch.len() < BATCH {
        tokio::select! {
            biased;
            delivery = consumer.next() => batch.push(delivery.context(ended)??),
            () = &mut due => break,
        }
    }
    Ok(())
}

/// Counts the ticks of several tasks, from the first to the last of all.
#[derive(Debug)]
struct Meter {
    target: u64,
    counted: Mutex<Counted>,
    finished: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    first: Option<(Instant, u64)>,
    total: u64,
    last: Option<Instant>,
}

impl Meter {
    fn new(target: u64) -> Self {
        Self {
            target,
            counted: Mutex::default(),
            finished: Notify::new(),
        }
    }

    fn add(&self, ticks: u64) {
        let now = Instant::now();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.total += ticks;
        counted.first.get_or_insert((now, ticks));
        counted.last = Some(now);
        if counted.total >= self.target {
            self.finished.notify_one();
        }
    }

    /// Returns when all ticks are counted. Only the tasks' own errors end them before: none knows when it has had its last.
    async fn run(&self, tasks: impl Iterator<Item = impl Future<Output = Result<()>>>) -> Result<Done> {
        tokio::select! {
            result = try_join_all(tasks) => { result?; }
            () = self.finished.notified() => {}
        }
        self.done()
    }

    fn done(&self) -> Result<Done> {
        let Counted { first, total, last } = *self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let ((first, already), last) = first.zip(last).context("nothing was done")?;
        Ok(Done {
            ticks: total - already,
            seconds: (last - first).as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_at_the_start_does_not_count() -> Result<()> {
        let meter = Meter::new(10_300);
        assert!(meter.done().is_err());
        meter.add(5_000);
        meter.add(5_000);
        meter.add(300);
        assert_eq!(meter.done()?.ticks, 5_300);
        Ok(())
    }
}
