//! Measures the processor beside what limits it and what it competes with, in one run on one machine.
//!
//! `cargo xtask bench` builds everything, starts the servers and runs this. How it measures is told in
//! `docs/performance.md`.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

mod case;
mod child;
mod client;
mod copy;
mod load;
mod measure;
mod plan;
mod publish;
mod report;
mod stand;
mod suite;

/// Measures the processor.
#[derive(Debug, Parser)]
#[command(name = "stockfeed-bench")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measures everything, or some cases
    Run(Options),
    /// Is one of the programs that the processor is compared with
    #[command(subcommand)]
    Client(client::Client),
}

/// What to measure, and where.
#[derive(Args, Debug)]
struct Options {
    /// The processor's binary
    #[arg(long)]
    processor: PathBuf,
    /// The process that the broker's processes are under
    #[arg(long)]
    broker_process: u32,
    /// The process that the database's processes are under
    #[arg(long)]
    database_process: u32,
    /// Where to write the figures
    #[arg(long)]
    output: PathBuf,
    /// Less of everything: for a look during development, not for figures to publish
    #[arg(long)]
    quick: bool,
    /// Only these cases
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Case>,
    /// Minutes after which no further run is begun
    #[arg(long, default_value_t = 22)]
    limit: u64,
}

/// A group of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// The broker alone: lapin that consumes and acknowledges
    Reader,
    /// The processor against the naive loop in turn, 1 tick a message
    Single,
    /// The processor at 100 ticks a message against COPY alone in turn
    Batched,
    /// 1, 2 and 4 partitions
    Partitions,
    /// From publishing to the commit
    Latency,
    /// Three million ticks against 300 thousand
    Growth,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Client(client) => {
            service::tls::install_provider()?;
            client::run(client).await
        }
        Task::Run(options) => {
            let Options {
                processor,
                broker_process,
                database_process,
                output,
                quick,
                only,
                limit,
            } = options;
            let plan = if quick {
                plan::Plan::QUICK
            } else {
                plan::Plan::FULL
            };
            let stand = stand::Stand::new(processor, broker_process, database_process).await?;
            let results = suite::run(&stand, plan, &only, Duration::from_secs(limit * 60)).await?;
            let report = report::Report::new(stand.versions().await?, quick, results);
            print!("\n{report}");
            report.write(&output)
        }
    }
}
