//! The dashboard's web page: Node and npm's packages, its build, its checks, and its pages in a browser.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::packages;
use crate::progress::{Log, Progress};
use crate::python;
use crate::workspace::{Workspace, hash_files, hash_text};

/// What `cargo xtask web` does.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum What {
    /// Make workers/dashboard/web/dist, which the dashboard's program holds
    Build,
    /// Check types and style, and run the unit tests
    Check,
    /// Open every page in a browser, against a mock server with 1,000 feeds
    Browser,
}

const FOLDER: &str = "workers/dashboard/web";
/// The list of Python packages that brings Node where there is none, or an old one.
const NODE: &str = "xtask/node/requirements.txt";
/// What the page is made of.
const SOURCES: &[&str] = &[
    ".npmrc",
    "package.json",
    "package-lock.json",
    "index.html",
    "tsconfig.json",
    "vite.config.ts",
    "public",
    "src",
];
/// What decides which packages there are.
const LISTS: &[&str] = &[".npmrc", "package.json", "package-lock.json"];
/// Debian's Chromium.
const CHROMIUM: &str = "chromium";

/// `cargo xtask web`.
pub fn run(workspace: &Workspace, progress: &Progress, what: What) -> Result<()> {
    match what {
        What::Build => build(workspace, progress),
        What::Check => check(workspace, progress).map(|said| println!("{said}")),
        What::Browser => browser(workspace, progress).map(|said| println!("{said}")),
    }
}

/// Builds the page, unless it is there and its sources are what they were.
pub fn build(workspace: &Workspace, progress: &Progress) -> Result<()> {
    let folder = workspace.path(FOLDER);
    let made = folder.join("dist/index.html");
    let stamp = workspace.artefacts.join("web-built");
    let sources = hash_files(&paths(&folder, SOURCES))?;
    let is_made =
        || made.exists() && fs::read_to_string(&stamp).is_ok_and(|built| built.trim() == sources.as_str());
    if is_made() {
        return Ok(());
    }
    let node = node(workspace, progress)?;
    progress.step("Building the dashboard's page", "web-build", |log| {
        let _lock = lock(workspace)?;
        if is_made() {
            return Ok(());
        }
        node.install_packages(log)?;
        // What is half made has no stamp.
        let _ = fs::remove_file(&stamp);
        log.run(&mut node.npm(&["run", "build"]))?;
        Ok(fs::write(&stamp, &sources)?)
    })
}

/// Checks types and style, and runs the unit tests; says how many passed.
pub fn check(workspace: &Workspace, progress: &Progress) -> Result<String> {
    let node = node(workspace, progress)?;
    progress.step("Checking the dashboard's page", "web-check", |log| {
        {
            let _lock = lock(workspace)?;
            node.install_packages(log)?;
        }
        log.run(&mut node.npm(&["run", "check"]))?;
        log.run(node.npm(&["test"]).env("NO_COLOR", "1"))?;
        passed(&fs::read_to_string(log.path())?)
    })
}

/// Opens every page in a browser, against the mock server: what the page does, whatever the cluster does. The end-to-end test
/// opens them against the dashboard itself.
pub fn browser(workspace: &Workspace, progress: &Progress) -> Result<String> {
    build(workspace, progress)?;
    let environment = browser_environment(workspace, progress)?;
    let node = node(workspace, progress)?;
    progress.step(
        "Opening the dashboard's pages in a browser, against a mock",
        "web-browser",
        |log| {
            log.run(
                node.npm(&["run", "--silent", "browser"])
                    .envs(environment.iter().map(|(name, value)| (name, value))),
            )?;
            fs::read_to_string(log.path())?
                .lines()
                .last()
                .map(str::to_owned)
                .context("the browser's tests said nothing")
        },
    )
}

