//! What the operator renders for a worker, and the worker parses: one JSON file, no secrets in it.
//!
//! Credentials are never part of it: it names the folders that the Secrets are mounted in.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use snafu::{ResultExt, Snafu, ensure};

use crate::{duration, names::FeedName, symbol::Symbol, window::WindowWidth};

/// The most symbols a feed may have.
pub const MAX_SYMBOLS: usize = 500;
/// The shortest poll interval.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// The most partitions a feed may have.
pub const MAX_PARTITIONS: u16 = 64;

/// Configuration of a producer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProducerConfig {
    /// Whose producer it is.
    pub feed: FeedName,
    /// What to poll: 1 to 500, no two equal.
    pub symbols: Vec<Symbol>,
    /// Where from.
    pub source: SourceConfig,
    /// How often; at least 100 ms.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// When the source is polled at all.
    #[serde(default)]
    pub market_hours: MarketHours,
    /// What becomes of a quote that is the same as the last one of its symbol.
    #[serde(default)]
    pub duplicates: Duplicates,
    /// How many calls may be made.
    #[serde(default)]
    pub quota: QuotaConfig,
    /// The partitions to publish to.
    pub queues: QueueGeneration,
    /// Where what the broker has not confirmed is kept; `None`: in memory, for a try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool: Option<SpoolConfig>,
    /// The folder of the broker's Secret: files `host`, `port`, `username`, `password`, optionally `vhost`, `tls`, `ca.crt`, and
    /// `tls.crt` with `tls.key`.
    pub broker_directory: PathBuf,
    /// The folder of the database's Secret, as in [`ProcessorConfig::database_directory`]: calls are counted there. `None`: they
    /// are counted in memory, and forgotten at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_directory: Option<PathBuf>,
    /// The folder of the Secret with the API's bearer token: file `token`, and `previous` while the one before is still good.
    /// `None`: whoever reaches the API may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_directory: Option<PathBuf>,
    /// Where the HTTP API listens.
    pub listen: SocketAddr,
}

/// When a source is polled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MarketHours {
    /// At all times.
    #[default]
    Always,
    /// 09:30 to 16:00 in New York on days of trading, 13:00 on half days.
    Regular,
    /// 04:00 to 20:00 in New York on days of trading, 17:00 on half days.
    Extended,
}

/// What becomes of a quote with the event time, price and volume of the last one of its symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Duplicates {
    /// It is counted, and not published.
    #[default]
    Skip,
    /// It is published as any other.
    Keep,
}

/// What happens when the calls of a day do not suffice for the interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuotaPolicy {
    /// The interval grows, so that the calls last until the day ends.
    #[default]
    Stretch,
    /// The interval stays. When the calls are used up none is made until midnight in New York.
    Enforce,
}

/// How many calls a producer may make. A day begins at midnight in New York.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuotaConfig {
    /// Calls a day with the API key; `None`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_day: Option<u64>,
    /// Calls in any minute with the API key; `None`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_minute: Option<u64>,
    /// What happens when the day's do not suffice.
    #[serde(default)]
    pub policy: QuotaPolicy,
    /// What the plan is called, for people.
    #[serde(default)]
    pub plan: String,
    /// What the API key is called: feeds of one database that name the same key are counted together.
    #[serde(default)]
    pub key: String,
    /// How many feeds use the key: each may make that part of the calls.
    #[serde(default = "one")]
    pub feeds: u64,
}

/// Where what the broker has not confirmed is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpoolConfig {
    /// A folder that survives a restart of the container.
    pub directory: PathBuf,
    /// When so many bytes are waiting nothing more is fetched.
    pub max_bytes: u64,
}

/// A source of quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum SourceConfig {
    /// Financial Modeling Prep, or what answers as it does.
    Fmp(FmpConfig),
    /// Any HTTP API that answers with JSON.
    Http(HttpConfig),
}

