//! What Prometheus sees. Every label is from a closed set; partitions are at most 64 a generation.

use std::{sync::atomic::AtomicU64, time::Duration};

use contract::tick::RejectReason;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{activity::Shares, batch::Batch, store::PartitionId};

/// Labels of what belongs to a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartitionLabels {
    generation: u32,
    partition: u32,
}

impl From<PartitionId> for PartitionLabels {
    fn from(
        PartitionId {
            generation,
            partition,
        }: PartitionId,
    ) -> Self {
        Self {
            generation,
            partition: partition.into(),
        }
    }
}

/// Labels of what was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    reason: &'static str,
}

impl From<RejectReason> for ReasonLabels {
    fn from(reason: RejectReason) -> Self {
        Self {
            reason: reason.label(),
        }
    }
}

/// What a partition's time is spent on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TimeLabels {
    generation: u32,
    partition: u32,
    state: &'static str,
}

/// The words for it.
const TIME_STATES: [&str; 3] = ["idle", "busy", "backpressured"];

/// From half a millisecond, which is less than a commit takes, to five minutes.
const LATENCY: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 300.0,
];

/// The processor's metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    messages: Counter,
    ticks: Counter,
    bytes: Counter,
    candles: Counter,
    commits: Counter,
    duplicates: Counter,
    late: Counter,
    gaps: Counter,
    quarantined: Family<ReasonLabels, Counter>,
    released: Counter,
    /// Messages that the broker gave up on.
    pub dead_letters: Counter,
    /// Commits that were refused because another processor owns the partition.
    pub fenced: Counter,
    /// Commits that failed and were tried again.
    pub commit_errors: Counter,
    commit_duration: Histogram,
    batch_messages: Histogram,
    batch_ticks: Histogram,
    /// From a tick's event time to its commit.
    pub latency_from_event: Histogram,
    /// From a message's publication to its commit.
    pub latency_from_publish: Histogram,
    watermark: Family<PartitionLabels, Gauge<f64, AtomicU64>>,
    watermark_lag: Family<PartitionLabels, Gauge<f64, AtomicU64>>,
    time: Family<TimeLabels, Gauge<f64, AtomicU64>>,
}

