//! One measurement each: a drained queue, a copied table, the time from publishing to the commit.

use serde::Serialize;

use crate::{copy::Format, stand::ServerTime};

pub mod copy;
pub mod drain;
pub mod latency;

/// What did the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Worker {
    /// The processor, as its image has it.
    Processor,
    /// The naive loop.
    Naive,
    /// lapin alone.
    Reader,
    /// COPY alone, in this format.
    Copy(Format),
}

/// One measured run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Who.
    pub worker: Worker,
    /// Partitions, each with a queue and a connection to the database; of COPY the connections.
    pub partitions: u16,
    /// Ticks in a message; of COPY the rows in one.
    pub ticks_per_message: usize,
    /// Ticks in all.
    pub ticks: u64,
    /// Throughput from the first commit to the last, so without the start.
    pub ticks_per_second: f64,
    /// What a million ticks cost, from the worker's start to the last commit.
    pub cpu: Cost,
    /// The most memory that the worker held at once.
    pub peak_rss_mib: f64,
}

/// Processor time in seconds per million ticks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// The worker's.
    pub worker: f64,
    /// The broker's.
    pub broker: f64,
    /// The database's.
    pub database: f64,
}

impl Cost {
    /// From seconds used for these many ticks.
    pub fn new(worker: f64, before: ServerTime, after: ServerTime, ticks: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "counts of ticks are far below 2^52")]
        let millions = ticks as f64 / 1e6;
        Self {
            worker: worker / millions,
            broker: (after.broker - before.broker) / millions,
            database: (after.database - before.database) / millions,
        }
    }

    /// All of it.
    pub fn total(self) -> f64 {
        self.worker + self.broker + self.database
    }
}

/// Ticks a second.
#[expect(clippy::cast_precision_loss, reason = "counts of ticks are far below 2^52")]
pub fn rate(ticks: u64, seconds: f64) -> f64 {
    ticks as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_per_million_ticks() {
        let time = |broker, database| ServerTime { broker, database };
        let cost = Cost::new(2.0, time(10.0, 20.0), time(13.0, 21.0), 500_000);
        assert_eq!((cost.worker, cost.broker, cost.database), (4.0, 6.0, 2.0));
        assert!((cost.total() - 12.0).abs() < 1e-9);
    }
}
