//! Logs: one JSON object a line for machines, or text for people. And traces, for a worker that has a collector.

use anyhow::Context as _;
use traces::Traces;
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Text,
}

/// Starts logging to standard error, and sending traces if there is where to.
///
/// # Errors
/// When the filter is not one, or logging was started before.
pub fn init(filter: &str, format: LogFormat, traces: Option<&Traces>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).context("failed to parse --log")?;
    match traces {
        None => log(filter, format),
        Some(traces) => log_and_trace(filter, format, traces),
    }
}

/// The filter is the log's alone: spans of traces are below what is logged.
fn log_and_trace(filter: EnvFilter, format: LogFormat, traces: &Traces) -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = match format {
        LogFormat::Json => log
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
        LogFormat::Text => log.with_filter(filter).boxed(),
    };
    tracing_subscriber::registry()
        .with(log)
        .with(traces.layer())
        .try_init()
        .context("failed to start logging")
}

fn log(filter: EnvFilter, format: LogFormat) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .try_init(),
        LogFormat::Text => builder.try_init(),
    }
    .map_err(|error| anyhow::anyhow!("failed to start logging: {error}"))
}
