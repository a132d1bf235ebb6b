//! What of the configuration may change while the producer runs: symbols, interval, hours, duplicates and quota.
//!
//! Kubernetes replaces the file of a `ConfigMap` some time after the object changed; it is looked at again and again. Everything else
//! in it needs a new pod, and the operator sees to that.

use std::{path::PathBuf, time::Duration};

use contract::{
    config::{Duplicates, MarketHours, ProducerConfig, QuotaConfig},
    symbol::Symbol,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::chain::chain;

/// How often to look at the file.
const PERIOD: Duration = Duration::from_secs(1);

/// The part of the configuration that may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// What is asked for.
    pub symbols: Vec<Symbol>,
    /// How often.
    pub interval: Duration,
    /// When.
    pub market_hours: MarketHours,
    /// Whether the same quote is published twice.
    pub duplicates: Duplicates,
    /// How many calls may be made.
    pub quota: QuotaConfig,
}

impl From<&ProducerConfig> for Live {
    fn from(config: &ProducerConfig) -> Self {
        Self {
            symbols: config.symbols.clone(),
            interval: config.interval,
            market_hours: config.market_hours,
            duplicates: config.duplicates,
            quota: config.quota.clone(),
        }
    }
}

/// Looks at the file until the token is cancelled, and tells of what changed. A file that cannot be used changes nothing.
pub async fn watch(path: PathBuf, live: watch::Sender<Live>, token: CancellationToken) {
    let mut seen = tokio::fs::read_to_string(&path).await.unwrap_or_default();
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        // It is away for a moment when Kubernetes replaces it.
        let Ok(text) = tokio::fs::read_to_string(&path).await else {
            continue;
        };
        if text == seen {
            continue;
        }
        seen = text;
        match ProducerConfig::parse(&seen) {
            Ok(config) => {
                let next = Live::from(&config);
                let changed = live.send_if_modified(|live| {
                    let changed = *live != next;
                    *live = next;
                    changed
                });
                if changed {
                    info!(
                        symbols = config.symbols.len(),
                        interval = contract::duration::format(config.interval),
                        "The configuration has changed"
                    );
                }
            }
            Err(error) => warn!(
                error = chain(&error),
                "The configuration has changed, and cannot be used"
            ),
        }
    }
}