/// How to ask an HTTP API for a quote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpConfig {
    /// The URL with `{symbol}` in it, or `{symbols}` for many at once, separated by commas.
    pub url: String,
    /// The header that the API key travels in; it is sent without a prefix. `None`: no key is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_header: Option<String>,
    /// The file that holds the API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// Where in the answer the quotes are: a JSON pointer (RFC 6901) to an object, or to a list of them. Empty: the answer itself.
    #[serde(default)]
    pub quotes: String,
    /// JSON pointer in a quote to its symbol. `None` with `{symbol}`: the answer is of the symbol that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// JSON pointer in a quote to its price.
    pub price: String,
    /// JSON pointer in a quote to its time.
    pub time: String,
    /// How the time is written.
    #[serde(default)]
    pub time_format: TimeFormat,
    /// JSON pointer in a quote to the day's volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// As in [`FmpConfig::delay`].
    #[serde(with = "duration")]
    pub delay: Duration,
    /// The longest one request may take.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeFormat {
    /// Seconds since 1970, with or without a fraction.
    #[default]
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMilliseconds,
    /// As in 2026-11-25T14:30:00Z.
    Rfc3339,
}

/// How to reach Financial Modeling Prep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FmpConfig {
    /// The URL that `/quote` and `/batch-quote` are appended to.
    pub base_url: String,
    /// The file that holds the API key.
    pub api_key_file: PathBuf,
    /// Ask for many symbols at once. Not on every plan; a producer that is refused falls back to one by one.
    pub batch: bool,
    /// How far behind its own clock the source may publish a quote: a heartbeat is the answer's `Date` less this.
    #[serde(with = "duration")]
    pub delay: Duration,
    /// The longest one request may take.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

/// The queues of one generation: changing the number of partitions starts a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueGeneration {
    /// 1, 2, 3, …
    pub generation: u32,
    /// How many; 1 to 64.
    pub partitions: u16,
}

/// Configuration of a processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProcessorConfig {
    /// Whose processor it is.
    pub feed: FeedName,
    /// The feed's symbols; ticks of others are quarantined.
    pub symbols: Vec<Symbol>,
    /// The queues to consume, oldest generation first. At least one.
    pub queues: Vec<QueueGeneration>,
    /// Candle widths, no two equal.
    pub windows: Vec<WindowWidth>,
    /// How far behind the newest event the watermark runs.
    #[serde(with = "duration")]
    pub out_of_orderness: Duration,
    /// How long past its end a candle may still be revised.
    #[serde(with = "duration")]
    pub allowed_lateness: Duration,
    /// A tick further in the future than this is quarantined.
    #[serde(with = "duration")]
    pub max_future: Duration,
    /// A tick older than this is quarantined; `None` takes everything since 1970.
    #[serde(with = "duration::optional", default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// A hole in a publisher's sequence that is older than this is a gap, and reported as one.
    #[serde(with = "duration")]
    pub gap_timeout: Duration,
    /// How much is committed at once.
    pub batch: BatchConfig,
    /// The folder of the broker's Secret, as in [`ProducerConfig::broker_directory`].
    pub broker_directory: PathBuf,
    /// The folder of the database's Secret: files `host`, `port`, `dbname`, `username`, `password`, optionally `sslmode`, `ca.crt`,
    /// and `tls.crt` with `tls.key`.
    pub database_directory: PathBuf,
    /// Where health, metrics and state are served.
    pub listen: SocketAddr,
}

/// When a batch is committed: whichever limit is reached first. The partitions of a feed share the first two evenly, so a
/// replica's memory does not depend on how many of them it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchConfig {
    /// Messages.
    pub max_messages: u16,
    /// Bytes of message bodies.
    pub max_bytes: u32,
    /// Time since the batch's first message.
    #[serde(with = "duration")]
    pub linger: Duration,
}

impl SourceConfig {
    /// How far behind its own clock the source may publish a quote.
    #[must_use]
    pub const fn delay(&self) -> Duration {
        match self {
            Self::Fmp(fmp) => fmp.delay,
            Self::Http(http) => http.delay,
        }
    }
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self {
            calls_per_day: None,
            calls_per_minute: None,
            policy: QuotaPolicy::default(),
            plan: String::new(),
            key: String::new(),
            feeds: 1,
        }
    }
}

