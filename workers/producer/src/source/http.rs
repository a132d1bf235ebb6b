//! Any HTTP API that answers with JSON: the configuration says what to ask, and where in the answer the values are.
//!
//! - A URL with `{symbol}` is asked for one symbol at a time, one with `{symbols}` for up to 100 at once.
//! - A refusal is a refusal: unlike at FMP there is no other way to ask.
//! - The bound is the least `Date` of the answers, less the delay that the configuration states for the source.
//! - For everything else see [`requester`](super::requester).

pub mod client;
pub mod layout;
pub mod pointer;
pub mod template;

use std::{sync::Arc, time::Duration};

use contract::{config::HttpConfig, symbol::Symbol};
use tokio_util::sync::CancellationToken;

use self::{client::HttpClient, layout::Layout, template::Template};
use super::{
    Fetched, QuoteSource,
    budget::Budget,
    requester::{Requester, Shape, requests},
    round::Round,
};
use crate::metrics::Metrics;

/// The generic source.
#[derive(Debug)]
pub struct HttpSource {
    requester: Requester<HttpClient>,
    shape: Shape,
    delay: Duration,
}

impl HttpSource {
    /// A source that has not been asked yet. Once the token is cancelled, failed requests are not repeated any more.
    ///
    /// # Errors
    /// When a field of the configuration cannot be used; the error names it. The key is not read yet: that it is missing is a
    /// state, not a reason to end.
    pub fn new(config: HttpConfig, metrics: Arc<Metrics>, token: CancellationToken) -> anyhow::Result<Self> {
        let layout = Layout::new(&config)?;
        let HttpConfig {
            url,
            key_header,
            api_key_file,
            symbol,
            delay,
            timeout,
            // Of the layout.
            quotes: _,
            price: _,
            time: _,
            time_format: _,
            volume: _,
        } = config;
        let template = Template::new(&url)?;
        let shape = template.shape();
        anyhow::ensure!(
            shape == Shape::Single || symbol.is_some(),
            "source.http.symbol must be set where the URL has {{symbols}}: it tells whose a quote is"
        );
        anyhow::ensure!(
            key_header.is_none() || api_key_file.is_some(),
            "source.http.apiKeyFile must be set where source.http.keyHeader is"
        );
        // Without a header no key is sent, so none is read.
        let key_file = api_key_file.filter(|_| key_header.is_some());
        let client = HttpClient::new(template, key_header.as_deref(), layout, timeout)?;
        Ok(Self {
            requester: Requester::new(client, key_file, metrics, token),
            shape,
            delay,
        })
    }
}

impl QuoteSource for HttpSource {
    async fn fetch(&mut self, symbols: &[Symbol], budget: u64) -> Fetched {
        self.requester.refresh_key();
        let budget = Budget::new(budget);
        let mut round = Round::default();
        match self.shape {
            Shape::Single => self.requester.singles(symbols, &budget, &mut round).await,
            Shape::Batch => {
                // Never refused as batches: the client has no singles instead.
                self.requester.batches(symbols, &budget, &mut round).await;
            }
        }
        round.finish(self.delay, &budget)
    }

    fn calls(&self, symbols: usize) -> u64 {
        requests(self.shape, symbols)
    }

    fn asks_in_batches(&self) -> bool {
        self.shape == Shape::Batch
    }
}

#[cfg(test)]
mod tests;
