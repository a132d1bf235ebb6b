//! The configurations of the workers: rendered here, parsed there, by the same types.

use std::{net::SocketAddr, time::Duration};

use contract::{
    config::{
        BatchConfig, FmpConfig, HttpConfig, MAX_SYMBOLS, ProcessorConfig, ProducerConfig, QueueGeneration,
        SourceConfig, SpoolConfig, TimeFormat,
    },
    symbol::Symbol,
};

use crate::{
    api,
    labels::Component,
    validate::{SourceKind, ValidatedFeed},
};

/// Where the `ConfigMap` is mounted.
pub const CONFIG_DIRECTORY: &str = "/etc/stockfeed/config";
/// The file in it.
pub const CONFIG_FILE: &str = "config.json";
/// Where the broker's Secret is mounted.
pub const BROKER_DIRECTORY: &str = "/etc/stockfeed/broker";
/// Where the database's Secret is mounted.
pub const DATABASE_DIRECTORY: &str = "/etc/stockfeed/database";
/// Where the source's Secret is mounted.
pub const SOURCE_DIRECTORY: &str = "/etc/stockfeed/source";
/// The file in it, whatever the key in the user's Secret is called.
pub const API_KEY_FILE: &str = "apiKey";

/// Where the tokens of the producer's API are mounted.
pub const TOKEN_DIRECTORY: &str = "/etc/stockfeed/token";
/// Where the producer's spool is mounted.
pub const SPOOL_DIRECTORY: &str = "/var/spool/stockfeed";

/// The longest one request to the source may take.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);
/// A redelivery after a processor's death takes seconds. What is missing for longer was lost.
const GAP_TIMEOUT: Duration = Duration::from_secs(60);

/// The producer's configuration: it publishes to these queues.
#[must_use]
pub fn producer(feed: &ValidatedFeed, queues: QueueGeneration) -> ProducerConfig {
    ProducerConfig {
        feed: feed.name.clone(),
        symbols: feed.symbols.clone(),
        source: source(feed),
        interval: feed.interval,
        market_hours: feed.market_hours,
        duplicates: feed.duplicates,
        quota: feed.source.quota.clone(),
        queues,
        spool: Some(SpoolConfig {
            directory: SPOOL_DIRECTORY.into(),
            max_bytes: feed.spool_bytes,
        }),
        broker_directory: BROKER_DIRECTORY.into(),
        database_directory: Some(DATABASE_DIRECTORY.into()),
        token_directory: Some(TOKEN_DIRECTORY.into()),
        listen: listen(Component::Producer),
    }
}

/// The part of the producer's configuration that it reads once, when it starts. What is the same in all takes effect while it
/// runs.
#[must_use]
pub fn producer_at_start(feed: &ValidatedFeed, queues: QueueGeneration) -> ProducerConfig {
    ProducerConfig {
        symbols: Vec::new(),
        interval: Duration::ZERO,
        market_hours: contract::config::MarketHours::default(),
        duplicates: contract::config::Duplicates::default(),
        quota: contract::config::QuotaConfig::default(),
        ..producer(feed, queues)
    }
}

fn source(feed: &ValidatedFeed) -> SourceConfig {
    let api_key_file = format!("{SOURCE_DIRECTORY}/{API_KEY_FILE}").into();
    let (delay, timeout) = (feed.source.delay, SOURCE_TIMEOUT);
    match &feed.source.kind {
        SourceKind::Fmp { base_url, batch } => SourceConfig::Fmp(FmpConfig {
            base_url: base_url.clone(),
            api_key_file,
            batch: *batch,
            delay,
            timeout,
        }),
        SourceKind::Http(http) => SourceConfig::Http(HttpConfig {
            url: http.url.clone(),
            key_header: http.api_key_header.clone(),
            api_key_file: http.api_key_header.is_some().then_some(api_key_file),
            quotes: http.quotes.clone(),
            symbol: http.symbol.clone(),
            price: http.price.clone(),
            time: http.time.clone(),
            time_format: match http.time_format {
                api::TimeFormat::UnixSeconds => TimeFormat::UnixSeconds,
                api::TimeFormat::UnixMilliseconds => TimeFormat::UnixMilliseconds,
                api::TimeFormat::Rfc3339 => TimeFormat::Rfc3339,
            },
            volume: http.volume.clone(),
            delay,
            timeout,
        }),
    }
}

/// The processor's configuration: it consumes these queues, and no newer ones before they are drained.
#[must_use]
pub fn processor(feed: &ValidatedFeed, queues: QueueGeneration) -> ProcessorConfig {
    ProcessorConfig {
        feed: feed.name.clone(),
        symbols: known_symbols(feed),
        queues: vec![queues],
        windows: feed.windows.clone(),
        out_of_orderness: feed.out_of_orderness,
        allowed_lateness: feed.allowed_lateness,
        max_future: feed.max_future,
        max_age: feed.max_age,
        gap_timeout: GAP_TIMEOUT,
        batch: BatchConfig::default(),
        broker_directory: BROKER_DIRECTORY.into(),
        database_directory: DATABASE_DIRECTORY.into(),
        listen: listen(Component::Processor),
    }
}

/// The feed's symbols, and those that it had: their last ticks may be in the queues, and belong to it.
fn known_symbols(feed: &ValidatedFeed) -> Vec<Symbol> {
    let former = feed
        .former_symbols
        .iter()
        .filter(|symbol| !feed.symbols.contains(symbol));
    let known = feed.symbols.iter().chain(former);
    known.take(MAX_SYMBOLS).cloned().collect()
}

fn listen(component: Component) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], component.port()))
}
