//! Logs of the operator.

use clap::ValueEnum;
use snafu::{ResultExt, Snafu};
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt as _};

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

/// Starts logging to standard output.
///
/// # Errors
/// When the filter is not one, or logging was started before.
pub fn init(filter: &str, format: Format) -> Result<(), Error> {
    let filter = EnvFilter::try_new(filter).context(FilterSnafu)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        Format::Text => builder.with_ansi(false).finish().try_init(),
        Format::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .context(StartSnafu)
}
