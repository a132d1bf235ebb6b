//! The tests in the cluster: two programs at a time where they do not touch what all feeds share, one at a time otherwise.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use crate::cluster::{Access, Cluster};
use crate::progress::Progress;
use crate::test::closing_lines;
use crate::workspace::Workspace;
use crate::{flink, web};

/// Each of these has feeds of its own and leaves operator, broker and database as they are. The longest come first.
const BESIDE_OTHERS: [&str; 9] = [
    "superset",
    "repartition",
    "producer",
    "suspension",
    "dashboard",
    "rotation",
    "first_steps",
    "plugin",
    "admission",
];
/// Most of the time they wait.
const LANES: usize = 2;

/// A test program.
#[derive(Clone, Debug)]
struct Program {
    name: String,
    executable: PathBuf,
}

/// What the tests are told of the cluster.
pub fn environment(
    workspace: &Workspace,
    progress: &Progress,
    cluster: Cluster,
    access: &Access,
) -> Result<Vec<(&'static str, String)>> {
    let program = |name: &str| access.programs.join(name).display().to_string();
    let mut environment = web::browser_environment(workspace, progress)?;
    let page = flink::page(workspace, progress)?;
    environment.extend([
        ("FLINK_UI", page.display().to_string()),
        ("KUBECONFIG", access.kubeconfig.display().to_string()),
        ("STOCKFEED_KUBECTL", program("kubectl")),
        // kubectl looks for its plugins there.
        (
            "PATH",
            format!("{}:{}", access.programs.display(), workspace.search_path),
        ),
        ("STOCKFEED_HELM", program("helm")),
        (
            "STOCKFEED_ARTEFACTS",
            workspace.artefacts.join("test").display().to_string(),
        ),
    ]);
    if cluster == Cluster::Testbed {
        let log = workspace.testbed_state.join("audit.log");
        environment.push(("STOCKFEED_AUDIT_LOG", log.display().to_string()));
    }
    Ok(environment)
}

/// Runs all of them, also when one fails.
pub fn run(workspace: &Workspace, progress: &Progress, environment: &[(&str, String)]) -> Result<String> {
    let programs = progress.step("Compiling the end-to-end tests", "e2e-build", |log| {
        let mut build = Command::new("cargo");
        build.current_dir(&workspace.root).args([
            "test",
            "--package",
            "e2e",
            "--locked",
            "--no-run",
            "--message-format=json",
        ]);
        executables(&log.output(&mut build)?)
    })?;
    let (beside, alone): (Vec<_>, Vec<_>) = programs
        .into_iter()
        .partition(|program| place(&program.name).is_some());
    let failed = Mutex::new(Vec::new());
    let passed = Mutex::new(0_u64);
    let one = |program: &Program| {
        let name = &program.name;
        let outcome = progress.step(
            &format!("Running the end-to-end tests of {name}"),
            &format!("e2e-{name}"),
            |log| {
                let mut command = Command::new(&program.executable);
                command
                    // As cargo does: it is where they find their files.
                    .current_dir(workspace.root.join("e2e"))
                    .args(["--test-threads=1", "--nocapture"])
                    .envs(environment.iter().map(|(name, value)| (name, value)));
                let result = log.run(&mut command);
                closing_lines(log, result)
            },
        );
        match outcome {
            Ok(tests) => *passed.lock().unwrap_or_else(PoisonError::into_inner) += tests,
            Err(error) => {
                eprintln!("\nFAILED: {name}: {error:#}\n");
                failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(name.clone());
            }
        }
    };
    let waiting = Mutex::new(VecDeque::from(beside));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some(program) = next() {
                    one(&program);
                }
            });
        }
    });
    alone.iter().for_each(one);
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    let passed = passed.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(format!("{passed} tests"))
}

fn place(name: &str) -> Option<usize> {
    BESIDE_OTHERS.iter().position(|other| *other == name)
}

/// The test programs that cargo tells of: those that run beside others in their order, then the rest by name.
fn executables(messages: &str) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for line in messages.lines() {
        let message: serde_json::Value =
            serde_json::from_str(line).with_context(|| format!("cargo said {line}"))?;
        let target = &message["target"];
        // The library's own tests are a program as well.
        let test = message["profile"]["test"] == true;
        if let (true, Some(name), Some(executable)) =
            (test, target["name"].as_str(), message["executable"].as_str())
        {
            programs.push(Program {
                name: name.to_owned(),
                executable: executable.into(),
            });
        }
    }
    for name in BESIDE_OTHERS {
        if !programs.iter().any(|program| program.name == name) {
            return Err(anyhow!("there is no end-to-end test {name}"));
        }
    }
    programs.sort_by_key(|program| {
        let place = place(&program.name).unwrap_or(BESIDE_OTHERS.len());
        (place, program.name.clone())
    });
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_and_ordered() -> Result<()> {
        let line = |test: bool, name: &str| {
            serde_json::json!({
                "target": {"name": name}, "profile": {"test": test}, "executable": format!("/deps/{name}"),
            })
            .to_string()
        };
        let mut lines = vec![line(true, "zz_rbac"), line(false, "tool"), line(true, "e2e")];
        lines.extend(BESIDE_OTHERS.iter().rev().map(|name| line(true, name)));
        lines.push(r#"{"reason": "build-finished", "success": true}"#.to_owned());
        let names: Vec<_> = executables(&lines.join("\n"))?
            .into_iter()
            .map(|program| program.name)
            .collect();
        assert_eq!(names[..9], BESIDE_OTHERS);
        assert_eq!(names[9..], ["e2e", "zz_rbac"]);
        let missing = executables("{}").err().context("nothing is missing")?;
        assert!(missing.to_string().contains("superset"), "{missing}");
        Ok(())
    }
}
