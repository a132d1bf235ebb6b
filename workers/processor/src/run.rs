//! The process: connections that come back, a task for each queue, and a drain at the end.

use std::{sync::Arc, time::Duration};

use contract::config::{ProcessorConfig, QueueGeneration};
use futures::future::join_all;
use lapin::Connection;
use prometheus_client::registry::Registry;
use service::credentials::{BrokerCredentials, DatabaseCredentials};
use snafu::{ResultExt, Snafu};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    api::{self, Api},
    board::{self, Board},
    consumer::{self, Context},
    dead_letters, depth,
    metrics::Metrics,
    store::{self, PartitionId},
};

/// Between attempts to reach a server.
const RETRY: Duration = Duration::from_secs(1);
/// Between attempts to drain the dead-letter queue: there may be none, where no operator made it.
const DEAD_LETTER_RETRY: Duration = Duration::from_secs(15);
/// How often is looked at what changes by itself.
const SAMPLE_PERIOD: Duration = Duration::from_secs(5);

/// Why work cannot begin.
#[derive(Debug, Snafu)]
enum StartError {
    #[snafu(display("failed to read the credentials"))]
    Credentials { source: service::credentials::Error },
    #[snafu(display("failed to reach the broker"))]
    Broker { source: service::amqp::Error },
    #[snafu(display("failed to reach the database"))]
    Database { source: store::Error },
    #[snafu(display("failed to read the schema's version"))]
    Version { source: schema::Error },
    #[snafu(display("{source}"))]
    Schema { source: schema::Refusal },
}

/// Runs a processor until shutdown.
///
/// # Errors
/// When its HTTP address cannot be used. Servers that cannot be reached are tried again, and `/ready` says so.
pub async fn run(
    config: ProcessorConfig,
    instance: String,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let board = Board::default();
    let queues: Vec<_> = config.queues.iter().flat_map(partitions).collect();
    board.expect_queues(queues.len());
    board.introduce(
        config.feed.to_string(),
        instance.clone(),
        service::clock::event_time(),
    );
    let listener = service::http::bind(config.listen).await?;
    info!(feed = %config.feed, instance, queues = queues.len(), listen = %config.listen, "Starting");
    // The API outlives the drain, so that somebody who watches it sees the drain.
    let served = CancellationToken::new();
    let router = api::router(Api {
        board: board.clone(),
        registry: Arc::new(registry),
    });
    let server = tokio::spawn(service::http::serve(listener, router, served.clone()));
    let context = Context {
        config: Arc::new(config),
        instance,
        board,
        metrics,
        shutdown,
    };
    let sampler = tokio::spawn(sample(context.board.clone(), context.metrics.clone()));
    while !context.shutdown.is_cancelled() {
        if let Err(error) = session(&context, &queues).await {
            context.board.error(service::clock::event_time(), "start", &error);
            let error = board::chain(&error).collect::<Vec<_>>().join(": ");
            warn!(error, "Cannot work yet; trying again");
        }
        tokio::select! {
            () = context.shutdown.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    info!("Drained");
    sampler.abort();
    served.cancel();
    server.await?
}

/// One connection to the broker: consumes every queue until the connection is lost, or shutdown.
async fn session(context: &Context, queues: &[(PartitionId, u16)]) -> Result<(), StartError> {
    check_schema(context).await?;
    let credentials = BrokerCredentials::read(&context.config.broker_directory).context(CredentialsSnafu)?;
    let role = format!("processor {}", context.instance);
    let connection = service::amqp::connect(&credentials, &context.config.feed, &role)
        .await
        .context(BrokerSnafu)?;
    context.board.broker(true);
    let consuming = join_all(
        queues
            .iter()
            .map(|(id, partitions)| keep_consuming(context, &connection, *id, *partitions)),
    );
    tokio::select! {
        _ = async { tokio::join!(consuming, keep_draining_dead_letters(context, &connection)) } => {}
        () = depth::watch(context, &connection) => {}
    }
    context.board.broker(false);
    if connection.status().connected() {
        connection.close(200, "done".into()).await.ok();
    }
    Ok(())
}

/// Consumes a queue, and again after an error, as long as the connection lasts.
async fn keep_consuming(context: &Context, connection: &Connection, id: PartitionId, partitions: u16) {
    while !context.shutdown.is_cancelled() && connection.status().connected() {
        let Err(error) = consumer::consume(context, connection, id, partitions).await else {
            return;
        };
        let scope = format!("partition {}", board::label(id));
        context.board.error(service::clock::event_time(), scope, &error);
        let chain = board::chain(&error).collect::<Vec<_>>().join(": ");
        warn!(partition = %board::label(id), error = chain, "A partition is not consumed; trying again");
        tokio::select! {
            () = context.shutdown.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Puts into quarantine what the broker gave up on, as long as the connection lasts.
async fn keep_draining_dead_letters(context: &Context, connection: &Connection) {
    let mut last = None;
    while !context.shutdown.is_cancelled() && connection.status().connected() {
        let Err(error) = dead_letters::drain(context, connection).await else {
            return;
        };
        if !connection.status().connected() {
            return;
        }
        let chain = board::chain(&error).collect::<Vec<_>>().join(": ");
        // Where there is no such queue there will be none for long: to say so once is enough.
        if last.as_ref() != Some(&chain) {
            context
                .board
                .error(service::clock::event_time(), "dead letters", &error);
            warn!(
                error = chain,
                "The dead-letter queue is not drained; trying again"
            );
            last = Some(chain);
        }
        tokio::select! {
            () = context.shutdown.cancelled() => {}
            () = tokio::time::sleep(DEAD_LETTER_RETRY) => {}
        }
    }
}

/// Keeps true what changes although nothing is committed.
async fn sample(board: Board, metrics: Metrics) {
    loop {
        tokio::time::sleep(SAMPLE_PERIOD).await;
        board.sample(service::clock::event_time(), &metrics);
    }
}

async fn check_schema(context: &Context) -> Result<(), StartError> {
    let credentials =
        DatabaseCredentials::read(&context.config.database_directory).context(CredentialsSnafu)?;
    let schema = context.config.feed.schema();
    let mut connection = store::connect(&credentials, &schema, "stockfeed processor, start")
        .await
        .context(DatabaseSnafu)
        .inspect_err(|_| {
            context.board.database(false);
        })?;
    let answer = schema::may_write(&mut connection, &context.config.feed)
        .await
        .context(VersionSnafu)?;
    context.board.database(answer.is_ok());
    answer.map(drop).context(SchemaSnafu)
}

fn partitions(queues: &QueueGeneration) -> impl Iterator<Item = (PartitionId, u16)> + use<> {
    let QueueGeneration {
        generation,
        partitions,
    } = *queues;
    (0..partitions).map(move |partition| {
        (
            PartitionId {
                generation,
                partition,
            },
            partitions,
        )
    })
}
