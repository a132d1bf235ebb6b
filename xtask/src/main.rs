//! Every automation of the project. `cargo xtask up` brings everything up, `cargo xtask test` runs every test.

mod bench;
mod cluster;
mod component;
mod docker;
mod down;
mod e2e;
mod flink;
mod generated;
mod images;
mod packages;
mod picture;
mod plugin;
mod programs;
mod progress;
mod python;
mod rootfs;
mod scan;
mod servers;
mod test;
mod tools;
mod up;
mod web;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::cluster::Cluster;
use crate::progress::Progress;
use crate::servers::{Purpose, Servers};
use crate::test::Part;
use crate::workspace::{Places, Workspace};

/// Builds, runs and tests StockFeed.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
    /// The cluster to use; by default kind where Docker answers, elsewhere the testbed
    #[arg(long, global = true, value_enum)]
    cluster: Option<Cluster>,
    #[command(flatten)]
    places: Places,
}

#[derive(Subcommand)]
enum Task {
    /// Bring up a cluster with StockFeed in it, apply the sample feed, and say how to reach it
    Up,
    /// Remove everything that `up` made
    Down {
        /// Remove the compiled programs and the caches as well
        #[arg(long)]
        all: bool,
    },
    /// Run every test there is, with the servers and the cluster that they need
    Test {
        /// Run one part only
        #[arg(long, value_enum)]
        only: Option<Part>,
    },
    /// Measure the processor against a RabbitMQ and a PostgreSQL of its own, beside what limits it
    Bench(bench::Options),
    /// Build container images as docker archives in target/images, without Docker
    Images {
        /// operator, producer, processor, dashboard, fmp-simulator, rabbitmq, postgres, superset; all when none is named
        names: Vec<String>,
    },
    /// Build the dashboard's web page, or check it
    Web {
        /// What to do
        #[arg(value_enum, default_value = "build")]
        what: web::What,
    },
    /// Start a PostgreSQL, a RabbitMQ and a Superset for tests, print where they are, and keep them until Ctrl-C
    Servers,
    /// Generate the custom resource definition from the operator's types
    Crds {
        /// Only say whether it is up to date
        #[arg(long)]
        check: bool,
    },
    /// Judge the chart and the operator's objects by kubeconform, kube-score and checkov
    Scan,
    /// Draw docs/pictures/autoscaling.svg from what the last end-to-end test of autoscaling recorded
    Picture,
    /// Generate the manifests for people without helm from the chart
    Manifests {
        /// Only say whether they are up to date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let Arguments {
        task,
        cluster,
        places,
    } = arguments;
    let workspace = &Workspace::new(places)?;
    let progress = &Progress::new(workspace.artefacts.join("log"))?;
    match task {
        Task::Up => up::run(workspace, progress, Cluster::choose(cluster)).map(|_| ()),
        Task::Down { all } => down::run(workspace, progress, Cluster::choose(cluster), all),
        Task::Test { only } => test::run(workspace, Cluster::choose(cluster), only),
        Task::Bench(options) => bench::run(workspace, progress, &options),
        Task::Images { names } => images::run(workspace, progress, &names),
        Task::Web { what } => web::run(workspace, progress, what),
        Task::Servers => serve(workspace, progress),
        Task::Crds { check } => generated::crds(workspace, progress, check),
        Task::Scan => scan::run(workspace, progress).map(|found| println!("{found}")),
        Task::Picture => picture::run(workspace),
        Task::Manifests { check } => generated::manifests(workspace, progress, check),
    }
}

fn serve(workspace: &Workspace, progress: &Progress) -> Result<()> {
    let mut servers = Servers::start(workspace, progress, Purpose::Tests { superset: true })?;
    println!();
    for (name, value) in servers.environment() {
        println!("export {name}={value}");
    }
    println!(
        "\nSuperset answers half a minute later. The servers run until Ctrl-C. Their logs and data lie in target/servers."
    );
    servers.wait()
}
