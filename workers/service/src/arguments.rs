//! The command line that every worker has.

use std::path::PathBuf;

use anyhow::Context as _;

use traces::Endpoint;

use crate::telemetry::LogFormat;

/// Flags of every worker. Flatten it into the worker's own arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonArguments {
    /// The configuration, a JSON file (the operator renders it; an example is in the README).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// What is logged, in tracing's filter syntax, for example `info` or `info,processor=debug`.
    /// lapin is off by default: it repeats as errors what the worker itself reports.
    #[arg(long, env = "STOCKFEED_LOG", default_value = "info,lapin=off,sqlx=warn")]
    pub log: String,
    /// How logs are written.
    #[arg(long, env = "STOCKFEED_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Where traces go: the address of an OpenTelemetry collector, as in `http://collector:4318`. Without it there
    /// are none.
    #[arg(long, env = "STOCKFEED_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<Endpoint>,
}

/// Reads a configuration file.
///
/// # Errors
/// When the file cannot be read; the error names it.
pub fn read_config(path: &std::path::Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path)
        .with_context(|| format!("failed to read the configuration {}", path.display()))
}
