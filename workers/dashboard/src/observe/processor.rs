//! What a processor says of itself: `/state` and `/metrics`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    observe::{exposition::Samples, rates::Rates},
    percentile::Histogram,
};

/// What a processor said, and when.
#[derive(Clone, Debug)]
pub struct ProcessorSeen {
    /// When.
    pub at: Timestamp,
    /// Its `/state`.
    pub state: State,
    /// Of its `/metrics`.
    pub figures: Figures,
    /// What it did since the observation before, by partition.
    pub rates: BTreeMap<String, Rates>,
}

/// The part of `/state` that is shown.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct State {
    pub feed: String,
    pub instance: String,
    #[serde(default)]
    pub version: String,
    pub broker_connected: bool,
    pub consuming: usize,
    pub queues: usize,
    pub database_ok: bool,
    pub partitions: BTreeMap<String, Partition>,
    #[serde(default)]
    pub checkpoints: Vec<Checkpoint>,
    #[serde(default)]
    pub errors: Vec<Failure>,
}

/// A partition that it owns.
#[derive(Clone, Debug, Deserialize)]
pub struct Partition {
    pub claimed_at: Timestamp,
    pub checkpoint: i64,
    pub watermark: Option<Timestamp>,
    pub last_event_time: Option<Timestamp>,
    #[serde(default)]
    pub waiting_for_missing: bool,
    #[serde(default)]
    pub prefetch: u16,
    pub totals: Totals,
    pub time: Shares,
    #[serde(default)]
    pub spent: Option<Spent>,
    /// Absent from processors of earlier releases, and before the queue was looked at.
    #[serde(default)]
    pub queue: Option<Queue>,
}

/// How a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Queue {
    pub ready: u32,
    pub consumers: u32,
    pub at: Timestamp,
}

/// Sums over commits, since it owns the partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    pub messages: u64,
    pub ticks: u64,
    pub duplicates: u64,
    pub bytes: u64,
    pub late: u64,
    pub quarantined: u64,
    pub gaps: u64,
}

/// Shares of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    pub busy: f64,
    pub idle: f64,
    pub backpressured: f64,
}

/// Seconds, since it owns the partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Spent {
    pub idle_seconds: f64,
    pub busy_seconds: f64,
    pub backpressured_seconds: f64,
}

/// A commit.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Checkpoint {
    pub id: i64,
    pub partition: String,
    pub completed_at: Timestamp,
    pub duration_milliseconds: f64,
    pub messages: u64,
    pub duplicates: u64,
    pub ticks: u64,
    pub candles: u64,
    pub late: u64,
    pub quarantined: u64,
    pub bytes: u64,
}

/// An error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Failure {
    pub at: Timestamp,
    pub scope: String,
    pub cause: String,
    pub message: String,
}

/// Of its metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub commits: Option<f64>,
    pub commit_errors: Option<f64>,
    pub candles: Option<f64>,
    pub from_event: Histogram,
    pub from_publish: Histogram,
    pub commit: Histogram,
}

impl Figures {
    /// Reads `/metrics`.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let samples = Samples::read(text, "stockfeed_processor_");
        let sum = |name: &str| samples.sum(&format!("stockfeed_processor_{name}_total"), None);
        let histogram = |name: &str| samples.histogram(&format!("stockfeed_processor_{name}_seconds"));
        Self {
            commits: sum("commits"),
            commit_errors: sum("commit_errors"),
            candles: sum("candles"),
            from_event: histogram("latency_from_event"),
            from_publish: histogram("latency_from_publish"),
            commit: histogram("commit_duration"),
        }
    }
}

impl ProcessorSeen {
    /// The mean of how its partitions spend their time; `None` while it owns none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "at most 64 partitions a generation")]
    pub fn time(&self) -> Option<Shares> {
        let partitions = &self.state.partitions;
        let mean = |of: fn(&Shares) -> f64| {
            partitions
                .values()
                .map(|partition| of(&partition.time))
                .sum::<f64>()
                / partitions.len() as f64
        };
        (!partitions.is_empty()).then(|| Shares {
            busy: mean(|time| time.busy),
            idle: mean(|time| time.idle),
            backpressured: mean(|time| time.backpressured),
        })
    }
}

/// `generation.partition`.
#[must_use]
pub fn partition_id(label: &str) -> Option<(u32, u16)> {
    let (generation, partition) = label.split_once('.')?;
    Some((generation.parse().ok()?, partition.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_by_the_names_that_the_processor_gives_them() {
        let mut registry = prometheus_client::registry::Registry::default();
        let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
        counter.inc_by(4);
        let processor = registry.sub_registry_with_prefix("stockfeed_processor");
        processor.register("commits", "Commits", counter);
        let histogram = prometheus_client::metrics::histogram::Histogram::new([0.001, 0.1]);
        histogram.observe(0.05);
        let unit = prometheus_client::registry::Unit::Seconds;
        processor.register_with_unit("commit_duration", "Time", unit, histogram);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let figures = Figures::read(&text);
        assert_eq!((figures.commits, figures.commit_errors), (Some(4.0), None));
        assert_eq!(figures.commit.percentiles().count, 1, "{text}");
    }

    #[test]
    fn a_partition_is_generation_and_number() {
        assert_eq!(partition_id("3.12"), Some((3, 12)));
        assert_eq!(partition_id("3"), None);
    }
}
