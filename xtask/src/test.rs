//! `cargo xtask test`: everything that can be checked, in order, with the servers and the cluster it needs.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;

use crate::cluster::Cluster;
use crate::packages;
use crate::programs::{self, Built, FEATURES};
use crate::progress::{Progress, elapsed};
use crate::workspace::Workspace;
use crate::{component, e2e, generated, scan, tools, up, web};

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Format, lints, generated files, the chart
    Lint,
    /// Tests without servers
    Unit,
    /// Tests against a real PostgreSQL and a real RabbitMQ
    Component,
    /// Tests in a cluster
    E2e,
}

/// Sets of values that the chart must render with, beside its defaults.
const CHART_VARIANTS: &[(&str, &[&str])] = &[
    ("defaults", &[]),
    ("local", &["--values", "helm/stockfeed/values-local.yaml"]),
    (
        "own servers",
        &[
            "--set",
            "rabbitmq.enabled=false,broker.existingSecret=broker,postgresql.enabled=false,database.existingSecret=database",
        ],
    ),
    (
        "chosen namespaces",
        &["--set", "watchNamespaces={markets,research}"],
    ),
    (
        "Superset",
        &[
            "--set",
            "superset.enabled=true,superset.replicas=2,superset.cache.redis.url=redis://redis:6379/1,superset.ingress.enabled=true",
            "--set-json",
            r#"superset.users=[{"username": "ann", "roles": ["StockFeed viewer"], "existingSecret": "ann"}]"#,
        ],
    ),
    (
        "a Superset of one's own",
        &[
            "--set",
            "superset.url=https://superset.example.com,superset.existingSecret=superset",
        ],
    ),
    (
        "no volumes",
        &[
            "--set",
            "rabbitmq.persistence.enabled=false,postgresql.persistence.enabled=false",
        ],
    ),
];

struct Suite {
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    duration: Duration,
    outcome: Outcome,
}

enum Outcome {
    Passed(String),
    Failed(String),
    Skipped(&'static str),
}

/// Runs all parts, or one; fails at the end when any step has failed.
pub fn run(workspace: &Workspace, cluster: Cluster, only: Option<Part>) -> Result<()> {
    let progress = &Progress::new(workspace.artefacts.join("test"))?;
    let wanted = |part| only.is_none_or(|only| only == part);
    let mut suite = Suite { rows: Vec::new() };
    let started = Instant::now();
    let cluster_was_there = cluster.exists(workspace);

    // Before threads part ways: apt-get bears no second one beside it.
    if wanted(Part::Lint) || wanted(Part::E2e) {
        packages::ensure(workspace, progress, &[packages::BROWSER])?;
    }
    let mut built = None;
    thread::scope(|scope| {
        // The cluster's programs and the images take longest and need nothing else: they are made meanwhile.
        let building =
            wanted(Part::E2e).then(|| scope.spawn(|| up::build(workspace, progress, cluster).map(|_| ())));
        if wanted(Part::Lint) {
            lint_sources(workspace, progress, &mut suite);
        }
        if only != Some(Part::Lint) {
            suite.step("build of tests", || {
                built = Some(programs::build(workspace, progress)?);
                Ok(String::new())
            });
        }
        if let (Some(built), true) = (&built, wanted(Part::Unit) || wanted(Part::Component)) {
            suite.step("unit and component tests", || {
                component::unit_and_component(workspace, progress, built, only)
            });
        }
        if let Some(building) = building {
            suite.step("build of cluster and images", || {
                building
                    .join()
                    .map_err(|_| anyhow!("the build panicked"))?
                    .map(|()| String::new())
            });
        }
    });
    if wanted(Part::Lint) {
        lint_chart(workspace, progress, &mut suite);
        // It measures, so nothing is built beside it.
        suite.step("dashboard's page in a browser", || {
            web::browser(workspace, progress)
        });
    }
    let Some(built) = built else {
        return suite.finish(started.elapsed());
    };
    if wanted(Part::Component) {
        match cluster {
            Cluster::Testbed => suite.step("operator without nodes", || {
                component::without_nodes(workspace, progress, &built)
            }),
            Cluster::Kind => suite.skip(
                "operator without nodes",
                "it starts Kubernetes' own programs, which are compiled only where there is no Docker",
            ),
        }
    }
    if wanted(Part::E2e) {
        end_to_end(workspace, progress, cluster, &built, &mut suite);
        if !cluster_was_there {
            suite.step("removal of the cluster", || {
                cluster.down(workspace, progress).map(|()| String::new())
            });
        }
    }
    suite.finish(started.elapsed())
}

fn lint_sources(workspace: &Workspace, progress: &Progress, suite: &mut Suite) {
    let cargo = || {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&workspace.root);
        cargo
    };
    let mut step = |name, title: &str, file: &str, arguments: &[&str]| {
        suite.step(name, || {
            progress
                .step(title, file, |log| log.run(cargo().args(arguments)))
                .map(|()| String::new())
        });
    };
    step(
        "format",
        "Checking the format",
        "fmt",
        &["fmt", "--all", "--check"],
    );
    step(
        "clippy",
        "Running clippy",
        "clippy",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--features",
            FEATURES,
            "--",
            "-D",
            "warnings",
        ],
    );
    suite.step("dashboard's page", || web::check(workspace, progress));
    // That it is what the types say, a unit test of the operator checks: to generate it here as well would compile the
    // operator once more, with its own choice of features.
    suite.step("the chart's copies are equal", || {
        generated::copies(workspace).map(|()| String::new())
    });
    suite.step("licences and sources", || {
        let deny = tools::cargo_deny(workspace, progress)?;
        progress.step("Checking licences and sources", "deny", |log| {
            let mut deny = Command::new(deny);
            deny.current_dir(&workspace.root);
            log.run(deny.args(["check", "bans", "licenses", "sources"]))
        })?;
        Ok(String::new())
    });
}

