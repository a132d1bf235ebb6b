//! What goes wrong, and how often it did.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use contract::config::{BatchConfig, ProcessorConfig, QueueGeneration};
use rand::{Rng, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use test_servers::OwnServers;
use tokio_util::sync::CancellationToken;

use crate::{
    live::{
        feed::{Feed, LOOK_AGAIN, PATIENCE},
        replica::Replica,
    },
    oracle::{OUT_OF_ORDERNESS, WIDTHS},
    proxy::Proxy,
};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL at a fault point, by the processor itself.
    Point(&'static str),
    /// SIGKILL at any moment.
    Kill,
    /// SIGTERM.
    Drain,
    /// SIGSTOP until others have taken over, then SIGCONT.
    Freeze,
    /// The connection to the database cut within a COPY.
    CutCopy,
    /// Somebody else claims a partition whose owner lives.
    Rob,
    /// The server ends by SIGKILL and comes back.
    BrokerKill,
    /// The server ends by SIGKILL and comes back.
    DatabaseKill,
    /// The database takes no writes for a while.
    ReadOnly,
    /// The database ends sessions, those that copy first.
    Terminate,
    /// The broker closes the processors' connections.
    Disconnect,
    /// Another number of partitions, under load.
    Repartition,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point(point) => write!(formatter, "SIGKILL at {point}"),
            Self::Kill => formatter.write_str("SIGKILL at any moment"),
            Self::Drain => formatter.write_str("SIGTERM"),
            Self::Freeze => formatter.write_str("SIGSTOP, taken over, SIGCONT"),
            Self::CutCopy => formatter.write_str("connection cut in a COPY"),
            Self::Rob => formatter.write_str("claimed by another while active"),
            Self::BrokerKill => formatter.write_str("broker SIGKILL and restart"),
            Self::DatabaseKill => formatter.write_str("database SIGKILL and restart"),
            Self::ReadOnly => formatter.write_str("database read-only"),
            Self::Terminate => formatter.write_str("database sessions terminated"),
            Self::Disconnect => formatter.write_str("broker connections closed"),
            Self::Repartition => formatter.write_str("number of partitions changed"),
        }
    }
}

/// The processor's fault points, and how many passes there may be before one strikes: `before_decode` is passed with each
/// message, the others with each batch.
const POINTS: [(&str, u32); 8] = [
    ("before_decode", 200),
    ("before_begin", 12),
    ("after_begin", 12),
    ("after_copy", 12),
    ("before_commit", 12),
    ("after_commit", 12),
    ("before_ack", 12),
    ("during_ack", 12),
];

/// A replica whose fault point is not reached, because it was given no partition, is not waited for longer.
const STRIKES_WITHIN: Duration = Duration::from_secs(6);
/// How often each fault struck.
#[derive(Debug, Default)]
pub struct Counts(Mutex<BTreeMap<Fault, u64>>);

impl Counts {
    pub fn add(&self, fault: Fault, times: u64) {
        *self.lock().entry(fault).or_default() += times;
    }

    pub fn total(&self) -> u64 {
        self.lock().values().sum()
    }

    pub fn of(&self, fault: Fault) -> u64 {
        self.lock().get(&fault).copied().unwrap_or_default()
    }

    pub fn by_kind(&self) -> BTreeMap<Fault, u64> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Fault, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes the faults: replicas that die one after the other, and servers that fail.
pub struct Chaos {
    pub servers: OwnServers,
    pub feed: Feed,
    pub counts: Counts,
    proxy: Proxy,
    proxied: TempDir,
    logs: PathBuf,
    replicas: AtomicU64,
}

impl Chaos {
    pub async fn new(servers: OwnServers, feed: Feed, logs: PathBuf, seed: u64) -> Result<Self> {
        let proxy = Proxy::start(feed.database.options.get_port(), seed).await?;
        Ok(Self {
            proxied: feed.database_secret_at(proxy.port)?,
            servers,
            feed,
            counts: Counts::default(),
            proxy,
            logs,
            replicas: AtomicU64::new(0),
        })
    }

    /// Replicas of one slot, one after the other, each with its fault, until the token is cancelled; the last one is drained.
    pub async fn replicas(
        self: Arc<Self>,
        queues: QueueGeneration,
        seed: u64,
        stop: CancellationToken,
    ) -> Result<()> {
        let mut random = StdRng::seed_from_u64(seed);
        while !stop.is_cancelled() {
            self.one(queues, &mut random, &stop).await?;
        }
        Ok(())
    }

    /// A replica without a fault.
    pub fn healthy(&self, queues: QueueGeneration) -> Result<Replica> {
        self.start(&self.config(queues)?, "")
    }

