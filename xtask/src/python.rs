//! Python programs, each list of them in an environment of its own: those that judge the producer's API, and a scanner.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::packages;
use crate::progress::{Log, Progress};
use crate::workspace::{Workspace, hash_text};

/// What judges the producer's API.
pub const API: &str = "workers/producer/tests/openapi/requirements.txt";

/// What Python must be able to import to make an environment. Debian has it in a package of its own.
const NEEDED_MODULES: &str = "import venv, ensurepip";

/// Makes an environment of a file of requirements unless the cache has it; returns the folder of its programs.
pub fn environment(workspace: &Workspace, progress: &Progress, requirements: &str) -> Result<PathBuf> {
    let python = python(workspace, progress)?;
    let file = workspace.path(requirements);
    let text = fs::read_to_string(&file).with_context(|| format!("failed to read {requirements}"))?;
    // An environment is of one version of Python.
    let version = Command::new(&python)
        .arg("--version")
        .output()
        .context("failed to ask Python for its version")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let folder = workspace
        .cache
        .join(format!("python-{}", hash_text(&format!("{version}{text}"))));
    let programs = folder.join("bin");
    // Scripts in an environment hold its path, so it is made where it stays, and this says that it is whole.
    let whole = folder.join("whole");
    if whole.exists() {
        return Ok(programs);
    }
    progress.step(
        &format!("Installing the Python programs of {requirements}"),
        "python",
        |log| {
            // Two runs at once must not make the same thing; the lock ends with the file.
            let lock = File::create(folder.with_extension("lock"))?;
            lock.lock()?;
            if !whole.exists() {
                make(log, &python, &folder, &file)?;
                File::create(&whole)?;
            }
            Ok(())
        },
    )?;
    Ok(programs)
}

/// The caller's own Python, or Debian's.
fn python(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    if let Some(python) = workspace.find_program("python3")
        && makes_environments(&python)
    {
        return Ok(python);
    }
    packages::install(workspace, progress, packages::PYTHON)?;
    Ok(PathBuf::from("/usr/bin/python3"))
}

fn makes_environments(python: &Path) -> bool {
    Command::new(python)
        .args(["-c", NEEDED_MODULES])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn make(log: &Log, python: &Path, folder: &Path, requirements: &Path) -> Result<()> {
    log.run(Command::new(python).args(["-m", "venv", "--clear"]).arg(folder))?;
    log.run(
        Command::new(folder.join("bin/python"))
            .args([
                "-m",
                "pip",
                "install",
                "--no-input",
                "--disable-pip-version-check",
            ])
            .arg("--requirement")
            .arg(requirements),
    )
}
