//! The custom resource: `StockFeed`, as users write it.
//!
//! The documentation of every field is what `kubectl explain` shows. What can be said in the schema is refused at
//! admission, with a message that names the field; `validate` says it again for objects that came in under an older
//! schema. After a change here: `cargo run -p operator --bin crdgen > crds/stockfeeds.yaml`.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the text of `kubectl explain`, where backticks are noise"
)]

use contract::{config::MAX_SYMBOLS, symbol, window::WindowWidth};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub mod dashboards;
pub mod replicas;
pub mod status;
pub mod template;

pub use dashboards::{Dashboards, DriftPolicy};
pub use replicas::Replicas;
use status::StockFeedStatus;
use template::Template;

/// The API group.
pub const GROUP: &str = "stockfeed.dev";
/// The finalizer: a feed has things outside the cluster, which have to go before it does.
pub const FINALIZER: &str = "stockfeed.dev/cleanup";
/// The longest name of a feed: children append a suffix to it, and their names end up in labels.
pub const MAX_NAME: usize = 40;

/// One or more numbers with a unit each.
const DURATION: &str = "^([0-9]{1,6}(ms|s|m|h))+$";
/// As [`DURATION`], with days.
const LONG_DURATION: &str = "^([0-9]{1,6}(ms|s|m|h|d))+$";
/// Whole days, at least one.
const DAYS: &str = "^[1-9][0-9]{0,4}d$";
/// Whole days, or a [`DURATION`]: the two that a rule of the schema can tell the length of.
const DAYS_OR_DURATION: &str = "^([1-9][0-9]{0,4}d|([0-9]{1,6}(ms|s|m|h))+)$";
/// An absolute URL without user information, query or fragment: those would carry credentials, or be lost.
const HTTP_URL: &str = r"^https?://[^\s?#@]+$";
/// As [`HTTP_URL`], with a query, and places for symbols.
const HTTP_TEMPLATE: &str = r"^https?://[^\s#@]+$";
/// A name of an HTTP header.
const HEADER_NAME: &str = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";
/// A JSON pointer, RFC 6901.
const JSON_POINTER: &str = r"^(/([^/~]|~[01])*)*$";
/// The name of a Kubernetes object.
const OBJECT_NAME: &str = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$";
/// A key of a Secret.
const SECRET_KEY: &str = r"^[A-Za-z0-9._-]+$";

/// What a feed is: its symbols, where their quotes come from, and how they are processed and kept.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "stockfeed.dev",
    version = "v1alpha1",
    kind = "StockFeed",
    plural = "stockfeeds",
    shortname = "sf",
    namespaced,
    status = "StockFeedStatus",
    scale(
        spec_replicas_path = ".spec.processing.replicas.min",
        status_replicas_path = ".status.scaling.replicas",
        label_selector_path = ".status.scaling.selector"
    ),
    derive = "PartialEq",
    doc = "A market-data feed: quotes of some symbols, polled from a source, sent through RabbitMQ, and kept in PostgreSQL as ticks and candles, each exactly once.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Symbols", type_ = "integer", json_path = ".status.symbols"),
    printcolumn(name = "Interval", type_ = "string", json_path = ".status.quota.effectiveInterval"),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.replicas"),
    printcolumn(name = "Backlog", type_ = "integer", json_path = ".status.backlog"),
    printcolumn(name = "Last tick", type_ = "date", json_path = ".status.lastTickTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Quota",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"QuotaSufficient\")].message",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 40 && !self.metadata.name.contains('.')")
        .message("metadata.name must be a DNS label of at most 40 characters: a-z, 0-9 and '-', no dots")
)]
#[serde(rename_all = "camelCase")]
pub struct StockFeedSpec {
    /// The ticker symbols to poll, as the source spells them: 1 to 500, each once. 1 to 16 of A-Z, 0-9, '.', '^', '=' and '-'.
    #[schemars(
        length(min = 1, max = MAX_SYMBOLS),
        inner(length(min = 1, max = 16), regex(pattern = symbol::PATTERN))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub symbols: Vec<String>,

    /// Where the quotes come from.
    pub source: Source,

    /// How often every symbol is polled, as in 500ms, 60s or 5m; at least 100ms.
    #[serde(default = "default_interval")]
    #[schemars(length(max = 20), regex(pattern = DURATION))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms')").message("interval must be at least 100ms"))]
    pub interval: String,