fn lint_chart(workspace: &Workspace, progress: &Progress, suite: &mut Suite) {
    suite.step("manifests are up to date", || {
        generated::manifests(workspace, progress, true).map(|()| String::new())
    });
    suite.step("chart", || {
        let helm = tools::helm(workspace, progress)?;
        progress.step("Linting and rendering the chart", "chart", |log| {
            for (name, values) in CHART_VARIANTS {
                let command = |verb: &[&str]| {
                    let mut command = Command::new(&helm);
                    command.current_dir(&workspace.root).args(verb).args(*values);
                    command
                };
                log.note(&format!("--- {name}"))?;
                log.run(&mut command(&["lint", "--strict", "helm/stockfeed"]))
                    .with_context(|| format!("chart, {name}"))?;
                log.run(&mut command(&["template", "stockfeed", "helm/stockfeed"]))
                    .with_context(|| format!("chart, {name}"))?;
            }
            Ok(format!("{} sets of values", CHART_VARIANTS.len()))
        })
    });
    suite.step("scan of the chart and of children", || {
        scan::run(workspace, progress)
    });
}

fn end_to_end(
    workspace: &Workspace,
    progress: &Progress,
    cluster: Cluster,
    built: &Built,
    suite: &mut Suite,
) {
    let mut access = None;
    suite.step("installation in the cluster", || {
        access = Some(up::run(workspace, progress, cluster)?);
        Ok(String::new())
    });
    let Some(access) = access else {
        suite.skip("end-to-end tests", "the installation failed");
        return;
    };
    suite.step("end-to-end tests", || {
        let environment = e2e::environment(workspace, progress, cluster, &access)?;
        let run = e2e::run(progress, built, &environment);
        run.map_err(|error| up::explain(progress, &access, error))
    });
}

impl Suite {
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<String>) {
        let started = Instant::now();
        let outcome = match work() {
            Ok(remark) => Outcome::Passed(remark),
            Err(error) => {
                eprintln!("\nFAILED: {name}: {error:#}\n");
                Outcome::Failed(format!("{:#}", error.root_cause()))
            }
        };
        self.rows.push(Row {
            name,
            duration: started.elapsed(),
            outcome,
        });
    }

    fn skip(&mut self, name: &'static str, reason: &'static str) {
        println!("==> skipped: {name}: {reason}");
        self.rows.push(Row {
            name,
            duration: Duration::ZERO,
            outcome: Outcome::Skipped(reason),
        });
    }

    fn finish(&self, total: Duration) -> Result<()> {
        println!("\n{:<32} {:>12}  result", "step", "time");
        for Row {
            name,
            duration,
            outcome,
        } in &self.rows
        {
            let result = match outcome {
                Outcome::Passed(remark) if remark.is_empty() => "passed".to_owned(),
                Outcome::Passed(remark) => format!("passed, {remark}"),
                Outcome::Failed(_) => "FAILED".to_owned(),
                Outcome::Skipped(reason) => format!("skipped: {reason}"),
            };
            println!("{name:<32} {:>12}  {result}", elapsed(*duration));
        }
        println!("{:<32} {:>12}\n", "all", elapsed(total));
        // Once more at the very end: what scrolled by hours ago is not found again.
        let mut failed = 0;
        for row in &self.rows {
            if let Outcome::Failed(reason) = &row.outcome {
                failed += 1;
                eprintln!("FAILED: {}\n{reason}\n", row.name);
            }
        }
        if failed > 0 {
            bail!(
                "{failed} of {} steps failed; logs are in target/test",
                self.rows.len()
            );
        }
        Ok(())
    }
}
