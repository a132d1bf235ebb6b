//! Python programs, each list of them in an environment of its own: those that judge the producer's API, a scanner, Superset.

use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::packages;
use crate::progress::{Log, Progress};
use crate::workspace::{Workspace, hash_text};

/// What judges the producer's API.
pub const API: &str = "workers/producer/tests/openapi/requirements.txt";

/// Superset, as its image has it.
pub const SUPERSET: &str = "superset/server/requirements.txt";

/// What makes the environments that pip would need minutes for.
const UV: &str = "xtask/python/requirements.txt";

/// The minor versions of Python 3 that have all packages of [`SUPERSET`].
const SUPERSET_VERSIONS: RangeInclusive<u32> = 11..=12;

/// Any that makes environments.
const ANY_VERSION: RangeInclusive<u32> = 0..=u32::MAX;

/// Ends well when Python can make an environment and is of a version between two. Debian has the modules in a package of its own.
const SUITS: &str =
    "import ensurepip, sys, venv; sys.exit(not int(sys.argv[1]) <= sys.version_info[1] <= int(sys.argv[2]))";

/// Makes an environment of a file of requirements unless the cache has it; returns the folder of its programs.
pub fn environment(workspace: &Workspace, progress: &Progress, requirements: &str) -> Result<PathBuf> {
    let versions = match requirements {
        SUPERSET => SUPERSET_VERSIONS,
        _ => ANY_VERSION,
    };
    let python = python(workspace, progress, &versions)?;
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
    let uv = match requirements {
        SUPERSET => Some(installer(workspace, progress)?),
        _ => None,
    };
    progress.step(
        &format!("Installing the Python programs of {requirements}"),
        "python",
        |log| {
            // Two runs at once must not make the same thing; the lock ends with the file.
            let lock = File::create(folder.with_extension("lock"))?;
            lock.lock()?;
            if !whole.exists() {
                make(log, &python, &folder, &file, uv.as_deref())?;
                File::create(&whole)?;
            }
            Ok(())
        },
    )?;
    Ok(programs)
}

/// The caller's own Python, or Debian's.
fn python(workspace: &Workspace, progress: &Progress, versions: &RangeInclusive<u32>) -> Result<PathBuf> {
    let find = || {
        ["python3", "python3.12", "python3.11"]
            .into_iter()
            .filter_map(|name| workspace.find_program(name))
            .chain([PathBuf::from("/usr/bin/python3")])
            .find(|python| suits(python, versions))
    };
    if let Some(python) = find() {
        return Ok(python);
    }
    packages::install(workspace, progress, packages::PYTHON)?;
    find().with_context(|| {
        format!(
            "found no Python 3 of a minor version from {} to {} that makes environments",
            versions.start(),
            versions.end()
        )
    })
}

fn suits(python: &Path, versions: &RangeInclusive<u32>) -> bool {
    Command::new(python)
        .args([
            "-c",
            SUITS,
            &versions.start().to_string(),
            &versions.end().to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn make(log: &Log, python: &Path, folder: &Path, requirements: &Path, uv: Option<&Path>) -> Result<()> {
    log.run(Command::new(python).args(["-m", "venv", "--clear"]).arg(folder))?;
    let own = folder.join("bin/python");
    if let Some(uv) = uv {
        let mut install = Command::new(uv);
        install
            .args(["pip", "install", "--no-config", "--system-certs"])
            .args(["--compile-bytecode", "--link-mode", "copy", "--require-hashes"])
            .arg("--python")
            .arg(own)
            .arg("--requirement")
            .arg(requirements)
            .envs(sources(log, uv)?);
        return log.run(&mut install);
    }
    log.run(
        Command::new(own)
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

/// The program that installs large environments.
pub fn installer(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    Ok(environment(workspace, progress, UV)?.join("uv"))
}

/// What to set so that uv installs from where pip is told to: where a machine has a mirror, pip knows of it.
pub fn sources(log: &Log, uv: &Path) -> Result<Vec<(&'static str, String)>> {
    let pip = log.output(Command::new(uv.with_file_name("python")).args(["-m", "pip", "config", "list"]))?;
    let sources = [("UV_DEFAULT_INDEX", "index-url"), ("SSL_CERT_FILE", "cert")];
    let found = sources
        .into_iter()
        .filter_map(|(variable, name)| Some((variable, setting(&pip, name)?.to_owned())));
    Ok(found.collect())
}

/// The value of a setting of pip's, as `pip config list` says it; the environment's, which comes first, before a file's.
fn setting<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    list.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.rsplit_once('.')?.1 == name).then(|| value.trim_matches('\''))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_pip_installs_from_is_read_from_what_it_says() {
        let list = ":env:.index-url='https://first.invalid/simple'\nglobal.index-url='https://second.invalid/simple'\nglobal.cert='/ca.crt'";
        assert_eq!(setting(list, "index-url"), Some("https://first.invalid/simple"));
        assert_eq!(setting(list, "cert"), Some("/ca.crt"));
        assert_eq!(setting(list, "timeout"), None);
    }
}