    /// When the source is polled: Always, Regular (09:30 to 16:00 in New York on days of trading, 13:00 on half days) or Extended
    /// (04:00 to 20:00, 17:00 on half days). While it is closed no call is made; status.nextOpen says until when.
    #[serde(default)]
    pub market_hours: MarketHours,

    /// What becomes of a quote with the time, price and volume of the last one of its symbol: Skip counts it, Keep stores it again.
    #[serde(default)]
    pub duplicates: Duplicates,

    /// Where fetched quotes wait for a broker that is away.
    #[serde(default)]
    pub spool: Spool,

    /// How ticks become rows and candles.
    #[serde(default)]
    pub processing: Processing,

    /// What is kept, and for how long.
    #[serde(default)]
    pub storage: Storage,

    /// The RabbitMQ to use. Omit to use the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<Connection>,

    /// The PostgreSQL database to use. Omit to use the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Connection>,

    /// What of the workers' pods is other than the operator would make it: where they run, how much they get, labels, the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,

    /// The feed's dashboards in Apache Superset, where the installation has one.
    #[serde(default)]
    pub dashboards: Dashboards,

    /// What happens to the data when the feed is deleted. Retain keeps the database schema with its two roles, and every
    /// queue that still holds messages. Delete removes all of it.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Stop polling. Processors finish what is in the queues; condition Suspended becomes True with reason Drained when all of it
    /// is committed.
    #[serde(default)]
    pub suspend: bool,
}

/// When a source is polled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MarketHours {
    /// At all times.
    #[default]
    Always,
    /// The exchange's regular session.
    Regular,
    /// The sessions before and after it as well.
    Extended,
}

/// What becomes of a quote that is the same as the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Duplicates {
    /// It is counted, and not stored again.
    #[default]
    Skip,
    /// It is stored again.
    Keep,
}

/// What happens when the calls of a day do not suffice for the interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QuotaPolicy {
    /// The interval grows, so that the calls last until the day ends.
    #[default]
    Stretch,
    /// The interval stays; when the calls are used up, polling stops until midnight in New York.
    Enforce,
}

/// Where fetched quotes wait for a broker that is away.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spool {
    /// When so much waits, in MiB, nothing more is fetched; nothing is dropped. 256 hold ten minutes of 500 symbols at 1s.
    #[serde(default = "default_spool")]
    #[schemars(range(min = 1, max = 65536))]
    pub max_mebibytes: i32,

    /// A PersistentVolumeClaim of the feed's namespace to keep it on, so that it survives the pod. Omit to keep it with the pod: it
    /// survives restarts of the container, and the pod waits 20 seconds for the broker when it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub claim_name: Option<String>,
}

/// A source of quotes: exactly one of them.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.fmp) != has(self.http)").message("source must have exactly one of fmp and http"))]
pub struct Source {
    /// Financial Modeling Prep, or what answers as it does (the simulator).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fmp: Option<Fmp>,

    /// Any HTTP API that answers with JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
}

/// How to ask an HTTP API for quotes. Pointers are JSON pointers (RFC 6901), as in /data/0/last.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.apiKeySecretRef) == has(self.apiKeyHeader)").message("http needs both of apiKeySecretRef and apiKeyHeader, or neither"))]
#[x_kube(validation = Rule::new("!self.url.contains('{symbols}') || has(self.symbol)").message("http.symbol is needed when the URL asks for {symbols}: it says which quote is whose"))]
pub struct Http {
    /// The URL, with {symbol} in it for one symbol a call, or {symbols} for up to 100, separated by commas. No key belongs here: it
    /// would be logged on the way.
    #[schemars(length(max = 1024), regex(pattern = HTTP_TEMPLATE))]
    #[x_kube(validation = Rule::new("self.contains('{symbol}') || self.contains('{symbols}')").message("url must hold {symbol} or {symbols}"))]
    pub url: String,

    /// The Secret that holds the API key, in the feed's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretKeyRef>,

    /// The request header that the API key is sent in, as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), regex(pattern = HEADER_NAME))]
    pub api_key_header: Option<String>,

    /// Where in the answer the quotes are: an object, or a list of them. Omit when the answer itself is that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256), regex(pattern = JSON_POINTER))]
    pub quotes: String,

    /// Where in a quote its symbol is. May be omitted with {symbol}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = JSON_POINTER))]
    pub symbol: Option<String>,

