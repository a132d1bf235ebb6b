//! A server as processes of this machine, in namespaces of its own.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Kind, ports::Ports, purpose::Purpose, tls};
use crate::rootfs::{POSTGRES, RABBITMQ, SERVER_USER, Server};

/// A server that was started. It ends with this value, and with the thread that started it.
#[derive(Debug)]
pub(super) struct Process {
    kind: Kind,
    purpose: Purpose,
    root: PathBuf,
    folder: PathBuf,
    ports: Ports,
    child: Option<Child>,
}

/// Mounts what a server needs under its read-only root, in a namespace of its own, and runs it as its user.
/// The shell stays as the namespace's first process: a change of user would take the kernel's
/// order to end with its parent away.
const NAMESPACE: &str = r#"
set -e
root=$1 data=$2 home=$3 user=$4 tls=$5; shift 5
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=1777 tmpfs "$root/run"
mkdir -m 1777 "$root/run/postgresql"
if [ -d "$tls" ]; then
  mkdir "$root/run/stockfeed-tls"
  mount --bind "$tls" "$root/run/stockfeed-tls"
fi
mount --bind "$data" "$root$home"
cd /
chroot --userspec="$user" --groups="${user#*:}" "$root" docker-entrypoint.sh "$@" &
wait $!
"#;

impl Process {
    /// Starts a server in its unpacked root file system; data and log lie in `folder`.
    pub(super) fn new(
        kind: Kind,
        purpose: Purpose,
        root: &Path,
        folder: &Path,
        ports: Ports,
    ) -> Result<Self> {
        let mut process = Self {
            kind,
            purpose,
            root: root.to_owned(),
            folder: folder.to_owned(),
            ports,
            child: None,
        };
        process.start()?;
        Ok(process)
    }

    /// Starts it, on the data that it left.
    pub(super) fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} runs already", self.kind);
        }
        let mut command = match self.kind {
            Kind::Postgres => self.postgres(),
            Kind::Rabbitmq => self.rabbitmq(),
        }?;
        let child = command
            .spawn()
            .with_context(|| format!("failed to start {}", self.kind))?;
        self.child = Some(child);
        Ok(())
    }

    /// Ends every process of the server at once, and waits until none is left.
    pub(super) fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            bail!("{} does not run", self.kind);
        };
        // The namespace's first process first: its parent then waits for it, and the kernel lets that end only when
        // everything else in the namespace has. The other way round nobody would know when that is.
        match first_in_namespace(child.id()) {
            Some(first) => signal("KILL", &[first])?,
            None => child.kill()?,
        }
        child.wait()?;
        Ok(())
    }

    /// Stops every process of the server, as a machine that hangs does.
    pub(super) fn stop(&self) -> Result<()> {
        let mut stopped = Vec::new();
        loop {
            // One that was forked while the others were stopped is found in the next round.
            let processes = self.processes()?;
            if processes.iter().all(|process| stopped.contains(process)) {
                return Ok(());
            }
            signal("STOP", &processes)?;
            stopped = processes;
        }
    }

    /// Lets the processes go on.
    pub(super) fn resume(&self) -> Result<()> {
        signal("CONT", &self.processes()?)
    }

    /// The process that all others of the server are under.
    pub(super) fn id(&self) -> Result<u32> {
        let child = self.child.as_ref();
        child
            .map(Child::id)
            .with_context(|| format!("{} does not run", self.kind))
    }

    /// How it ended, if it did so by itself.
    pub(super) fn ended(&mut self) -> Result<Option<String>> {
        let status = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
        Ok(status.map(|status| status.to_string()))
    }

    /// Everything in the server's namespace.
    fn processes(&self) -> Result<Vec<u32>> {
        let first = self
            .child
            .as_ref()
            .and_then(|child| first_in_namespace(child.id()))
            .with_context(|| format!("{} does not run", self.kind))?;
        let namespace = |process: u32| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
        let own = namespace(first);
        let all = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|process| namespace(*process) == own);
        Ok(all.collect())
    }

    fn command(&self, server: &Server, home: &str) -> Result<Command> {
        let data = self.data();
        fs::create_dir_all(&data)?;
        std::os::unix::fs::chown(&data, Some(999), Some(999))?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join(format!("{}.log", server.name)))?;
        let mut command = Command::new("setpriv");
        command
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child=KILL",
            ])
            .args(["bash", "-c", NAMESPACE, server.name])
            .arg(&self.root)
            .arg(&data)
            .args([home, SERVER_USER])
            .arg(self.folder.join("tls"))
            .arg(server.command)
            .env_clear()
            .envs(server.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for this tool; the servers end with it.
            .process_group(0);
        Ok(command)
    }

    fn data(&self) -> PathBuf {
        self.folder.join(self.kind.name())
    }

    fn postgres(&self) -> Result<Command> {
        let mut command = self.command(&POSTGRES, "/var/lib/postgresql/data")?;
        // A server that was killed leaves this file with its process's number. Numbers begin anew in each namespace, so
        // another process may have that one now, and PostgreSQL would take it for itself.
        match fs::remove_file(self.data().join("postmaster.pid")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let port = format!("port={}", self.ports.postgres);
        let own = ["listen_addresses=127.0.0.1", &port];
        let encrypted: &[&str] = if self.purpose.tls() { &tls::POSTGRES } else { &[] };
        for setting in own.iter().chain(self.purpose.postgres()).chain(encrypted) {
            command.args(["-c", setting]);
        }
        command
            .env("POSTGRES_PASSWORD", "postgres")
            .env("POSTGRES_INITDB_ARGS", self.purpose.initdb());
        Ok(command)
    }

    fn rabbitmq(&self) -> Result<Command> {
        let mut command = self.command(&RABBITMQ, "/var/lib/rabbitmq")?;
        let Ports {
            amqp,
            management,
            distribution,
            epmd,
            ..
        } = self.ports;
        let data = self.data();
        let encrypted = match self.purpose.tls() {
            true => tls::rabbitmq("127.0.0.1", self.ports),
            false => String::new(),
        };
        fs::write(
            data.join("rabbitmq.conf"),
            format!(
                "listeners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
                 disk_free_limit.absolute = 50MB\nlog.console = true\nlog.console.level = info\n{}{encrypted}",
                self.purpose.rabbitmq()
            ),
        )?;
        fs::write(data.join("enabled_plugins"), "[rabbitmq_management].\n")?;
        command
            .env("RABBITMQ_CONFIG_FILE", "/var/lib/rabbitmq/rabbitmq.conf")
            .env(
                "RABBITMQ_ENABLED_PLUGINS_FILE",
                "/var/lib/rabbitmq/enabled_plugins",
            )
            .env(
                "RABBITMQ_NODENAME",
                format!("stockfeed-test-{}@localhost", std::process::id()),
            )
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            )
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", epmd.to_string());
        Ok(command)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_some() {
            // The data is thrown away, so there is nothing to end gracefully.
            let _ = self.kill();
        }
    }
}

/// The process that `unshare` forked; it is number 1 within.
fn first_in_namespace(unshare: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Sends a signal. A process that has ended meanwhile is none that it could not be sent to.
fn signal(name: &str, processes: &[u32]) -> Result<()> {
    let mut kill = Command::new("sh");
    // The shell's own `kill`: it is there where no package has one.
    kill.args(["-c", r#"kill -s "$0" "$@""#, name])
        .args(processes.iter().map(u32::to_string))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    kill.status()
        .with_context(|| format!("failed to send SIG{name}"))?;
    Ok(())
}
