//! One PostgreSQL and one RabbitMQ that belong together, and what can be done to each.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::container::Container;
use super::ports::Ports;
use super::process::Process;
use super::purpose::Purpose;
use crate::progress::Log;

const READY_WITHIN: Duration = Duration::from_secs(120);

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Postgres,
    Rabbitmq,
}

impl Kind {
    const BOTH: [Self; 2] = [Self::Postgres, Self::Rabbitmq];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Rabbitmq => "rabbitmq",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let kind = Self::BOTH.into_iter().find(|kind| kind.name() == text);
        kind.with_context(|| format!("{text:?} is neither postgres nor rabbitmq"))
    }
}

/// What servers are started from: unpacked root file systems, or Docker's images.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Folders { postgres: PathBuf, rabbitmq: PathBuf },
    Docker,
}

/// Two running servers. They end with this value, and processes also with the thread that started them.
#[derive(Debug)]
pub(super) struct Pair {
    postgres: Instance,
    rabbitmq: Instance,
    ports: Ports,
    folder: PathBuf,
}

/// The processes that all processes of a server are under.
#[derive(Clone, Copy, Debug)]
pub struct Processes {
    /// RabbitMQ's.
    pub broker: u32,
    /// PostgreSQL's.
    pub database: u32,
}

#[derive(Debug)]
enum Instance {
    Process(Process),
    Container(Container),
}

impl Pair {
    /// Starts both and waits until they answer. `folder` is theirs alone, and goes with them.
    pub(super) fn start(
        origin: &Origin,
        purpose: Purpose,
        name: &str,
        folder: PathBuf,
        log: &Log,
    ) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let ports = Ports::free()?;
        let tls = folder.join("tls");
        if purpose.tls() {
            super::tls::make(&tls)?;
        }
        let start = |kind| {
            Ok::<_, anyhow::Error>(match (origin, kind) {
                (Origin::Folders { postgres, .. }, Kind::Postgres) => {
                    Instance::Process(Process::new(kind, purpose, postgres, &folder, ports)?)
                }
                (Origin::Folders { rabbitmq, .. }, Kind::Rabbitmq) => {
                    Instance::Process(Process::new(kind, purpose, rabbitmq, &folder, ports)?)
                }
                (Origin::Docker, _) => {
                    Instance::Container(Container::new(kind, purpose, name, ports, &tls, log)?)
                }
            })
        };
        let mut pair = Self {
            postgres: start(Kind::Postgres)?,
            rabbitmq: start(Kind::Rabbitmq)?,
            ports,
            folder,
        };
        for kind in Kind::BOTH {
            if let Err(error) = pair.wait_until_ready(kind) {
                pair.copy_logs(log)?;
                return Err(error);
            }
        }
        Ok(pair)
    }

    /// What a test reads to find them.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = self.ports.environment();
        environment.push((
            "STOCKFEED_TEST_TLS",
            self.folder.join("tls").display().to_string(),
        ));
        environment
    }

    /// Where the database listens on loopback.
    pub(super) const fn postgres_port(&self) -> u16 {
        self.ports.postgres
    }

    /// Where their data and logs lie.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a server that was killed, with the same data on the same ports, and waits until it answers.
    pub(super) fn start_again(&mut self, kind: Kind) -> Result<()> {
        match self.instance(kind) {
            Instance::Process(process) => process.start()?,
            Instance::Container(container) => container.start()?,
        }
        self.wait_until_ready(kind)
    }

    /// Ends a server as SIGKILL does; its data stays.
    pub(super) fn kill(&mut self, kind: Kind) -> Result<()> {
        match self.instance(kind) {
            Instance::Process(process) => process.kill(),
            Instance::Container(container) => container.kill(),
        }
    }

    /// Stops a server as SIGSTOP does: connections stay, nothing answers.
    pub(super) fn stop(&mut self, kind: Kind) -> Result<()> {
        match self.instance(kind) {
            Instance::Process(process) => process.stop(),
            Instance::Container(container) => container.stop(),
        }
    }

    /// Lets a stopped server go on.
    pub(super) fn resume(&mut self, kind: Kind) -> Result<()> {
        match self.instance(kind) {
            Instance::Process(process) => process.resume(),
            Instance::Container(container) => container.resume(),
        }
    }

    /// Where the servers run.
    pub(super) fn processes(&self) -> Result<Processes> {
        let id = |instance: &Instance| match instance {
            Instance::Process(process) => process.id(),
            Instance::Container(container) => container.id(),
        };
        Ok(Processes {
            broker: id(&self.rabbitmq)?,
            database: id(&self.postgres)?,
        })
    }

    /// Fails when a server has ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        for kind in Kind::BOTH {
            if let Instance::Process(process) = self.instance(kind)
                && let Some(status) = process.ended()?
            {
                bail!("{kind} ended with {status}");
            }
        }
        Ok(())
    }

    fn wait_until_ready(&mut self, kind: Kind) -> Result<()> {
        let started = Instant::now();
        while !self.ports.answers(kind) {
            self.check()?;
            if started.elapsed() > READY_WITHIN {
                bail!("{kind} was not ready within {} s", READY_WITHIN.as_secs());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    const fn instance(&mut self, kind: Kind) -> &mut Instance {
        match kind {
            Kind::Postgres => &mut self.postgres,
            Kind::Rabbitmq => &mut self.rabbitmq,
        }
    }

    /// The servers' own last lines explain a failure; their folder will be gone.
    fn copy_logs(&self, log: &Log) -> Result<()> {
        for kind in Kind::BOTH {
            let text = fs::read_to_string(self.folder.join(format!("{kind}.log"))).unwrap_or_default();
            log.note(&format!("--- {kind}.log\n{text}"))?;
        }
        Ok(())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for kind in Kind::BOTH {
            if let Instance::Process(process) = self.instance(kind) {
                // Before the folder goes, not after: a server that still runs would write into it.
                let _ = process.kill();
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