    /// Where in a quote its price is: a number, or a string that holds one.
    #[schemars(length(max = 256), regex(pattern = JSON_POINTER))]
    pub price: String,

    /// Where in a quote its time is.
    #[schemars(length(max = 256), regex(pattern = JSON_POINTER))]
    pub time: String,

    /// How the time is written: UnixSeconds, UnixMilliseconds or Rfc3339.
    #[serde(default)]
    pub time_format: TimeFormat,

    /// Where in a quote the day's volume is, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = JSON_POINTER))]
    pub volume: Option<String>,

    /// Calls a day that may be made; omit for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub calls_per_day: Option<i64>,

    /// Calls a minute that may be made; omit for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub calls_per_minute: Option<i64>,

    /// What happens when the calls of a day do not suffice for the interval.
    #[serde(default)]
    pub quota_policy: QuotaPolicy,

    /// How far behind its own clock the source may publish a quote. Windows close that much later when nothing is traded.
    #[serde(default = "default_delay")]
    #[schemars(length(max = 20), regex(pattern = LONG_DURATION))]
    pub delay: String,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TimeFormat {
    /// Seconds since 1970, with or without a fraction.
    #[default]
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMilliseconds,
    /// As in 2026-11-25T14:30:00Z.
    Rfc3339,
}

/// How to reach Financial Modeling Prep, and what may be asked of it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fmp {
    /// The Secret that holds the API key, in the feed's namespace.
    pub api_key_secret_ref: SecretKeyRef,

    /// The URL that /quote and /batch-quote are appended to; the simulator's address goes here.
    #[serde(default = "default_base_url")]
    #[schemars(length(max = 1024), regex(pattern = HTTP_URL))]
    pub base_url: String,

    /// The plan of the API key. Basic asks for one symbol a call (its batch endpoint is refused), the others for 100. What
    /// the plan allows is never exceeded; see quotaPolicy.
    #[serde(default)]
    pub plan: Plan,

    /// Calls a day that were agreed with the provider, if other than the plan's (Basic: 250, others: no limit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub calls_per_day: Option<i64>,

    /// Calls a minute that were agreed with the provider, if other than the plan's (Starter: 300, Premium: 750, Ultimate: 3000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub calls_per_minute: Option<i64>,

    /// What happens when the calls of a day do not suffice for the interval. Stretch: the interval grows so that they last; Enforce:
    /// the interval stays, and polling stops when they are used up, until midnight in New York. Feeds of the namespace that use the
    /// same key share its calls evenly.
    #[serde(default)]
    pub quota_policy: QuotaPolicy,

    /// How far behind its own clock the source may publish a quote. Windows close that much later when nothing is traded.
    #[serde(default = "default_delay")]
    #[schemars(length(max = 20), regex(pattern = LONG_DURATION))]
    pub delay: String,
}

/// A plan of Financial Modeling Prep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Plan {
    /// Free: 250 calls a day, one symbol a call.
    #[default]
    Basic,
    /// 300 calls a minute.
    Starter,
    /// 750 calls a minute.
    Premium,
    /// 3,000 calls a minute.
    Ultimate,
}

/// How ticks become rows and candles.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.replicas.max) || self.replicas.max <= self.partitions").message("replicas.max must be at most partitions: a partition is consumed by one processor at a time"))]
pub struct Processing {
    /// The number of queues that the symbols are spread over: how many processors can work at once. 1 to 64. May be raised
    /// and lowered while the feed runs: new queues are made, the producer moves to them, processors finish the old ones and go
    /// on with the new ones. Nothing is lost, doubled or put out of order; new ticks wait until the old queues are empty, and
    /// some 20 seconds more. Who publishes to the exchange himself has to follow (the routing key names the generation, see
    /// status.queueGeneration).
    #[serde(default = "default_partitions")]
    #[schemars(range(min = 1, max = 64))]
    pub partitions: i32,

    /// How many processors run.
    #[serde(default)]
    pub replicas: Replicas,

    /// Widths of the candles, each once, of: 1s, 5s, 10s, 15s, 30s, 1m, 5m, 10m, 15m, 30m, 1h, 1d. 1d follows the exchange's
    /// calendar day (New York).
    #[serde(default = "default_windows")]
    #[schemars(schema_with = "windows_schema")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub windows: Vec<String>,

