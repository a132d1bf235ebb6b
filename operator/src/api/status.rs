//! The status of a `StockFeed`, and the words it is written in.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{EnumIter, IntoStaticStr};

mod dashboards;
mod scaling;

pub use dashboards::DashboardsStatus;
pub use scaling::Scaling;

/// What is true of a feed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StockFeedStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready is the summary. Reconciling and Stalled are True when something is under way, or waits for a person. SourceReady,
    /// BrokerReady, SchemaReady, ProducerReady and ProcessorReady are the stages. QuotaSufficient, DataComplete, Suspended and
    /// DashboardsReady inform; the last is there only where the installation has a Superset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// How many symbols the feed has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols: Option<i32>,

    /// How many queues newly published ticks are spread over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,

    /// Processors: ready/wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<String>,

    /// How many processors there are to be, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,

    /// Messages in the feed's queues, those on their way to a processor included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i64>,

    /// The oldest partition's watermark: nothing older is expected in any partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Time>,

    /// When the newest stored tick happened at the exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_tick_time: Option<Time>,

    /// What the feed asks of its source, and what it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,

    /// When the exchange is polled again; absent while it is polled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_open: Option<Time>,

    /// Messages that were published and never arrived, since the feed began. Table gaps lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_messages: Option<i64>,

    /// What was received and could not be used, since the feed began. Table quarantine keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<i64>,

    /// Generations of queues that the feed has, oldest first. The producer publishes to the last one, processors consume the
    /// first one until it is drained. More than one only while the number of partitions changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueGenerationStatus>,

    /// The generation of queues that is published to; set once they were all there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_generation: Option<i32>,

    /// The version of the database schema; set once it was migrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<i32>,

    /// Which images the workers have, and whether data flows on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseStatus>,

    /// Where the feed's dashboards are in Superset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboards: Option<DashboardsStatus>,

    /// While the feed is being deleted: what goes, what stays, and why. What is gone is not listed any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletion_plan: Vec<DeletionEntry>,
}

/// Which images the workers have, and whether data flows on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// Good: data flows on the images that the installation or spec.template names. Progressing: it is waited for. RolledBack: an image on which no
    /// data flowed in time was put back to the last good one.
    pub state: ReleaseState,
    /// Since when, or since the last step.
    pub since: Time,
    /// What is waited for, or what was put back and why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The processors.
    pub processor: WorkerRelease,
    /// The producer.
    pub producer: WorkerRelease,
    /// The last value of annotation stockfeed.dev/retry-rollout. Another value has an image tried again that was put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried: Option<String>,
}

/// How far the workers' images are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReleaseState {
    /// It is waited for.
    Progressing,
    /// Data flows on the images that are named.
    Good,
    /// An image was put back.
    RolledBack,
}

/// The images of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerRelease {
    /// The one that it has, or gets.
    pub image: String,
    /// The last one that data flowed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<String>,
    /// One that was put back. It is not tried again until another one was named, or annotation stockfeed.dev/retry-rollout is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedImage>,
}

/// An image that was put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedImage {
    /// Which.
    pub image: String,
    /// What was missing when time was up.
    pub why: String,
}

/// Something that a deletion removes or keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletionEntry {
    /// What it is: Producer, Processors, Exchange, Queues, BrokerUser, Schema, Roles or Objects.
    pub what: String,
    /// Its name; of a generation of queues, what all their names have in common.
    pub name: String,
    /// Remove: it goes. Keep: it stays. Waiting: it goes or stays when something else is done. Orphan: it is left behind, because
    /// its server was waited for in vain.
    pub action: DeletionAction,
    /// Why.
    pub why: String,
}

/// What becomes of something in a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionAction {
    /// It goes.
    Remove,
    /// It stays.
    Keep,
    /// It is left behind, because its server was waited for in vain.
    Orphan,
    /// It goes or stays when something else is done.
    Waiting,
}

/// A generation of queues. Another number of partitions is another generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueGenerationStatus {
    /// Its number: 1, 2, 3, and so on. The queues are called NAMESPACE.FEED.ticks.GENERATION.PARTITION.
    pub generation: i32,
    /// How many queues it has.
    pub partitions: i32,
}