const fn one() -> u64 {
    1
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            max_messages: 5_000,
            max_bytes: 3 * 1024 * 1024,
            linger: Duration::from_millis(2),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, Snafu)]
pub enum InvalidConfig {
    /// Not JSON, or not of this form.
    #[snafu(display("failed to parse the configuration"))]
    Form {
        /// Where and why.
        source: serde_json::Error,
    },
    /// A field has a value that cannot be used.
    #[snafu(display("{field} {problem}"))]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl ProducerConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When it is not JSON of this form, or a field is out of its range.
    pub fn parse(text: &str) -> Result<Self, InvalidConfig> {
        let config: Self = serde_json::from_str(text).context(FormSnafu)?;
        check_symbols(&config.symbols)?;
        check_queues("queues", std::slice::from_ref(&config.queues))?;
        let long_enough = config.interval >= MIN_INTERVAL;
        ensure!(
            long_enough,
            FieldSnafu {
                field: "interval",
                problem: "is shorter than 100ms"
            }
        );
        ensure!(
            config.quota.feeds > 0,
            FieldSnafu {
                field: "quota.feeds",
                problem: "must be at least 1"
            }
        );
        Ok(config)
    }

    /// Writes a configuration: the same bytes for the same value.
    #[must_use]
    pub fn render(&self) -> String {
        render(self)
    }
}

impl ProcessorConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When it is not JSON of this form, or a field is out of its range.
    pub fn parse(text: &str) -> Result<Self, InvalidConfig> {
        let config: Self = serde_json::from_str(text).context(FormSnafu)?;
        check_symbols(&config.symbols)?;
        check_queues("queues", &config.queues)?;
        let distinct: BTreeSet<_> = config.windows.iter().collect();
        let windows = !config.windows.is_empty() && distinct.len() == config.windows.len();
        ensure!(
            windows,
            FieldSnafu {
                field: "windows",
                problem: "must name at least one width, and each once"
            }
        );
        let batch = config.batch.max_messages > 0 && config.batch.max_bytes > 0;
        ensure!(
            batch,
            FieldSnafu {
                field: "batch",
                problem: "must allow at least one message and one byte"
            }
        );
        Ok(config)
    }

    /// Writes a configuration: the same bytes for the same value.
    #[must_use]
    pub fn render(&self) -> String {
        render(self)
    }
}

fn render<T: Serialize>(config: &T) -> String {
    // Cannot fail: structs of strings, numbers and lists.
    serde_json::to_string_pretty(config).unwrap_or_default()
}

fn check_symbols(symbols: &[Symbol]) -> Result<(), InvalidConfig> {
    let field = "symbols";
    let count = (1..=MAX_SYMBOLS).contains(&symbols.len());
    ensure!(
        count,
        FieldSnafu {
            field,
            problem: format!("has {} entries, not 1 to {MAX_SYMBOLS}", symbols.len())
        }
    );
    let mut seen = BTreeSet::new();
    for symbol in symbols {
        ensure!(
            seen.insert(symbol),
            FieldSnafu {
                field,
                problem: format!("names {symbol} twice")
            }
        );
    }
    Ok(())
}

fn check_queues(field: &'static str, queues: &[QueueGeneration]) -> Result<(), InvalidConfig> {
    ensure!(
        !queues.is_empty(),
        FieldSnafu {
            field,
            problem: "must name at least one generation"
        }
    );
    for queue in queues {
        let partitions = (1..=MAX_PARTITIONS).contains(&queue.partitions);
        ensure!(
            partitions,
            FieldSnafu {
                field,
                problem: format!("has partitions outside 1 to {MAX_PARTITIONS}")
            }
        );
    }
    let ascending = queues
        .windows(2)
        .all(|pair| pair[0].generation < pair[1].generation);
    ensure!(
        ascending,
        FieldSnafu {
            field,
            problem: "must be in the order of their generations"
        }
    );
    Ok(())
}

#[cfg(test)]
mod tests;
