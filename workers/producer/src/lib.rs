//! Polls a source of quotes and publishes them to the feed's partitions.
//!
//! ```text
//!            ┌──────────────── poll loop, one task ────────────────┐
//!  source ──►│ fetch ──► compose: partition, number ──► publish    │──► RabbitMQ, with confirms
//!            └──▲───────────────────────────────────────────┬──────┘
//!       POST /fetch-data              status, metrics ──────┘──► GET /health /ready /symbols /metrics
//! ```
//!
//! What was fetched is held until the broker has confirmed it, and nothing is fetched meanwhile. So memory is bounded by one
//! poll, and a broker that is away costs no calls.

pub mod api;
mod chain;
pub mod message;
pub mod metrics;
pub mod poll;
pub mod publish;
pub mod source;
pub mod status;

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, ensure};
use contract::config::{ProducerConfig, SourceConfig};
use prometheus_client::registry::Registry;
use service::clock;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::{NoContext, Uuid};

use crate::{
    api::Api, message::Composer, metrics::Metrics, poll::Poller, publish::Publisher, source::fmp::FmpSource,
    status::Status,
};

/// Orders of `POST /fetch-data` that may wait.
const WAITING_COMMANDS: usize = 8;

/// A producer that is running.
#[derive(Debug)]
pub struct Producer {
    address: SocketAddr,
    publisher: Uuid,
    poller: JoinHandle<usize>,
    server: JoinHandle<anyhow::Result<()>>,
    server_token: CancellationToken,
    status: Arc<Status>,
    token: CancellationToken,
}

/// Starts a producer that runs until the token is cancelled.
///
/// # Errors
/// When the address cannot be bound, or the source's URL is not one. A broker or source that does not answer is no error: it
/// is waited for.
pub async fn start(config: ProducerConfig, token: CancellationToken) -> anyhow::Result<Producer> {
    let ProducerConfig {
        feed,
        symbols,
        source,
        interval,
        queues,
        broker_directory,
        listen,
    } = config;
    let listener = service::http::bind(listen).await?;
    let address = listener
        .local_addr()
        .context("failed to read the API's address")?;
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));
    let status = Arc::new(Status::new(&symbols));
    let SourceConfig::Fmp(fmp) = source;
    let source = FmpSource::new(fmp, Arc::clone(&metrics), token.clone())?;
    let publisher = new_publisher();
    let (sender, commands) = mpsc::channel(WAITING_COMMANDS);
    info!(
        feed = %feed,
        publisher = %publisher,
        symbols = symbols.len(),
        partitions = queues.partitions,
        "Polling {} symbols every {} for feed {feed}",
        symbols.len(),
        contract::duration::format(interval),
    );
    let poller = Poller {
        source,
        symbols: symbols.clone(),
        interval,
        composer: Composer::new(publisher, queues),
        publisher: Publisher::new(
            feed,
            broker_directory,
            publisher,
            Arc::clone(&status),
            Arc::clone(&metrics),
        ),
        commands,
        status: Arc::clone(&status),
        metrics: Arc::clone(&metrics),
    };
    let api = Arc::new(Api {
        symbols,
        status: Arc::clone(&status),
        commands: sender,
        metrics,
        registry,
    });
    // A token of its own: health is answered until the last message is confirmed.
    let server_token = CancellationToken::new();
    let server = tokio::spawn(service::http::serve(
        listener,
        api::router(api),
        server_token.clone(),
    ));
    let poller = tokio::spawn(poller.run(token.clone()));
    Ok(Producer {
        address,
        publisher,
        poller,
        server,
        server_token,
        status,
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

    /// Waits until the token is cancelled and everything that was fetched is confirmed.
    ///
    /// # Errors
    /// When something was not confirmed within [`poll::DRAIN`], or a part of the producer failed.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        tokio::select! {
            // First, because the poll loop may have ended at once when it was told to.
            biased;
            () = self.token.cancelled() => {}
            // Neither ends before it is told to.
            result = &mut self.server => {
                result.context("the HTTP server panicked")??;
                anyhow::bail!("the HTTP server ended by itself");
            }
            result = &mut self.poller => {
                result.context("the poll loop panicked")?;
                anyhow::bail!("the poll loop ended by itself");
            }
        }
        self.status.shut_down();
        let held = (&mut self.poller).await.context("the poll loop panicked")?;
        self.server_token.cancel();
        (&mut self.server).await.context("the HTTP server panicked")??;
        ensure!(
            held == 0,
            "{held} messages were fetched and not confirmed within {} s: they are lost",
            poll::DRAIN.as_secs()
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
