//! The cluster that everything runs in: kind where Docker answers, elsewhere the testbed (`testbed/cluster`).

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::images::Image;
use crate::progress::{Log, Progress};
use crate::workspace::{Workspace, is_root};
use crate::{docker, packages, tools};

const KIND_NAME: &str = "stockfeed";
const KIND_NODE: &str = "stockfeed-control-plane";

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cluster {
    /// A cluster in a Docker container.
    Kind,
    /// A cluster of programs compiled from source, running on this machine itself.
    Testbed,
}

/// How to talk to the cluster.
#[derive(Debug)]
pub struct Access {
    /// The folder of the two programs, for a search path.
    pub programs: PathBuf,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
}

impl Access {
    /// A `kubectl` command line.
    pub fn kubectl(&self) -> Command {
        self.program("kubectl")
    }

    /// A `helm` command line.
    pub fn helm(&self) -> Command {
        self.program("helm")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }
}

impl Cluster {
    /// The given one, or the one that fits this machine.
    pub fn choose(wanted: Option<Self>) -> Self {
        wanted.unwrap_or_else(|| {
            if docker::answers() {
                Self::Kind
            } else {
                Self::Testbed
            }
        })
    }

    /// What it is called in messages.
    pub fn title(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Testbed => "the testbed",
        }
    }

    /// Whether it is there, running or not.
    pub fn exists(self, workspace: &Workspace) -> bool {
        match self {
            Self::Kind => quiet(docker::command().args(["inspect", KIND_NODE])),
            Self::Testbed => workspace.testbed_state.join("etcd").exists(),
        }
    }

    /// Makes the programs that it consists of, and those that talk to it.
    pub fn prepare(self, workspace: &Workspace, progress: &Progress) -> Result<Access> {
        let access = Access {
            programs: workspace.artefacts.join("bin"),
            kubeconfig: self.kubeconfig(workspace),
        };
        let (kubectl, argument) = match self {
            Self::Kind => {
                tools::kind(workspace, progress)?;
                (tools::kubectl(workspace, progress)?, "")
            }
            Self::Testbed => {
                if !is_root() {
                    bail!(
                        "without Docker the cluster runs on this machine itself, which needs root: start Docker, or run this as root"
                    );
                }
                (programs(workspace, progress)?, "kubectl")
            }
        };
        let helm = tools::helm(workspace, progress)?;
        tools::write_wrapper(
            &access.programs.join("kubectl"),
            &access.kubeconfig,
            &kubectl,
            argument,
        )?;
        tools::write_wrapper(&access.programs.join("helm"), &access.kubeconfig, &helm, "")?;
        Ok(access)
    }

    /// Starts it, or what of it does not run.
    pub fn up(self, workspace: &Workspace, progress: &Progress, access: &Access) -> Result<()> {
        progress.step(
            &format!("Starting the cluster ({})", self.title()),
            "cluster-up",
            |log| match self {
                Self::Kind => self.kind_up(workspace, progress, access, log),
                Self::Testbed => log.run(testbed(workspace).arg("up")),
            },
        )
    }

    /// Brings images into it that it does not have.
    pub fn load(self, workspace: &Workspace, progress: &Progress, images: &[Image]) -> Result<()> {
        progress.step("Loading images into the cluster", "cluster-load", |log| {
            let present = self.present_images(workspace, log)?;
            for image in images
                .iter()
                .filter(|image| !present.contains(&image.reference()))
            {
                log.note(&format!("loading {}", image.reference()))?;
                match self {
                    Self::Kind => log.run(
                        Command::new(tools::kind(workspace, progress)?)
                            .args(["load", "image-archive", "--name", KIND_NAME])
                            .arg(&image.archive),
                    )?,
                    Self::Testbed => log.run(testbed(workspace).arg("load").arg(&image.archive))?,
                }
            }
            Ok(())
        })
    }

    /// Removes older images of ours, which nothing names any more.
    pub fn prune(self, workspace: &Workspace, log: &Log, images: &[Image]) -> Result<()> {
        match self {
            // Docker's own disk is the user's to look after.
            Self::Kind => Ok(()),
            Self::Testbed => log.run(
                testbed(workspace)
                    .arg("prune")
                    .args(images.iter().map(Image::reference)),
            ),
        }
    }

    /// Stops it and removes it, with all that it holds.
    pub fn down(self, workspace: &Workspace, progress: &Progress) -> Result<()> {
        progress.step(
            &format!("Removing the cluster ({})", self.title()),
            "cluster-down",
            |log| match self {
                Self::Kind => {
                    if self.exists(workspace) {
                        let kind = tools::kind(workspace, progress)?;
                        log.run(Command::new(kind).args(["delete", "cluster", "--name", KIND_NAME]))?;
                    }
                    let kubeconfig = self.kubeconfig(workspace);
                    if kubeconfig.exists() {
                        Ok(fs::remove_file(kubeconfig)?)
                    } else {
                        Ok(())
                    }
                }
                Self::Testbed if !workspace.testbed_state.exists() => log.note("nothing to remove"),
                Self::Testbed if !is_root() => bail!("the testbed runs as root; run this as root"),
                Self::Testbed => log.run(testbed(workspace).arg("down")),
            },
        )
    }

    fn kubeconfig(self, workspace: &Workspace) -> PathBuf {
        match self {
            Self::Kind => workspace.artefacts.join("kind.kubeconfig"),
            Self::Testbed => workspace.testbed_state.join("admin.kubeconfig"),
        }
    }

    fn kind_up(self, workspace: &Workspace, progress: &Progress, access: &Access, log: &Log) -> Result<()> {
        let kind = tools::kind(workspace, progress)?;
        let with_kubeconfig = |command: &mut Command| {
            command
                .args(["--name", KIND_NAME, "--kubeconfig"])
                .arg(&access.kubeconfig);
        };
        if self.exists(workspace) {
            // After a reboot Docker does not always start the node's container again.
            log.run(docker::command().args(["start", KIND_NODE]))?;
            let mut export = Command::new(&kind);
            with_kubeconfig(export.args(["export", "kubeconfig"]));
            log.run(&mut export)?;
        } else {
            let mut create = Command::new(&kind);
            with_kubeconfig(
                create
                    .args(["create", "cluster", "--wait", "180s", "--config"])
                    .arg(workspace.path("kind-config.yaml")),
            );
            log.run(&mut create)?;
        }
        log.run(access.kubectl().args([
            "wait",
            "--for=condition=Ready",
            "nodes",
            "--all",
            "--timeout=240s",
        ]))
    }

    fn present_images(self, workspace: &Workspace, log: &Log) -> Result<Vec<String>> {
        let list = match self {
            Self::Kind => log.output(docker::command().args([
                "exec",
                KIND_NODE,
                "ctr",
                "--namespace",
                "k8s.io",
                "images",
                "list",
                "--quiet",
            ]))?,
            Self::Testbed => log.output(testbed(workspace).arg("images"))?,
        };
        Ok(list.lines().map(str::to_owned).collect())
    }
}

/// The program that holds all programs of Kubernetes, compiled.
pub fn programs(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    packages::ensure(workspace, progress, &[packages::TESTBED])?;
    tools::require_go(workspace)?;
    progress.step(
        "Compiling Kubernetes (5 to 10 minutes when cold)",
        "cluster-build",
        |log| log.run(testbed(workspace).arg("build")),
    )?;
    Ok(workspace.testbed_state.join("bin/kube"))
}

fn testbed(workspace: &Workspace) -> Command {
    let mut command = Command::new(workspace.path("testbed/cluster"));
    // A user's search path often lacks the folders where iptables and others live.
    let search_path = format!("{}:/usr/local/sbin:/usr/sbin:/sbin", workspace.search_path);
    command
        .env("STATE", &workspace.testbed_state)
        .env("PATH", search_path);
    command
}

fn quiet(command: &mut Command) -> bool {
    let silent = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}
