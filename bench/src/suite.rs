//! All measurements, in an order in which what is compared runs side by side.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::{
    Case,
    case::{
        Run, Worker, copy,
        drain::{self, Drain, Series},
        latency::{self, Latency},
    },
    copy::Format,
    plan::{BUSY_SHARE, CALM_RATE, PARTITIONS, Plan, ROWS, TICKS_PER_MESSAGE},
    stand::Stand,
};

/// What came out, in the order in which it was measured.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// lapin alone.
    pub reader: Vec<Run>,
    /// Pairs of processor and naive loop, in turn, 1 tick a message, 1 partition.
    pub single: Vec<Run>,
    /// Triples of COPY in both formats and the processor, in turn, 100 ticks a message, 1 partition.
    pub batched: Vec<Run>,
    /// The processor on several partitions, with COPY on as many connections.
    pub partitions: Vec<Run>,
    /// The calm feed, the top rate, and a share of it.
    pub latency: Vec<Latency>,
    /// The short run, then the long one, in the same tables.
    pub growth: Vec<Run>,
    /// Whether time was up before everything was measured.
    pub cut_short: bool,
}

/// Measures.
pub async fn run(stand: &Stand, plan: Plan, only: &[Case], limit: Duration) -> Result<Results> {
    let mut suite = Suite {
        stand,
        plan,
        deadline: Instant::now() + limit,
        results: Results::default(),
    };
    let wanted = |case: Case| only.is_empty() || only.contains(&case);
    if wanted(Case::Single) {
        suite.single().await?;
    }
    if wanted(Case::Batched) {
        suite.batched().await?;
    }
    if wanted(Case::Latency) {
        suite.latency().await?;
    }
    if wanted(Case::Growth) {
        suite.growth().await?;
    }
    if wanted(Case::Reader) {
        suite.reader().await?;
    }
    if wanted(Case::Partitions) {
        suite.partitions().await?;
    }
    Ok(suite.results)
}

struct Suite<'a> {
    stand: &'a Stand,
    plan: Plan,
    deadline: Instant,
    results: Results,
}

impl Suite<'_> {
    async fn reader(&mut self) -> Result<()> {
        let drain = self.one_tick(1);
        for _ in 0..self.plan.repetitions {
            if self.time_is_up() {
                return Ok(());
            }
            let run = tell(drain::run(self.stand, Worker::Reader, drain).await?);
            self.results.reader.push(run);
        }
        Ok(())
    }

    async fn single(&mut self) -> Result<()> {
        let drain = self.one_tick(1);
        for _ in 0..self.plan.pairs {
            if self.time_is_up() {
                return Ok(());
            }
            for worker in [Worker::Naive, Worker::Processor] {
                let run = tell(drain::run(self.stand, worker, drain).await?);
                self.results.single.push(run);
            }
        }
        Ok(())
    }

    async fn batched(&mut self) -> Result<()> {
        let drain = self.many_ticks(1);
        for _ in 0..self.plan.pairs {
            if self.time_is_up() {
                return Ok(());
            }
            for format in [Format::Text, Format::Binary] {
                let run = tell(copy::run(self.stand, format, drain.ticks, ROWS, 1).await?);
                self.results.batched.push(run);
            }
            let run = tell(drain::run(self.stand, Worker::Processor, drain).await?);
            self.results.batched.push(run);
        }
        Ok(())
    }

    async fn partitions(&mut self) -> Result<()> {
        for _ in 0..self.plan.repetitions {
            for partitions in PARTITIONS {
                if self.time_is_up() {
                    return Ok(());
                }
                let (one, many) = (self.one_tick(partitions), self.many_ticks(partitions));
                for drain in [one, many] {
                    let run = tell(drain::run(self.stand, Worker::Processor, drain).await?);
                    self.results.partitions.push(run);
                }
                let run = copy::run(self.stand, Format::Binary, many.ticks, ROWS, partitions).await?;
                self.results.partitions.push(tell(run));
            }
        }
        Ok(())
    }

    async fn latency(&mut self) -> Result<()> {
        let duration = Duration::from_secs(self.plan.latency_seconds);
        let mut rate = Some(CALM_RATE);
        for _ in 0..3 {
            if self.time_is_up() {
                return Ok(());
            }
            let latency = latency::run(self.stand, rate, duration).await?;
            tell_latency(&latency);
            // First the calm feed, then the top rate, then a share of that.
            rate = match rate {
                Some(_) => None,
                None => Some(latency.rate * BUSY_SHARE),
            };
            self.results.latency.push(latency);
        }
        Ok(())
    }

    async fn growth(&mut self) -> Result<()> {
        if self.time_is_up() {
            return Ok(());
        }
        let mut series = Series::new(self.stand, self.plan.growth_ticks_per_message, 1).await?;
        for ticks in [self.plan.growth.0, self.plan.growth.1] {
            let run = tell(series.drain(self.stand, Worker::Processor, ticks).await?);
            self.results.growth.push(run);
        }
        series.remove(self.stand).await
    }

    fn one_tick(&self, partitions: u16) -> Drain {
        Drain {
            ticks: self.plan.ticks,
            ticks_per_message: 1,
            partitions,
        }
    }

    fn many_ticks(&self, partitions: u16) -> Drain {
        Drain {
            ticks: self.plan.batched_ticks,
            ticks_per_message: TICKS_PER_MESSAGE,
            partitions,
        }
    }

    fn time_is_up(&mut self) -> bool {
        let up = Instant::now() >= self.deadline;
        self.results.cut_short |= up;
        up
    }
}

/// Tells of a run as soon as it is over: the table comes only at the end.
fn tell(run: Run) -> Run {
    println!(
        "    {:?}, {} × {}: {} ticks at {:.0}/s, {:.1} CPU s per million, {:.0} MiB",
        run.worker,
        run.partitions,
        run.ticks_per_message,
        run.ticks,
        run.ticks_per_second,
        run.cpu.total(),
        run.peak_rss_mib
    );
    run
}

fn tell_latency(latency: &Latency) {
    println!(
        "    latency at {:.0}/s: p50 {:.2}, p99 {:.2} ms",
        latency.rate, latency.milliseconds.p50, latency.milliseconds.p99
    );
}
