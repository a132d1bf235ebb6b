//! The poll loop: decide, fetch, compose, put in the spool, and only then the next.
//!
//! One task does all of it, so polls never overlap, what was ordered through the API included. It never waits for the broker:
//! that is the publisher's matter, as long as the spool has room.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contract::{event_time::EventTime, symbol::Symbol};
use jiff::{SignedDuration, Timestamp};
use schedule::{
    calendar,
    plan::{self, Demand, Effective},
};
use service::clock;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use traces::{Place, TARGET};
use tracing::{Instrument as _, Span, debug, field::Empty, info, trace_span, warn};

use self::command::{Command, Refusal, Report};
use crate::{
    chain::chain,
    ledger::{self, Ledger},
    live::Live,
    message::{Composer, Trace},
    metrics::{Metrics, PollOutcome, QuoteOutcome},
    quota::{self, QuotaState},
    source::{Fetched, QuoteSource, Reason},
    spool::{Addition, Spool},
    status::{Problem, Status},
};

pub mod command;

/// How long the producer may take, once told to end, to finish a fetch and have everything confirmed.
pub const DRAIN: Duration = Duration::from_secs(20);

/// How long to wait at most before the clock and the quota are looked at again.
const LOOK: Duration = Duration::from_secs(30);
/// How long to wait when calls cannot be counted, or the spool is full or cannot be written.
const AGAIN: Duration = Duration::from_secs(1);
/// Calls beside those of a round that repetitions may take.
const RESERVE: u64 = 2;

/// The parts of a poll loop.
#[derive(Debug)]
pub struct Poller<S> {
    /// Where quotes come from.
    pub source: S,
    /// What is asked for, and how often.
    pub live: watch::Receiver<Live>,
    /// Makes messages.
    pub composer: Composer,
    /// Where they go.
    pub spool: Arc<Spool>,
    /// Counts calls.
    pub ledger: Ledger,
    /// Orders from the API.
    pub commands: mpsc::Receiver<Command>,
    /// What the API shows.
    pub status: Arc<Status>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// When it polls next, and for how long it must not.
    pub clock: Clock,
    /// How far behind its own clock the source may publish.
    pub delay: Duration,
}

/// When to poll.
#[derive(Debug, Default)]
pub struct Clock {
    /// When the last poll was due.
    last: Option<Instant>,
    /// How long after it the next one is: decided when it was made, and again when the configuration changes.
    interval: Option<Duration>,
    /// The source asked for a pause, or the day's calls were found used up by others.
    not_before: Option<Instant>,
    /// Whether the ledger was read.
    looked: bool,
    /// Why calls could not be counted the last time, if so.
    uncounted: Option<Problem<String>>,
}

/// What to do next, and when.
enum Next {
    /// Poll at this moment, and again so much later.
    Poll(Instant, Duration),
    /// Decide again.
    Look(Instant),
}

impl<S: QuoteSource> Poller<S> {
    /// Polls until the token is cancelled; a fetch that is under way is finished.
    pub async fn run(mut self, token: CancellationToken) {
        while !token.is_cancelled() {
            let live = self.live.borrow_and_update().clone();
            let next = self.next(&live).await;
            let (Next::Poll(at, _) | Next::Look(at)) = next;
            tokio::select! {
                biased;
                () = token.cancelled() => break,
                Some(command) = self.commands.recv() => self.obey(&live, command).await,
                changed = self.live.changed() => match changed {
                    Ok(()) => {
                        self.status.set_symbols(&self.live.borrow().symbols);
                        self.clock.interval = None;
                    }
                    // Nobody can change it any more.
                    Err(_) => tokio::time::sleep_until(at.into()).await,
                },
                () = tokio::time::sleep_until(at.into()) => {
                    if let Next::Poll(due, interval) = next {
                        self.poll_on_time(&live, due, interval).await;
                    }
                }
            }
        }
        self.ledger.close().await;
    }

