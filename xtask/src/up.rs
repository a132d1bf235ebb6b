//! `cargo xtask up`: from nothing to a feed whose rows arrive.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::cluster::{Access, Cluster};
use crate::images::{self, Image};
use crate::packages;
use crate::plugin;
use crate::progress::{Log, Progress};
use crate::workspace::{Workspace, hash_files, hash_text};

const RELEASE: &str = "stockfeed";
const NAMESPACE: &str = "stockfeed-system";
const CHART: &str = "helm/stockfeed";
const VALUES: &str = "helm/stockfeed/values-local.yaml";
const CRD: &str = "crds/stockfeeds.yaml";
const SAMPLE: &str = "manifests/examples/tech.yaml";
const SAMPLE_NAMESPACE: &str = "markets";
const SAMPLE_FEED: &str = "tech";
const ROWS_WITHIN: Duration = Duration::from_secs(180);

/// Brings everything up and says how to reach it.
pub fn run(workspace: &Workspace, progress: &Progress, cluster: Cluster) -> Result<Access> {
    let started = Instant::now();
    let access = install(workspace, progress, cluster)?;
    apply_sample(workspace, progress, &access)?;
    print_summary(cluster, &access, started.elapsed())?;
    Ok(access)
}

/// Brings up the cluster with the operator, the broker, the database, Superset and the simulator in it.
pub fn install(workspace: &Workspace, progress: &Progress, cluster: Cluster) -> Result<Access> {
    let (access, images) = build(workspace, progress, cluster)?;
    cluster.up(workspace, progress, &access)?;
    cluster.load(workspace, progress, &images)?;
    let deployed = deploy(workspace, progress, cluster, &access, &images);
    deployed.map_err(|error| explain(progress, &access, error))?;
    Ok(access)
}

/// The cluster's programs and the images are made at the same time: neither needs the other.
pub fn build(workspace: &Workspace, progress: &Progress, cluster: Cluster) -> Result<(Access, Vec<Image>)> {
    // Before the two part ways: apt-get bears no second one beside it.
    match cluster {
        Cluster::Kind => packages::ensure(workspace, progress, &[packages::STATIC_BINARIES])?,
        Cluster::Testbed => packages::ensure(
            workspace,
            progress,
            &[
                packages::STATIC_BINARIES,
                packages::TESTBED,
                packages::ROOT_FILE_SYSTEMS,
            ],
        )?,
    }
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            let servers = match cluster {
                Cluster::Kind => Vec::new(),
                Cluster::Testbed => images::servers(workspace, progress)?,
            };
            Ok::<_, anyhow::Error>((cluster.prepare(workspace, progress)?, servers))
        });
        let programs = images::programs(workspace, progress, images::PROGRAMS);
        let (access, servers) = others
            .join()
            .map_err(|_| anyhow!("building the cluster's programs panicked"))??;
        let programs = programs?;
        plugin::install(workspace, progress, &access)?;
        Ok((access, programs.into_iter().chain(servers).collect()))
    })
}

fn deploy(
    workspace: &Workspace,
    progress: &Progress,
    cluster: Cluster,
    access: &Access,
    images: &[Image],
) -> Result<()> {
    progress.step("Installing the custom resource definition", "crds", |log| {
        // Helm installs what lies in a chart's `crds/` once and never upgrades it.
        log.run(
            access
                .kubectl()
                .args(["apply", "--server-side", "--force-conflicts", "--filename"])
                .arg(workspace.path(CRD)),
        )?;
        log.run(access.kubectl().args([
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd/stockfeeds.stockfeed.dev",
        ]))
    })?;
    progress.step("Installing the chart and waiting for its pods", "helm", |log| {
        let settings = image_settings(images);
        // Our image of Superset has all that it needs; the official one lacks a driver.
        let whole: &[&str] = match images.iter().any(|image| image.name == "superset") {
            true => &["--set-json", "superset.pipPackages=[]"],
            false => &[],
        };
        let content = hash_text(&format!("{} {settings}", hash_files(&[workspace.path(CHART)])?));
        let description = format!("content {content}");
        remove_unfinished_release(access, log)?;
        if is_deployed(access, &description) {
            log.note("the release is unchanged")?;
        } else {
            log.run(
                access
                    .helm()
                    .args(["upgrade", "--install", RELEASE])
                    .arg(workspace.path(CHART))
                    .args([
                        "--namespace",
                        NAMESPACE,
                        "--create-namespace",
                        "--skip-crds",
                        "--values",
                    ])
                    .arg(workspace.path(VALUES))
                    .args([
                        "--set-string", // a tag of digits only would become a number
                        &settings,
                    ])
                    .args(whole)
                    .args(["--description", &description, "--wait", "--timeout", "10m"]),
            )?;
        }
        wait_for_workloads(access, log, NAMESPACE)?;
        cluster.prune(workspace, log, images)
    })
}

