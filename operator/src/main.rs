//! The operator's program.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser as _;
use operator::{
    args::{Args, Settings},
    backoff::Backoff,
    context::{Context, HTTP_TIMEOUT, Memory},
    controller,
    drain::Drains,
    events::Events,
    http_client,
    metrics::Metrics,
    readiness::Readiness,
    server, telemetry,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // One provider for everything that speaks TLS, chosen before anything does.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("another TLS provider was installed first");
    }
    let Settings {
        defaults,
        namespaces,
        listen,
        log: (filter, format),
    } = Args::parse().settings();
    telemetry::init(&filter, format)?;

    let client = kube::Client::try_default()
        .await
        .context("failed to find the Kubernetes API server")?;
    let ctx = Arc::new(Context {
        events: Events::new(client.clone()),
        http: http_client::build(None, HTTP_TIMEOUT)?,
        client,
        defaults,
        metrics: Metrics::new(),
        backoff: Backoff::default(),
        readiness: Readiness::default(),
        memory: Memory::default(),
        drains: Drains::default(),
    });

    let token = CancellationToken::new();
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("failed to listen on {listen}"))?;
    let serving = tokio::spawn(server::serve(listener, Arc::clone(&ctx), token.clone()));
    let working = tokio::spawn(controller::run(ctx, namespaces, token.clone()));
    info!(version = env!("CARGO_PKG_VERSION"), %listen, "The operator runs");

    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("Asked to end; finishing what is under way");
    token.cancel();
    working.await.context("the controller ended badly")?;
    serving
        .await
        .context("the HTTP server ended badly")?
        .context("failed to serve")?;
    Ok(())
}
