//! The poll loop: fetch, compose, publish, and only then the next.
//!
//! One task does all of it, so polls never overlap, what was ordered through the API included, and nothing is fetched while
//! something that was fetched before is not confirmed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contract::symbol::Symbol;
use serde::Serialize;
use service::clock;
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    message::{Composer, Trace},
    metrics::{Metrics, PollOutcome, QuoteOutcome},
    publish::Publisher,
    source::{Fetched, QuoteSource, Reason},
    status::Status,
};

/// How long the producer may take, once told to end, to finish a fetch and have it confirmed.
pub const DRAIN: Duration = Duration::from_secs(20);

/// An order to fetch now, and where its outcome goes.
pub type Command = oneshot::Sender<Result<Summary, Paused>>;

/// What a poll did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Whether at least one request succeeded.
    #[serde(skip)]
    pub succeeded: bool,
    /// Quotes published.
    pub published: usize,
    /// Quotes that were the same as those published before.
    pub unchanged: usize,
    /// Symbols that the source does not know.
    pub absent: Vec<Symbol>,
    /// What went wrong.
    pub errors: Vec<SummaryError>,
}

/// Something that went wrong in a poll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SummaryError {
    /// The symbols that it concerns, where those are known.
    pub symbols: Vec<Symbol>,
    /// Its class.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// The source asked for a pause that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paused {
    /// What is left of it.
    pub left: Duration,
}

/// The parts of a poll loop.
#[derive(Debug)]
pub struct Poller<S> {
    /// Where quotes come from.
    pub source: S,
    /// What is asked for.
    pub symbols: Vec<Symbol>,
    /// How often.
    pub interval: Duration,
    /// Makes messages.
    pub composer: Composer,
    /// Publishes them.
    pub publisher: Publisher,
    /// Orders from the API.
    pub commands: mpsc::Receiver<Command>,
    /// What the API shows.
    pub status: Arc<Status>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl<S: QuoteSource> Poller<S> {
    /// Polls until the token is cancelled, then finishes what is under way, at most [`DRAIN`]. Returns how many messages
    /// were not confirmed by then.
    pub async fn run(mut self, token: CancellationToken) -> usize {
        let drained = async {
            token.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            () = self.work(&token) => {}
            () = drained => {}
        }
        self.publisher.close().await;
        self.publisher.held()
    }

    async fn work(&mut self, token: &CancellationToken) {
        let mut ticks = tokio::time::interval(self.interval);
        // After a poll that took longer than the interval, or a broker that was away, the next one is a full interval later.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut paused_until: Option<Instant> = None;
        loop {
            let command = tokio::select! {
                biased;
                () = token.cancelled() => return,
                // Between polls as well, so that health is true and the next poll is not late.
                () = self.publisher.lost() => {
                    if !self.publisher.connect(token).await {
                        return;
                    }
                    continue;
                }
                Some(command) = self.commands.recv() => Some(command),
                _ = ticks.tick() => None,
            };
            let now = Instant::now();
            let left = paused_until.and_then(|until| until.checked_duration_since(now));
            let outcome = match left.filter(|left| !left.is_zero()) {
                Some(left) => {
                    self.metrics.count_skipped_poll();
                    Err(Paused { left })
                }
                None => {
                    let (summary, pause) = self.poll().await;
                    paused_until = pause.map(|pause| Instant::now() + pause);
                    Ok(summary)
                }
            };
            if let Some(command) = command {
                // Who ordered it may have gone.
                drop(command.send(outcome));
            }
        }
    }

    async fn poll(&mut self) -> (Summary, Option<Duration>) {
        let started = Instant::now();
        let fetched = self.source.fetch(&self.symbols).await;
        let before = self.status.source();
        self.status
            .fetched(clock::now(), &fetched, self.source.asks_in_batches());
        let trace = Trace {
            id: rand::random::<u128>().max(1),
            span: rand::random::<u64>().max(1),
        };
        let composed = self.composer.compose(&fetched, trace, clock::event_time());
        self.count(&fetched, composed.ticks, composed.unchanged);
        log_failures(&fetched, before.problem.map(|problem| problem.reason));
        debug!(
            trace_id = format!("{:032x}", trace.id),
            ticks = composed.ticks,
            unchanged = composed.unchanged,
            messages = composed.messages.len(),
            failures = fetched.failures.len(),
            "Polled"
        );
        let summary = Summary::new(&fetched, composed.ticks, composed.unchanged);
        self.publisher.publish(composed.messages).await;
        let outcome = match (fetched.succeeded, fetched.failures.is_empty()) {
            (0, _) => PollOutcome::Failed,
            (_, true) => PollOutcome::Ok,
            (_, false) => PollOutcome::Partial,
        };
        self.metrics.count_poll(outcome, started.elapsed());
        (summary, fetched.pause)
    }

    fn count(&self, fetched: &Fetched, published: usize, unchanged: usize) {
        let metrics = &self.metrics;
        metrics.count_quotes(QuoteOutcome::Published, published);
        metrics.count_quotes(QuoteOutcome::Unchanged, unchanged);
        metrics.count_quotes(QuoteOutcome::Absent, fetched.absent.len());
        metrics.count_quotes(QuoteOutcome::Rejected, fetched.rejected.len());
        for (_, rejected) in &fetched.rejected {
            metrics.count_rejected(rejected.reason);
        }
        if fetched.succeeded > 0 {
            metrics.set_last_success(clock::now().as_second());
        }
        if let Some(bound) = fetched.bound {
            metrics.set_bound(bound.to_timestamp().as_second());
        }
    }
}

/// Logs what went wrong: once when it begins, not at each poll of an outage.
fn log_failures(fetched: &Fetched, before: Option<Reason>) {
    match fetched.failures.first() {
        Some(failure) if before != Some(failure.error.reason()) => {
            let symbols: usize = fetched.failures.iter().map(|failure| failure.symbols.len()).sum();
            let reason = failure.error.reason();
            warn!(
                ?reason,
                symbols,
                "Failed to fetch {symbols} symbols: {}",
                failure.error.chain()
            );
        }
        None if before.is_some() => info!("The source answers again"),
        Some(_) | None => {}
    }
}

impl Summary {
    /// Counts and names what a fetch brought.
    #[must_use]
    pub fn new(fetched: &Fetched, published: usize, unchanged: usize) -> Self {
        let failed = fetched.failures.iter().map(|failure| SummaryError {
            symbols: failure.symbols.clone(),
            reason: format!("{:?}", failure.error.reason()),
            message: failure.error.chain(),
        });
        let rejected = fetched.rejected.iter().map(|(symbol, rejected)| SummaryError {
            symbols: symbol.iter().cloned().collect(),
            reason: rejected.reason.label().to_owned(),
            message: rejected.detail.clone(),
        });
        Self {
            succeeded: fetched.succeeded > 0,
            published,
            unchanged,
            absent: fetched.absent.clone(),
            errors: failed.chain(rejected).collect(),
        }
    }
}
