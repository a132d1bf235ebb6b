//! What the API and the control endpoint share.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contract::symbol::Symbol;
use jiff::{Timestamp, tz::TimeZone};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use tracing::warn;

use crate::{
    bars,
    fault::{Endpoint, Fault, FaultKind, Faults},
    history::{EXCHANGE_ZONE, History},
    market::{Answer, Market},
    options::{Options, Plan, Replay, SourceKind},
    quota::{Quota, Usage},
    replay::{StepReplay, TimeReplay},
    walk::RandomWalk,
};

/// The state of a simulator.
#[derive(Debug)]
pub struct State {
    api_key_file: Option<PathBuf>,
    plan: Plan,
    retry_after: Option<Duration>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    market: Market,
    quota: Quota,
    faults: Faults,
    counters: Counters,
}

#[derive(Clone, Debug, Default)]
struct Counters {
    requests: BTreeMap<Endpoint, BTreeMap<u16, u64>>,
    faults: BTreeMap<FaultKind, u64>,
    quotes: BTreeMap<Symbol, u64>,
}

/// The answer to `GET /control/state`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The simulated time, as in the header `Date`.
    pub simulated_time: Timestamp,
    /// Whether nothing new will come: every symbol that was asked for has been served to the end of the history.
    pub exhausted: bool,
    /// Requests by endpoint and status. A cut-off answer counts by the status it began with.
    pub requests: BTreeMap<Endpoint, BTreeMap<u16, u64>>,
    /// Requests that met a fault, by its kind.
    pub faults_met: BTreeMap<FaultKind, u64>,
    /// Quotes in answers that were whole, repetitions included.
    pub quotes_served: BTreeMap<Symbol, u64>,
    /// Of a replay by step: how far each symbol is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub progress: BTreeMap<Symbol, Progress>,
    /// The faults that are ordered, with what is left of their counts.
    pub faults: Vec<Fault>,
    /// How much of the quota is used.
    pub quota: Usage,
}

/// How far a symbol is in a replay by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Different quotes served.
    pub served: usize,
    /// Quotes there are.
    pub total: usize,
}

impl State {
    /// The state at the start.
    ///
    /// # Errors
    /// When the history or the key file cannot be read.
    pub fn new(options: Options, now: Timestamp) -> anyhow::Result<Self> {
        // Exhaustive, so that an option that nobody reads does not compile.
        let Options {
            listen: _,
            control_listen: _,
            source,
            seed,
            symbols,
            history,
            from,
            to,
            replay,
            speed,
            api_key_file,
            plan,
            calls_per_day,
            calls_per_minute,
            retry_after,
            log: _,
            log_format: _,
        } = options;
        if let Some(path) = &api_key_file {
            service::credentials::secret_file(path)?;
        }
        let zone = TimeZone::get(EXCHANGE_ZONE)?;
        let market = match source {
            SourceKind::RandomWalk => {
                Market::Walk(RandomWalk::new(seed, symbols.into_iter().collect(), zone))
            }
            SourceKind::History => {
                let bars = history.as_deref().map_or_else(bars::sample, bars::read)?;
                let history = History::new(bars, from, to, &zone)?;
                match replay {
                    Replay::Step => Market::Step(StepReplay::new(history)),
                    Replay::Time => Market::Time(TimeReplay::new(history, now, speed)),
                }
            }
        };
        let quota = Quota::new(
            calls_per_day.or_else(|| plan.calls_per_day()),
            calls_per_minute.or_else(|| plan.calls_per_minute()),
        );
        Ok(Self {
            api_key_file,
            plan,
            retry_after,
            inner: Mutex::new(Inner {
                market,
                quota,
                faults: Faults::default(),
                counters: Counters::default(),
            }),
        })
    }

    /// Whether the key is one that is accepted.
    #[must_use]
    pub fn accepts(&self, key: &str) -> bool {
        let Some(path) = &self.api_key_file else {
            return !key.is_empty();
        };
        match service::credentials::secret_file(path) {
            Ok(keys) => keys.expose_secret().lines().any(|accepted| accepted == key),
            Err(error) => {
                warn!(%error, "Refusing every key");
                false
            }
        }
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> Plan {
        self.plan
    }

    /// What the header `Retry-After` says when the quota is used up.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The simulated time.
    #[must_use]
    pub fn simulated(&self, now: Timestamp) -> Timestamp {
        self.lock().market.simulated(now)
    }

    /// The fault that a request meets, if any.
    #[must_use]
    pub fn take_fault(&self, endpoint: Endpoint, symbols: &[Symbol]) -> Option<Fault> {
        let mut inner = self.lock();
        let fault = inner.faults.take(endpoint, symbols)?;
        *inner.counters.faults.entry(fault.kind).or_default() += 1;
        Some(fault)
    }

    /// Counts a call if the quota allows it; says whether it does.
    #[must_use]
    pub fn take_call(&self, now: Timestamp) -> bool {
        self.lock().quota.take(now)
    }

    /// Answers a request that will be delivered whole.
    #[must_use]
    pub fn answer(&self, now: Timestamp, symbols: &[Symbol]) -> Answer {
        let mut inner = self.lock();
        let answer = inner.market.advance(now, symbols);
        for quote in &answer.quotes {
            *inner.counters.quotes.entry(quote.symbol.clone()).or_default() += 1;
        }
        answer
    }

    /// The same quotes for a request that will not be delivered whole: nothing goes on.
    #[must_use]
    pub fn peek(&self, now: Timestamp, symbols: &[Symbol]) -> Answer {
        self.lock().market.peek(now, symbols)
    }

    /// Counts an answered request.
    pub fn count(&self, endpoint: Endpoint, status: u16) {
        let mut inner = self.lock();
        let statuses = inner.counters.requests.entry(endpoint).or_default();
        *statuses.entry(status).or_default() += 1;
    }

    /// Orders a fault.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Cancels all faults.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// Starts over: the replay, the quota, the counters and the faults.
    pub fn reset(&self, now: Timestamp) {
        let mut inner = self.lock();
        inner.market.reset(now);
        inner.quota.reset();
        inner.faults.clear();
        inner.counters = Counters::default();
    }

    /// Everything there is to see.
    #[must_use]
    pub fn report(&self, now: Timestamp) -> Report {
        let mut inner = self.lock();
        let quota = inner.quota.usage(now);
        let progress = match &inner.market {
            Market::Step(replay) => replay
                .progress()
                .map(|(symbol, served, total)| (symbol.clone(), Progress { served, total }))
                .collect(),
            Market::Time(_) | Market::Walk(_) => BTreeMap::new(),
        };
        let Counters {
            requests,
            faults,
            quotes,
        } = inner.counters.clone();
        Report {
            simulated_time: inner.market.simulated(now),
            exhausted: inner.market.exhausted(now),
            requests,
            faults_met: faults,
            quotes_served: quotes,
            progress,
            faults: inner.faults.ordered().to_vec(),
            quota,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing here stops half way: a panic elsewhere leaves the state usable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
