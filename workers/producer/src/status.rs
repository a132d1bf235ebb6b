//! What the producer knows of itself: written by the poll loop, read by the HTTP API.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contract::{event_time::EventTime, price::Price, symbol::Symbol, tick::Tick};
use jiff::Timestamp;
use lapin::ConnectionStatus;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    publish::BrokerReason,
    quota::QuotaState,
    source::{Fetched, Reason},
    spool::{Spool, SpoolState},
};

/// The state of the producer.
#[derive(Debug)]
pub struct Status {
    inner: Mutex<Inner>,
    spool: Arc<Spool>,
}

#[derive(Debug, Default)]
struct Inner {
    symbols: Vec<Symbol>,
    connection: Option<ConnectionStatus>,
    broker_problem: Option<Problem<BrokerReason>>,
    source: SourceState,
    quota: QuotaState,
    quotes: BTreeMap<Symbol, QuoteState>,
    shutting_down: bool,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem<R> {
    /// Its class.
    pub reason: R,
    /// For people.
    pub message: String,
}

/// The broker's part of `GET /ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct BrokerState {
    /// Whether the connection stands.
    pub connected: bool,
    /// `Ok`, or the class of what is wrong.
    pub reason: String,
    /// What is wrong, for people.
    pub message: Option<String>,
    /// Messages that were fetched and are not confirmed yet.
    pub held_messages: u64,
}

/// The source's part of `GET /ready`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct SourceState {
    /// The last fetch that was due succeeded, at least for some symbols.
    pub ready: bool,
    /// What is wrong, if anything; some symbols may be fine nevertheless.
    #[schema(value_type = Option<Problem<String>>)]
    pub problem: Option<Problem<Reason>>,
    /// When the source was asked last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_attempt: Option<Timestamp>,
    /// When a request to it succeeded last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_success: Option<Timestamp>,
    /// Fetches in a row that failed for every symbol.
    pub consecutive_failures: u64,
    /// Until when it is not asked, because it said so.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paused_until: Option<Timestamp>,
    /// Event time that it has promised to be past.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub bound: Option<EventTime>,
    /// Whether symbols are asked for in batches.
    pub batches: bool,
}

/// A symbol's part of `GET /symbols`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct QuoteState {
    /// The last price.
    #[schema(value_type = Option<String>, example = "189.84")]
    pub price: Option<Price>,
    /// Its time at the exchange.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub event_time: Option<EventTime>,
    /// The day's running total with it.
    pub volume: Option<i64>,
    /// What was wrong with the last fetch of this symbol, if anything.
    pub error: Option<Problem<String>>,
}

impl Status {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(symbols: &[Symbol], spool: Arc<Spool>) -> Self {
        let inner = Inner {
            source: SourceState {
                // None is due yet.
                ready: true,
                ..SourceState::default()
            },
            ..Inner::default()
        };
        let status = Self {
            inner: Mutex::new(inner),
            spool,
        };
        status.set_symbols(symbols);
        status
    }

    /// These are the feed's symbols from now on.
    pub fn set_symbols(&self, symbols: &[Symbol]) {
        let mut inner = self.lock();
        inner.symbols = symbols.to_vec();
        let quotes = std::mem::take(&mut inner.quotes);
        inner.quotes = symbols
            .iter()
            .map(|symbol| (symbol.clone(), quotes.get(symbol).cloned().unwrap_or_default()))
            .collect();
    }

    /// What is known of the quota.
    pub fn set_quota(&self, quota: QuotaState) {
        self.lock().quota = quota;
    }

    /// A connection to the broker stands.
    pub fn broker_connected(&self, connection: ConnectionStatus) {
        let mut inner = self.lock();
        inner.connection = Some(connection);
        // What was wrong with an earlier connection. An unroutable message is not cured by a new one.
        if self.spool.state().messages == 0 {
            inner.broker_problem = None;
        }
    }

    /// Everything was confirmed.
    pub fn broker_works(&self) {
        self.lock().broker_problem = None;
    }