/// The chart's values that name the images, as one `--set`.
fn image_settings(images: &[Image]) -> String {
    let settings = images.iter().map(|image| {
        let path = match image.name {
            "rabbitmq" => "rabbitmq.image",
            "postgres" => "postgresql.image",
            "superset" => "superset.image",
            "fmp-simulator" => "images.simulator",
            "operator" => "images.operator",
            "producer" => "images.producer",
            "dashboard" => "images.dashboard",
            _ => "images.processor",
        };
        format!("{path}.repository={},{path}.tag={}", image.repository, image.tag)
    });
    settings.collect::<Vec<_>>().join(",")
}

/// Whether just this content is installed. Helm keeps a release's description; no other place is needed.
fn is_deployed(access: &Access, description: &str) -> bool {
    let mut status = access.helm();
    status.args(["status", RELEASE, "--namespace", NAMESPACE, "--output", "json"]);
    let Ok(output) = status.output() else { return false };
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    status["info"]["status"] == "deployed" && status["info"]["description"] == description
}

/// A helm that was killed leaves its release pending, and every later one refuses to work.
fn remove_unfinished_release(access: &Access, log: &Log) -> Result<()> {
    log.run(access.kubectl().args([
        "delete",
        "secret",
        "--namespace",
        NAMESPACE,
        "--ignore-not-found",
        "--selector",
        &format!("owner=helm,name={RELEASE},status in (pending-install,pending-upgrade,pending-rollback)"),
    ]))
}

fn wait_for_workloads(access: &Access, log: &Log, namespace: &str) -> Result<()> {
    let kinds = "deployments,statefulsets";
    let list =
        log.output(
            access
                .kubectl()
                .args(["get", kinds, "--namespace", namespace, "--output", "name"]),
        )?;
    for workload in list.lines() {
        let arguments = [
            "rollout",
            "status",
            "--namespace",
            namespace,
            "--timeout=300s",
            workload,
        ];
        log.run(access.kubectl().args(arguments))?;
    }
    Ok(())
}

