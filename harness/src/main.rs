//! Measures the operator with 10, 100 and 1,000 feeds. What is measured and how: docs/performance.md.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use harness::{OperatorProcess, Stand, calls, create, wait_for_quiet};
use kube::api::{Patch, PatchParams};
use serde::Serialize;
use serde_json::json;

/// How long all feeds may take to get everything.
const CONVERGED_WITHIN: Duration = Duration::from_secs(1_800);
/// For how long nothing may have been written before the idle time is measured.
const QUIET: Duration = Duration::from_secs(20);
/// How long that is waited for.
const QUIET_WITHIN: Duration = Duration::from_secs(300);

/// Measures the operator.
#[derive(Parser)]
struct Arguments {
    /// The operator.
    #[arg(long)]
    operator: PathBuf,
    /// The program that holds those of Kubernetes.
    #[arg(long)]
    kube: PathBuf,
    /// Where the figures go.
    #[arg(long)]
    output: PathBuf,
    /// Numbers of feeds.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000")]
    feeds: Vec<usize>,
    /// How long the idle time is, in seconds.
    #[arg(long, default_value_t = 120)]
    idle_seconds: u64,
    /// How many single changes are timed.
    #[arg(long, default_value_t = 100)]
    changes: usize,
}

/// What was measured with one number of feeds.
#[derive(Debug, Serialize)]
struct Figures {
    feeds: usize,
    converge_seconds: f64,
    operator_cpu_seconds: f64,
    peak_rss_mib: f64,
    reconcile_p50_seconds: f64,
    reconcile_p99_seconds: f64,
    idle_seconds: u64,
    writes_when_idle: usize,
    idle_cpu_seconds: f64,
    idle_reads_per_feed_per_minute: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("another TLS provider was installed first");
    }
    let arguments = Arguments::parse();
    let mut all = Vec::new();
    for count in &arguments.feeds {
        let folder = tempfile::tempdir()?;
        let figures = measure(&arguments, *count, folder.path()).await;
        let figures = match figures {
            Ok(figures) => figures,
            Err(error) => {
                // The logs say more than the error, and lie where the figures would.
                let kept = arguments.output.with_extension("failed");
                fs::create_dir_all(&kept)?;
                for log in ["operator.log", "apiserver.log", "etcd.log"] {
                    fs::copy(folder.path().join(log), kept.join(log)).ok();
                }
                return Err(error.context(format!("logs: {}", kept.display())));
            }
        };
        println!("{}", serde_json::to_string(&figures)?);
        all.push(figures);
    }
    let growth: Vec<_> = all
        .windows(2)
        .map(|pair| {
            let [few, many] = pair else { return json!(null) };
            let feeds = ratio(many.feeds as f64, few.feeds as f64);
            json!({
                "from": few.feeds, "to": many.feeds,
                // 1: linear.
                "converge_per_feed": ratio(many.converge_seconds, few.converge_seconds) / feeds,
                "cpu_per_feed": ratio(many.operator_cpu_seconds, few.operator_cpu_seconds) / feeds,
            })
        })
        .collect();
    let report = json!({"measured": all, "growth": growth});
    fs::write(&arguments.output, serde_json::to_string_pretty(&report)?)?;
    Ok(())
}

fn ratio(many: f64, few: f64) -> f64 {
    many / few.max(f64::MIN_POSITIVE)
}

async fn measure(arguments: &Arguments, count: usize, folder: &Path) -> Result<Figures> {
    println!("==> {count} feeds");
    let stand = Stand::make(&arguments.kube, folder).await?;
    let operator = OperatorProcess::start(&arguments.operator, &stand.api_server, folder, &[])?;
    operator.wait_until_ready().await?;

    let began = Instant::now();
    create(&stand.client, count).await?;
    println!("    created after {:.1} s", began.elapsed().as_secs_f64());
    let mut told = Instant::now();
    while stand.converged().await? < count {
        anyhow::ensure!(
            began.elapsed() < CONVERGED_WITHIN,
            "the feeds do not get what they need"
        );
        if told.elapsed() > Duration::from_secs(15) {
            println!("    {} of {count}", stand.converged().await?);
            told = Instant::now();
        }
        // All feeds are listed each time, by the API server that is measured.
        tokio::time::sleep(Duration::from_millis((2 * count as u64).clamp(200, 2_000))).await;
    }
    let converge_seconds = began.elapsed().as_secs_f64();
    let operator_cpu_seconds = operator.usage()?.cpu_seconds;
    println!("    converged after {converge_seconds:.1} s");

    let mut latencies = Vec::with_capacity(arguments.changes);
    for change in 0..arguments.changes {
        // Spread over all feeds, each time with another value.
        let number = change * 7919 % count;
        latencies.push(change_one(&stand, number, change).await?);
    }
    latencies.sort_by(f64::total_cmp);
    println!("    {} single changes", latencies.len());

    let log = stand.api_server.audit_log();
    wait_for_quiet(&log, QUIET, QUIET_WITHIN).await?;
    let before = (calls(&log)?.len(), operator.usage()?.cpu_seconds);
    tokio::time::sleep(Duration::from_secs(arguments.idle_seconds)).await;
    let idle = calls(&log)?.split_off(before.0);
    let usage = operator.usage()?;
    let writes: Vec<_> = idle.iter().filter(|call| call.is_write()).collect();
    for call in writes.iter().take(5) {
        println!(
            "    written while idle: {} {} {} ({})",
            call.verb, call.resource, call.name, call.code
        );
    }
    let reads = (idle.len() - writes.len()) as f64;
    let minutes = arguments.idle_seconds as f64 / 60.0;
    let figures = Figures {
        feeds: count,
        converge_seconds,
        operator_cpu_seconds,
        peak_rss_mib: usage.peak_rss_mib,
        reconcile_p50_seconds: quantile(&latencies, 0.5),
        reconcile_p99_seconds: quantile(&latencies, 0.99),
        idle_seconds: arguments.idle_seconds,
        writes_when_idle: writes.len(),
        idle_cpu_seconds: usage.cpu_seconds - before.1,
        idle_reads_per_feed_per_minute: reads / count as f64 / minutes,
    };
    operator.kill()?;
    Ok(figures)
}

/// Changes one feed and waits until its status says that the change was taken in. Returns the seconds that took.
async fn change_one(stand: &Stand, number: usize, change: usize) -> Result<f64> {
    let name = format!("feed-{number:04}");
    let patch = json!({"spec": {"interval": format!("{}s", 61 + change)}});
    let began = Instant::now();
    let changed = stand
        .feeds()
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    loop {
        let feed = stand.feeds().get(&name).await?;
        let observed = feed.status.and_then(|status| status.observed_generation);
        if observed >= changed.metadata.generation {
            return Ok(began.elapsed().as_secs_f64());
        }
        anyhow::ensure!(
            began.elapsed() < Duration::from_secs(60),
            "{name} is not reconciled"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The value below which that share of the sorted values lies.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(place.saturating_sub(1))
        .copied()
        .context("nothing was measured")
        .unwrap_or(f64::NAN)
}
