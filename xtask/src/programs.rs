//! Test programs: what cargo built, and several of them at a time.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::{fs, thread};

use anyhow::{Context, Result, anyhow, bail};

use crate::progress::{Log, Progress};
use crate::workspace::Workspace;

/// What only tests switch on: without it the kill matrix does not exist. Clippy has it too, or would not see those tests.
pub const FEATURES: &str = "processor/fault-points";

const FAILURE_LINES: usize = 60;

/// A program of tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The folder of the package's manifest; as cargo does, it is started there.
    folder: PathBuf,
    /// The library, the binary or the file of tests.
    pub name: String,
    /// Whether its source is in `tests`.
    pub integration: bool,
    executable: PathBuf,
}

impl Program {
    /// The name of the package's folder, then that of what is tested: `processor/memory`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.package(), self.name)
    }

    fn package(&self) -> Cow<'_, str> {
        self.folder.file_name().unwrap_or_default().to_string_lossy()
    }

    #[cfg(test)]
    pub fn named(name: &str) -> Self {
        Self {
            folder: "/x/tested".into(),
            name: name.to_owned(),
            integration: true,
            executable: format!("/deps/{name}").into(),
        }
    }

    /// The command that runs it. Errors and assertions say what is wrong; a stack of calls under each only hides it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .env("RUST_BACKTRACE", "0")
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }
}

/// What cargo built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Built {
    tests: Vec<Program>,
    /// Ordinary programs, which tests start.
    binaries: Vec<(String, PathBuf)>,
}

impl Built {
    /// The tests of one package, by the name of its folder.
    pub fn of(&self, package: &str) -> Vec<Program> {
        let own = self.tests.iter().filter(|program| program.package() == package);
        own.cloned().collect()
    }

    /// Those of all other packages.
    pub fn without(&self, packages: &[&str]) -> Vec<Program> {
        let others = self
            .tests
            .iter()
            .filter(|program| !packages.contains(&program.package().as_ref()));
        others.cloned().collect()
    }

    /// An ordinary program.
    pub fn binary(&self, name: &str) -> Result<&Path> {
        let found = self.binaries.iter().find(|(binary, _)| binary == name);
        let (_, path) = found.with_context(|| format!("cargo built no {name}"))?;
        Ok(path)
    }
}

/// Compiles all tests of the workspace at once: each choice of packages would be compiled with its own features of the
/// same libraries.
pub fn build(workspace: &Workspace, progress: &Progress) -> Result<Built> {
    progress.step("Compiling the tests (minutes when cold)", "tests-build", |log| {
        let mut build = Command::new("cargo");
        build.current_dir(&workspace.root).args([
            "test",
            "--workspace",
            "--locked",
            "--features",
            FEATURES,
            "--no-run",
            "--message-format=json",
        ]);
        parse(&log.output(&mut build)?)
    })
}

fn parse(messages: &str) -> Result<Built> {
    let mut built = Built::default();
    for line in messages.lines() {
        let message: serde_json::Value =
            serde_json::from_str(line).with_context(|| format!("cargo said {line}"))?;
        let target = &message["target"];
        let manifest = message["manifest_path"].as_str().map(Path::new);
        if let (Some(name), Some(executable), Some(folder)) = (
            target["name"].as_str(),
            message["executable"].as_str(),
            manifest.and_then(Path::parent),
        ) {
            if message["profile"]["test"] == true {
                built.tests.push(Program {
                    folder: folder.to_owned(),
                    name: name.to_owned(),
                    integration: target["kind"][0] == "test",
                    executable: executable.into(),
                });
            } else {
                built.binaries.push((name.to_owned(), executable.into()));
            }
        }
    }
    Ok(built)
}

/// Runs all of them, also when one fails: as many groups at a time as there are lanes, in the order they come; those of a
/// group one after the other. Returns the number of tests that passed.
pub fn run(
    lanes: usize,
    groups: Vec<Vec<Program>>,
    one: impl Fn(&Program) -> Result<u64> + Sync,
) -> Result<u64> {
    let failed = Mutex::new(Vec::new());
    let passed = Mutex::new(0_u64);
    let waiting = Mutex::new(VecDeque::from(groups));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while let Some(group) = next() {
                    for program in &group {
                        match one(program) {
                            Ok(tests) => *passed.lock().unwrap_or_else(PoisonError::into_inner) += tests,
                            Err(error) => {
                                let label = program.label();
                                eprintln!("\nFAILED: {label}: {error:#}\n");
                                failed
                                    .lock()
                                    .unwrap_or_else(PoisonError::into_inner)
                                    .push(format!("{label}: {:#}", error.root_cause()));
                            }
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    let passed = passed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if passed == 0 {
        bail!("not one test ran");
    }
    Ok(passed)
}

/// Prints what a program of tests said at the end, and counts the tests that passed.
pub fn closing_lines(log: &Log, label: &str, result: Result<()>) -> Result<u64> {
    let text = String::from_utf8_lossy(&fs::read(log.path())?).into_owned();
    let mut passed = 0;
    for line in text.lines() {
        let Some(summary) = line.strip_prefix("test result: ") else {
            continue;
        };
        passed += count_passed(summary);
        if !summary.contains(" 0 passed; 0 failed") {
            // The program's own line, as it wrote it: other programs look for it.
            println!("    {label}\n{line}");
        }
    }
    result.map(|()| passed).map_err(|error| {
        let failures = failures(&text);
        if failures.is_empty() {
            error
        } else {
            anyhow!("{error}\n{failures}")
        }
    })
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
            // Of a program whose output is not captured.
            line if line.starts_with("Error: ") || line.contains("' panicked at ") => true,
            line if line.starts_with("test ") => false,
            _ => inside,
        };
        (inside && !is_passed_part(line)) || (line.starts_with("test ") && line.ends_with("FAILED"))
    });
    lines
        .take(FAILURE_LINES)
        .map(|line| format!("    {line}\n"))
        .collect()
}

