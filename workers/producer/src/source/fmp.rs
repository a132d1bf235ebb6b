//! Financial Modeling Prep, or what answers as it does.
//!
//! - Many symbols are asked for at once (`batch-quote`) where the plan allows; a producer whose plan refuses (402, 403) asks
//!   for one by one from then on, until it restarts or its key changes.
//! - The bound is the least `Date` of the answers, less the delay that the configuration states for the source.
//! - For everything else see [`requester`](super::requester).

pub mod client;
pub mod parse;

use std::{sync::Arc, time::Duration};

use contract::{config::FmpConfig, symbol::Symbol};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::client::FmpClient;
use super::{
    Fetched, QuoteSource,
    budget::Budget,
    requester::{Requester, Shape, requests},
    round::Round,
};
use crate::metrics::Metrics;

/// The FMP source.
#[derive(Debug)]
pub struct FmpSource {
    requester: Requester<FmpClient>,
    batch: bool,
    /// The number of the key whose plan refused batches.
    batch_refused: Option<u64>,
    delay: Duration,
}

impl FmpSource {
    /// A source that has not been asked yet. Once the token is cancelled, failed requests are not repeated any more.
    ///
    /// # Errors
    /// When the base URL is not one. The key is not read yet: that it is missing is a state, not a reason to end.
    pub fn new(config: FmpConfig, metrics: Arc<Metrics>, token: CancellationToken) -> anyhow::Result<Self> {
        let FmpConfig {
            base_url,
            api_key_file,
            batch,
            delay,
            timeout,
        } = config;
        let client = FmpClient::new(&base_url, timeout)?;
        Ok(Self {
            requester: Requester::new(client, Some(api_key_file), metrics, token),
            batch,
            batch_refused: None,
            delay,
        })
    }
}

impl QuoteSource for FmpSource {
    async fn fetch(&mut self, symbols: &[Symbol], budget: u64) -> Fetched {
        // Another key may be of another plan.
        self.requester.refresh_key();
        let budget = Budget::new(budget);
        let mut round = Round::default();
        let singles = if self.asks_in_batches() {
            match self.requester.batches(symbols, &budget, &mut round).await {
                None => &[],
                Some(refused) => {
                    let error = refused.error;
                    warn!(%error, "Batches are refused: asking for one symbol at a time from now on");
                    self.batch_refused = Some(self.requester.key_number());
                    refused.symbols
                }
            }
        } else {
            symbols
        };
        self.requester.singles(singles, &budget, &mut round).await;
        round.finish(self.delay, &budget)
    }

    fn calls(&self, symbols: usize) -> u64 {
        let shape = if self.asks_in_batches() {
            Shape::Batch
        } else {
            Shape::Single
        };
        requests(shape, symbols)
    }

    fn asks_in_batches(&self) -> bool {
        self.batch && self.batch_refused != Some(self.requester.key_number())
    }
}
