//! Scripts that drive a browser.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::say;

/// A variable that `cargo xtask test` sets.
///
/// # Errors
/// When it is not set.
pub fn variable(name: &str) -> Result<String> {
    std::env::var_os(name)
        .and_then(|value| value.into_string().ok())
        .with_context(|| format!("{name} is not set; run cargo xtask test"))
}

/// Where the pictures of a test go.
///
/// # Errors
/// When `STOCKFEED_ARTEFACTS` is not set.
pub fn artefacts(folder: &str) -> Result<PathBuf> {
    Ok(PathBuf::from(variable("STOCKFEED_ARTEFACTS")?).join(folder))
}

/// Runs a script with these variables, and repeats what it says.
///
/// # Errors
/// When it finds faults.
pub async fn run(script: &Path, variables: &[(&str, &OsStr)]) -> Result<()> {
    let output = Command::new(variable("STOCKFEED_NODE")?)
        .arg(script)
        .envs(variables.iter().copied())
        .kill_on_drop(true)
        .output()
        .await
        .context("failed to start Node")?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        say(line);
    }
    ensure!(
        output.status.success(),
        "{} found faults: {}",
        script.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
