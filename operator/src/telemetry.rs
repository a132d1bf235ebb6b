//! Logs of the operator, and its traces.

use clap::ValueEnum;
use snafu::{ResultExt, Snafu};
use traces::Traces;
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there are no logs.
#[derive(Debug, Snafu)]
pub enum Error {
    /// The filter is none.
    #[snafu(display("failed to read the log filter"))]
    Filter {
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else logs already.
    #[snafu(display("failed to start logging"))]
    Start {
        /// Why.
        source: tracing_subscriber::util::TryInitError,
    },
}

/// Starts logging to standard output, and sending traces if there is where to.
///
/// # Errors
/// When the filter is not one, or logging was started before.
pub fn init(filter: &str, format: Format, traces: Option<&Traces>) -> Result<(), Error> {
    let filter = EnvFilter::try_new(filter).context(FilterSnafu)?;
    if let Some(traces) = traces {
        return log_and_trace(filter, format, traces);
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        Format::Text => builder.with_ansi(false).finish().try_init(),
        Format::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .context(StartSnafu)
}

/// The filter is the log's alone: spans of traces are below what is logged.
fn log_and_trace(filter: EnvFilter, format: Format, traces: &Traces) -> Result<(), Error> {
    let log = tracing_subscriber::fmt::layer();
    let log = match format {
        Format::Text => log.with_ansi(false).with_filter(filter).boxed(),
        Format::Json => log.json().flatten_event(true).with_filter(filter).boxed(),
    };
    tracing_subscriber::registry()
        .with(log)
        .with(traces.layer())
        .try_init()
        .context(StartSnafu)
}
