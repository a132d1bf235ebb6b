//! `processor --config FILE`

use anyhow::Context as _;
use clap::Parser;
use contract::config::ProcessorConfig;
use service::arguments::CommonArguments;
use traces::Traces;

/// A message is a dozen small allocations that one thread makes and another frees, which musl's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Turns a feed's queues into ticks and candles in PostgreSQL, exactly once.
///
/// Credentials are read from the folders that the configuration names, anew for every connection.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    /// This replica's name: it shows in the broker's UI and in column `partitions.owner`, and spreads partitions over
    /// replicas.
    #[arg(long, env = "STOCKFEED_INSTANCE", default_value = "local")]
    instance: String,
}

fn main() -> anyhow::Result<()> {
    let Arguments { common, instance } = Arguments::parse();
    // Reads which fault points are set; nothing without feature `fault-points`.
    let _scenario = fail::FailScenario::setup();
    let CommonArguments {
        config,
        log,
        log_format,
        otlp_endpoint,
    } = common;
    service::tls::install_provider()?;
    let traces = otlp_endpoint
        .map(|endpoint| Traces::start(&endpoint, "processor", env!("CARGO_PKG_VERSION")))
        .transpose()?;
    service::telemetry::init(&log, log_format, traces.as_ref())?;
    let text = service::arguments::read_config(&config)?;
    let parsed = ProcessorConfig::parse(&text)
        .with_context(|| format!("failed to use the configuration {}", config.display()))?;
    // One thread, beside the one that the AMQP client reads on: all partitions are one task, and to pass each delivery's wake-up
    // to another thread costs more than decoding it. The sockets are looked at often, for the client waits for that.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(7)
        .build()?;
    let ended =
        runtime.block_on(async { processor::run::run(parsed, instance, service::shutdown::token()?).await });
    // What is left is sent now.
    drop(traces);
    ended
}
