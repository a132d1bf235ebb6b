//! Financial Modeling Prep, or what answers as it does.
//!
//! - Many symbols are asked for at once (`batch-quote`) where the plan allows; a producer whose plan refuses asks for one by
//!   one from then on, until it restarts or its key changes.
//! - A request that failed for a passing reason is repeated, with growing and random delays. One that was refused is not.
//! - A key that is refused is read from its file anew: Kubernetes replaces the file when the Secret changes.
//! - The bound is the least `Date` of the answers, less the delay that the configuration states for the source.

pub mod client;
pub mod parse;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use contract::{config::FmpConfig, event_time::EventTime, symbol::Symbol};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use service::credentials;
use snafu::ResultExt as _;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::client::{Answer, Client, Endpoint};
use super::{Failure, Fetched, QuoteSource, ReadKeySnafu, Reason, SourceError};
use crate::metrics::{Metrics, RequestOutcome};

/// Symbols in one batch request.
pub const BATCH: usize = 100;
/// Requests for single symbols that are under way at once.
const CONCURRENT: usize = 4;
/// Repetitions of a request that failed for a passing reason.
const RETRIES: usize = 2;
/// The pause after a used-up quota when the source does not say how long.
pub const DEFAULT_PAUSE: Duration = Duration::from_secs(5);

/// The FMP source.
#[derive(Debug)]
pub struct FmpSource {
    client: Client,
    key_file: PathBuf,
    key: Mutex<Option<SecretString>>,
    batch: bool,
    batch_refused: AtomicBool,
    delay: Duration,
    metrics: Arc<Metrics>,
    token: CancellationToken,
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
        Ok(Self {
            client: Client::new(&base_url, timeout)?,
            key_file: api_key_file,
            key: Mutex::new(None),
            batch,
            batch_refused: AtomicBool::new(false),
            delay,
            metrics,
            token,
        })
    }

    /// Asks in batches, and returns the symbols that must be asked for one by one.
    async fn fetch_batches<'a>(&self, symbols: &'a [Symbol], round: &mut Round) -> &'a [Symbol] {
        for (number, chunk) in symbols.chunks(BATCH).enumerate() {
            match self.request(Endpoint::BatchQuote, chunk).await {
                Ok(answer) => round.add(chunk, answer),
                Err(error) if error.is_refusal_by_plan() => {
                    warn!(%error, "Batches are refused: asking for one symbol at a time from now on");
                    self.batch_refused.store(true, Ordering::Relaxed);
                    return &symbols[number * BATCH..];
                }
                Err(error) => {
                    let because = error.concerns_all().then(|| error.reason());
                    round.fail(chunk, error);
                    if let Some(because) = because {
                        for left in symbols.chunks(BATCH).skip(number + 1) {
                            round.fail(left, SourceError::NotAsked { because });
                        }
                        return &[];
                    }
                }
            }
        }
        &[]
    }

    async fn fetch_singles(&self, symbols: &[Symbol], round: &mut Round) {
        let stop = Mutex::new(None);
        let mut answers = stream::iter(symbols.to_vec())
            .map(|symbol| self.fetch_single(symbol, &stop))
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
    async fn fetch_single(
        &self,
        symbol: Symbol,
        stop: &Mutex<Option<Reason>>,
    ) -> (Symbol, Result<Answer, SourceError>) {
        let stopped = *stop.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(because) = stopped {
            return (symbol, Err(SourceError::NotAsked { because }));
        }
        let result = self.request(Endpoint::Quote, std::slice::from_ref(&symbol)).await;
        if let Err(error) = &result
            && error.concerns_all()
        {
            *stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.reason());
        }
        (symbol, result)
    }

    /// One request with its repetitions.
    async fn request(&self, endpoint: Endpoint, symbols: &[Symbol]) -> Result<Answer, SourceError> {
        let mut delays = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(RETRIES)
            .with_jitter()
            .build();
        let mut read_anew = false;
        loop {
            let key = self.key()?;
            let started = Instant::now();
            let result = self.client.get(endpoint, symbols, &key).await;
            let outcome = match &result {
                Ok(_) => RequestOutcome::Ok,
                Err(error) => RequestOutcome::Failed(error.reason()),
            };
            self.metrics.count_request(endpoint, outcome, started.elapsed());
            let error = match result {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if matches!(error.reason(), Reason::InvalidKey | Reason::KeyUnreadable) && !read_anew {
                read_anew = true;
                if self.key_has_changed(&key)? {
                    continue;
                }
            }
            let delay = if error.is_transient() { delays.next() } else { None };
            let Some(delay) = delay else {
                return Err(error);
            };
            tokio::select! {
                () = self.token.cancelled() => return Err(error),
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    fn key(&self) -> Result<SecretString, SourceError> {
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &*known {
            return Ok(key.clone());
        }
        let key = credentials::secret_file(&self.key_file).context(ReadKeySnafu)?;
        *known = Some(key.clone());
        Ok(key)
    }

    /// Reads the file anew; says whether it holds another key than the one that was refused.
    fn key_has_changed(&self, refused: &SecretString) -> Result<bool, SourceError> {
        let key = credentials::secret_file(&self.key_file).context(ReadKeySnafu)?;
        let changed = key.expose_secret() != refused.expose_secret();
        if changed {
            // Another key may be of another plan.
            self.batch_refused.store(false, Ordering::Relaxed);
        }
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        Ok(changed)
    }
}

impl QuoteSource for FmpSource {
    async fn fetch(&mut self, symbols: &[Symbol]) -> Fetched {
        let mut round = Round::default();
        let singles = if self.asks_in_batches() {
            self.fetch_batches(symbols, &mut round).await
        } else {
            symbols
        };
        self.fetch_singles(singles, &mut round).await;
        round.finish(self.delay)
    }

    fn asks_in_batches(&self) -> bool {
        self.batch && !self.batch_refused.load(Ordering::Relaxed)
    }
}

/// The answers of one fetch, as they come in.
#[derive(Debug, Default)]
struct Round {
    fetched: Fetched,
    date: Option<Timestamp>,
    undated: bool,
}

impl Round {
    fn add(&mut self, asked: &[Symbol], answer: Answer) {
        let Answer { entries, date } = answer;
        self.fetched.succeeded += 1;
        match date {
            Some(date) => self.date = Some(self.date.map_or(date, |least| least.min(date))),
            None => self.undated = true,
        }
        let mut absent = asked.to_vec();
        for entry in entries {
            match entry {
                Ok(tick) => {
                    absent.retain(|symbol| *symbol != tick.symbol);
                    self.fetched.ticks.push(tick);
                }
                Err((symbol, rejected)) => {
                    absent.retain(|other| Some(other) != symbol.as_ref());
                    self.fetched.rejected.push((symbol, rejected));
                }
            }
        }
        self.fetched.absent.extend(absent);
    }

    fn fail(&mut self, asked: &[Symbol], error: SourceError) {
        if let SourceError::RateLimited { retry_after, .. } = &error {
            let pause = retry_after.unwrap_or(DEFAULT_PAUSE);
            self.fetched.pause = self.fetched.pause.max(Some(pause));
        }
        self.fetched.failures.push(Failure {
            symbols: asked.to_vec(),
            error,
        });
    }

    fn finish(mut self, delay: Duration) -> Fetched {
        // One answer without a date, and there is no promise about its symbols.
        if !self.undated {
            let date = self.date.map(EventTime::from_timestamp);
            self.fetched.bound = date.map(|date| date.saturating_sub(delay));
        }
        self.fetched
    }
}

#[cfg(test)]
mod tests;
