//! The producer's program: arguments, logging, signals; the rest is the library.

use clap::Parser as _;
use contract::config::ProducerConfig;
use service::arguments::{CommonArguments, read_config};
use traces::Traces;

/// Polls a source of quotes and publishes them to a feed's partitions.
#[derive(Debug, clap::Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { common } = Arguments::parse();
    let CommonArguments {
        config,
        log,
        log_format,
        otlp_endpoint,
    } = common;
    service::tls::install_provider()?;
    let traces = otlp_endpoint
        .map(|endpoint| Traces::start(&endpoint, "producer", env!("CARGO_PKG_VERSION")))
        .transpose()?;
    service::telemetry::init(&log, log_format, traces.as_ref())?;
    let parsed = ProducerConfig::parse(&read_config(&config)?)?;
    let token = service::shutdown::token()?;
    let ended = producer::start(parsed, Some(config), token).await?.wait().await;
    // What is left is sent now.
    drop(traces);
    ended
}