/// What the feed asks of its source, and what it may.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Calls a day that the plan allows; absent when it has no such limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_day: Option<i64>,
    /// Calls a day that this feed would make at its interval.
    pub projected_calls_per_day: i64,
    /// The shortest interval that stays within what is allowed.
    pub minimum_interval: String,
    /// How many feeds share the API key, this one included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feeds: Option<i32>,
    /// Calls that the feed has made today; the day begins at midnight in New York.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_today: Option<i64>,
    /// The interval that is kept; "closed" or "used up" while nothing is polled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_interval: Option<String>,
    /// When today's calls are used up, should the interval be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exhausted_at: Option<Time>,
}

/// The types of conditions, in the order they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, IntoStaticStr)]
pub enum ConditionType {
    /// The feed does what its spec says.
    Ready,
    /// Something is under way. Abnormal when True.
    Reconciling,
    /// Nothing will change until a person acts. Abnormal when True.
    Stalled,
    /// The source answers.
    SourceReady,
    /// Exchange, queues, bindings, user and permissions are as they should be.
    BrokerReady,
    /// Schema and roles are as they should be.
    SchemaReady,
    /// The producer runs.
    ProducerReady,
    /// The processors run.
    ProcessorReady,
    /// The plan allows the calls that the feed makes.
    QuotaSufficient,
    /// No message was found missing of late.
    DataComplete,
    /// The feed is suspended.
    Suspended,
    /// The feed's dashboards are as they should be. Only where the installation has a Superset.
    DashboardsReady,
}

