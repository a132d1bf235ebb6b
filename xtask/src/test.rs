//! `cargo xtask test`: everything that can be checked, in order, with the servers and the cluster it needs.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;

use crate::cluster::{self, Cluster};
use crate::packages;
use crate::progress::{Log, Progress, elapsed};
use crate::servers::{Purpose, Servers};
use crate::workspace::Workspace;
use crate::{e2e, generated, images, python, scan, tools, up, web};

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

/// What only tests switch on: without it the kill matrix does not exist. Clippy has it too, or would not see those tests.
const FEATURES: &str = "processor/fault-points";

const FAILURE_LINES: usize = 150;

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
    Failed,
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
    thread::scope(|scope| {
        // The cluster's programs and the images take longest and need nothing else: they are made meanwhile.
        let building =
            wanted(Part::E2e).then(|| scope.spawn(|| up::build(workspace, progress, cluster).map(|_| ())));
        if wanted(Part::Lint) {
            lint_sources(workspace, progress, &mut suite);
        }
        if wanted(Part::Unit) || wanted(Part::Component) {
            suite.step("unit and component tests", || {
                unit_and_component(workspace, progress, only)
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
    if wanted(Part::Component) {
        match cluster {
            Cluster::Testbed => suite.step("operator without nodes", || without_nodes(workspace, progress)),
            Cluster::Kind => suite.skip(
                "operator without nodes",
                "it starts Kubernetes' own programs, which are compiled only where there is no Docker",
            ),
        }
    }
    if wanted(Part::E2e) {
        end_to_end(workspace, progress, cluster, &mut suite);
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
    if workspace.find_program("cargo-deny").is_some() {
        let deny = || {
            progress.step("Checking licences and sources", "deny", |log| {
                log.run(cargo().args(["deny", "check", "bans", "licenses", "sources"]))
            })
        };
        suite.step("cargo deny", || deny().map(|()| String::new()));
    } else {
        suite.skip(
            "cargo deny",
            "cargo-deny is not installed (cargo install --locked cargo-deny)",
        );
    }
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

fn unit_and_component(workspace: &Workspace, progress: &Progress, only: Option<Part>) -> Result<String> {
    let targets: &[&str] = match only {
        Some(Part::Unit) => &["--lib", "--bins"],
        Some(Part::Component) => &["--test", "*"],
        _ => &[],
    };
    let component = only != Some(Part::Unit);
    let python = component
        .then(|| python::environment(workspace, progress, python::API))
        .transpose()?;
    // The same programs as the images', so they are compiled once.
    let processor = component
        .then(|| images::binary(workspace, progress, "processor"))
        .transpose()?;
    // The servers end with this value, whatever happens to the tests.
    let servers = component
        .then(|| Servers::start(workspace, progress, Purpose::Tests))
        .transpose()?;
    let environment = servers.as_ref().map(Servers::environment).unwrap_or_default();
    progress.step("Running unit and component tests", "cargo-test", |log| {
        let result = log.run(
            Command::new("cargo")
                .current_dir(&workspace.root)
                .args([
                    "test",
                    "--workspace",
                    "--exclude",
                    "e2e",
                    "--exclude",
                    "harness",
                    "--locked",
                    "--no-fail-fast",
                    "--features",
                    FEATURES,
                ])
                .args(targets)
                .envs(environment.iter().map(|(name, value)| (name, value)))
                .envs(python.iter().map(|programs| ("STOCKFEED_TEST_PYTHON", programs)))
                .envs(
                    processor
                        .iter()
                        .map(|program| ("STOCKFEED_TEST_PROCESSOR", program)),
                ),
        );
        Ok(format!("{} tests", closing_lines(log, result)?))
    })
}

/// Tests of the operator with many feeds, against an API server of its own.
fn without_nodes(workspace: &Workspace, progress: &Progress) -> Result<String> {
    let kube = cluster::programs(workspace, progress)?;
    let servers = Servers::start(workspace, progress, Purpose::Tests)?;
    let title = "Running the operator without nodes (15 minutes, most of it watching that 200 feeds at rest cause no write)";
    progress.step(title, "without-nodes", |log| {
        let cargo = |arguments: &[&str]| {
            let mut cargo = Command::new("cargo");
            cargo.current_dir(&workspace.root).args(arguments).arg("--locked");
            cargo
        };
        let build = [
            "build",
            "--package",
            "operator",
            "--bin",
            "operator",
            "--message-format=json",
        ];
        let messages = log.output(&mut cargo(&build))?;
        let operator = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|message| message["target"]["name"] == "operator")
            .find_map(|message| message["executable"].as_str().map(str::to_owned))
            .context("cargo built no operator")?;
        let tests = |tests: &[&str]| {
            let mut test = cargo(&["test", "--package", "harness", "--no-fail-fast"]);
            test.args(tests)
                .envs(servers.environment().iter().map(|(name, value)| (name, value)))
                .env("STOCKFEED_TEST_KUBE", &kube)
                .env("STOCKFEED_TEST_OPERATOR", &operator);
            test
        };
        log.run(&mut tests(&["--no-run"]))?;
        // One after the other: what 200 feeds cost would make the scenarios late.
        let scenarios = log.run(&mut tests(&["--lib", "--bins", "--test", "scenarios"]));
        let rest = progress.log("without-nodes-steady")?;
        let steady = rest.run(&mut tests(&["--test", "steady"]));
        // Both are told of, also when the first has failed.
        let both = (closing_lines(log, scenarios), closing_lines(&rest, steady));
        Ok(format!(
            "{} scenarios and others, {} of feeds at rest",
            both.0?, both.1?
        ))
    })
}

fn end_to_end(workspace: &Workspace, progress: &Progress, cluster: Cluster, suite: &mut Suite) {
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
        let run = e2e::run(workspace, progress, &environment);
        run.map_err(|error| up::explain(progress, &access, error))
    });
}

/// Prints what each test runner said at its end, and counts the tests that passed. No test at all is a failure too.
pub fn closing_lines(log: &Log, result: Result<()>) -> Result<u64> {
    let text = String::from_utf8_lossy(&fs::read(log.path())?).into_owned();
    let mut passed = 0;
    let mut runner = "";
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with("Running ") || trimmed.starts_with("Doc-tests ") {
            runner = trimmed.split(" (").next().unwrap_or(trimmed);
        } else if let Some(summary) = line.strip_prefix("test result: ") {
            passed += count_passed(summary);
            if !summary.contains(" 0 passed; 0 failed") {
                // The runner's own line, as it wrote it: other programs look for it.
                println!("    {runner}\n{line}");
            }
        }
    }
    if let Err(error) = result {
        println!("{}", failures(&text));
        return Err(error);
    }
    if passed == 0 {
        bail!("not one test ran");
    }
    Ok(passed)
}

/// The number in "ok. 12 passed; 0 failed; …".
fn count_passed(summary: &str) -> u64 {
    let words: Vec<&str> = summary.split_whitespace().collect();
    let number = words
        .windows(2)
        .find(|pair| pair[1] == "passed;")
        .map(|pair| pair[0]);
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// What the failed tests printed, as far as a terminal bears it.
fn failures(text: &str) -> String {
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        inside = match *line {
            "failures:" => false,
            line if line.starts_with("---- ") => true,
            _ => inside,
        };
        inside || (line.starts_with("test ") && line.ends_with("FAILED"))
    });
    lines
        .take(FAILURE_LINES)
        .map(|line| format!("    {line}\n"))
        .collect()
}

impl Suite {
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<String>) {
        let started = Instant::now();
        let outcome = match work() {
            Ok(remark) => Outcome::Passed(remark),
            Err(error) => {
                eprintln!("\nFAILED: {name}: {error:#}\n");
                Outcome::Failed
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
                Outcome::Failed => "FAILED".to_owned(),
                Outcome::Skipped(reason) => format!("skipped: {reason}"),
            };
            println!("{name:<32} {:>12}  {result}", elapsed(*duration));
        }
        println!("{:<32} {:>12}\n", "all", elapsed(total));
        let failed = self
            .rows
            .iter()
            .filter(|row| matches!(row.outcome, Outcome::Failed))
            .count();
        if failed > 0 {
            bail!(
                "{failed} of {} steps failed; logs are in target/test",
                self.rows.len()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_counted_whatever_the_result() {
        assert_eq!(
            count_passed("ok. 12 passed; 0 failed; 0 ignored; finished in 0.01s"),
            12
        );
        assert_eq!(
            count_passed("FAILED. 3 passed; 1 failed; 0 ignored; finished in 0.01s"),
            3
        );
    }

    #[test]
    fn failures_hold_what_failed_tests_printed_and_nothing_else() {
        let text = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nleft != right\n\n\
                    failures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed;\n";
        assert_eq!(
            failures(text),
            "    test b ... FAILED\n    ---- b stdout ----\n    left != right\n    \n"
        );
    }
}
