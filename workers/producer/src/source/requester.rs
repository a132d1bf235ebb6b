//! The requests of a fetch: in which order, how often, and when no more are made.
//!
//! - A request that failed for a passing reason is repeated, with growing and random delays. One that was refused is not.
//! - Where a request failed in a way that the others would fail in as well, those are not made.
//! - A key that is refused is read from its file anew, and the request repeated once if it is another one by now.
//! - No request is made over the budget.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use contract::symbol::Symbol;
use futures::{StreamExt as _, stream};
use prometheus_client::encoding::EncodeLabelValue;
use tokio_util::sync::CancellationToken;

use super::{
    Reason, SourceError,
    budget::Budget,
    key::{Key, KeyFile},
    round::{Answer, Round},
};
use crate::metrics::{Metrics, RequestOutcome};

/// Symbols in one batch request.
pub const BATCH: usize = 100;
/// Requests for single symbols that are under way at once.
const CONCURRENT: usize = 4;
/// Repetitions of a request that failed for a passing reason.
pub const RETRIES: usize = 2;

/// What is asked: a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Endpoint {
    /// FMP's `batch-quote?symbols=AAPL,MSFT`
    BatchQuote,
    /// FMP's `quote?symbol=AAPL`
    Quote,
    /// The URL of the generic source.
    Http,
}

/// How many symbols a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Up to [`BATCH`].
    Batch,
    /// One.
    Single,
}

/// What sends one request and reads its answer.
pub trait Api: Send + Sync {
    /// Whether what the plan refuses as a batch can be asked for one by one.
    const HAS_SINGLES_INSTEAD: bool;

    /// What requests of this shape are counted as.
    fn endpoint(&self, shape: Shape) -> Endpoint;

    /// Sends one request, once.
    ///
    /// # Errors
    /// Everything that is not a list of quotes.
    fn get(
        &self,
        shape: Shape,
        symbols: &[Symbol],
        key: Option<&Key>,
    ) -> impl Future<Output = Result<Answer, SourceError>> + Send;
}

/// Makes the requests of fetches.
#[derive(Debug)]
pub struct Requester<A> {
    api: A,
    key_file: Option<KeyFile>,
    metrics: Arc<Metrics>,
    token: CancellationToken,
}

/// A batch that the plan refused.
#[derive(Debug)]
pub struct RefusedBatches<'a> {
    /// Its symbols, and those of the batches after it, which were not asked for.
    pub symbols: &'a [Symbol],
    /// Why.
    pub error: SourceError,
}

/// How many requests of a shape so many symbols take.
#[must_use]
pub fn requests(shape: Shape, symbols: usize) -> u64 {
    let requests = match shape {
        Shape::Batch => symbols.div_ceil(BATCH),
        Shape::Single => symbols,
    };
    u64::try_from(requests).unwrap_or(u64::MAX)
}

impl<A: Api> Requester<A> {
    /// Nothing is read or sent yet. Once the token is cancelled, failed requests are not repeated any more.
    pub fn new(api: A, key_file: Option<PathBuf>, metrics: Arc<Metrics>, token: CancellationToken) -> Self {
        Self {
            api,
            key_file: key_file.map(KeyFile::new),
            metrics,
            token,
        }
    }

    /// Looks whether the file holds another key by now.
    pub fn refresh_key(&self) {
        if let Some(file) = &self.key_file {
            file.refresh();
        }
    }

    /// Changes with the key: see [`KeyFile::number`].
    pub fn key_number(&self) -> u64 {
        self.key_file.as_ref().map_or(0, KeyFile::number)
    }

    /// Asks in batches, one after the other. Returns the symbols that the plan refuses to answer about in batches, if they can
    /// be asked for one by one.
    pub async fn batches<'a>(
        &self,
        symbols: &'a [Symbol],
        budget: &Budget,
        round: &mut Round,
    ) -> Option<RefusedBatches<'a>> {
        budget.plan(requests(Shape::Batch, symbols.len()));
        let mut stop = None;
        for (number, chunk) in symbols.chunks(BATCH).enumerate() {
            if let Some(because) = stop {
                round.fail(chunk, SourceError::NotAsked { because });
                continue;
            }
            match self.request(Shape::Batch, chunk, budget).await {
                Ok(answer) => round.add(chunk, answer),
                Err(error) if A::HAS_SINGLES_INSTEAD && error.is_refusal_by_plan() => {
                    let symbols = &symbols[number * BATCH..];
                    return Some(RefusedBatches { symbols, error });
                }
                Err(error) => {
                    stop = error.concerns_all().then(|| error.reason());
                    round.fail(chunk, error);
                }
            }
        }
        None
    }

    /// Asks for one symbol at a time, a few at once.
    pub async fn singles(&self, symbols: &[Symbol], budget: &Budget, round: &mut Round) {
        budget.plan(requests(Shape::Single, symbols.len()));
        let stop = Mutex::new(None);
        let mut answers = stream::iter(symbols.to_vec())
            .map(|symbol| self.single(symbol, budget, &stop))
            .buffered(CONCURRENT);
        // All of them are waited for: an answer that is on its way may hold a quote that comes only once.
        while let Some((symbol, result)) = answers.next().await {
            match result {
                Ok(answer) => round.add(&[symbol], answer),
                Err(error) => round.fail(&[symbol], error),
            }
        }
    }

    /// Asks for one symbol, unless another request has failed in a way that this one would have failed in as well.
    async fn single(
        &self,
        symbol: Symbol,
        budget: &Budget,
        stop: &Mutex<Option<Reason>>,
    ) -> (Symbol, Result<Answer, SourceError>) {
        let stopped = *stop.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(because) = stopped {
            return (symbol, Err(SourceError::NotAsked { because }));
        }
        let symbols = std::slice::from_ref(&symbol);
        let result = self.request(Shape::Single, symbols, budget).await;
        if let Err(error) = &result
            && error.concerns_all()
        {
            *stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.reason());
        }
        (symbol, result)
    }

    /// One request with its repetitions.
    async fn request(
        &self,
        shape: Shape,
        symbols: &[Symbol],
        budget: &Budget,
    ) -> Result<Answer, SourceError> {
        let mut delays = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(RETRIES)
            .with_jitter()
            .build();
        let mut key = self.key_file.as_ref().map(KeyFile::key).transpose()?;
        let mut read_anew = false;
        if !budget.take() {
            return Err(SourceError::OverBudget);
        }
        loop {
            let error = match self.once(shape, symbols, key.as_ref()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let delay = match (&self.key_file, &key) {
                (Some(file), Some(refused)) if error.reason() == Reason::InvalidKey && !read_anew => {
                    read_anew = true;
                    file.other_than(refused)?.map(|other| {
                        key = Some(other);
                        Duration::ZERO
                    })
                }
                _ if error.is_transient() => delays.next(),
                _ => None,
            };
            let Some(delay) = delay.filter(|_| budget.has_spare()) else {
                return Err(error);
            };
            tokio::select! {
                () = self.token.cancelled() => return Err(error),
                () = tokio::time::sleep(delay) => {}
            }
            if !budget.take_spare() {
                return Err(error);
            }
        }
    }

    async fn once(&self, shape: Shape, symbols: &[Symbol], key: Option<&Key>) -> Result<Answer, SourceError> {
        let started = Instant::now();
        let result = self.api.get(shape, symbols, key).await;
        let outcome = match &result {
            Ok(_) => RequestOutcome::Ok,
            Err(error) => RequestOutcome::Failed(error.reason()),
        };
        self.metrics
            .count_request(self.api.endpoint(shape), outcome, started.elapsed());
        result
    }
}
