//! `cargo xtask bench`: the shipped processor, measured against servers of its own beside what limits it; and `cargo xtask bench operator`:
//! the operator with many feeds.
//!
//! What is measured and how is told in `docs/performance.md`; the measuring programs are the crates `bench` and `harness`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use crate::cluster;
use crate::images::{self, Profile};
use crate::progress::Progress;
use crate::servers::{Purpose, Servers};
use crate::workspace::Workspace;

/// What to measure.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    subject: Option<Subject>,
    /// Less of everything: for a look during development, not for figures to publish
    #[arg(long)]
    quick: bool,
    /// Only these cases, separated by commas: reader, single, batched, partitions, latency, growth
    #[arg(long)]
    only: Option<String>,
    /// Measure this processor instead of compiling one, to compare two versions
    #[arg(long)]
    processor: Option<PathBuf>,
    /// Measure with this program instead of compiling it
    #[arg(long, hide = true)]
    program: Option<PathBuf>,
}

/// What is measured instead of the processor.
#[derive(Debug, Subcommand)]
enum Subject {
    /// The operator, with 10, 100 and 1,000 feeds: target/bench/operator.json
    Operator {
        /// Less of everything: for a look during development, not for figures to publish
        #[arg(long)]
        quick: bool,
        /// Only with these numbers of feeds, separated by commas
        #[arg(long)]
        feeds: Option<String>,
    },
}

/// Builds, starts the servers, measures, and writes `target/bench/processor.json`.
pub fn run(workspace: &Workspace, progress: &Progress, options: &Options) -> Result<()> {
    if let Some(Subject::Operator { quick, feeds }) = &options.subject {
        return operator(workspace, progress, *quick, feeds.as_deref());
    }
    let processor = match &options.processor {
        Some(processor) => processor.clone(),
        None => images::binaries(workspace, progress, &["processor"])?
            .pop()
            .context("cargo built no processor")?,
    };
    let program = match &options.program {
        Some(program) => program.clone(),
        None => compile(workspace, progress)?,
    };
    let folder = workspace.artefacts.join("bench");
    fs::create_dir_all(&folder)?;
    let output = folder.join("processor.json");
    // They end with this value, and what is measured ends with the process below.
    let servers = Servers::start(workspace, progress, Purpose::Benchmark)?;
    let processes = servers.processes()?;
    println!("==> Measuring");
    let mut command = measuring(workspace, &program);
    command
        .arg("run")
        .arg("--processor")
        .arg(&processor)
        .args(["--broker-process", &processes.broker.to_string()])
        .args(["--database-process", &processes.database.to_string()])
        .arg("--output")
        .arg(&output)
        .envs(servers.environment().iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null());
    if options.quick {
        command.arg("--quick");
    }
    if let Some(only) = &options.only {
        command.args(["--only", only]);
    }
    let status = command
        .status()
        .context("failed to start the measuring program")?;
    if !status.success() {
        bail!("the measuring program ended with {status}");
    }
    println!("\nAll figures: {}", output.display());
    Ok(())
}

fn operator(workspace: &Workspace, progress: &Progress, quick: bool, feeds: Option<&str>) -> Result<()> {
    let kube = cluster::programs(workspace, progress)?;
    let mut programs = images::static_programs(
        workspace,
        progress,
        &[("operator", "operator"), ("harness", "stockfeed-bench-operator")],
    )?;
    let (program, operator) = (programs.pop(), programs.pop());
    let (program, operator) = program
        .zip(operator)
        .context("cargo built no measuring program")?;
    let folder = workspace.artefacts.join("bench");
    fs::create_dir_all(&folder)?;
    let output = folder.join("operator.json");
    // They end with this value, and what is measured ends with the process below.
    let servers = Servers::start(workspace, progress, Purpose::Benchmark)?;
    println!("==> Measuring");
    let mut command = measuring(workspace, &program);
    command
        .arg("--operator")
        .arg(&operator)
        .arg("--kube")
        .arg(&kube)
        .arg("--output")
        .arg(&output)
        .envs(servers.environment().iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null());
    if quick {
        command.args(["--idle-seconds", "40", "--changes", "20"]);
    }
    if let Some(feeds) = feeds.or_else(|| quick.then_some("10,100")) {
        command.args(["--feeds", feeds]);
    }
    let status = command
        .status()
        .context("failed to start the measuring program")?;
    if !status.success() {
        bail!("the measuring program ended with {status}");
    }
    println!("\nAll figures: {}", output.display());
    Ok(())
}

fn compile(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    let title = "Compiling the measuring program (minutes when cold)";
    progress.step(title, "bench-compile", |log| {
        images::compile(
            workspace,
            log,
            Profile::Image,
            None,
            &[("bench", "stockfeed-bench")],
        )?
        .pop()
        .context("cargo built no measuring program")
    })
}

/// The program, which the kernel ends when this tool ends, however that happens; where `setpriv` is not there, only Ctrl-C
/// ends both.
fn measuring(workspace: &Workspace, program: &Path) -> Command {
    match workspace.find_program("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}
