//! The source that a configuration names.

use std::sync::Arc;

use contract::{config::SourceConfig, symbol::Symbol};
use tokio_util::sync::CancellationToken;

use super::{Fetched, QuoteSource, fmp::FmpSource, http::HttpSource};
use crate::metrics::Metrics;

/// One of the sources there are.
#[derive(Debug)]
pub enum AnySource {
    /// Financial Modeling Prep.
    Fmp(FmpSource),
    /// Any HTTP API that answers with JSON. Boxed, because it is larger.
    Http(Box<HttpSource>),
}

impl AnySource {
    /// A source that has not been asked yet. Once the token is cancelled, failed requests are not repeated any more.
    ///
    /// # Errors
    /// When the configuration cannot be used; the error names the field.
    pub fn new(
        config: SourceConfig,
        metrics: Arc<Metrics>,
        token: CancellationToken,
    ) -> anyhow::Result<Self> {
        Ok(match config {
            SourceConfig::Fmp(config) => Self::Fmp(FmpSource::new(config, metrics, token)?),
            SourceConfig::Http(config) => Self::Http(Box::new(HttpSource::new(config, metrics, token)?)),
        })
    }
}

impl QuoteSource for AnySource {
    async fn fetch(&mut self, symbols: &[Symbol], budget: u64) -> Fetched {
        match self {
            Self::Fmp(source) => source.fetch(symbols, budget).await,
            Self::Http(source) => source.fetch(symbols, budget).await,
        }
    }

    fn calls(&self, symbols: usize) -> u64 {
        match self {
            Self::Fmp(source) => source.calls(symbols),
            Self::Http(source) => source.calls(symbols),
        }
    }

    fn asks_in_batches(&self) -> bool {
        match self {
            Self::Fmp(source) => source.asks_in_batches(),
            Self::Http(source) => source.asks_in_batches(),
        }
    }
}
