//! The operator's program.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser as _;
use operator::{
    args::{Args, Settings},
    backoff::Backoff,
    broker::Brokers,
    children::Children,
    context::{Context, HTTP_TIMEOUT, Memory},
    controller,
    dashboards::Dashboards,
    database::Databases,
    drain::Drains,
    events::Events,
    flow::Flows,
    http_client, kube_client,
    leader::{Elector, Leadership, lead},
    metrics::Metrics,
    probe,
    readiness::Readiness,
    release::evidence::Releases,
    scaling::Scalings,
    secrets::Secrets,
    server, telemetry,
    turns::Turns,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use traces::Traces;
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
        scope,
        resync,
        candidacy,
        superset,
        listen,
        log: (filter, format),
    } = Args::parse().settings()?;
    let traces = defaults
        .otlp_endpoint
        .as_ref()
        .map(|endpoint| Traces::start(endpoint, "operator", env!("CARGO_PKG_VERSION")))
        .transpose()?;
    telemetry::init(&filter, format, traces.as_ref())?;

    let config = kube::Config::infer()
        .await
        .context("failed to find the Kubernetes API server")?;
    let leadership = match &candidacy {
        Some(candidacy) => Leadership::candidate(candidacy.terms.renew_deadline),
        None => Leadership::alone(),
    };
    let metrics = Metrics::new();
    let requests = &metrics.requests;
    let client = kube_client::fenced(config.clone(), leadership.clone(), requests.clone())
        .context("failed to make a client of the Kubernetes API server")?;
    let http = http_client::build(None, HTTP_TIMEOUT)?;
    let ctx = Arc::new(Context {
        events: Events::new(client.clone()),
        children: Children::default(),
        secrets: Secrets::new(client.clone()),
        brokers: Brokers::new(http.clone(), requests.clone()),
        databases: Databases::new(requests.clone()).resting(resync / 2),
        http,
        client,
        leadership: leadership.clone(),
        defaults,
        metrics,
        backoff: Backoff::new(resync),
        turns: Turns::new(scope.concurrency.into()),
        readiness: Readiness::default(),
        memory: Memory::default(),
        drains: Drains::default(),
        scalings: Scalings::default(),
        flows: Flows::default(),
        releases: Releases::default(),
        dashboards: superset.map(Dashboards::new),
    });

    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("failed to listen on {listen}"))?;
    // The probes are answered and the metrics read until the work has ended.
    let closing = CancellationToken::new();
    let serving = tokio::spawn(server::serve(listener, Arc::clone(&ctx), closing.clone()));
    let probing = tokio::spawn(probe::probe(
        Arc::clone(&ctx),
        scope.namespaces.clone(),
        closing.clone(),
    ));
    info!(version = env!("CARGO_PKG_VERSION"), %listen, "The operator runs");

    let ending = end_on_signal()?;
    let work = || {
        ctx.readiness.set_standing_by(false);
        controller::run(Arc::clone(&ctx), scope, ending.clone())
    };
    match candidacy {
        None => work().await,
        Some(candidacy) => {
            ctx.readiness.set_standing_by(true);
            // This client may write before this operator leads: the Lease is all that it is for.
            let client = kube_client::for_election(config, ctx.metrics.requests.clone())
                .context("failed to make a client of the Kubernetes API server")?;
            let elector = Elector::new(client, candidacy, leadership);
            // Who lost the Lease ends with an error, and begins again as a candidate with nothing remembered.
            lead(elector, &ending, work).await?;
        }
    }
    closing.cancel();
    probing.await.context("the readiness probe ended badly")?;
    serving
        .await
        .context("the HTTP server ended badly")?
        .context("failed to serve")?;
    Ok(())
}

/// A token that SIGTERM or SIGINT cancels.
fn end_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let ending = CancellationToken::new();
    let token = ending.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("Asked to end; finishing what is under way");
        token.cancel();
    });
    Ok(ending)
}
