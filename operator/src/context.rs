//! What every reconciliation shares.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kube::Client;
use traces::Endpoint;

use crate::{
    backoff::Backoff, broker::Brokers, children::Children, dashboards::Dashboards, database::Databases,
    dereference::SecretName, drain::Drains, events::Events, flow::Flows, isolation::Isolation,
    leader::Leadership, metrics::Metrics, readiness::Readiness, release::evidence::Releases,
    scaling::Scalings, secrets::Secrets, turns::Turns,
};

/// The longest that one request to a broker may take.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(5);

/// Clients, settings and the little that is remembered between reconciliations.
pub struct Context {
    /// Kubernetes; it writes only while this operator leads.
    pub client: Client,
    /// Whether this operator leads.
    pub leadership: Leadership,
    /// Producers, over plain HTTP, and management APIs in deletions.
    pub http: reqwest::Client,
    /// What the watches have in memory.
    pub children: Children,
    /// Secrets, read a moment ago.
    pub secrets: Secrets,
    /// Virtual hosts, read a moment ago.
    pub brokers: Brokers,
    /// Sessions of databases' administrators.
    pub databases: Databases,
    /// What the installation decided.
    pub defaults: Defaults,
    /// Events of feeds.
    pub events: Events,
    /// Metrics of the operator.
    pub metrics: Metrics,
    /// Waits of feeds.
    pub backoff: Backoff,
    /// How many feeds may be reconciled at the same time.
    pub turns: Turns,
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// Times of feeds.
    pub memory: Memory,
    /// Which generations of queues are drained.
    pub drains: Drains,
    /// Whether data flows.
    pub flows: Flows,
    /// What was seen of the processors' work.
    pub scalings: Scalings,
    /// Whether data flows on the workers' images.
    pub releases: Releases,
    /// What feeds want of Superset; `None` where there is none.
    pub dashboards: Option<Dashboards>,
}

/// What the installation decided.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Images of the workers.
    pub images: Images,
    /// RabbitMQ's connection for feeds that name none.
    pub broker_secret: Option<SecretName>,
    /// PostgreSQL's connection for feeds that name none.
    pub database_secret: Option<SecretName>,
    /// How long a deletion waits for a broker or database that cannot be reached.
    pub orphan_after: Duration,
    /// How old the passwords of a feed may become; `None`: as old as they like.
    pub rotate_after: Option<Duration>,
    /// How long it is waited for data to flow on a worker's new image.
    pub rollout_deadline: Duration,
    /// Where traces go; `None`: there are none.
    pub otlp_endpoint: Option<Endpoint>,
    /// The network of a feed's pods; `None`: it is not restricted.
    pub isolation: Option<Isolation>,
}

/// Images of the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// The producer's.
    pub producer: String,
    /// The processor's.
    pub processor: String,
    /// When they are pulled.
    pub pull_policy: String,
}

/// Moments worth remembering. Losing them in a restart only makes the operator wait or ask once more.
#[derive(Debug, Default)]
pub struct Memory {
    moments: Mutex<HashMap<(String, Moment), Instant>>,
}

/// What happened at a remembered moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// The quick figures of the status were written.
    FiguresWritten,
    /// In a deletion: nothing can publish any more.
    PublishingEnded,
    /// In a deletion: no processor is left.
    ProcessingEnded,
    /// In a deletion: the broker was first missed.
    BrokerLost,
    /// In a deletion: the database was first missed.
    DatabaseLost,
    /// Old ticks were dropped.
    RetentionRan,
    /// A change of the queues was still under way.
    Unfinished,
}

impl Memory {
    /// How long ago it happened; `None` when it did not, as far as is remembered.
    pub fn since(&self, uid: &str, moment: Moment) -> Option<Duration> {
        let key = (uid.to_owned(), moment);
        self.lock().get(&key).map(Instant::elapsed)
    }

    /// It happens now.
    pub fn mark(&self, uid: &str, moment: Moment) {
        self.lock().insert((uid.to_owned(), moment), Instant::now());
    }

    /// It is as if it had not happened.
    pub fn unmark(&self, uid: &str, moment: Moment) {
        self.lock().remove(&(uid.to_owned(), moment));
    }

    /// How long ago it first happened: now, when it is not remembered.
    pub fn since_first(&self, uid: &str, moment: Moment) -> Duration {
        let key = (uid.to_owned(), moment);
        self.lock().entry(key).or_insert_with(Instant::now).elapsed()
    }

    /// The feed is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().retain(|(owner, _), _| owner != uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, Moment), Instant>> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