    /// An attempt failed.
    pub fn broker_failed(&self, reason: BrokerReason, message: String) {
        self.lock().broker_problem = Some(Problem { reason, message });
    }

    /// The producer ends.
    pub fn shut_down(&self) {
        self.lock().shutting_down = true;
    }

    /// A fetch was made.
    pub fn fetched(&self, now: Timestamp, fetched: &Fetched, batches: bool) {
        let mut inner = self.lock();
        let source = &mut inner.source;
        source.last_attempt = Some(now);
        source.ready = fetched.succeeded > 0;
        if source.ready {
            source.last_success = Some(now);
            source.consecutive_failures = 0;
        } else {
            source.consecutive_failures += 1;
        }
        source.bound = source.bound.max(fetched.bound);
        source.batches = batches;
        source.paused_until = fetched.pause.and_then(|pause| now.checked_add(pause).ok());
        source.problem = fetched.failures.first().map(|failure| Problem {
            reason: failure.error.reason(),
            message: failure.error.chain(),
        });
        for tick in &fetched.ticks {
            // Its symbol may have left the feed meanwhile.
            if let Some(quote) = inner.quotes.get_mut(&tick.symbol) {
                *quote = QuoteState::from(tick);
            }
        }
        let mut errors: Vec<(&Symbol, Problem<String>)> = Vec::new();
        for (symbol, rejected) in &fetched.rejected {
            if let Some(symbol) = symbol {
                errors.push((symbol, problem(rejected.reason.label(), rejected.detail.clone())));
            }
        }
        for symbol in &fetched.absent {
            errors.push((
                symbol,
                problem("UnknownSymbol", "the source knows no such symbol".to_owned()),
            ));
        }
        for failure in &fetched.failures {
            let reason = format!("{:?}", failure.error.reason());
            for symbol in &failure.symbols {
                errors.push((symbol, problem(&reason, failure.error.chain())));
            }
        }
        for (symbol, error) in errors {
            // The last price stays: it is still the last one.
            if let Some(quote) = inner.quotes.get_mut(symbol) {
                quote.error = Some(error);
            }
        }
    }

    /// The broker's state.
    #[must_use]
    pub fn broker(&self) -> BrokerState {
        let inner = self.lock();
        let connected = inner.connection.as_ref().is_some_and(ConnectionStatus::connected);
        let (reason, message) = match &inner.broker_problem {
            Some(problem) => (format!("{:?}", problem.reason), Some(problem.message.clone())),
            None if connected => ("Ok".to_owned(), None),
            None => ("NotConnected".to_owned(), None),
        };
        BrokerState {
            connected,
            reason,
            message,
            held_messages: self.spool.state().messages,
        }
    }

    /// The feed's symbols.
    #[must_use]
    pub fn symbols(&self) -> Vec<Symbol> {
        self.lock().symbols.clone()
    }

    /// The quota's state.
    #[must_use]
    pub fn quota(&self) -> QuotaState {
        self.lock().quota.clone()
    }

    /// How full the spool is.
    #[must_use]
    pub fn spool(&self) -> SpoolState {
        self.spool.state()
    }

    /// The source's state.
    #[must_use]
    pub fn source(&self) -> SourceState {
        self.lock().source.clone()
    }

    /// The last quote of each symbol.
    #[must_use]
    pub fn quotes(&self) -> BTreeMap<Symbol, QuoteState> {
        self.lock().quotes.clone()
    }

    /// Whether the producer ends.
    #[must_use]
    pub fn shutting_down(&self) -> bool {
        self.lock().shutting_down
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing here stops half way: a panic elsewhere leaves the state usable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<&Tick> for QuoteState {
    fn from(tick: &Tick) -> Self {
        Self {
            price: Some(tick.price),
            event_time: Some(tick.event_time),
            volume: tick.volume,
            error: None,
        }
    }
}

fn problem(reason: &str, message: String) -> Problem<String> {
    Problem {
        reason: reason.to_owned(),
        message,
    }
}