impl Metrics {
    /// Registers all of them under the prefix `stockfeed_processor`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let sizes = [
            1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 5_000.0, 10_000.0, 50_000.0,
        ];
        let metrics = Self {
            messages: Counter::default(),
            ticks: Counter::default(),
            bytes: Counter::default(),
            candles: Counter::default(),
            commits: Counter::default(),
            duplicates: Counter::default(),
            late: Counter::default(),
            gaps: Counter::default(),
            quarantined: Family::default(),
            released: Counter::default(),
            dead_letters: Counter::default(),
            fenced: Counter::default(),
            commit_errors: Counter::default(),
            commit_duration: Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
            ]),
            batch_messages: Histogram::new(sizes),
            batch_ticks: Histogram::new(sizes),
            latency_from_event: Histogram::new(LATENCY),
            latency_from_publish: Histogram::new(LATENCY),
            watermark: Family::default(),
            watermark_lag: Family::default(),
            time: Family::default(),
        };
        // Every reason is there from the start: a counter that appears with its first event hides that event from rate().
        for reason in RejectReason::ALL {
            drop(metrics.quarantined.get_or_create(&reason.into()));
        }
        let registry = registry.sub_registry_with_prefix("stockfeed_processor");
        for (name, help, counter) in [
            ("messages", "Messages committed", &metrics.messages),
            ("ticks", "Ticks committed", &metrics.ticks),
            ("candles", "Changes of candles committed", &metrics.candles),
            ("commits", "Commits: each is a checkpoint", &metrics.commits),
            (
                "duplicates",
                "Messages dropped because they were committed before",
                &metrics.duplicates,
            ),
            (
                "late",
                "Tick and window pairs beyond the allowed lateness",
                &metrics.late,
            ),
            (
                "gaps",
                "Messages that were published and never arrived",
                &metrics.gaps,
            ),
            (
                "released",
                "Rows of quarantine that were released and taken in",
                &metrics.released,
            ),
            (
                "dead_letters",
                "Messages that the broker gave up on, now in quarantine",
                &metrics.dead_letters,
            ),
            (
                "fenced",
                "Commits refused because another processor owns the partition",
                &metrics.fenced,
            ),
            (
                "commit_errors",
                "Commits that failed and were tried again",
                &metrics.commit_errors,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register_with_unit(
            "received",
            "Message bodies committed",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        registry.register(
            "quarantined",
            "Entries quarantined, by reason",
            metrics.quarantined.clone(),
        );
        for (name, help, histogram) in [
            ("commit_duration", "Time of a commit", &metrics.commit_duration),
            (
                "latency_from_event",
                "From a tick's event time to its commit",
                &metrics.latency_from_event,
            ),
            (
                "latency_from_publish",
                "From a message's publication to its commit",
                &metrics.latency_from_publish,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        registry.register(
            "batch_messages",
            "Messages a commit",
            metrics.batch_messages.clone(),
        );
        registry.register("batch_ticks", "Ticks a commit", metrics.batch_ticks.clone());
        registry.register_with_unit(
            "watermark_timestamp",
            "The watermark, since the epoch",
            Unit::Seconds,
            metrics.watermark.clone(),
        );
        registry.register_with_unit(
            "watermark_lag",
            "How far the watermark is behind the time of day",
            Unit::Seconds,
            metrics.watermark_lag.clone(),
        );
        registry.register_with_unit(
            "time",
            "What a partition's time was spent on in the last five seconds: idle, busy or backpressured",
            Unit::Ratios,
            metrics.time.clone(),
        );
        metrics
    }

    /// Counts a commit and what was in it.
    pub fn committed(&self, batch: &Batch, duration: Duration) {
        let effects = &batch.effects;
        self.commits.inc();
        self.messages.inc_by(effects.messages);
        self.ticks.inc_by(effects.ticks);
        self.candles.inc_by(effects.candles.len() as u64);
        self.bytes.inc_by(batch.bytes as u64);
        self.duplicates.inc_by(effects.duplicates);
        self.late.inc_by(effects.late.len() as u64);
        self.gaps.inc_by(batch.missing());
        self.released.inc_by(batch.released.len() as u64);
        for (_, refused) in &batch.refused {
            self.quarantined.get_or_create(&refused.why.reason.into()).inc();
        }
        self.commit_duration.observe(duration.as_secs_f64());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch has far fewer messages than a float has digits"
        )]
        let (messages, ticks) = (effects.messages as f64, effects.ticks as f64);
        self.batch_messages.observe(messages);
        self.batch_ticks.observe(ticks);
    }

    /// Shows what was sampled of a partition.
    pub fn sampled(&self, id: PartitionId, shares: Shares, watermark: Option<(f64, f64)>) {
        let labels = PartitionLabels::from(id);
        let values = [shares.idle, shares.busy, shares.backpressured];
        for (state, value) in TIME_STATES.into_iter().zip(values) {
            self.time.get_or_create(&time_labels(&labels, state)).set(value);
        }
        if let Some((watermark, lag)) = watermark {
            self.watermark.get_or_create(&labels).set(watermark);
            self.watermark_lag.get_or_create(&labels).set(lag);
        }
    }

    /// Shows nothing more of a partition that another replica owns now.
    pub fn forget(&self, id: PartitionId) {
        let labels = PartitionLabels::from(id);
        self.watermark.remove(&labels);
        self.watermark_lag.remove(&labels);
        for state in TIME_STATES {
            self.time.remove(&time_labels(&labels, state));
        }
    }
}

const fn time_labels(labels: &PartitionLabels, state: &'static str) -> TimeLabels {
    let PartitionLabels {
        generation,
        partition,
    } = *labels;
    TimeLabels {
        generation,
        partition,
        state,
    }
}
