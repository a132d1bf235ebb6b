//! What was measured of a feed over the last hour, in a ring.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    feeds::seconds_between,
    observe::{Observation, PERIOD, rates::Rates},
};

/// Points that are kept: an hour.
pub const CAPACITY: usize = 720;

/// The series, in the order of a point's values.
const SERIES: [&str; 17] = [
    "messagesPerSecond",
    "ticksPerSecond",
    "bytesPerSecond",
    "backlog",
    "watermarkLagSeconds",
    "latencyFromEventP50",
    "latencyFromEventP95",
    "latencyFromEventP99",
    "latencyFromPublishP50",
    "latencyFromPublishP95",
    "latencyFromPublishP99",
    "checkpointSecondsP50",
    "checkpointSecondsP95",
    "checkpointSecondsMax",
    "busyRatio",
    "backpressuredRatio",
    "processorsReady",
];

/// A moment. Half precision of what is stored elsewhere: a ring is 57 kB.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    at: Timestamp,
    values: [f32; SERIES.len()],
}

/// The last points of a feed.
#[derive(Clone, Debug, Default)]
pub struct History(VecDeque<Point>);

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    pub every_seconds: u32,
    pub capacity: usize,
    pub times: Vec<Timestamp>,
    pub series: Map<String, Value>,
}

impl Point {
    /// What an observation says; `backlog` is the status's, used where no processor tells of its queues.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "for a line of a few hundred pixels"
    )]
    pub fn of(observation: &Observation, status_backlog: Option<i64>) -> Self {
        let rates = Rates::sum(
            observation
                .processors
                .values()
                .flat_map(|seen| seen.rates.values()),
        );
        let newest = observation.counted.back().cloned().unwrap_or_default();
        let event = newest.from_event.percentiles();
        let publish = newest.from_publish.percentiles();
        let commit = newest.commit.percentiles();
        let partitions = observation.partitions();
        let waiting: Option<Vec<u32>> = partitions
            .values()
            .map(|(_, partition)| partition.queue.map(|queue| queue.ready))
            .collect();
        let waiting = waiting.filter(|waiting| !waiting.is_empty());
        let backlog = waiting
            .map(|waiting| waiting.into_iter().map(f64::from).sum())
            .or_else(|| status_backlog.map(|backlog| backlog as f64));
        let lag = observation
            .watermark()
            .map(|watermark| seconds_between(watermark, observation.at));
        // Since the last point.
        let recent = observation.processors.values().flat_map(|seen| {
            let since = f64::from(PERIOD) * 1.5;
            let fresh = move |at: Timestamp| seconds_between(at, seen.at) < since;
            seen.state
                .checkpoints
                .iter()
                .filter(move |checkpoint| fresh(checkpoint.completed_at))
        });
        let slowest = recent
            .map(|checkpoint| checkpoint.duration_milliseconds / 1000.0)
            .reduce(f64::max);
        let times: Vec<_> = observation
            .processors
            .values()
            .filter_map(|seen| seen.time())
            .collect();
        let mean = |of: fn(&crate::observe::processor::Shares) -> f64| {
            (!times.is_empty()).then(|| times.iter().map(of).sum::<f64>() / times.len() as f64)
        };
        let is_ready = |pod: &&crate::observe::pods::PodSeen| {
            pod.component == operator::labels::Component::Processor && pod.ready
        };
        let ready = observation.pods.iter().filter(is_ready).count() as f64;
        let values = [
            rates.map(|rates| rates.messages_per_second),
            rates.map(|rates| rates.ticks_per_second),
            rates.map(|rates| rates.bytes_per_second),
            backlog,
            lag,
            event.p50,
            event.p95,
            event.p99,
            publish.p50,
            publish.p95,
            publish.p99,
            commit.p50,
            commit.p95,
            slowest,
            mean(|time| time.busy),
            mean(|time| time.backpressured),
            Some(ready),
        ];
        Self {
            at: observation.at,
            values: values.map(|value| value.map_or(f32::NAN, |value| value as f32)),
        }
    }

    /// For the stream.
    #[must_use]
    pub fn json(&self) -> Value {
        let values: Map<String, Value> = SERIES
            .iter()
            .zip(self.values)
            .map(|(name, value)| ((*name).to_owned(), number(value)))
            .collect();
        json!({"time": self.at, "values": values})
    }
}

impl History {
    /// Adds a point. One of the same time as the last is no news.
    pub fn push(&mut self, point: Point) {
        if self.0.back().is_some_and(|last| last.at >= point.at) {
            return;
        }
        if self.0.len() == CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(point);
    }

    /// The last point.
    #[must_use]
    pub fn last(&self) -> Option<&Point> {
        self.0.back()
    }

    /// The series since a moment.
    #[must_use]
    pub fn series(&self, since: Option<Timestamp>) -> Series {
        let points: Vec<&Point> = self
            .0
            .iter()
            .filter(|point| since.is_none_or(|since| point.at >= since))
            .collect();
        let series = SERIES.iter().enumerate().map(|(index, name)| {
            let values = points.iter().map(|point| number(point.values[index]));
            ((*name).to_owned(), values.collect())
        });
        Series {
            every_seconds: PERIOD,
            capacity: CAPACITY,
            times: points.iter().map(|point| point.at).collect(),
            series: series.collect(),
        }
    }
}

/// What is not known is null.
fn number(value: f32) -> Value {
    match value.is_finite() {
        // Through text: 0.1 stays 0.1.
        true => value.to_string().parse::<f64>().map_or(Value::Null, Value::from),
        false => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_in_order_of_time() {
        let mut history = History::default();
        let begin: Timestamp = "2026-11-27T14:30:00Z".parse().unwrap();
        for step in 0..800_i64 {
            let at = begin + jiff::SignedDuration::from_secs(step * 5);
            let observation = Observation {
                at,
                ..Observation::default()
            };
            history.push(Point::of(&observation, Some(step)));
            // The same observation again, as when nothing answered.
            history.push(Point::of(&observation, Some(step)));
        }
        let all = history.series(None);
        assert_eq!(all.times.len(), CAPACITY);
        assert_eq!(all.series["backlog"][719], json!(799.0));
        assert_eq!(
            all.series["ticksPerSecond"][0],
            Value::Null,
            "not known is not zero"
        );
        let since = begin + jiff::SignedDuration::from_secs(799 * 5 - 10);
        assert_eq!(history.series(Some(since)).times.len(), 3);
    }
}