impl ConditionType {
    /// The type's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Reasons of conditions. Stable: people and alerts match on them.
pub mod reason {
    /// Everything works.
    pub const READY: &str = "Ready";
    /// As it should be.
    pub const AS_DECLARED: &str = "AsDeclared";
    /// A Deployment has all its replicas.
    pub const AVAILABLE: &str = "Available";
    /// The source gave quotes.
    pub const ANSWERING: &str = "Answering";
    /// The exchange is closed, and the feed does not poll then.
    pub const MARKET_CLOSED: &str = "MarketClosed";
    /// The calls of the day are used up.
    pub const CALLS_USED_UP: &str = "CallsUsedUp";
    /// Nothing is under way, or nothing waits for a person.
    pub const SETTLED: &str = "Settled";
    /// Not looked at yet.
    pub const PENDING: &str = "Pending";
    /// A Deployment does not have all its replicas yet.
    pub const PROGRESSING: &str = "Progressing";
    /// A Deployment did not get its replicas in time.
    pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    /// A Deployment is not made before what it needs is there.
    pub const WAITING: &str = "WaitingForPrerequisites";
    /// The producer does not answer the operator.
    pub const PRODUCER_UNREACHABLE: &str = "ProducerUnreachable";
    /// The workers get other images, and it is waited until data flows on them.
    pub const ROLLING_OUT: &str = "RollingOut";
    /// No data flowed on an image in time: the last good one was put back.
    pub const ROLLED_BACK: &str = "RolledBack";
    /// The feed is suspended: nothing publishes, nothing is queued or unacknowledged, everything is committed.
    pub const DRAINED: &str = "Drained";
    /// The feed is to be suspended, and something is still published, queued or being processed.
    pub const DRAINING: &str = "Draining";
    /// As it was asked to be: suspended.
    pub const SUSPENDED: &str = "Suspended";
    /// The feed is not suspended.
    pub const NOT_SUSPENDED: &str = "NotSuspended";
    /// The feed is being deleted.
    pub const DELETING: &str = "Deleting";
    /// The spec has a value that cannot be used.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// The Kubernetes API refused something.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// An object of a child's name exists and belongs to something else.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// Neither the feed nor the installation names a connection.
    pub const NOT_CONFIGURED: &str = "NotConfigured";
    /// A Secret that is named does not exist.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// A Secret lacks a key.
    pub const KEY_NOT_FOUND: &str = "KeyNotFound";
    /// A Secret holds a value that cannot be used.
    pub const SECRET_INVALID: &str = "SecretInvalid";
    /// A server refuses the user or password.
    pub const AUTHENTICATION_FAILED: &str = "AuthenticationFailed";
    /// Server and operator do not agree on TLS: a certificate is missing, or of the wrong authority.
    pub const TLS_FAILED: &str = "TlsFailed";
    /// A server knows the user, who may not do what is needed.
    pub const PERMISSION_DENIED: &str = "PermissionDenied";
    /// A server does not answer.
    pub const UNREACHABLE: &str = "Unreachable";
    /// A server answered with an error.
    pub const FAILED: &str = "Failed";
    /// A queue exists with other arguments, which cannot be changed: a new generation takes its place.
    pub const QUEUE_ARGUMENTS_DIFFER: &str = "QueueArgumentsDiffer";
    /// The dead letters' queue exists with other arguments, which cannot be changed.
    pub const DEAD_LETTER_QUEUE_DIFFERS: &str = "DeadLetterQueueDiffers";
    /// A queue has no consumer, although the processors run.
    pub const NO_CONSUMER: &str = "NoConsumer";
    /// Messages wait, and nothing is committed.
    pub const NOT_PROGRESSING: &str = "NotProgressing";
    /// The producer is not connected to the broker.
    pub const NOT_CONNECTED: &str = "NotConnected";
    /// An annotation asks that the feed is left as it is.
    pub const PAUSED: &str = "Paused";
    /// The exchange exists with another type, which cannot be changed.
    pub const EXCHANGE_DIFFERS: &str = "ExchangeDiffers";
    /// The virtual host does not exist.
    pub const VHOST_NOT_FOUND: &str = "VirtualHostNotFound";
    /// The database does not exist.
    pub const DATABASE_NOT_FOUND: &str = "DatabaseNotFound";
    /// A migration failed.
    pub const MIGRATION_FAILED: &str = "MigrationFailed";
    /// The schema is of a newer version than this operator knows.
    pub const SCHEMA_TOO_NEW: &str = "SchemaTooNew";
    /// Something in the schema is not as it should be, and only a person can put it back.
    pub const SCHEMA_DRIFTED: &str = "SchemaDrifted";
    /// Something in the schema is not as it should be, and is put back when somebody's lock is gone, or when it is built.
    pub const SCHEMA_LOCKED: &str = "SchemaLocked";
    /// The number of partitions changes: older queues are drained first.
    pub const REPARTITIONING: &str = "Repartitioning";
    /// Every message that was published has arrived, or is on its way.
    pub const NO_GAPS: &str = "NoGaps";
    /// Messages were published and never arrived.
    pub const MESSAGES_MISSING: &str = "MessagesMissing";
    /// The plan allows what the feed asks.
    pub const WITHIN_PLAN: &str = "WithinPlan";
    /// The plan allows less than the feed asks.
    pub const PLAN_EXCEEDED: &str = "PlanExceeded";
    /// The dashboards are in Superset, as they should be.
    pub const IMPORTED: &str = "Imported";
    /// The feed is to have no dashboards.
    pub const NOT_ENABLED: &str = "NotEnabled";
    /// Superset does not answer, or has trouble of its own.
    pub const SUPERSET_UNREACHABLE: &str = "SupersetUnreachable";
    /// Superset does not take the dashboards.
    pub const IMPORT_FAILED: &str = "ImportFailed";
    /// Somebody changed the dashboards, and they are left so, as driftPolicy Report says.
    pub const DRIFTED: &str = "Drifted";
    /// Superset cannot read the feed's tables.
    pub const CONNECTION_FAILED: &str = "ConnectionFailed";

    /// Whether nothing changes until a person acts. The operator goes on looking all the same.
    #[must_use]
    pub fn needs_a_person(reason: &str) -> bool {
        [
            PROGRESS_DEADLINE_EXCEEDED,
            INVALID_SPEC,
            NAME_TAKEN,
            NOT_CONFIGURED,
            SECRET_NOT_FOUND,
            KEY_NOT_FOUND,
            SECRET_INVALID,
            AUTHENTICATION_FAILED,
            TLS_FAILED,
            PERMISSION_DENIED,
            DEAD_LETTER_QUEUE_DIFFERS,
            EXCHANGE_DIFFERS,
            VHOST_NOT_FOUND,
            DATABASE_NOT_FOUND,
            MIGRATION_FAILED,
            SCHEMA_TOO_NEW,
            SCHEMA_DRIFTED,
            // The producer's words for an API key that is refused, or good for less than the feed asks.
            "InvalidKey",
            "PaymentRequired",
            "Forbidden",
        ]
        .contains(&reason)
    }
}
