//! The configurations of the workers: rendered here, parsed there, by the same types.

use std::{net::SocketAddr, time::Duration};

use contract::config::{
    BatchConfig, FmpConfig, ProcessorConfig, ProducerConfig, QueueGeneration, SourceConfig,
};

use crate::{labels::Component, validate::ValidatedFeed};

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
        source: SourceConfig::Fmp(FmpConfig {
            base_url: feed.source.base_url.clone(),
            api_key_file: format!("{SOURCE_DIRECTORY}/{API_KEY_FILE}").into(),
            batch: feed.source.batch,
            delay: feed.source.delay,
            timeout: SOURCE_TIMEOUT,
        }),
        interval: feed.interval,
        queues,
        broker_directory: BROKER_DIRECTORY.into(),
        listen: listen(Component::Producer),
    }
}

/// The processor's configuration: it consumes these queues, and no newer ones before they are drained.
#[must_use]
pub fn processor(feed: &ValidatedFeed, queues: QueueGeneration) -> ProcessorConfig {
    ProcessorConfig {
        feed: feed.name.clone(),
        symbols: feed.symbols.clone(),
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

fn listen(component: Component) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], component.port()))
}
