//! What Prometheus sees. Every label is from a closed set; partitions are at most 64 a generation.

use std::sync::atomic::AtomicU64;

use contract::tick::RejectReason;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::store::PartitionId;

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

/// The processor's metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Messages committed.
    pub messages: Counter,
    /// Ticks committed.
    pub ticks: Counter,
    /// Bytes of the bodies committed.
    pub bytes: Counter,
    /// Messages dropped because they were committed before.
    pub duplicates: Counter,
    /// Tick and window pairs beyond the allowed lateness.
    pub late: Counter,
    /// Messages that were published and never arrived.
    pub gaps: Counter,
    /// Entries quarantined.
    pub quarantined: Family<ReasonLabels, Counter>,
    /// Commits that were refused because another processor owns the partition.
    pub fenced: Counter,
    /// Commits that failed and were tried again.
    pub commit_errors: Counter,
    /// How long a commit took.
    pub commit_duration: Histogram,
    /// Messages a commit.
    pub batch_messages: Histogram,
    /// How far the watermark is behind the time of day.
    pub watermark_lag: Family<PartitionLabels, Gauge<f64, AtomicU64>>,
}

impl Metrics {
    /// Registers all of them under the prefix `stockfeed_processor`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            messages: Counter::default(),
            ticks: Counter::default(),
            bytes: Counter::default(),
            duplicates: Counter::default(),
            late: Counter::default(),
            gaps: Counter::default(),
            quarantined: Family::default(),
            fenced: Counter::default(),
            commit_errors: Counter::default(),
            commit_duration: Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
            ]),
            batch_messages: Histogram::new([1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 5_000.0, 10_000.0]),
            watermark_lag: Family::default(),
        };
        // Every reason is there from the start: a counter that appears with its first event hides that event from rate().
        for reason in RejectReason::ALL {
            drop(metrics.quarantined.get_or_create(&reason.into()));
        }
        let registry = registry.sub_registry_with_prefix("stockfeed_processor");
        registry.register("messages", "Messages committed", metrics.messages.clone());
        registry.register("ticks", "Ticks committed", metrics.ticks.clone());
        registry.register_with_unit(
            "received",
            "Message bodies committed",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        registry.register(
            "duplicates",
            "Messages dropped because they were committed before",
            metrics.duplicates.clone(),
        );
        registry.register(
            "late",
            "Tick and window pairs beyond the allowed lateness",
            metrics.late.clone(),
        );
        registry.register(
            "gaps",
            "Messages that were published and never arrived",
            metrics.gaps.clone(),
        );
        registry.register(
            "quarantined",
            "Entries quarantined, by reason",
            metrics.quarantined.clone(),
        );
        registry.register(
            "fenced",
            "Commits refused because another processor owns the partition",
            metrics.fenced.clone(),
        );
        registry.register(
            "commit_errors",
            "Commits that failed and were tried again",
            metrics.commit_errors.clone(),
        );
        registry.register_with_unit(
            "commit_duration",
            "Time of a commit",
            Unit::Seconds,
            metrics.commit_duration.clone(),
        );
        registry.register(
            "batch_messages",
            "Messages a commit",
            metrics.batch_messages.clone(),
        );
        registry.register_with_unit(
            "watermark_lag",
            "How far the watermark is behind the time of day",
            Unit::Seconds,
            metrics.watermark_lag.clone(),
        );
        metrics
    }
}