    async fn one(
        &self,
        queues: QueueGeneration,
        random: &mut StdRng,
        stop: &CancellationToken,
    ) -> Result<()> {
        let config = self.config(queues)?;
        match random.random_range(0..100) {
            0..70 => {
                let (point, passes) = POINTS[random.random_range(0..POINTS.len())];
                let pass = random.random_range(0..passes);
                let mut replica = self.start(&config, &format!("{point}={pass}*off->return"))?;
                tokio::select! {
                    status = replica.ended() => {
                        if crate::live::replica::was_killed(status?) {
                            self.counts.add(Fault::Point(point), 1);
                        }
                    }
                    () = stop.cancelled() => self.drain(replica, true).await?,
                    () = tokio::time::sleep(STRIKES_WITHIN) => self.kill(replica).await?,
                }
            }
            70..80 => {
                let replica = self.start(&config, "")?;
                pause(random, 300..1_500, stop).await;
                self.kill(replica).await?;
            }
            80..87 => {
                let replica = self.start(&config, "")?;
                pause(random, 300..2_000, stop).await;
                self.drain(replica, false).await?;
            }
            87..94 => self.freeze(&config, stop).await?,
            _ => {
                let before = self.proxy.cuts();
                let config = ProcessorConfig {
                    database_directory: self.proxied.path().to_owned(),
                    ..config
                };
                let replica = self.start(&config, "")?;
                pause(random, 1_500..3_000, stop).await;
                self.kill(replica).await?;
                // Two slots that do this at once may take each other's cuts, but no cut is counted twice in all.
                let cuts = self.proxy.cuts();
                let known = self.counts.of(Fault::CutCopy);
                self.counts
                    .add(Fault::CutCopy, cuts.saturating_sub(known.max(before)));
            }
        }
        Ok(())
    }

    async fn kill(&self, replica: Replica) -> Result<()> {
        if replica.kill().await? {
            self.counts.add(Fault::Kill, 1);
        }
        Ok(())
    }

    /// `armed` replicas may die at their fault point while they drain.
    async fn drain(&self, replica: Replica, armed: bool) -> Result<()> {
        match replica.drain().await {
            Ok(()) => self.counts.add(Fault::Drain, 1),
            Err(_died) if armed => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn freeze(&self, config: &ProcessorConfig, stop: &CancellationToken) -> Result<()> {
        let replica = self.start(config, "")?;
        let own = format!(
            "SELECT count(*) FROM partitions WHERE owner LIKE '{}/%'",
            replica.instance
        );
        // That it is given no partition is no error.
        let active = async {
            while matches!(self.owns(&own).await, None | Some(0)) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        if tokio::time::timeout(STRIKES_WITHIN, active).await.is_err() {
            return self.drain(replica, false).await;
        }
        // Within a transaction, very likely: whoever takes over has to end its session as well as its consumer.
        replica.signal("STOP").await?;
        let client = format!("processor {}", replica.instance);
        let taken_over = async {
            while self.owns(&own).await != Some(0) {
                // Again and again: the broker may be down, or not list the connection yet.
                drop(self.feed.broker.close_connections_of(&client).await);
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::select! {
            taken_over = tokio::time::timeout(PATIENCE, taken_over) => taken_over.with_context(|| {
                format!("nobody took over from {}, which is frozen", replica.instance)
            })?,
            // The others may have gone, and nothing more may come for its partition.
            () = stop.cancelled() => {
                replica.signal("CONT").await?;
                return self.drain(replica, false).await;
            }
        }
        self.counts.add(Fault::Freeze, 1);
        replica.signal("CONT").await?;
        // It finds its connection gone, tries to commit what it holds, and must not succeed: see `check::owners`.
        self.drain(replica, false).await
    }

    /// How many partitions a replica has; nobody knows while the database is down.
    async fn owns(&self, query: &str) -> Option<i64> {
        self.feed.number(query).await.ok()
    }

    fn start(&self, config: &ProcessorConfig, points: &str) -> Result<Replica> {
        let number = self.replicas.fetch_add(1, Ordering::Relaxed);
        // All of one length: no name is the beginning of another, by which connections and owners are looked for.
        Replica::start(config, &format!("r{number:04}"), points, &self.logs)
    }

    fn config(&self, queues: QueueGeneration) -> Result<ProcessorConfig> {
        let mut config = self.feed.config(queues)?;
        config.windows = WIDTHS
            .iter()
            .map(|width| width.parse())
            .collect::<Result<_, _>>()?;
        config.out_of_orderness = Duration::from_micros(OUT_OF_ORDERNESS.unsigned_abs());
        config.batch = BatchConfig {
            max_messages: 50,
            max_bytes: 1 << 20,
            linger: Duration::from_millis(5),
        };
        Ok(config)
    }
}

/// A while, or until the token is cancelled.
pub async fn pause(random: &mut StdRng, milliseconds: std::ops::Range<u64>, stop: &CancellationToken) {
    let while_ = Duration::from_millis(random.random_range(milliseconds));
    tokio::select! {
        () = tokio::time::sleep(while_) => {}
        () = stop.cancelled() => {}
    }
}