    /// How far behind the newest event the watermark runs: ticks that late are still in order.
    #[serde(default = "default_out_of_orderness")]
    #[schemars(length(max = 20), regex(pattern = LONG_DURATION))]
    pub out_of_orderness: String,

    /// How long after its end a final candle may still be revised. Ticks that come later are kept as late ticks.
    #[serde(default = "default_allowed_lateness")]
    #[schemars(length(max = 20), regex(pattern = LONG_DURATION))]
    pub allowed_lateness: String,

    /// How far ahead of the processor's clock a tick may be; at least 1s. One from further ahead is quarantined: it is a
    /// mistake, and would close windows before their time.
    #[serde(default = "default_max_future")]
    #[schemars(length(max = 20), regex(pattern = DURATION))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("maxFuture must be at least 1s"))]
    pub max_future: String,

    /// How old a tick may be when it arrives, in days, as in 7d, or in shorter units, as in 36h; at least 1m. An older one is
    /// quarantined. Time that it waits in a queue counts, so leave room for an outage. Omit to take everything since 1970, as
    /// a replay of history needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = DAYS_OR_DURATION))]
    #[x_kube(validation = Rule::new("self.endsWith('d') || duration(self) >= duration('1m')").message("maxAge must be at least 1m"))]
    pub max_age: Option<String>,
}

/// What is kept, and for how long.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// How long raw ticks are kept, in days, as in 90d. Candles stay. Omit to keep all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 6), regex(pattern = DAYS))]
    pub retention: Option<String>,
}

/// A connection, kept in Secrets.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretRef) || has(self.tlsSecretRef)").message("secretRef is needed, or tlsSecretRef beside the installation's connection"))]
pub struct Connection {
    /// The Secret, in the feed's namespace: for RabbitMQ in service-binding format (host, port, username, password; optional
    /// managementPort, managementScheme, vhost, tls, ca.crt), for PostgreSQL as CloudNativePG writes it (host, port,
    /// dbname, username, password; optional sslmode, ca.crt). A client certificate in it, tls.crt with tls.key, is shown by the
    /// operator only. Omit to use the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,

    /// A Secret of type kubernetes.io/tls, in the feed's namespace, as cert-manager writes it: tls.crt and tls.key are the client
    /// certificate that the workers show to a server that asks for one; ca.crt is the authority to trust where the connection's
    /// Secret names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret_ref: Option<SecretRef>,
}

/// A Secret of the feed's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// One key of a Secret of the feed's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,

    /// The key in the Secret.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

/// What happens to the data when the feed is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The schema, its roles, and queues with messages stay.
    #[default]
    Retain,
    /// Everything goes.
    Delete,
}

impl Default for Processing {
    fn default() -> Self {
        Self {
            partitions: default_partitions(),
            replicas: Replicas::default(),
            windows: default_windows(),
            out_of_orderness: default_out_of_orderness(),
            allowed_lateness: default_allowed_lateness(),
            max_future: default_max_future(),
            max_age: None,
        }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            max_mebibytes: default_spool(),
            claim_name: None,
        }
    }
}

impl Source {
    /// The reference to the Secret with the API key.
    #[must_use]
    pub fn api_key(&self) -> Option<&SecretKeyRef> {
        let http = self
            .http
            .as_ref()
            .and_then(|http| http.api_key_secret_ref.as_ref());
        self.fmp.as_ref().map(|fmp| &fmp.api_key_secret_ref).or(http)
    }
}

fn default_spool() -> i32 {
    256
}

fn default_interval() -> String {
    "60s".to_owned()
}

fn default_base_url() -> String {
    "https://financialmodelingprep.com/stable".to_owned()
}

fn default_delay() -> String {
    "60s".to_owned()
}

fn default_key() -> String {
    "apiKey".to_owned()
}

fn default_partitions() -> i32 {
    4
}

fn default_windows() -> Vec<String> {
    ["1m", "5m", "1h", "1d"].map(str::to_owned).to_vec()
}

fn default_out_of_orderness() -> String {
    "5s".to_owned()
}

fn default_allowed_lateness() -> String {
    "1h".to_owned()
}

fn default_max_future() -> String {
    "5m".to_owned()
}

/// A set of labels: an enumeration, so that a refusal lists what is allowed.
fn windows_schema(_: &mut SchemaGenerator) -> Schema {
    let labels = WindowWidth::ALL.map(WindowWidth::label);
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": labels.len(),
        "items": {"type": "string", "enum": labels},
    })
}
