//! What the producer counts. Labels are closed sets: no symbol, no text of the source.

use std::{sync::atomic::AtomicU64, time::Duration};

use contract::tick::RejectReason;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    publish::BrokerReason,
    quota::QuotaState,
    source::{Reason, fmp::client::Endpoint},
};

/// Seconds; the upper limits of the histograms' buckets.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const DRIFT_BUCKETS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];

/// The producer's metrics.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<EndpointLabel, Histogram>,
    polls: Family<PollLabel, Counter>,
    poll_duration: Histogram,
    drift: Histogram,
    calls_today: Gauge,
    calls_left: Gauge,
    effective_interval: Gauge<f64, AtomicU64>,
    spool_bytes: Gauge,
    quotes: Family<QuoteLabel, Counter>,
    rejected: Family<RejectedLabel, Counter>,
    messages: Family<MessageLabel, Counter>,
    broker_failures: Family<BrokerLabel, Counter>,
    held: Gauge,
    connected: Gauge,
    last_success: Gauge,
    bound: Gauge,
}

/// How a request to the source ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestOutcome {
    /// With quotes.
    Ok,
    /// Without.
    Failed(Reason),
}

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum PollOutcome {
    /// Every request succeeded.
    Ok,
    /// Some did.
    Partial,
    /// None did.
    Failed,
    /// Not made, because the source asked for a pause, the spool is full, or calls cannot be counted.
    Skipped,
}

