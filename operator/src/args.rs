//! Options of the operator. Each has an environment variable; `rbac.md` lists them.

use std::{net::SocketAddr, time::Duration};

use clap::{ArgAction, Parser};
use snafu::Snafu;
use traces::Endpoint;

use crate::{
    context::{Defaults, Images},
    dashboards::{self, options::Superset},
    dereference::SecretName,
    isolation::{Isolation, Labels, NameServers, NetworkClients, Operator},
    leader::{self, election::InvalidTerms, options::Candidacy},
    scope::{LabelSelector, Scope},
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
    /// managementPort, managementScheme, vhost, tls, ca.crt, tls.crt with tls.key.
    #[arg(long, env = "STOCKFEED_BROKER_SECRET")]
    pub broker_secret: Option<SecretName>,

    /// Secret (namespace/name) with PostgreSQL's connection, for feeds that name none: host, port, dbname, username, password;
    /// optional sslmode, ca.crt, tls.crt with tls.key.
    #[arg(long, env = "STOCKFEED_DATABASE_SECRET")]
    pub database_secret: Option<SecretName>,

    /// Namespace to watch; may be given several times. All namespaces when it is not given.
    #[arg(long, env = "STOCKFEED_WATCH_NAMESPACE", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,

    /// Labels of the feeds to look after, as in team=quotes,tier in (a,b). All feeds when it is not given. Operators with selectors of
    /// their own need Leases of their own (--lease-name).
    #[arg(long, env = "STOCKFEED_LABEL_SELECTOR")]
    pub label_selector: Option<LabelSelector>,

    /// How often a feed that is as it should be is compared with what is there, within a fifth less.
    #[arg(long, env = "STOCKFEED_RESYNC_PERIOD", default_value = "60s", value_parser = resync_period)]
    pub resync_period: Duration,

    /// How many feeds are reconciled at once.
    #[arg(long, env = "STOCKFEED_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// How long a deletion waits for a broker or database that cannot be reached before it leaves things behind.
    #[arg(long, env = "STOCKFEED_ORPHAN_AFTER", default_value = "10m", value_parser = duration)]
    pub orphan_after: Duration,

    /// How old the passwords of a feed's broker user and database roles may become before they are renewed, as in 90d. Not given: they
    /// are renewed only when annotation stockfeed.dev/rotate-credentials asks for it.
    #[arg(long, env = "STOCKFEED_ROTATE_CREDENTIALS_AFTER", value_parser = duration)]
    pub rotate_credentials_after: Option<Duration>,

    /// How long it is waited for data to flow on a worker's new image before the last good one is put back.
    #[arg(long, env = "STOCKFEED_ROLLOUT_DEADLINE", default_value = "10m", value_parser = duration)]
    pub rollout_deadline: Duration,

    /// Whether the network of every feed is restricted by policies. Without, those that are there are removed.
    #[arg(long, env = "STOCKFEED_NETWORK_POLICIES", default_value_t = true, action = ArgAction::Set)]
    pub network_policies: bool,

    /// Who may use the workers' HTTP ports, beside the operator: pods of the feed's namespace, everybody, or nobody.
    #[arg(
        long,
        env = "STOCKFEED_NETWORK_CLIENTS",
        value_enum,
        default_value = "SameNamespace"
    )]
    pub network_clients: NetworkClients,

    /// Pods that resolve names, as namespace/key=value[,key=value], or Any.
    #[arg(
        long,
        env = "STOCKFEED_NAME_SERVERS",
        default_value = "kube-system/k8s-app=kube-dns"
    )]
    pub name_servers: NameServers,

    /// Namespace of the operator's own pods, which workers let in. Without, pods with the operator's labels are let in from every
    /// namespace.
    #[arg(long, env = "STOCKFEED_OPERATOR_NAMESPACE")]
    pub operator_namespace: Option<String>,

    /// Labels of the operator's own pods, as key=value[,key=value].
    #[arg(
        long,
        env = "STOCKFEED_OPERATOR_LABELS",
        default_value = "app.kubernetes.io/name=stockfeed,app.kubernetes.io/component=operator"
    )]
    pub operator_labels: Labels,

    /// Labels of the dashboard's pods, as key=value[,key=value]; they are in the operator's namespace. Without, workers let in no dashboard.
    #[arg(long, env = "STOCKFEED_DASHBOARD_LABELS")]
    pub dashboard_labels: Option<Labels>,

    /// Dashboards in Superset.
    #[command(flatten)]
    pub dashboards: dashboards::options::Options,

    /// Which of several operators works.
    #[command(flatten)]
    pub election: leader::options::Options,

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

    /// Where traces go, of the operator and of every worker: the address of an OpenTelemetry collector, as in
    /// `http://collector:4318`. Without it there are none.
    #[arg(long, env = "STOCKFEED_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<Endpoint>,

    /// How log lines look.
    #[arg(long, env = "STOCKFEED_LOG_FORMAT", default_value = "text")]
    pub log_format: Format,
}

