//! What the spec allows: how many processors at least and at most, and how quickly. Pure.

use std::time::Duration;

use contract::config::MAX_PARTITIONS;
use snafu::{OptionExt as _, Snafu, ensure};

use crate::api::{Replicas, status::Scaling};

/// The longest time that can be asked for.
const LONGEST: i32 = 86_400;
/// The shortest stabilisation: counts of the broker are older than that.
const SHORTEST_STABILIZATION: i32 = 5;

/// How many processors there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// At least; without `max` exactly.
    pub min: u16,
    /// At most; `None`: it is not for the operator to decide.
    pub max: Option<u16>,
    /// In what time a backlog is to be worked off.
    pub catch_up: Duration,
    /// How long fewer must have been enough before one is taken away.
    pub stabilization: Duration,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
}

/// Why there are no such limits. Each names its field.
#[derive(Debug, Snafu)]
pub enum Error {
    /// No processor, or too many.
    #[snafu(display("spec.processing.replicas.{field} is {replicas}, not 1 to {MAX_PARTITIONS}"))]
    Range {
        /// Where.
        field: &'static str,
        /// What was asked.
        replicas: i32,
    },
    /// Nothing is between them.
    #[snafu(display("spec.processing.replicas.min is {min}, more than replicas.max, which is {max}"))]
    Order {
        /// At least.
        min: u16,
        /// At most.
        max: u16,
    },
    /// More than can work.
    #[snafu(display(
        "spec.processing.replicas.max is {max}, more than spec.processing.partitions, which is {partitions}: lower the one or raise the other"
    ))]
    Partitions {
        /// At most.
        max: u16,
        /// Queues.
        partitions: u16,
    },
    /// Not a time that can be kept.
    #[snafu(display("spec.processing.replicas.{field} is {seconds}, not {least} to {LONGEST}"))]
    Seconds {
        /// Where.
        field: &'static str,
        /// What was asked.
        seconds: i32,
        /// The least.
        least: i32,
    },
}

impl Limits {
    /// What a spec says, of a feed with so many partitions.
    ///
    /// # Errors
    /// When it contradicts itself; the message names the field.
    pub fn new(spec: &Replicas, partitions: u16) -> Result<Self, Error> {
        let min = in_range("min", spec.min)?;
        let max = spec.max.map(|max| in_range("max", max)).transpose()?;
        if let Some(max) = max {
            ensure!(min <= max, OrderSnafu { min, max });
            ensure!(max <= partitions, PartitionsSnafu { max, partitions });
        }
        Ok(Self {
            min,
            max,
            catch_up: seconds("targetCatchUpSeconds", spec.target_catch_up_seconds, 1)?,
            stabilization: seconds(
                "scaleDownStabilizationSeconds",
                spec.scale_down_stabilization_seconds,
                SHORTEST_STABILIZATION,
            )?,
            dry_run: spec.dry_run,
        })
    }

    /// How many processors there are to be until it is decided anew: as many as was decided last, or as there are.
    #[must_use]
    pub fn replicas(&self, last: Option<&Scaling>, running: Option<u16>) -> u16 {
        let Some(max) = self.max else { return self.min };
        // What a dry run came to was not done.
        let decided = last
            .filter(|last| !last.dry_run && !self.dry_run)
            .and_then(|last| u16::try_from(last.wanted).ok());
        decided.or(running).unwrap_or(self.min).clamp(self.min, max)
    }

    /// The most that can work, where so many partitions are consumed.
    #[must_use]
    pub fn upper(&self, partitions: u16) -> u16 {
        self.max.map_or(self.min, |max| max.min(partitions).max(self.min))
    }
}

fn in_range(field: &'static str, replicas: i32) -> Result<u16, Error> {
    u16::try_from(replicas)
        .ok()
        .filter(|number| (1..=MAX_PARTITIONS).contains(number))
        .context(RangeSnafu { field, replicas })
}

fn seconds(field: &'static str, seconds: i32, least: i32) -> Result<Duration, Error> {
    u64::try_from(seconds)
        .ok()
        .filter(|_| (least..=LONGEST).contains(&seconds))
        .map(Duration::from_secs)
        .context(SecondsSnafu {
            field,
            seconds,
            least,
        })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn spec(value: Value) -> Replicas {
        serde_json::from_value(value).unwrap()
    }

    fn last(wanted: i32, dry_run: bool) -> Scaling {
        Scaling {
            wanted,
            dry_run,
            ..Scaling::default()
        }
    }

    #[rstest]
    #[case::none(json!({"min": 0}), "spec.processing.replicas.min is 0")]
    #[case::too_many(json!({"max": 65}), "spec.processing.replicas.max is 65")]
    #[case::order(json!({"min": 3, "max": 2}), "spec.processing.replicas.min is 3, more than replicas.max")]
    #[case::partitions(json!({"max": 5}), "spec.processing.replicas.max is 5, more than spec.processing.partitions, which is 4")]
    #[case::catch_up(json!({"targetCatchUpSeconds": 0}), "spec.processing.replicas.targetCatchUpSeconds is 0, not 1 to 86400")]
    #[case::stabilization(json!({"scaleDownStabilizationSeconds": 4}), "spec.processing.replicas.scaleDownStabilizationSeconds is 4, not 5 to 86400")]
    fn refuses(#[case] value: Value, #[case] message: &str) {
        let error = Limits::new(&spec(value), 4).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }

    #[rstest]
    #[case::fixed(json!({"min": 3}), Some(last(7, false)), Some(5), 3)]
    #[case::spares_are_allowed(json!({"min": 9}), None, None, 9)]
    #[case::new(json!({"max": 4}), None, None, 1)]
    #[case::as_decided(json!({"max": 4}), Some(last(3, false)), Some(1), 3)]
    #[case::the_status_is_lost(json!({"max": 4}), None, Some(2), 2)]
    #[case::the_limits_were_lowered(json!({"max": 2}), Some(last(4, false)), Some(4), 2)]
    #[case::the_limits_were_raised(json!({"min": 2, "max": 4}), Some(last(1, false)), Some(1), 2)]
    #[case::dry_run(json!({"max": 4, "dryRun": true}), Some(last(4, true)), Some(2), 2)]
    #[case::dry_run_begins(json!({"max": 4, "dryRun": true}), Some(last(4, false)), Some(2), 2)]
    #[case::dry_run_ends(json!({"max": 4}), Some(last(4, true)), Some(1), 1)]
    fn the_number_until_it_is_decided_anew(
        #[case] value: Value,
        #[case] status: Option<Scaling>,
        #[case] running: Option<u16>,
        #[case] expected: u16,
    ) {
        let limits = Limits::new(&spec(value), 4).unwrap();
        assert_eq!(limits.replicas(status.as_ref(), running), expected);
    }

    #[rstest]
    #[case::as_many_as_may(8, 4)]
    #[case::no_more_than_can_work(3, 3)]
    #[case::spares_that_were_asked_for(1, 2)]
    fn no_more_than_partitions_that_are_consumed(#[case] partitions: u16, #[case] expected: u16) {
        let limits = Limits::new(&spec(json!({"min": 2, "max": 4})), 8).unwrap();
        assert_eq!(limits.upper(partitions), expected);
    }
}
