//! A real PostgreSQL and a real RabbitMQ for component tests and the benchmark, on loopback, without a cluster.
//!
//! Where Docker answers they are containers of the official images. Elsewhere each runs in its unpacked root file system,
//! read-only, as user 999, in a process namespace of its own: when this tool ends, however it ends, the kernel
//! ends the namespace and everything in it.
//!
//! All tests share one pair. A test that kills servers gets a pair of its own ([`control`]).
//!
//! Superset comes with the pair that tests share: it starts beside everything else, and who needs it waits ([`superset`]).

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::progress::Progress;
use crate::rootfs::{POSTGRES, RABBITMQ};
use crate::workspace::{Workspace, is_root};
use crate::{docker, packages, python};

mod container;
mod control;
mod pair;
mod ports;
mod process;
mod purpose;
mod superset;
mod tls;

use control::Control;
use pair::{Kind, Origin, Pair};
use superset::Superset;

pub use pair::Processes;
pub use purpose::Purpose;

/// Two running servers, and the way to more of them; all end with this value.
#[derive(Debug)]
pub struct Servers {
    // Ends first: its pairs' folders lie in that of the pair that all share.
    _control: Control,
    // Before the database that it works on.
    superset: Option<Superset>,
    pair: Pair,
    environment: Vec<(&'static str, String)>,
    // Held, not read: the locks say to other runs that this one lives.
    _locks: Vec<File>,
}

impl Servers {
    /// Starts both servers and waits until they answer.
    ///
    /// Call it from the main thread: the servers end when the thread that started them does.
    pub fn start(workspace: &Workspace, progress: &Progress, purpose: Purpose) -> Result<Self> {
        let origin = origin(workspace, progress)?;
        let python = match purpose {
            Purpose::Tests { superset: true } => {
                Some(python::environment(workspace, progress, python::SUPERSET)?)
            }
            Purpose::Tests { superset: false } | Purpose::Benchmark => None,
        };
        progress.step(
            match purpose {
                Purpose::Tests { .. } => "Starting PostgreSQL and RabbitMQ for the tests",
                Purpose::Benchmark => "Starting PostgreSQL and RabbitMQ for the benchmark",
            },
            "servers",
            |log| {
                let parent = workspace.artefacts.join("servers");
                fs::create_dir_all(&parent)?;
                remove_stale(&parent)?;
                let name = std::process::id().to_string();
                let folder = parent.join(&name);
                fs::create_dir_all(&folder)?;
                let own = File::create(folder.join("lock"))?;
                own.lock()?;
                let mut locks = vec![own];
                match &origin {
                    Origin::Docker => container::remove_stale(log)?,
                    Origin::Folders { postgres, rabbitmq } => {
                        for root in [postgres, rabbitmq] {
                            let root = File::open(root)?;
                            root.lock_shared()?;
                            locks.push(root);
                        }
                    }
                }
                let pair = Pair::start(&origin, purpose, &name, folder.clone(), log)?;
                let mut environment = pair.environment();
                let superset = python.as_ref().map(|python| {
                    Superset::start(workspace, progress, python, &folder, pair.postgres_port())
                });
                let superset = superset.transpose()?;
                environment.extend(superset.iter().flat_map(Superset::environment));
                let readiness = superset.as_ref().map(Superset::readiness);
                let control = Control::listen(origin, &folder, progress, readiness)?;
                let socket = control.path().display().to_string();
                environment.push(("STOCKFEED_TEST_CONTROL", socket));
                Ok(Self {
                    _control: control,
                    superset,
                    pair,
                    environment,
                    _locks: locks,
                })
            },
        )
    }

    /// What the tests read to find the servers.
    pub fn environment(&self) -> &[(&'static str, String)] {
        &self.environment
    }

    /// Where the servers run, as this machine numbers processes.
    pub fn processes(&self) -> Result<Processes> {
        self.pair.processes()
    }

    /// Blocks until one of the servers has ended.
    pub fn wait(&mut self) -> Result<()> {
        loop {
            thread::sleep(Duration::from_millis(500));
            let folder = self.pair.folder().display().to_string();
            self.pair
                .check()
                .with_context(|| format!("the servers' logs lie in {folder}"))?;
            self.superset.as_ref().map_or(Ok(()), Superset::check)?;
        }
    }
}

/// Makes what servers are started from.
fn origin(workspace: &Workspace, progress: &Progress) -> Result<Origin> {
    if docker::answers() {
        return Ok(Origin::Docker);
    }
    if !is_root() {
        bail!(
            "the test servers need Docker, or root (they run in a namespace of their own); run this as root"
        );
    }
    packages::ensure(workspace, progress, &[packages::ROOT_FILE_SYSTEMS])?;
    Ok(Origin::Folders {
        postgres: POSTGRES.ensure_folder(workspace, progress)?,
        rabbitmq: RABBITMQ.ensure_folder(workspace, progress)?,
    })
}

/// Removes what earlier runs left that could not clean up after themselves.
fn remove_stale(parent: &Path) -> Result<()> {
    for entry in fs::read_dir(parent)? {
        let folder = entry?.path();
        let alive = File::open(folder.join("lock")).is_ok_and(|lock| lock.try_lock().is_err());
        if !alive {
            fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
        }
    }
    Ok(())
}
