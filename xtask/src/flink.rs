//! The web page of Apache Flink, for the test that opens it in front of the dashboard. It is fetched, and neither kept here nor shipped.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::progress::Progress;
use crate::python;
use crate::workspace::{Workspace, hex};

/// What fetches it.
const REQUIREMENTS: &str = "e2e/flink/requirements.txt";
/// The archive that holds it, by its coordinates.
const ARTIFACT: &str = "org.apache.flink:flink-runtime-web:1.20.5";
const SHA256: &str = "948e1b0d42fe99288cfddc3b10d7f7d20ee6a59a5ccae6d241807a8c25a12d88";

/// The folder of the page, fetched unless the cache has it.
pub fn page(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    let folder = workspace.cache.join(format!("flink-web-{}", &SHA256[..12]));
    let page = folder.join("web");
    let whole = folder.join("whole");
    if whole.exists() {
        return Ok(page);
    }
    let programs = python::environment(workspace, progress, REQUIREMENTS)?;
    progress.step("Fetching the web page of Flink", "flink-web", |log| {
        fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        // Two runs at once must not make the same thing; the lock ends with the file.
        let lock = File::create(folder.with_extension("lock"))?;
        lock.lock()?;
        if whole.exists() {
            return Ok(());
        }
        let archive = folder.join("flink-runtime-web.jar");
        log.run(
            Command::new(programs.join("maven-artifact"))
                .arg(ARTIFACT)
                .arg(&archive),
        )?;
        let found = hex(&Sha256::digest(fs::read(&archive)?));
        if found != SHA256 {
            bail!("{ARTIFACT} has the hash {found}, not {SHA256}");
        }
        log.run(
            Command::new(programs.join("python"))
                .args(["-m", "zipfile", "-e"])
                .arg(&archive)
                .arg(&folder),
        )?;
        File::create(&whole)?;
        Ok(())
    })?;
    Ok(page)
}
