//! Step 3: turns a validated feed into everything it needs.
//!
//! Architecture invariant: nothing here fails, blocks, or knows a client; the same feed gives the same bytes.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};

use crate::{
    broker::{self, BrokerPlan, Publishing, Topology},
    connection::Problem,
    database::{self, DatabasePlan},
    generations::Generations,
    labels::{CONFIG_HASH, Component},
    validate::ValidatedFeed,
};

pub mod config;
mod deployments;
mod disruption;
mod network;
mod objects;
mod secrets;
mod template;

/// What workers wait for before it is known which queues there are.
const NOT_COUNTED: &str = "it is not known yet which queues there are";

/// How far [`Resources`] have come.
pub trait Stage {
    /// The broker's side.
    type Broker;
    /// The database's side.
    type Database;
    /// A worker.
    type Workload;
}

/// What is wanted.
#[derive(Debug)]
pub enum Prepared {}

/// What is: the outcome of sending it.
#[derive(Debug)]
pub enum Applied {}

impl Stage for Prepared {
    type Broker = Result<BrokerPlan, Problem>;
    type Database = Result<DatabasePlan, Problem>;
    type Workload = WorkloadPlan;
}

impl Stage for Applied {
    type Broker = broker::Outcome;
    type Database = database::Outcome;
    type Workload = WorkloadState;
}

/// Everything of a feed. A status can only be made of applied resources, so it cannot speak of what was never sent.
pub struct Resources<S: Stage> {
    /// One for each worker.
    pub service_accounts: Vec<ServiceAccount>,
    /// The feed's credentials.
    pub secrets: Vec<Secret>,
    /// Configurations of the workers.
    pub config_maps: Vec<ConfigMap>,
    /// Addresses of the workers.
    pub services: Vec<Service>,
    /// Who may speak with the workers, and they with whom.
    pub network_policies: Optional<NetworkPolicy>,
    /// How many workers may be taken away at once.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    /// Exchange, queues, bindings and user.
    pub broker: S::Broker,
    /// Schema and roles.
    pub database: S::Database,
    /// The producer.
    pub producer: S::Workload,
    /// The processors.
    pub processor: S::Workload,
}

/// Objects of a kind that a feed may have or not, as the installation decides.
#[derive(Debug)]
pub struct Optional<K> {
    /// Those that it has.
    pub wanted: Vec<K>,
    /// Names of those that it had under another decision, and has no longer.
    pub unwanted: Vec<String>,
}

/// A worker as wanted.
#[derive(Debug)]
pub struct WorkloadPlan {
    /// Which.
    pub component: Component,
    /// The Deployment's name.
    pub name: String,
    /// The Deployment, or what it waits for. One that exists is left as it is while it waits.
    pub deployment: Result<Box<Deployment>, String>,
}

/// A worker as it is.
#[derive(Debug)]
pub struct WorkloadState {
    /// The Deployment in the cluster.
    pub observed: Option<Deployment>,
    /// What it waits for.
    pub waiting: Option<String>,
}

/// Builds everything of a feed.
#[must_use]
pub fn build(feed: &ValidatedFeed) -> Resources<Prepared> {
    let broker_data = objects::broker_data(feed);
    let writer_data = objects::writer_data(feed);
    let broker_missing = feed.broker.as_ref().err().map(ToString::to_string);
    let database_missing = feed.database.as_ref().err().map(ToString::to_string);

    let first = feed.generations.as_ref().map(Generations::first);
    let newest = feed.published();
    let not_counted = || broker_missing.clone().unwrap_or_else(|| NOT_COUNTED.to_owned());
    let database_or_why = writer_data
        .as_ref()
        .ok_or_else(|| database_missing.clone().unwrap_or_default());
    let producer = match (&broker_data, &feed.source.fingerprint, newest) {
        (Some(_), _, None) => Err(not_counted()),
        // Suspending must work whatever is missing, and a producer of no replicas mounts nothing.
        (Some(broker), fingerprint, Some(queues)) if feed.suspend || fingerprint.is_ok() => {
            let key = fingerprint.as_deref().unwrap_or_default();
            database_or_why.map(|_| Box::new(deployments::producer(feed, queues, broker, key)))
        }
        (None, _, _) => Err(broker_missing.clone().unwrap_or_default()),
        (_, fingerprint, _) => Err(fingerprint
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default()),
    };
    let processor = match (&broker_data, &writer_data, first) {
        (Some(_), Some(_), None) => Err(not_counted()),
        (Some(broker), Some(database), Some(queues)) => {
            Ok(Box::new(deployments::processor(feed, queues, broker, database)))
        }
        _ => Err(broker_missing.or(database_missing).unwrap_or_default()),
    };

    let hold = must_hold(feed, producer.as_deref().ok(), processor.as_deref().ok());
    Resources {
        service_accounts: objects::service_accounts(feed),
        secrets: objects::secrets(feed),
        config_maps: objects::config_maps(feed)
            .into_iter()
            .filter(|map| {
                !(hold && map.metadata.name == Some(Component::Producer.object_name(feed.name.name())))
            })
            .collect(),
        services: objects::services(feed),
        network_policies: network::policies(feed),
        disruption_budgets: disruption::budgets(feed),
        broker: feed.broker.clone().map(|connection| BrokerPlan {
            connection,
            topology: topology(feed),
            made: feed.queues_made,
        }),
        database: feed.database.clone().map(|admin| DatabasePlan {
            admin,
            feed: feed.name.clone(),
            writer_password: feed.writer_secret.credential.password.clone(),
            reader_password: feed.reader_secret.credential.password.clone(),
            retention: feed.retention,
        }),
        producer: WorkloadPlan {
            component: Component::Producer,
            name: Component::Producer.object_name(feed.name.name()),
            deployment: producer,
        },
        processor: WorkloadPlan {
            component: Component::Processor,
            name: Component::Processor.object_name(feed.name.name()),
            deployment: processor,
        },
    }
}

/// Whether the running producer must not hear of its new configuration yet. It takes on new symbols as it runs, and a processor that
/// does not know them would put their ticks into quarantine: processors come first.
fn must_hold(feed: &ValidatedFeed, producer: Option<&Deployment>, processor: Option<&Deployment>) -> bool {
    let hash = |deployment: &Deployment| {
        let template = &deployment.spec.as_ref()?.template;
        template
            .metadata
            .as_ref()?
            .annotations
            .as_ref()?
            .get(CONFIG_HASH)
            .cloned()
    };
    let (Some(producer), Some(processor)) = (producer.and_then(hash), processor.and_then(hash)) else {
        return false;
    };
    // A producer that is replaced anyway reads both at once, and one that is not there yet needs its configuration.
    let runs_on = !feed.producer.hashes.is_empty() && feed.producer.all_of(&producer);
    runs_on && !feed.processor.all_of(&processor)
}

fn topology(feed: &ValidatedFeed) -> Topology {
    let password = feed.broker_secret.credential.password.clone();
    let next = feed.published().map_or(0, |queues| queues.generation);
    let publishing = Publishing {
        from: feed.producer.oldest().map_or(next, |oldest| oldest.min(next)),
        settled: feed.producer.settled,
    };
    Topology::new(&feed.name, feed.generations.as_ref(), publishing, password)
}

#[cfg(test)]
mod tests;