/// What a test needs to run `tests/browser.mjs` itself: Node, its script, Chromium, and where pictures go.
pub fn browser_environment(
    workspace: &Workspace,
    progress: &Progress,
) -> Result<Vec<(&'static str, String)>> {
    packages::ensure(workspace, progress, &[packages::BROWSER])?;
    let chromium = workspace
        .find_program(CHROMIUM)
        .context("there is no chromium on the search path")?;
    let node = node(workspace, progress)?;
    progress.step(
        "Installing the packages of the dashboard's page",
        "web-packages",
        |log| {
            let _lock = lock(workspace)?;
            node.install_packages(log)
        },
    )?;
    let folder = workspace.path(FOLDER);
    let artefacts = workspace.artefacts.join("test/dashboard");
    Ok(vec![
        ("STOCKFEED_NODE", node.node.display().to_string()),
        (
            "STOCKFEED_BROWSER_TESTS",
            folder.join("tests/browser.mjs").display().to_string(),
        ),
        ("CHROMIUM", chromium.display().to_string()),
        ("DASHBOARD_ARTEFACTS", artefacts.display().to_string()),
    ])
}

/// Node and its npm, which lie in one folder, and the page's folder.
struct Node {
    node: PathBuf,
    programs: PathBuf,
    search_path: String,
    folder: PathBuf,
}

/// The caller's own Node where it is new enough, else one that comes as a Python package: Debian's may be too old.
fn node(workspace: &Workspace, progress: &Progress) -> Result<Node> {
    let own = workspace
        .find_program("node")
        .filter(|node| node.with_file_name("npm").exists() && is_new_enough(&version(node)));
    let node = match own {
        Some(node) => node,
        None => python::environment(workspace, progress, NODE)?.join("node"),
    };
    let programs = node.parent().context("node lies in no folder")?.to_path_buf();
    Ok(Node {
        node,
        search_path: workspace.search_path.clone(),
        programs,
        folder: workspace.path(FOLDER),
    })
}

impl Node {
    fn npm(&self, arguments: &[&str]) -> Command {
        let mut npm = Command::new(self.programs.join("npm"));
        npm.current_dir(&self.folder)
            .env(
                "PATH",
                format!("{}:{}", self.programs.display(), self.search_path),
            )
            .args(arguments);
        npm
    }

    /// Installs just what the lockfile names, checked by its hashes; nothing of it runs while it is installed.
    fn install_packages(&self, log: &Log) -> Result<()> {
        let lists = hash_files(&paths(&self.folder, LISTS))?;
        let wanted = hash_text(&format!("{lists} {}", version(&self.node)));
        let stamp = self.folder.join("node_modules/.stockfeed");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        log.run(&mut self.npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund"]))?;
        Ok(fs::write(&stamp, wanted)?)
    }
}

/// Two at once must not install, or build, the same thing; it ends with the value.
fn lock(workspace: &Workspace) -> Result<File> {
    let lock = File::create(workspace.artefacts.join("web.lock"))?;
    lock.lock()?;
    Ok(lock)
}

fn paths(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| folder.join(name)).collect()
}

fn version(node: &Path) -> String {
    let output = Command::new(node).arg("--version").output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// Whether a version is one of those that package.json names.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version
        .trim_start_matches('v')
        .split('.')
        .map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(20), Some(minor)) => minor >= 19,
        (Some(22), Some(minor)) => minor >= 12,
        (Some(major), _) => major >= 24,
        _ => false,
    }
}

/// What vitest says of its tests, as in "Tests  58 passed (58)".
fn passed(said: &str) -> Result<String> {
    let line = said
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("Tests "));
    match line.and_then(|line| line.split_whitespace().nth(1)) {
        Some(count) if count != "0" => Ok(format!("{count} tests")),
        _ => bail!("not one test ran"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_new_enough_as_package_json_says() {
        for (version, expected) in [
            ("v20.20.2", true),
            ("v20.18.1", false),
            ("v18.20.4", false),
            ("v21.7.3", false),
            ("v22.12.0", true),
            ("v22.11.0", false),
            ("v23.1.0", false),
            ("v24.0.0", true),
            ("", false),
        ] {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
    }

    #[test]
    fn passed_tests_are_counted_and_none_is_a_failure() -> Result<()> {
        assert_eq!(
            passed(" Test Files  7 passed (7)\n      Tests  58 passed (58)\n")?,
            "58 tests"
        );
        assert!(passed("No test files found\n").is_err());
        Ok(())
    }
}
