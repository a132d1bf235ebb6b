//! The process: a watch, and a server.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use kube::Client;
use operator::http_client;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    api::App,
    args::Arguments,
    database::Databases,
    feeds::Feeds,
    flink::{operations::Operations, task_managers},
    observe::{Watchers, ask::Asker},
    router,
    security::Hosts,
    stream::MAX_STREAMS,
};

/// What a worker is given to answer; `observe` has a shorter one of its own.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams never end by themselves.
const DRAIN: Duration = Duration::from_secs(5);

/// Shows feeds until shutdown.
///
/// # Errors
/// When there is no API server, or the address cannot be used.
pub async fn run(arguments: Arguments, shutdown: CancellationToken) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("failed to find the Kubernetes API server")?;
    let listener = service::http::bind(arguments.listen).await?;
    serve(client, listener, arguments, shutdown).await
}

/// Shows feeds of an API server, at an address that is bound.
///
/// # Errors
/// When it cannot serve.
pub async fn serve(
    client: Client,
    listener: TcpListener,
    arguments: Arguments,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let feeds = Feeds::default();
    let asker = Asker::new(client.clone(), http_client::build(None, HTTP_TIMEOUT)?);
    let app = App {
        watchers: Watchers::new(asker.clone(), feeds.clone()),
        databases: Databases::new(client.clone()),
        asker,
        feeds: feeds.clone(),
        client: client.clone(),
        actions: arguments.actions,
        namespaces: Arc::new(arguments.watch_namespaces.clone()),
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        task_managers: task_managers::Cache::default(),
        operations: Operations::default(),
    };
    let router = router::router(app, Hosts::new(&arguments.hosts));
    info!(version = env!("CARGO_PKG_VERSION"), listen = %arguments.listen, actions = arguments.actions, "The dashboard runs");
    let serving = service::http::serve(listener, router, shutdown.clone());
    let ending = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => served,
        () = ending => Ok(()),
        () = feeds.keep(&client, &arguments.watch_namespaces) => anyhow::bail!("the watch of feeds ended"),
    }
}