    /// Decides what to do next, and tells what is known of the quota.
    async fn next(&mut self, live: &Live) -> Next {
        let (now, instant) = (clock::now(), Instant::now());
        if !self.clock.looked && live.quota.calls_per_day.is_some() {
            let looked = self.ledger.look(&live.quota, now).await;
            self.clock.looked = looked.is_ok();
            self.clock.uncounted = looked.err().map(|error| unknown(&error));
        }
        let demand = self.demand(live);
        let limit = quota::limit(&live.quota);
        let used = self.ledger.used_today(now);
        let effective = plan::effective_interval(&demand, &limit, live.quota.policy, used, now);
        self.tell(live, &demand, &effective, (used, now));
        let look = |left: Duration| Next::Look(instant + left.min(LOOK));
        let (Effective::Exhausted { until } | Effective::Closed { until }) = effective else {
            let Effective::Every { interval, .. } = effective else {
                return look(LOOK);
            };
            let after = self.clock.interval.unwrap_or(interval);
            let due = self.clock.last.map_or(instant, |last| last + after);
            let minute = self
                .ledger
                .minute_wait(&live.quota, self.source.calls(live.symbols.len()), now);
            let due = due.max(instant + minute);
            return if !self.clock.looked && self.clock.uncounted.is_some() || self.spool.state().full {
                Next::Look(due.max(instant + AGAIN))
            } else if let Some(not_before) = self.clock.not_before.filter(|moment| *moment > due) {
                Next::Look(not_before.min(instant + LOOK))
            } else if due > instant + LOOK {
                look(LOOK)
            } else {
                Next::Poll(due, interval)
            };
        };
        // The first poll afterwards is due when it can be.
        self.clock.last = None;
        if let Effective::Closed { .. } = effective {
            self.close_session(live, now).await;
        }
        look(
            Duration::try_from(until.duration_since(now))
                .unwrap_or_default()
                .max(AGAIN),
        )
    }

    /// Says once, when the exchange has closed and the source's delay is over, that nothing from before the close will follow.
    /// Nothing is asked any more, so no answer says it, and the session's last candles would stay open until the next one.
    async fn close_session(&mut self, live: &Live, now: Timestamp) {
        let delay = SignedDuration::try_from(self.delay).unwrap_or(SignedDuration::ZERO);
        let since = now.checked_sub(delay).unwrap_or(now);
        let Some(end) = calendar::last_close(live.market_hours, since) else {
            return;
        };
        let fetched = Fetched {
            bound: Some(EventTime::from_timestamp(end)),
            ..Fetched::default()
        };
        let now = clock::event_time();
        let span = trace_span!(target: TARGET, "close_session", messages = Empty);
        let composed = self
            .composer
            .compose(&fetched, live.duplicates, trace_of(&span), now);
        span.record("messages", composed.addition.messages.len());
        // Nothing the second time: the bound does not advance.
        if !composed.addition.messages.is_empty() {
            info!(close = %end, "The exchange has closed");
            self.keep(composed.addition).await;
        }
    }

    fn demand(&self, live: &Live) -> Demand {
        // 100 is the most that any source takes in one call.
        quota::demand(live, 100 / self.source.calls(100).clamp(1, 100))
    }

    fn tell(&self, live: &Live, demand: &Demand, effective: &Effective, (used, now): (u64, Timestamp)) {
        let left = self.ledger.left_today(&live.quota);
        let state = QuotaState {
            problem: self.clock.uncounted.clone(),
            ..QuotaState::new(live, demand, used, left, effective, now)
        };
        self.metrics.set_quota(&state);
        self.status.set_quota(state);
    }

    /// A poll that is due.
    async fn poll_on_time(&mut self, live: &Live, due: Instant, interval: Duration) {
        let late = due.elapsed();
        self.metrics.observe_drift(late);
        // After a poll that took longer than the interval the next one is a full interval later.
        self.clock.last = Some(if late > interval { Instant::now() } else { due });
        self.clock.interval = Some(interval);
        match self.poll(live, &live.symbols).await {
            Ok(_) => {}
            Err(refusal) => {
                self.metrics.count_skipped_poll();
                let wait = match &refusal {
                    Refusal::Paused { left } => *left,
                    // Others have used the key meanwhile.
                    Refusal::QuotaExhausted { .. } => LOOK,
                    Refusal::QuotaUnknown { .. } | Refusal::SpoolFull { .. } => AGAIN,
                };
                debug!(?refusal, "Not polled");
                self.clock.not_before = Some(Instant::now() + wait);
            }
        }
    }

    /// A poll that was ordered.
    async fn obey(&mut self, live: &Live, command: Command) {
        let Command { symbols, reply } = command;
        let report = self.poll(live, &symbols).await;
        // Who ordered it may have gone.
        drop(reply.send(report));
    }

