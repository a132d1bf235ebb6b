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
    /// The partitions to publish to.
    pub queues: QueueGeneration,
    /// The folder of the broker's Secret: files `host`, `port`, `username`, `password`, optionally `vhost`, `tls`, `ca.crt`.
    pub broker_directory: PathBuf,
    /// Where the HTTP API listens.
    pub listen: SocketAddr,
}

/// A source of quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum SourceConfig {
    /// Financial Modeling Prep, or what answers as it does.
    Fmp(FmpConfig),
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
    /// The folder of the database's Secret: files `host`, `port`, `dbname`, `username`, `password`, optionally `sslmode`, `ca.crt`.
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
