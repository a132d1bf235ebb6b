//! A processor as a process of its own.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use contract::config::ProcessorConfig;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::feed::PATIENCE;

const SIGKILL: i32 = 9;

/// Ends, by SIGKILL, with this value.
pub struct Replica {
    pub instance: String,
    child: Child,
    log: PathBuf,
    _folder: TempDir,
}

/// Where replicas write their logs: one folder a test.
pub fn logs(test: &str) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

impl Replica {
    /// Starts one. `points` is what variable `FAILPOINTS` holds. Without any it is the shipped program, where `STOCKFEED_TEST_PROCESSOR`
    /// says where that lies: it is several times as fast, and its memory is the one that users pay for.
    pub fn start(config: &ProcessorConfig, instance: &str, points: &str, logs: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("config.json");
        std::fs::write(&file, config.render())?;
        let log = logs.join(format!("{instance}.log"));
        let output = File::create(&log)?;
        let own = env!("CARGO_BIN_EXE_processor").into();
        let program = match points {
            "" => std::env::var_os("STOCKFEED_TEST_PROCESSOR").unwrap_or(own),
            _ => own,
        };
        let child = Command::new(program)
            .arg("--config")
            .arg(&file)
            .args(["--instance", instance, "--log-format", "text"])
            .env("FAILPOINTS", points)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start a processor")?;
        Ok(Self {
            instance: instance.to_owned(),
            child,
            log,
            _folder: folder,
        })
    }

    /// Sends a signal: `KILL`, `TERM`, `STOP`, `CONT`.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let process = self.child.id().context("the replica has ended already")?;
        let status = Command::new("kill")
            .args(["-s", name, &process.to_string()])
            .status()
            .await?;
        ensure!(status.success(), "kill -s {name} {process} ended with {status}");
        Ok(())
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// Ends it by SIGKILL. Whether that is how it ended: it may have been faster.
    pub async fn kill(mut self) -> Result<bool> {
        self.child.kill().await?;
        Ok(was_killed(self.ended().await?))
    }

    /// Ends it by SIGTERM; it must hand over and say that all is well.
    pub async fn drain(mut self) -> Result<()> {
        self.signal("TERM").await?;
        let status = tokio::time::timeout(PATIENCE, self.ended())
            .await
            .with_context(|| format!("{} did not drain", self.log.display()))??;
        ensure!(status.success(), "{} ended with {status}", self.log.display());
        Ok(())
    }

    /// Its memory in KiB, as `/proc/PID/status` says under this name.
    pub fn memory(&self, name: &str) -> Result<u64> {
        let process = self.child.id().context("the replica has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("/proc/{process}/status has no {name}"))
    }
}

pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(SIGKILL)
}