    async fn poll(&mut self, live: &Live, symbols: &[Symbol]) -> Result<Report, Refusal> {
        let budget = self.may(live, symbols.len()).await?;
        let started = Instant::now();
        let span = trace_span!(target: TARGET, "poll", symbols = symbols.len(), ticks = Empty, messages = Empty, failures = Empty);
        let fetching = trace_span!(target: TARGET, parent: &span, "fetch");
        let fetched = self.source.fetch(symbols, budget).instrument(fetching).await;
        self.ledger.made(&live.quota, fetched.calls, clock::now()).await;
        self.clock.not_before = fetched.pause.map(|pause| Instant::now() + pause);
        let before = self.status.source();
        self.status
            .fetched(clock::now(), &fetched, self.source.asks_in_batches());
        let trace = trace_of(&span);
        let now = clock::event_time();
        let composed = self.composer.compose(&fetched, live.duplicates, trace, now);
        self.count(&fetched, composed.ticks, composed.unchanged.len());
        log_failures(&fetched, before.problem.map(|problem| problem.reason));
        debug!(
            trace_id = format!("{:032x}", trace.id),
            ticks = composed.ticks,
            unchanged = composed.unchanged.len(),
            messages = composed.addition.messages.len(),
            failures = fetched.failures.len(),
            calls = fetched.calls,
            "Polled"
        );
        span.record("ticks", composed.ticks);
        span.record("messages", composed.addition.messages.len());
        span.record("failures", fetched.failures.len());
        let report = Report::new(&fetched, &composed);
        let spooling = trace_span!(target: TARGET, parent: &span, "spool");
        self.keep(composed.addition).instrument(spooling).await;
        let outcome = match (fetched.succeeded, fetched.failures.is_empty()) {
            (0, _) => PollOutcome::Failed,
            (_, true) => PollOutcome::Ok,
            (_, false) => PollOutcome::Partial,
        };
        self.metrics.count_poll(outcome, started.elapsed());
        Ok(report)
    }

    /// Whether so many symbols may be fetched now, and with how many calls at most.
    async fn may(&mut self, live: &Live, symbols: usize) -> Result<u64, Refusal> {
        let now = clock::now();
        let not_before = self.clock.not_before;
        if let Some(left) = not_before.and_then(|until| until.checked_duration_since(Instant::now()))
            && !left.is_zero()
        {
            return Err(Refusal::Paused { left });
        }
        let spool = self.spool.state();
        if spool.full {
            return Err(Refusal::SpoolFull { bytes: spool.bytes });
        }
        let needed = self.source.calls(symbols);
        let minute = self.ledger.minute_wait(&live.quota, needed, now);
        if !minute.is_zero() {
            return Err(Refusal::QuotaExhausted {
                needed,
                left: 0,
                resets: now.checked_add(minute).unwrap_or(now),
            });
        }
        let taken = self.ledger.take(&live.quota, needed + RESERVE, now).await;
        let calls = match taken {
            Ok(calls) => {
                self.clock.uncounted = None;
                calls
            }
            Err(error) => {
                // It is shown by the next look, and stays until calls are counted again.
                let problem = unknown(&error);
                let message = problem.message.clone();
                self.clock.uncounted = Some(problem);
                return Err(Refusal::QuotaUnknown { message });
            }
        };
        if calls < needed {
            return Err(Refusal::QuotaExhausted {
                needed,
                left: calls,
                resets: schedule::calendar::next_midnight(now),
            });
        }
        Ok(calls)
    }

    /// Puts what was fetched in the spool, however many attempts that takes.
    async fn keep(&self, addition: Addition) {
        let addition = Arc::new(addition);
        loop {
            let (spool, added) = (Arc::clone(&self.spool), Arc::clone(&addition));
            match tokio::task::spawn_blocking(move || spool.add(&added)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => warn!(error = chain(&error), "What was fetched cannot be kept yet"),
                Err(error) => warn!(%error, "What was fetched cannot be kept yet"),
            }
            tokio::time::sleep(AGAIN).await;
        }
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

/// What messages say that they belong to: this span, where traces are sent; else one of their own, which ties those of a poll
/// together all the same.
fn trace_of(span: &Span) -> Trace {
    match Place::of(span) {
        Some(Place { trace, span }) => Trace { id: trace, span },
        None => Trace {
            id: rand::random::<u128>().max(1),
            span: rand::random::<u64>().max(1),
        },
    }
}

fn unknown(error: &ledger::Error) -> Problem<String> {
    Problem {
        reason: "CallsNotCounted".to_owned(),
        message: format!(
            "nothing is fetched while calls cannot be counted, because there is a limit: {}",
            chain(error)
        ),
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

#[cfg(test)]
mod tests {
    use traces::Traces;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn messages_belong_to_the_span_of_their_poll_where_traces_are_sent() {
        let random = trace_of(&trace_span!(target: TARGET, "poll"));
        assert!(random.id != 0 && random.span != 0);

        // Nobody listens there.
        let traces = Traces::start(&"http://127.0.0.1:9".parse().unwrap(), "producer", "1").unwrap();
        let subscriber = tracing_subscriber::registry().with(traces.layer());
        tracing::subscriber::with_default(subscriber, || {
            let span = trace_span!(target: TARGET, "poll");
            let place = Place::of(&span).unwrap();
            let trace = trace_of(&span);
            assert_eq!((trace.id, trace.span), (place.trace, place.span));
        });
    }
}
