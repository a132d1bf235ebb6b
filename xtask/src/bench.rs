//! `cargo xtask bench`: the shipped processor, measured against servers of its own beside what limits it.
//!
//! What is measured and how is told in `docs/performance.md`; the measuring program is the crate `bench`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::images;
use crate::progress::Progress;
use crate::servers::{Purpose, Servers};
use crate::workspace::Workspace;

/// What to measure.
#[derive(Args, Debug)]
pub struct Options {
    /// Less of everything: for a look during development, not for figures to publish
    #[arg(long)]
    quick: bool,
    /// Only these cases, separated by commas: reader, single, batched, partitions, latency, growth
    #[arg(long)]
    only: Option<String>,
}

/// Builds, starts the servers, measures, and writes `target/bench/processor.json`.
pub fn run(workspace: &Workspace, progress: &Progress, options: &Options) -> Result<()> {
    let processor = match images::binaries(workspace, progress, &["processor"])?.as_slice() {
        [processor] => processor.clone(),
        _ => bail!("cargo built no processor"),
    };
    let bench = progress.step(
        "Compiling the measuring program (minutes when cold)",
        "bench-compile",
        |log| images::compile(workspace, log, None, &[("bench", "stockfeed-bench")]),
    )?;
    let bench = bench.first().context("cargo built no measuring program")?;
    let folder = workspace.artefacts.join("bench");
    fs::create_dir_all(&folder)?;
    let output = folder.join("processor.json");
    // They end with this value, and what is measured ends with the process below.
    let servers = Servers::start(workspace, progress, Purpose::Benchmark)?;
    let processes = servers.processes()?;
    println!("==> Measuring");
    let mut command = measuring(workspace, bench);
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
