//! Polls a source of quotes and publishes them to the feed's partitions.
//!
//! ```text
//!            ┌──────────────── poll loop, one task ─────────────────┐      ┌──────── publisher, one task ────────┐
//!  source ──►│ decide ──► fetch ──► compose: partition, number ─────┼─► spool (disk) ──► publish, with confirms  │──► RabbitMQ
//!            └─▲───────────▲──────────────────────────┬─────────────┘      └─────────────────────────────────────┘
//!              │     calls, counted in PostgreSQL     └── status, metrics ──► GET /health /ready /symbols /quota /metrics
//!        POST /fetch-data
//! ```
//!
//! What was fetched is on the disk before anything of it is published, and stays until the broker has confirmed it. While the
//! broker is away polling goes on until the spool is full; then nothing is fetched, rather than dropped.

pub mod api;
mod chain;
pub mod ledger;
pub mod live;
pub mod message;
pub mod metrics;
pub mod poll;
pub mod publish;
pub mod quota;
pub mod source;
pub mod spool;
pub mod status;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, ensure};
use contract::config::ProducerConfig;
use prometheus_client::registry::Registry;
use service::clock;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::{NoContext, Uuid};

use crate::{
    api::Api,
    ledger::Ledger,
    live::Live,
    message::Composer,
    metrics::Metrics,
    poll::{Clock, Poller},
    publish::Publisher,
    source::AnySource,
    spool::Spool,
    status::Status,
};

/// Orders of `POST /fetch-data` that may wait.
const WAITING_COMMANDS: usize = 8;

/// A producer that is running.
#[derive(Debug)]
pub struct Producer {
    address: SocketAddr,
    publisher: Uuid,
    poller: JoinHandle<()>,
    publishing: JoinHandle<()>,
    polling_ended: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
    server_token: CancellationToken,
    status: Arc<Status>,
    /// Keeps the configuration from changing when nobody watches it.
    _live: watch::Sender<Live>,
    token: CancellationToken,
}

/// Starts a producer that runs until the token is cancelled. What may change of the configuration is taken from `file`, if there
/// is one, whenever it changes.
///
/// # Errors
/// When the address cannot be bound, the spool cannot be opened, or the source's URL is not one. A broker, database or source that
/// does not answer is no error: it is waited for.
pub async fn start(
    config: ProducerConfig,
    file: Option<PathBuf>,
    token: CancellationToken,
) -> anyhow::Result<Producer> {
    let live = Live::from(&config);
    let ProducerConfig {
        feed,
        symbols,
        source,
        interval,
        queues,
        spool,
        broker_directory,
        database_directory,
        token_directory,
        listen,
        market_hours: _,
        duplicates: _,
        quota: _,
    } = config;
    let listener = service::http::bind(listen).await?;
    let address = listener
        .local_addr()
        .context("failed to read the API's address")?;
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));
    let (spool, recovered) = Spool::open(spool.as_ref())?;
    let status = Arc::new(Status::new(&symbols, Arc::clone(&spool)));
    let delay = source.delay();
    let source = AnySource::new(source, Arc::clone(&metrics), token.clone())?;
    let composer = Composer::new(new_publisher(), queues, recovered);
    let publisher = composer.publisher();
    let (sender, commands) = mpsc::channel(WAITING_COMMANDS);
    let (live_sender, live) = watch::channel(live);
    info!(
        feed = %feed,
        publisher = %publisher,
        symbols = symbols.len(),
        partitions = queues.partitions,
        waiting = spool.state().messages,
        "Polling {} symbols every {} for feed {feed}",
        symbols.len(),
        contract::duration::format(interval),
    );
    let poller = Poller {
        source,
        live,
        composer,
        spool: Arc::clone(&spool),
        ledger: Ledger::new(feed.clone(), database_directory),
        commands,
        status: Arc::clone(&status),
        metrics: Arc::clone(&metrics),
        clock: Clock::default(),
        delay,
    };
    let mut publishing = Publisher::new(
        feed,
        broker_directory,
        spool,
        Arc::clone(&status),
        Arc::clone(&metrics),
    );
    let api = Arc::new(Api {
        status: Arc::clone(&status),
        commands: sender,
        metrics,
        registry,
        token_directory,
    });
    // Tokens of their own: health is answered until the last message is confirmed, and that can be after the last poll.
    let (server_token, polling_ended) = (CancellationToken::new(), CancellationToken::new());
    let server = tokio::spawn(service::http::serve(
        listener,
        api::router(api),
        server_token.clone(),
    ));
    if let Some(file) = file {
        tokio::spawn(live::watch(file, live_sender.clone(), token.clone()));
    }
    let ended = polling_ended.clone();
    Ok(Producer {
        address,
        publisher,
        poller: tokio::spawn(poller.run(token.clone())),
        publishing: tokio::spawn(async move {
            publishing.run(&ended).await;
            publishing.close().await;
        }),
        polling_ended,
        server,
        server_token,
        status,
        _live: live_sender,
        token,
    })
}

impl Producer {
    /// Where the API listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// This run's identity, as in the header `publisher`.
    #[must_use]
    pub const fn publisher(&self) -> Uuid {
        self.publisher
    }

    /// Waits until the token is cancelled and everything that was fetched is confirmed, at most [`poll::DRAIN`].
    ///
    /// # Errors
    /// When something was not confirmed by then, or a part of the producer failed.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        tokio::select! {
            // First, because the poll loop may have ended at once when it was told to.
            biased;
            () = self.token.cancelled() => {}
            // None ends before it is told to.
            result = &mut self.server => {
                result.context("the HTTP server panicked")??;
                anyhow::bail!("the HTTP server ended by itself");
            }
            result = &mut self.poller => {
                result.context("the poll loop panicked")?;
                anyhow::bail!("the poll loop ended by itself");
            }
            result = &mut self.publishing => {
                result.context("the publisher panicked")?;
                anyhow::bail!("the publisher ended by itself");
            }
        }
        self.status.shut_down();
        let deadline = tokio::time::Instant::now() + poll::DRAIN;
        match tokio::time::timeout_at(deadline, &mut self.poller).await {
            Ok(ended) => ended.context("the poll loop panicked")?,
            Err(_) => self.poller.abort(),
        }
        self.polling_ended.cancel();
        match tokio::time::timeout_at(deadline, &mut self.publishing).await {
            Ok(ended) => ended.context("the publisher panicked")?,
            Err(_) => self.publishing.abort(),
        }
        self.server_token.cancel();
        (&mut self.server).await.context("the HTTP server panicked")??;
        let spool = self.status.spool();
        let left = spool.messages;
        ensure!(
            left == 0,
            "{left} messages were fetched and not confirmed within {} s: {}",
            poll::DRAIN.as_secs(),
            if spool.max_bytes.is_some() {
                "they are in the spool, for the next start"
            } else {
                "they are lost"
            }
        );
        info!("Everything that was fetched is confirmed");
        Ok(())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.token.cancel();
        self.server_token.cancel();
        self.poller.abort();
        self.publishing.abort();
        self.server.abort();
    }
}

/// The identity of a run: ordered by time, never used again.
fn new_publisher() -> Uuid {
    let now = clock::now();
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds))
}