/// What became of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum QuoteOutcome {
    /// Published.
    Published,
    /// The same as the one published before.
    Unchanged,
    /// Cannot be used.
    Rejected,
    /// The source knows no such symbol.
    Absent,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum MessageKind {
    /// Ticks.
    Ticks,
    /// "Nothing older will follow."
    Heartbeat,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: Endpoint,
    outcome: RequestOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabel {
    endpoint: Endpoint,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PollLabel {
    outcome: PollOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuoteLabel {
    outcome: QuoteOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectedLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabel {
    kind: MessageKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BrokerLabel {
    reason: BrokerReason,
}

impl EncodeLabelValue for RequestOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        match self {
            Self::Ok => "Ok".encode(encoder),
            Self::Failed(reason) => reason.encode(encoder),
        }
    }
}

impl Metrics {
    /// Makes the metrics and registers them, all names beginning with `stockfeed_producer_`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            request_duration: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            polls: Family::default(),
            poll_duration: Histogram::new(BUCKETS),
            drift: Histogram::new(DRIFT_BUCKETS),
            calls_today: Gauge::default(),
            calls_left: Gauge::default(),
            effective_interval: Gauge::default(),
            spool_bytes: Gauge::default(),
            quotes: Family::default(),
            rejected: Family::default(),
            messages: Family::default(),
            broker_failures: Family::default(),
            held: Gauge::default(),
            connected: Gauge::default(),
            last_success: Gauge::default(),
            bound: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("stockfeed_producer");
        registry.register(
            "source_requests",
            "Requests to the source, repetitions included, by endpoint and outcome",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "source_request_duration",
            "How long requests to the source took",
            Unit::Seconds,
            metrics.request_duration.clone(),
        );
        registry.register("polls", "Polls by outcome", metrics.polls.clone());
        registry.register_with_unit(
            "poll_duration",
            "From the start of a poll until what it fetched is in the spool",
            Unit::Seconds,
            metrics.poll_duration.clone(),
        );
        registry.register_with_unit(
            "schedule_drift",
            "How much later than it was due a poll began",
            Unit::Seconds,
            metrics.drift.clone(),
        );
        registry.register(
            "calls_today",
            "Calls to the source that count against today's quota",
            metrics.calls_today.clone(),
        );
        registry.register(
            "calls_left",
            "Calls to the source that are left of today's quota; -1 without a limit",
            metrics.calls_left.clone(),
        );
        registry.register_with_unit(
            "effective_interval",
            "The interval that is kept; 0 while nothing is polled",
            Unit::Seconds,
            metrics.effective_interval.clone(),
        );
        registry.register_with_unit(
            "spool",
            "What waits on the disk for the broker",
            Unit::Bytes,
            metrics.spool_bytes.clone(),
        );
        registry.register("quotes", "Quotes by what became of them", metrics.quotes.clone());
        registry.register(
            "quotes_rejected",
            "Quotes that cannot be used, by reason",
            metrics.rejected.clone(),
        );
        registry.register(
            "messages_confirmed",
            "Messages that the broker confirmed",
            metrics.messages.clone(),
        );
        registry.register(
            "broker_failures",
            "Failed attempts to connect or publish, by reason; what was fetched is held and published again",
            metrics.broker_failures.clone(),
        );
        registry.register(
            "messages_held",
            "Messages that wait for the broker's confirm",
            metrics.held.clone(),
        );
        registry.register(
            "broker_connected",
            "1 when connected to the broker",
            metrics.connected.clone(),
        );
        registry.register_with_unit(
            "last_success_timestamp",
            "When a request to the source succeeded last, in Unix time",
            Unit::Seconds,
            metrics.last_success.clone(),
        );
        registry.register_with_unit(
            "bound_timestamp",
            "Event time that the source has promised to be past, in Unix time",
            Unit::Seconds,
            metrics.bound.clone(),
        );
        metrics
    }

    /// Counts a request to the source.
    pub fn count_request(&self, endpoint: Endpoint, outcome: RequestOutcome, duration: Duration) {
        self.requests
            .get_or_create(&RequestLabels { endpoint, outcome })
            .inc();
        self.request_duration
            .get_or_create(&EndpointLabel { endpoint })
            .observe(duration.as_secs_f64());
    }

    /// Counts a poll that was made.
    pub fn count_poll(&self, outcome: PollOutcome, duration: Duration) {
        self.polls.get_or_create(&PollLabel { outcome }).inc();
        self.poll_duration.observe(duration.as_secs_f64());
    }

    /// Notes how late a poll began.
    pub fn observe_drift(&self, drift: Duration) {
        self.drift.observe(drift.as_secs_f64());
    }

    /// Sets what is known of the quota.
    pub fn set_quota(&self, quota: &QuotaState) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.calls_today.set(number(quota.used_today));
        self.calls_left.set(quota.left_today.map_or(-1, number));
        self.effective_interval
            .set(quota.effective_interval_seconds.unwrap_or(0.0));
    }

    /// Sets what waits on the disk.
    pub fn set_spool(&self, bytes: u64) {
        self.spool_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts a poll that was not made.
    pub fn count_skipped_poll(&self) {
        let outcome = PollOutcome::Skipped;
        self.polls.get_or_create(&PollLabel { outcome }).inc();
    }

    /// Counts quotes.
    pub fn count_quotes(&self, outcome: QuoteOutcome, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.quotes.get_or_create(&QuoteLabel { outcome }).inc_by(count);
    }

    /// Counts the reason of a quote that cannot be used.
    pub fn count_rejected(&self, reason: RejectReason) {
        let reason = reason.label();
        self.rejected.get_or_create(&RejectedLabel { reason }).inc();
    }

    /// Counts a message that the broker confirmed.
    pub fn count_message(&self, kind: MessageKind) {
        self.messages.get_or_create(&MessageLabel { kind }).inc();
    }

    /// Counts a failed attempt to connect or publish.
    pub fn count_broker_failure(&self, reason: BrokerReason) {
        self.broker_failures.get_or_create(&BrokerLabel { reason }).inc();
    }

    /// Sets how many messages are held.
    pub fn set_held(&self, count: u64) {
        self.held.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets whether the broker is connected.
    pub fn set_connected(&self, connected: bool) {
        self.connected.set(i64::from(connected));
    }

    /// Sets when a request to the source succeeded last.
    pub fn set_last_success(&self, seconds: i64) {
        self.last_success.set(seconds);
    }

    /// Sets the bound.
    pub fn set_bound(&self, seconds: i64) {
        self.bound.set(seconds);
    }
}
