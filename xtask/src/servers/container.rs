//! A server as a Docker container of its official image.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Kind, ports::Ports, purpose::Purpose, tls};
use crate::docker;
use crate::progress::Log;

/// Tells containers of ours from others; the value is the process that they belong to.
const LABEL: &str = "dev.stockfeed.test-server";

/// A container that was started. It is removed with this value.
#[derive(Debug)]
pub(super) struct Container {
    name: String,
    stopped: bool,
}

impl Container {
    /// Starts one; `pair` tells it from those of other pairs. In `certificates` lies what TLS needs.
    pub(super) fn new(
        kind: Kind,
        purpose: Purpose,
        pair: &str,
        ports: Ports,
        certificates: &Path,
        log: &Log,
    ) -> Result<Self> {
        let mut postgres = vec!["postgres"];
        postgres.extend(purpose.postgres().iter().flat_map(|setting| ["-c", setting]));
        if purpose.tls() {
            postgres.extend(tls::POSTGRES.iter().flat_map(|setting| ["-c", setting]));
        }
        let initdb = format!("POSTGRES_INITDB_ARGS={}", purpose.initdb());
        let (image, publish, environment, command) = match kind {
            Kind::Postgres => (
                "postgres:17",
                vec![(ports.postgres, 5432)],
                vec!["POSTGRES_PASSWORD=postgres", &initdb],
                postgres,
            ),
            Kind::Rabbitmq => (
                "rabbitmq:4-management",
                vec![
                    (ports.amqp, 5672),
                    (ports.management, 15672),
                    (ports.amqps, ports.amqps),
                    (ports.management_tls, ports.management_tls),
                ],
                vec!["RABBITMQ_DEFAULT_USER=guest"],
                vec!["rabbitmq-server"],
            ),
        };
        let name = format!("stockfeed-test-{kind}-{pair}");
        let owner = std::process::id();
        let mut run = docker::command();
        // Not `--rm`: one that is killed would lose its data, and could not be started again.
        run.args(["run", "--detach", "--name", &name]);
        run.args(["--label", &format!("{LABEL}={owner}")]);
        for (outside, inside) in publish {
            run.args(["--publish", &format!("127.0.0.1:{outside}:{inside}")]);
        }
        // Before it runs: a container that could not start is there all the same, and is removed with this value.
        let container = Self { name, stopped: false };
        for variable in environment {
            run.args(["--env", variable]);
        }
        if purpose.tls() {
            // The image's own user must own the key, whoever runs this; the container begins as root.
            let prepare = format!(
                "set -e; mkdir {0}; cp /certificates/* {0}; chown -R {kind}: {0}; chmod 600 {0}/server.key; exec docker-entrypoint.sh \"$@\"",
                tls::FOLDER
            );
            run.args([
                "--volume",
                &format!("{}:/certificates:ro", certificates.display()),
            ]);
            if kind == Kind::Rabbitmq {
                let file = certificates.join("20-tls.conf");
                fs::write(&file, tls::rabbitmq("0.0.0.0", ports))?;
                let inside = "/etc/rabbitmq/conf.d/20-tls.conf";
                run.args(["--volume", &format!("{}:{inside}:ro", file.display())]);
            }
            run.args([
                "--entrypoint",
                "bash",
                image,
                "-c",
                &prepare,
                "docker-entrypoint.sh",
            ]);
        } else {
            run.arg(image);
        }
        log.run(run.args(command))?;
        Ok(container)
    }

    /// The process that all others in it are under, as this machine numbers it.
    pub(super) fn id(&self) -> Result<u32> {
        let output = docker::command()
            .args(["inspect", "--format", "{{.State.Pid}}", &self.name])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.trim().parse().context("docker names no process")
    }

    /// Starts it again.
    pub(super) fn start(&self) -> Result<()> {
        self.docker("start")
    }

    /// Ends every process in it at once.
    pub(super) fn kill(&mut self) -> Result<()> {
        // Docker does not kill what it has paused.
        self.resume()?;
        self.docker("kill")
    }

    /// Stops every process in it; SIGSTOP would stop the first only.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.docker("pause")?;
        self.stopped = true;
        Ok(())
    }

    /// Lets the processes go on.
    pub(super) fn resume(&mut self) -> Result<()> {
        if std::mem::take(&mut self.stopped) {
            self.docker("unpause")?;
        }
        Ok(())
    }

    fn docker(&self, verb: &str) -> Result<()> {
        let status = quiet(docker::command().args([verb, &self.name])).status()?;
        if !status.success() {
            bail!("docker {verb} {} ended with {status}", self.name);
        }
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = quiet(docker::command().args(["rm", "--force", "--volumes", &self.name])).status();
    }
}

/// Removes what runs left that could not clean up after themselves.
pub(super) fn remove_stale(log: &Log) -> Result<()> {
    let filter = format!("label={LABEL}");
    let all = log.output(docker::command().args(["ps", "--all", "--quiet", "--filter", &filter]))?;
    for stale in all.lines() {
        let format = format!("{{{{index .Config.Labels \"{LABEL}\"}}}}");
        let owner = log.output(docker::command().args(["inspect", "--format", &format, stale]))?;
        if !Path::new("/proc").join(owner.trim()).exists() {
            log.run(docker::command().args(["rm", "--force", "--volumes", stale]))?;
        }
    }
    Ok(())
}

fn quiet(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}