/// [`Args`], sorted by who needs them.
#[derive(Debug)]
pub struct Settings {
    /// For reconciliations.
    pub defaults: Defaults,
    /// Which feeds to look after.
    pub scope: Scope,
    /// How often a feed that is as it should be is looked at.
    pub resync: Duration,
    /// How to take part in the election; `None` when there is none.
    pub candidacy: Option<Candidacy>,
    /// Where feeds have their dashboards; `None`: nowhere.
    pub superset: Option<Superset>,
    /// For the HTTP server.
    pub listen: SocketAddr,
    /// For telemetry.
    pub log: (String, Format),
}

/// Why options do not fit each other.
#[derive(Debug, Snafu)]
pub enum Error {
    /// Those of the election.
    #[snafu(transparent)]
    Election {
        /// Why.
        source: InvalidTerms,
    },
    /// Those of Superset.
    #[snafu(transparent)]
    Superset {
        /// Why.
        source: dashboards::options::Error,
    },
}

impl Args {
    /// Sorts the options.
    ///
    /// # Errors
    /// When some do not fit each other.
    pub fn settings(self) -> Result<Settings, Error> {
        // Taken apart completely: an option that nobody reads does not compile.
        let Self {
            producer_image,
            processor_image,
            image_pull_policy,
            broker_secret,
            database_secret,
            watch_namespace,
            label_selector,
            resync_period,
            concurrency,
            orphan_after,
            rotate_credentials_after,
            rollout_deadline,
            network_policies,
            network_clients,
            name_servers,
            operator_namespace,
            operator_labels,
            dashboard_labels,
            dashboards,
            election,
            listen,
            log,
            otlp_endpoint,
            log_format,
        } = self;
        let mut namespaces: Vec<_> = watch_namespace
            .into_iter()
            .filter(|namespace| !namespace.is_empty())
            .collect();
        namespaces.sort();
        namespaces.dedup();
        Ok(Settings {
            defaults: Defaults {
                images: Images {
                    producer: producer_image,
                    processor: processor_image,
                    pull_policy: image_pull_policy,
                },
                broker_secret,
                database_secret,
                orphan_after,
                rotate_after: rotate_credentials_after,
                rollout_deadline,
                otlp_endpoint,
                isolation: network_policies.then_some(Isolation {
                    operator: Operator {
                        namespace: operator_namespace,
                        labels: operator_labels,
                    },
                    dashboard: dashboard_labels,
                    clients: network_clients,
                    name_servers,
                }),
            },
            scope: Scope {
                namespaces,
                selector: label_selector,
                concurrency,
            },
            resync: resync_period,
            candidacy: election.candidacy()?,
            superset: dashboards.superset()?,
            listen,
            log: (log, log_format),
        })
    }
}

/// Shorter ones would ask broker and database without end.
fn resync_period(text: &str) -> Result<Duration, String> {
    let period = duration(text).map_err(|error| error.to_string())?;
    match period >= Duration::from_secs(5) {
        true => Ok(period),
        false => Err("it must be at least 5s".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, contract::duration::InvalidDuration> {
    contract::duration::parse(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use rstest::rstest;

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

    #[rstest]
    #[case::usual(&[], Some(NetworkClients::SameNamespace))]
    #[case::open(&["--network-clients=Any"], Some(NetworkClients::Any))]
    #[case::off(&["--network-policies=false", "--network-clients=Any"], None)]
    fn the_network_is_restricted_unless_it_is_switched_off(
        #[case] options: &[&str],
        #[case] expected: Option<NetworkClients>,
    ) {
        let required = ["operator", "--producer-image=p", "--processor-image=q"];
        let args = Args::parse_from(required.iter().chain(options));
        let isolation = args.settings().unwrap().defaults.isolation;
        assert_eq!(isolation.map(|isolation| isolation.clients), expected);
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
        assert_eq!(args.settings().unwrap().scope.namespaces, ["a", "b"]);
    }

    #[rstest]
    #[case::by_default(&[], Some(true))]
    #[case::alone(&["--leader-election=false"], Some(false))]
    #[case::two_leaders(&["--lease-renew-deadline=15s"], None)]
    fn there_is_an_election_unless_it_is_switched_off(#[case] more: &[&str], #[case] expected: Option<bool>) {
        let required = ["operator", "--producer-image=p", "--processor-image=q"];
        let args = Args::parse_from(required.iter().chain(more));
        match (args.settings(), expected) {
            (Ok(settings), Some(expected)) => assert_eq!(settings.candidacy.is_some(), expected),
            (Err(Error::Election { source }), None) => assert_eq!(source, InvalidTerms::Deadline),
            (settings, expected) => panic!("{settings:?}, not {expected:?}"),
        }
    }
}