/// Applies the sample feed and waits until its rows arrive.
fn apply_sample(workspace: &Workspace, progress: &Progress, access: &Access) -> Result<()> {
    let feed = format!("stockfeeds/{SAMPLE_FEED}");
    let ready = progress.step(
        "Applying the sample feed and waiting until it is Ready",
        "sample",
        |log| {
            log.run(
                access
                    .kubectl()
                    .args(["apply", "--filename"])
                    .arg(workspace.path(SAMPLE)),
            )?;
            let arguments = [
                "wait",
                "--for=condition=Ready",
                "--namespace",
                SAMPLE_NAMESPACE,
                "--timeout=300s",
                &feed,
            ];
            log.run(access.kubectl().args(arguments))?;
            // After a restart of everything, what the status says is older than what the pods do.
            wait_for_workloads(access, log, SAMPLE_NAMESPACE)?;
            log.run(access.kubectl().args(arguments))
        },
    );
    ready.map_err(|error| explain(progress, access, error))?;
    let rows = progress.step("Waiting for rows in PostgreSQL", "rows", |log| {
        let deadline = Instant::now() + ROWS_WITHIN;
        loop {
            let rows = count_rows(access, log).unwrap_or_default();
            if rows > 0 {
                return Ok(rows);
            }
            if Instant::now() > deadline {
                bail!(
                    "the feed is Ready, but no row arrived within {} s",
                    ROWS_WITHIN.as_secs()
                );
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
    let rows = rows.map_err(|error| explain(progress, access, error))?;
    println!("    {rows} rows in stock_data");
    Ok(())
}

fn count_rows(access: &Access, log: &Log) -> Result<u64> {
    let query = format!("SELECT count(*) FROM {SAMPLE_NAMESPACE}_{SAMPLE_FEED}.stock_data");
    let statefulset = format!("statefulset/{RELEASE}-postgresql");
    let psql = [
        "psql",
        "--username=postgres",
        "--dbname=fintech_data",
        "--tuples-only",
        "--no-align",
        "--command",
        &query,
    ];
    let output = log.output(
        access
            .kubectl()
            .args(["exec", "--namespace", NAMESPACE, &statefulset, "--"])
            .args(psql),
    )?;
    output.trim().parse().context("the count of rows is not a number")
}

/// Adds to a failure what the cluster says about it.
pub fn explain(progress: &Progress, access: &Access, error: anyhow::Error) -> anyhow::Error {
    let gathered = progress.step("Asking the cluster why", "diagnosis", |log| {
        for question in [
            &[
                "get",
                "nodes,pods,persistentvolumeclaims",
                "--all-namespaces",
                "--output=wide",
            ][..],
            &["get", "stockfeeds", "--all-namespaces", "--output=yaml"],
            &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
            &["describe", "pods", "--namespace", NAMESPACE],
            &["describe", "pods", "--namespace", SAMPLE_NAMESPACE],
        ] {
            let _ = log.run(access.kubectl().args(question));
        }
        for namespace in [NAMESPACE, SAMPLE_NAMESPACE] {
            let pods =
                log.output(
                    access
                        .kubectl()
                        .args(["get", "pods", "--namespace", namespace, "--output=name"]),
                );
            for pod in pods.unwrap_or_default().lines() {
                let arguments = [
                    "logs",
                    "--namespace",
                    namespace,
                    "--all-containers",
                    "--tail=60",
                    pod,
                ];
                let _ = log.run(access.kubectl().args(arguments));
                let _ = log.run(access.kubectl().args(arguments).arg("--previous"));
            }
        }
        Ok(log.path().to_path_buf())
    });
    match gathered {
        Ok(path) => error.context(format!(
            "pods, events and logs of the cluster: {}",
            path.display()
        )),
        Err(_) => error,
    }
}

fn print_summary(cluster: Cluster, access: &Access, elapsed: Duration) -> Result<()> {
    let state = access
        .kubectl()
        .args(["get", "pods,stockfeeds", "--all-namespaces"])
        .output()?;
    println!("\n{}", String::from_utf8_lossy(&state.stdout).trim_end());
    println!(
        r#"
StockFeed is up in {title} ({elapsed}). To reach it:

  export PATH={programs}:$PATH KUBECONFIG={kubeconfig}

  kubectl stockfeed status -A                 # every feed
  kubectl stockfeed explain tech -n markets   # why one is not Ready, and what to do
  kubectl stockfeed psql tech -n markets -- -c 'SELECT * FROM stock_data ORDER BY timestamp DESC LIMIT 10'
  kubectl port-forward -n {NAMESPACE} svc/{RELEASE}-dashboard 8081   # http://localhost:8081
  kubectl port-forward -n {NAMESPACE} svc/{RELEASE}-superset 8080    # http://localhost:8080, user admin; the password:
  kubectl get secret -n {NAMESPACE} {RELEASE}-superset -o jsonpath='{{.data.adminPassword}}' | base64 -d
  kubectl port-forward -n markets svc/tech-producer 8000                # http://localhost:8000/health
  kubectl port-forward -n {NAMESPACE} svc/{RELEASE}-rabbitmq 15672    # http://localhost:15672, Secret {RELEASE}-rabbitmq

To stop it and remove everything: cargo xtask down"#,
        title = cluster.title(),
        elapsed = crate::progress::elapsed(elapsed),
        programs = access.programs.display(),
        kubeconfig = access.kubeconfig.display(),
    );
    Ok(())
}