/// Whether a test says of one of its many parts, as the scenarios are, that it passed.
fn is_passed_part(line: &str) -> bool {
    line.contains(" ... ok")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_cargo_built_for_tests_is_found() -> Result<()> {
        let line = |test: bool, kind: &str, name: &str| {
            serde_json::json!({
                "target": {"name": name, "kind": [kind]}, "profile": {"test": test},
                "executable": format!("/deps/{name}"), "manifest_path": "/x/processor/Cargo.toml",
            })
            .to_string()
        };
        let lines = [
            line(true, "test", "memory"),
            line(false, "bin", "processor"),
            line(true, "lib", "processor"),
            r#"{"reason": "build-finished", "success": true}"#.to_owned(),
        ];
        let built = parse(&lines.join("\n"))?;
        let found: Vec<_> = built
            .of("processor")
            .iter()
            .map(|program| (program.label(), program.integration))
            .collect();
        let expected = [("processor/memory", true), ("processor/processor", false)];
        assert_eq!(found, expected.map(|(label, test)| (label.to_owned(), test)));
        assert_eq!(built.without(&["e2e"]), built.tests);
        assert_eq!(built.without(&["processor"]), []);
        assert_eq!(built.binary("processor")?, "/deps/processor");
        assert!(built.binary("producer").is_err());
        Ok(())
    }

    #[test]
    fn all_run_and_the_failed_ones_are_named() {
        let ran = AtomicUsize::new(0);
        let groups = vec![
            vec![Program::named("one"), Program::named("two")],
            vec![Program::named("three")],
        ];
        let error = run(2, groups, |program| {
            ran.fetch_add(1, Ordering::Relaxed);
            match program.name.as_str() {
                "one" => Err(anyhow!("no")),
                _ => Ok(1),
            }
        });
        assert_eq!(ran.into_inner(), 3);
        assert_eq!(
            error.map_err(|error| error.to_string()),
            Err("tested/one: no".to_owned())
        );
    }

    /// Examples in documentation are run by rustdoc, which has to compile all libraries once more; so there are to be none.
    #[test]
    fn no_example_in_documentation_is_left_unrun() -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("no parent")?;
        let listed = Command::new("git")
            .current_dir(root)
            .args(["ls-files", "*.rs"])
            .output()?;
        let listed = String::from_utf8(listed.stdout)?;
        assert!(listed.lines().count() > 100, "git lists no sources");
        for path in listed
            .lines()
            .map(|path| root.join(path))
            .filter(|path| path.exists())
        {
            let text = fs::read_to_string(&path)?;
            let comments = text.lines().map(str::trim_start).filter_map(|line| {
                let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
                comment.map(str::trim)
            });
            let mut fences = comments.filter(|comment| comment.starts_with("```"));
            while let (Some(opening), Some(_)) = (fences.next(), fences.next()) {
                let is_no_rust = matches!(opening, "```text" | "```sh");
                assert!(is_no_rust, "{}: write it as a test", path.display());
            }
        }
        Ok(())
    }

    #[test]
    fn no_test_at_all_is_a_failure() {
        assert!(run(1, vec![vec![Program::named("one")]], |_| Ok(0)).is_err());
        assert_eq!(run(1, vec![vec![Program::named("one")]], |_| Ok(2)).ok(), Some(2));
    }

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
    fn failures_hold_the_errors_of_tests_whose_output_is_not_captured() {
        let text = "working\nError: no row\n\nCaused by:\n    no table\ntest b ... FAILED\nworking on\n";
        assert_eq!(
            failures(text),
            "    Error: no row\n    \n    Caused by:\n        no table\n    test b ... FAILED\n"
        );
    }

    #[test]
    fn failures_hold_what_failed_tests_printed_and_nothing_else() {
        let text = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\npart one ... ok (1 s)\nleft != right\n\n\
                    failures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed;\n";
        assert_eq!(
            failures(text),
            "    test b ... FAILED\n    ---- b stdout ----\n    left != right\n    \n"
        );
    }
}
