//! Options of the operator. Each has an environment variable; `rbac.md` lists them.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;

use crate::{
    context::{Defaults, Images},
    dereference::SecretName,
    telemetry::Format,
};

/// Keeps every StockFeed true: its workers, queues, schema and credentials.
#[derive(Debug, Parser)]
#[command(name = "operator", version)]
pub struct Args {
    /// Image of the producer.
    #[arg(long, env = "STOCKFEED_PRODUCER_IMAGE")]
    pub producer_image: String,

    /// Image of the processor.
    #[arg(long, env = "STOCKFEED_PROCESSOR_IMAGE")]
    pub processor_image: String,

    /// When the workers' images are pulled.
    #[arg(long, env = "STOCKFEED_IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: String,

    /// Secret (namespace/name) with RabbitMQ's connection, for feeds that name none: host, port, username, password; optional
    /// managementPort, managementScheme, vhost, tls, ca.crt.
    #[arg(long, env = "STOCKFEED_BROKER_SECRET")]
    pub broker_secret: Option<SecretName>,

    /// Secret (namespace/name) with PostgreSQL's connection, for feeds that name none: host, port, dbname, username, password;
    /// optional sslmode, ca.crt.
    #[arg(long, env = "STOCKFEED_DATABASE_SECRET")]
    pub database_secret: Option<SecretName>,

    /// Namespace to watch; may be given several times. All namespaces when it is not given.
    #[arg(long, env = "STOCKFEED_WATCH_NAMESPACE", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,

    /// How long a deletion waits for a broker or database that cannot be reached before it leaves things behind.
    #[arg(long, env = "STOCKFEED_ORPHAN_AFTER", default_value = "10m", value_parser = duration)]
    pub orphan_after: Duration,

    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = "STOCKFEED_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// What is logged, as in info,operator=debug.
    #[arg(
        long,
        env = "STOCKFEED_LOG",
        default_value = "info,kube_runtime=warn,sqlx=warn"
    )]
    pub log: String,

    /// How log lines look.
    #[arg(long, env = "STOCKFEED_LOG_FORMAT", default_value = "text")]
    pub log_format: Format,
}

/// [`Args`], sorted by who needs them.
#[derive(Debug)]
pub struct Settings {
    /// For reconciliations.
    pub defaults: Defaults,
    /// Namespaces to watch; none means all.
    pub namespaces: Vec<String>,
    /// For the HTTP server.
    pub listen: SocketAddr,
    /// For telemetry.
    pub log: (String, Format),
}

impl Args {
    /// Sorts the options.
    #[must_use]
    pub fn settings(self) -> Settings {
        // Taken apart completely: an option that nobody reads does not compile.
        let Self {
            producer_image,
            processor_image,
            image_pull_policy,
            broker_secret,
            database_secret,
            watch_namespace,
            orphan_after,
            listen,
            log,
            log_format,
        } = self;
        let mut namespaces: Vec<_> = watch_namespace
            .into_iter()
            .filter(|namespace| !namespace.is_empty())
            .collect();
        namespaces.sort();
        namespaces.dedup();
        Settings {
            defaults: Defaults {
                images: Images {
                    producer: producer_image,
                    processor: processor_image,
                    pull_policy: image_pull_policy,
                },
                broker_secret,
                database_secret,
                orphan_after,
            },
            namespaces,
            listen,
            log: (log, log_format),
        }
    }
}

fn duration(text: &str) -> Result<Duration, contract::duration::InvalidDuration> {
    contract::duration::parse(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_option_has_a_variable_and_is_documented() {
        let page = include_str!("../rbac.md");
        let command = Args::command();
        for option in command.get_arguments() {
            let id = option.get_id().as_str();
            if ["help", "version"].contains(&id) {
                continue;
            }
            let variable = option
                .get_env()
                .and_then(std::ffi::OsStr::to_str)
                .unwrap_or_default();
            let long = option.get_long().unwrap_or_default();
            assert!(page.contains(&format!("`--{long}` | `{variable}`")), "{id}");
        }
    }

    #[test]
    fn namespaces_may_come_in_one_variable() {
        let args = Args::parse_from([
            "operator",
            "--producer-image=p",
            "--processor-image=q",
            "--watch-namespace=b,a",
            "--watch-namespace=b",
        ]);
        assert_eq!(args.settings().namespaces, ["a", "b"]);
    }
}
