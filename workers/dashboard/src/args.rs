//! The command line. Every option has an environment variable.

use std::net::SocketAddr;

use clap::Parser;
use service::telemetry::LogFormat;

/// Shows every StockFeed of the installation: a web page, its JSON API, and Flink's REST API.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// Namespaces whose feeds are shown; repeatable, in the variable separated by commas. Without: all.
    #[arg(
        long = "watch-namespace",
        env = "STOCKFEED_WATCH_NAMESPACE",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,
    /// Names that the dashboard answers to, beside localhost: those of its Service, and of an Ingress. Repeatable, in the variable
    /// separated by commas.
    #[arg(long = "host", env = "STOCKFEED_HOSTS", value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// Let users suspend, resume, drain and restart feeds, as far as the API server says that they may.
    #[arg(long, env = "STOCKFEED_ACTIONS", default_value_t = false, action = clap::ArgAction::Set)]
    pub actions: bool,
    /// Where it listens.
    #[arg(long, env = "STOCKFEED_LISTEN", default_value = "0.0.0.0:8081")]
    pub listen: SocketAddr,
    /// What is logged, in tracing's filter syntax.
    #[arg(
        long,
        env = "STOCKFEED_LOG",
        default_value = "info,kube_runtime=warn,sqlx=warn"
    )]
    pub log: String,
    /// How logs are written.
    #[arg(long, env = "STOCKFEED_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}
