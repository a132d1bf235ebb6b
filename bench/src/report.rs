//! The figures: as JSON for programs, as a table for people.

use std::{collections::BTreeMap, fmt, path::Path};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    case::{Run, Worker, latency::Latency},
    copy::Format,
    measure::statistics::Spread,
    stand::Versions,
    suite::Results,
};

/// Everything that was measured. What was left out is null.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Median of the ratios of throughput, processor over naive loop, 1 tick a message, 1 partition.
    single_vs_naive: Option<f64>,
    /// Median of the ratios of all processor time, naive loop over processor: what the ratio of throughput would be if nothing
    /// but processor time counted. Other programs on the machine change it least.
    single_vs_naive_cpu: Option<f64>,
    /// Median of the ratios of throughput, processor over the faster format of COPY, 100 ticks a message, 1 partition.
    batched_vs_copy: Option<f64>,
    /// The format of COPY that was faster.
    copy_format: Option<Format>,
    /// The processor's own, median, 1 tick a message, 1 partition.
    cpu_seconds_per_million: Option<f64>,
    /// The same of the naive loop.
    cpu_seconds_per_million_naive: Option<f64>,
    /// The processor's own, median, 100 ticks a message, 1 partition.
    cpu_seconds_per_million_batched: Option<f64>,
    /// The most memory that any run of the processor held.
    peak_rss_mib: Option<f64>,
    /// At 1,000 messages a second.
    latency_p50_ms: Option<f64>,
    /// At 1,000 messages a second.
    latency_p99_ms: Option<f64>,
    /// Processor time of processor and database per tick, long run over short run.
    growth: Option<f64>,
    /// Time per tick, long run over short run.
    growth_time: Option<f64>,
    /// The spread of the ratios above.
    single_vs_naive_spread: Option<Spread>,
    /// The spread of the ratios above.
    batched_vs_copy_spread: Option<Spread>,
    /// Whether less of everything was measured.
    quick: bool,
    /// Processors of the machine.
    cores: usize,
    /// Of the servers.
    versions: Versions,
    /// Every run.
    runs: Results,
}

impl Report {
    /// Works the figures out.
    pub fn new(versions: Versions, quick: bool, runs: Results) -> Self {
        let single = |worker| pick(&runs.single, worker, |run| run.ticks_per_second);
        let batched = |worker| pick(&runs.batched, worker, |run| run.ticks_per_second);
        let (text, binary) = (
            batched(Worker::Copy(Format::Text)),
            batched(Worker::Copy(Format::Binary)),
        );
        let binary_is_faster = median(binary.iter().copied()) > median(text.iter().copied());
        let (format, copied) = if binary_is_faster {
            (Format::Binary, binary)
        } else {
            (Format::Text, text)
        };
        let single_spread = Spread::of_ratios(&single(Worker::Processor), &single(Worker::Naive));
        let batched_spread = Spread::of_ratios(&batched(Worker::Processor), &copied);
        let total = |worker| pick(&runs.single, worker, |run| run.cpu.total());
        let own = |runs: &[Run], worker| median(pick(runs, worker, |run| run.cpu.worker));
        let calm = runs.latency.iter().find(|latency| latency.wanted_rate.is_some());
        let growth = |cost: fn(&Run) -> f64| match runs.growth.as_slice() {
            [short, long] => Some(cost(long) / cost(short)),
            _ => None,
        };
        Self {
            single_vs_naive: single_spread.map(|spread| spread.median),
            batched_vs_copy: batched_spread.map(|spread| spread.median),
            single_vs_naive_cpu: Spread::of_ratios(&total(Worker::Naive), &total(Worker::Processor))
                .map(|spread| spread.median),
            copy_format: (!copied.is_empty()).then_some(format),
            cpu_seconds_per_million: own(&runs.single, Worker::Processor),
            cpu_seconds_per_million_naive: own(&runs.single, Worker::Naive),
            cpu_seconds_per_million_batched: own(&runs.batched, Worker::Processor),
            peak_rss_mib: Spread::of(
                [&runs.single, &runs.batched, &runs.partitions, &runs.growth]
                    .into_iter()
                    .flat_map(|runs| pick(runs, Worker::Processor, |run| run.peak_rss_mib)),
            )
            .map(|spread| spread.max),
            latency_p50_ms: calm.map(|latency| latency.milliseconds.p50),
            latency_p99_ms: calm.map(|latency| latency.milliseconds.p99),
            growth: growth(|run| run.cpu.worker + run.cpu.database),
            growth_time: growth(|run| 1.0 / run.ticks_per_second),
            single_vs_naive_spread: single_spread,
            batched_vs_copy_spread: batched_spread,
            quick,
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            versions,
            runs,
        }
    }

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
    }
}

fn pick(runs: &[Run], worker: Worker, figure: fn(&Run) -> f64) -> Vec<f64> {
    runs.iter()
        .filter(|run| run.worker == worker)
        .map(figure)
        .collect()
}

fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    Spread::of(values).map(|spread| spread.median)
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { versions, runs, .. } = self;
        writeln!(
            out,
            "{} cores, RabbitMQ {}, PostgreSQL {}{}{}\n",
            self.cores,
            versions.broker,
            versions.database,
            if self.quick { ", quick" } else { "" },
            if runs.cut_short {
                ", CUT SHORT: time was up"
            } else {
                ""
            },
        )?;
        writeln!(
            out,
            "| what | partitions | ticks a message | ticks/s: median (min–max) | worker | broker | database | MiB |\n\
             |---|---|---|---|---|---|---|---|"
        )?;
        for group in [
            &runs.reader,
            &runs.single,
            &runs.batched,
            &runs.partitions,
            &runs.growth,
        ] {
            rows(out, group)?;
        }
        writeln!(
            out,
            "\nworker, broker, database: CPU seconds per million ticks.\n"
        )?;
        for latency in &runs.latency {
            latency_line(out, latency)?;
        }
        writeln!(out)?;
        let figure = |out: &mut fmt::Formatter<'_>, name: &str, value: Option<f64>| match value {
            Some(value) => writeln!(out, "{name:<34} {value:>8.3}"),
            None => writeln!(out, "{name:<34} {:>8}", "–"),
        };
        let spread = |name, spread: Option<Spread>| {
            spread.map_or_else(
                || String::from(name),
                |it| format!("{name} ({:.2}–{:.2})", it.min, it.max),
            )
        };
        figure(
            out,
            &spread("single_vs_naive", self.single_vs_naive_spread),
            self.single_vs_naive,
        )?;
        figure(out, "single_vs_naive_cpu", self.single_vs_naive_cpu)?;
        figure(
            out,
            &spread("batched_vs_copy", self.batched_vs_copy_spread),
            self.batched_vs_copy,
        )?;
        figure(out, "cpu_seconds_per_million", self.cpu_seconds_per_million)?;
        figure(
            out,
            "cpu_seconds_per_million_naive",
            self.cpu_seconds_per_million_naive,
        )?;
        figure(
            out,
            "cpu_seconds_per_million_batched",
            self.cpu_seconds_per_million_batched,
        )?;
        figure(out, "peak_rss_mib", self.peak_rss_mib)?;
        figure(out, "latency_p50_ms", self.latency_p50_ms)?;
        figure(out, "latency_p99_ms", self.latency_p99_ms)?;
        figure(out, "growth", self.growth)?;
        figure(out, "growth_time", self.growth_time)
    }
}

/// A line for each combination, in the order in which they first came.
fn rows(out: &mut fmt::Formatter<'_>, runs: &[Run]) -> fmt::Result {
    let key = |run: &Run| (run.worker, run.partitions, run.ticks_per_message, run.ticks);
    let mut order = Vec::new();
    let mut groups: BTreeMap<usize, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        let place = order
            .iter()
            .position(|known| *known == key(run))
            .unwrap_or_else(|| {
                order.push(key(run));
                order.len() - 1
            });
        groups.entry(place).or_default().push(run);
    }
    for group in groups.values() {
        let of = |figure: fn(&Run) -> f64| Spread::of(group.iter().map(|run| figure(run)));
        let (Some(first), Some(rate)) = (group.first(), of(|run| run.ticks_per_second)) else {
            continue;
        };
        let middle = |figure| of(figure).map_or(0.0, |spread: Spread| spread.median);
        writeln!(
            out,
            "| {}, {} ticks | {} | {} | {:.0} ({:.0}–{:.0}) | {:.2} | {:.2} | {:.2} | {:.0} |",
            name(first.worker),
            first.ticks,
            first.partitions,
            first.ticks_per_message,
            rate.median,
            rate.min,
            rate.max,
            middle(|run| run.cpu.worker),
            middle(|run| run.cpu.broker),
            middle(|run| run.cpu.database),
            of(|run| run.peak_rss_mib).map_or(0.0, |spread| spread.max),
        )?;
    }
    Ok(())
}

fn latency_line(out: &mut fmt::Formatter<'_>, latency: &Latency) -> fmt::Result {
    let Latency {
        wanted_rate,
        rate,
        messages,
        milliseconds,
        error_milliseconds,
    } = latency;
    writeln!(
        out,
        "latency at {rate:.0} messages/s{}, {messages} messages: p50 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2} ms \
         (too long by at most {:.2} ms, 99 of 100 times)",
        if wanted_rate.is_none() {
            " (as fast as possible)"
        } else {
            ""
        },
        milliseconds.p50,
        milliseconds.p99,
        milliseconds.p999,
        milliseconds.max,
        error_milliseconds.p99,
    )
}

fn name(worker: Worker) -> &'static str {
    match worker {
        Worker::Processor => "processor",
        Worker::Naive => "naive loop",
        Worker::Reader => "lapin alone",
        Worker::Copy(Format::Text) => "COPY alone, text",
        Worker::Copy(Format::Binary) => "COPY alone, binary",
    }
}
