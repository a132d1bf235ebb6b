//! A real PostgreSQL and a real RabbitMQ for component tests and the benchmark, on loopback, without a cluster.
//!
//! Where Docker answers they are containers of the official images. Elsewhere each runs in its unpacked root file system,
//! read-only, as user 999, in a process namespace of its own: when this tool ends, however it ends, the kernel
//! ends the namespace and everything in it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::progress::{Log, Progress};
use crate::rootfs::{POSTGRES, RABBITMQ, SERVER_USER, Server};
use crate::workspace::{Workspace, is_root};
use crate::{docker, packages};

const READY_WITHIN: Duration = Duration::from_secs(120);

/// Tells `docker` containers of ours from others.
const LABEL: &str = "dev.stockfeed.test-server";

/// Two running servers; they end with this value.
#[derive(Debug)]
pub struct Servers {
    children: Vec<Child>,
    containers: Vec<String>,
    environment: Vec<(&'static str, String)>,
    folder: PathBuf,
    // Held, not read: the locks say to other runs that this one lives.
    _locks: Vec<File>,
}

/// What the servers are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be started quickly and thrown away; nothing is forced to disk.
    Tests,
    /// To be measured: as the chart sets them up.
    Benchmark,
}

/// The processes that all processes of a server are under.
#[derive(Clone, Copy, Debug)]
pub struct Processes {
    /// RabbitMQ's.
    pub broker: u32,
    /// PostgreSQL's.
    pub database: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    postgres: u16,
    amqp: u16,
    management: u16,
    distribution: u16,
    epmd: u16,
}

impl Purpose {
    /// PostgreSQL's settings.
    const fn postgres(self) -> &'static [&'static str] {
        match self {
            Self::Tests => &["fsync=off", "max_connections=300", "shared_buffers=64MB"],
            // `postgresql.settings` of helm/stockfeed/values.yaml; fsync is on where nothing else is said.
            Self::Benchmark => &[
                "shared_buffers=256MB",
                "effective_cache_size=640MB",
                "max_connections=200",
                "max_wal_size=2GB",
                "checkpoint_timeout=15min",
                "checkpoint_completion_target=0.9",
                "wal_compression=on",
                "random_page_cost=1.1",
                "timezone=UTC",
                "jit=off",
            ],
        }
    }

    /// More environment of PostgreSQL's first start.
    const fn initdb(self) -> &'static str {
        match self {
            Self::Tests => "",
            Self::Benchmark => "--data-checksums",
        }
    }

    /// More lines of `rabbitmq.conf`.
    const fn rabbitmq(self) -> &'static str {
        match self {
            // Figures of queues are collected each second, so that tests wait less for them.
            Self::Tests => "collect_statistics_interval = 1000\n",
            Self::Benchmark => "",
        }
    }
}

impl Servers {
    /// Starts both servers and waits until they answer.
    ///
    /// Call it from the main thread: the servers end when the thread that started them does.
    pub fn start(workspace: &Workspace, progress: &Progress, purpose: Purpose) -> Result<Self> {
        let docker = docker::answers();
        let mut roots = Vec::new();
        if !docker {
            if !is_root() {
                bail!(
                    "the test servers need Docker, or root (they run in a namespace of their own); run this as root"
                );
            }
            packages::ensure(workspace, progress, &[packages::ROOT_FILE_SYSTEMS])?;
            for server in [&POSTGRES, &RABBITMQ] {
                roots.push(server.ensure_folder(workspace, progress)?);
            }
        }
        progress.step(
            match purpose {
                Purpose::Tests => "Starting PostgreSQL and RabbitMQ for the tests",
                Purpose::Benchmark => "Starting PostgreSQL and RabbitMQ for the benchmark",
            },
            "servers",
            |log| {
                let parent = workspace.artefacts.join("servers");
                fs::create_dir_all(&parent)?;
                remove_stale(&parent)?;
                let folder = parent.join(std::process::id().to_string());
                fs::create_dir_all(&folder)?;
                let mut locks = vec![File::create(folder.join("lock"))?];
                locks.extend(roots.iter().map(File::open).collect::<Result<Vec<_>, _>>()?);
                locks[0].lock()?;
                locks[1..].iter().try_for_each(File::lock_shared)?;

                let ports = Ports::free()?;
                let mut servers = Self {
                    children: Vec::new(),
                    containers: Vec::new(),
                    environment: ports.environment(),
                    folder,
                    _locks: locks,
                };
                match roots.as_slice() {
                    [postgres, rabbitmq] => {
                        let folder = servers.folder.clone();
                        let children = &mut servers.children;
                        children.push(postgres_process(postgres, &folder, ports, purpose)?);
                        children.push(rabbitmq_process(rabbitmq, &folder, ports, purpose)?);
                    }
                    _ => servers.start_containers(log, ports, purpose)?,
                }
                servers.wait_until_ready(log, ports)?;
                Ok(servers)
            },
        )
    }

    /// What the tests read to find the servers.
    pub fn environment(&self) -> &[(&'static str, String)] {
        &self.environment
    }

    /// Where the servers run, as this machine numbers processes.
    pub fn processes(&self) -> Result<Processes> {
        let ids = if self.containers.is_empty() {
            self.children.iter().map(Child::id).collect()
        } else {
            let pid = |container: &String| {
                let output = docker::command()
                    .args(["inspect", "--format", "{{.State.Pid}}", container])
                    .output()?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                text.trim().parse::<u32>().context("docker names no process")
            };
            self.containers.iter().map(pid).collect::<Result<Vec<_>>>()?
        };
        // In the order in which they are started.
        match ids[..] {
            [database, broker] => Ok(Processes { broker, database }),
            _ => bail!("there are not two servers"),
        }
    }

    /// Blocks until one of the servers has ended.
    pub fn wait(&mut self) -> Result<()> {
        loop {
            thread::sleep(Duration::from_millis(500));
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!(
                        "a server ended with {status}; its log lies in {}",
                        self.folder.display()
                    );
                }
            }
        }
    }

    fn start_containers(&mut self, log: &Log, ports: Ports, purpose: Purpose) -> Result<()> {
        for stale in log
            .output(docker::command().args([
                "ps",
                "--all",
                "--quiet",
                "--filter",
                &format!("label={LABEL}"),
            ]))?
            .lines()
        {
            let owner = log.output(docker::command().args([
                "inspect",
                "--format",
                &format!("{{{{index .Config.Labels \"{LABEL}\"}}}}"),
                stale,
            ]))?;
            if !Path::new("/proc").join(owner.trim()).exists() {
                log.run(docker::command().args(["rm", "--force", "--volumes", stale]))?;
            }
        }
        let owner = std::process::id();
        let mut postgres = vec!["postgres"];
        postgres.extend(purpose.postgres().iter().flat_map(|setting| ["-c", setting]));
        let initdb = format!("POSTGRES_INITDB_ARGS={}", purpose.initdb());
        for (name, image, publish, environment, command) in [
            (
                "postgres",
                "postgres:17",
                vec![format!("127.0.0.1:{}:5432", ports.postgres)],
                vec!["POSTGRES_PASSWORD=postgres", &initdb],
                postgres,
            ),
            (
                "rabbitmq",
                "rabbitmq:4-management",
                vec![
                    format!("127.0.0.1:{}:5672", ports.amqp),
                    format!("127.0.0.1:{}:15672", ports.management),
                ],
                vec!["RABBITMQ_DEFAULT_USER=guest"],
                vec!["rabbitmq-server"],
            ),
        ] {
            let container = format!("stockfeed-test-{name}-{owner}");
            let mut run = docker::command();
            run.args([
                "run",
                "--detach",
                "--rm",
                "--name",
                &container,
                "--label",
                &format!("{LABEL}={owner}"),
            ]);
            for port in &publish {
                run.args(["--publish", port]);
            }
            for variable in environment {
                run.args(["--env", variable]);
            }
            log.run(run.arg(image).args(command))?;
            self.containers.push(container);
        }
        Ok(())
    }

    fn wait_until_ready(&mut self, log: &Log, ports: Ports) -> Result<()> {
        let started = Instant::now();
        loop {
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    self.copy_logs(log)?;
                    bail!("a server ended with {status} before it was ready");
                }
            }
            if postgres_answers(ports.postgres) && rabbitmq_answers(ports) {
                return Ok(());
            }
            if started.elapsed() > READY_WITHIN {
                self.copy_logs(log)?;
                bail!("the servers were not ready within {} s", READY_WITHIN.as_secs());
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// The servers' own last lines explain a failure; their folder will be gone.
    fn copy_logs(&self, log: &Log) -> Result<()> {
        for name in ["postgres", "rabbitmq"] {
            let text = fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default();
            log.note(&format!("--- {name}.log\n{text}"))?;
        }
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            // The data is thrown away, so there is nothing to end gracefully.
            let _ = child.kill();
            let _ = child.wait();
        }
        for container in &self.containers {
            let _ = docker::command()
                .args(["rm", "--force", "--volumes", container])
                .stdout(Stdio::null())
                .status();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Ports {
    /// Ports that are free now. All are held until the last is known, so that they differ.
    fn free() -> Result<Self> {
        let listeners = (0..5)
            .map(|_| TcpListener::bind(("127.0.0.1", 0)))
            .collect::<Result<Vec<_>, _>>()?;
        let ports = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect::<Result<Vec<_>>>()?;
        let [postgres, amqp, management, distribution, epmd] = ports[..] else {
            bail!("found no free ports")
        };
        Ok(Self {
            postgres,
            amqp,
            management,
            distribution,
            epmd,
        })
    }

    fn environment(self) -> Vec<(&'static str, String)> {
        let Self {
            postgres,
            amqp,
            management,
            ..
        } = self;
        vec![
            (
                "STOCKFEED_TEST_POSTGRES",
                format!("postgres://postgres:postgres@127.0.0.1:{postgres}/postgres"),
            ),
            (
                "STOCKFEED_TEST_AMQP",
                format!("amqp://guest:guest@127.0.0.1:{amqp}"),
            ),
            (
                "STOCKFEED_TEST_RABBITMQ_MANAGEMENT",
                format!("http://127.0.0.1:{management}"),
            ),
            ("STOCKFEED_TEST_RABBITMQ_USER", "guest".to_owned()),
            ("STOCKFEED_TEST_RABBITMQ_PASSWORD", "guest".to_owned()),
        ]
    }
}

/// Mounts what a server needs under its read-only root, in a namespace of its own, and runs it as its user.
/// The shell stays as the namespace's first process: a change of user would take the kernel's
/// order to end with its parent away.
const NAMESPACE: &str = r#"
set -e
root=$1 data=$2 home=$3 user=$4; shift 4
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=1777 tmpfs "$root/run"
mkdir -m 1777 "$root/run/postgresql"
mount --bind "$data" "$root$home"
cd /
chroot --userspec="$user" --groups="${user#*:}" "$root" docker-entrypoint.sh "$@" &
wait $!
"#;

fn process(server: &Server, root: &Path, folder: &Path, home: &str) -> Result<Command> {
    let data = folder.join(server.name);
    fs::create_dir_all(&data)?;
    std::os::unix::fs::chown(&data, Some(999), Some(999))?;
    let log = File::create(folder.join(format!("{}.log", server.name)))?;
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
        .arg(root)
        .arg(&data)
        .args([home, SERVER_USER, server.command])
        .env_clear()
        .envs(server.environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C is for this tool; the servers end with it.
        .process_group(0);
    Ok(command)
}

fn postgres_process(root: &Path, folder: &Path, ports: Ports, purpose: Purpose) -> Result<Child> {
    let mut command = process(&POSTGRES, root, folder, "/var/lib/postgresql/data")?;
    let port = format!("port={}", ports.postgres);
    for setting in ["listen_addresses=127.0.0.1", &port]
        .iter()
        .chain(purpose.postgres())
    {
        command.args(["-c", setting]);
    }
    command
        .env("POSTGRES_PASSWORD", "postgres")
        .env("POSTGRES_INITDB_ARGS", purpose.initdb())
        .spawn()
        .context("failed to start PostgreSQL")
}

fn rabbitmq_process(root: &Path, folder: &Path, ports: Ports, purpose: Purpose) -> Result<Child> {
    let mut command = process(&RABBITMQ, root, folder, "/var/lib/rabbitmq")?;
    let Ports {
        amqp,
        management,
        distribution,
        epmd,
        ..
    } = ports;
    let data = folder.join(RABBITMQ.name);
    fs::write(
        data.join("rabbitmq.conf"),
        format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
             disk_free_limit.absolute = 50MB\nlog.console = true\nlog.console.level = info\n{}",
            purpose.rabbitmq()
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
        .env("ERL_EPMD_PORT", epmd.to_string())
        .spawn()
        .context("failed to start RabbitMQ")
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

/// PostgreSQL listens on TCP only after its first start is over. An SSL request is the shortest question it answers.
fn postgres_answers(port: u16) -> bool {
    ask(port, &[0, 0, 0, 8, 4, 210, 22, 47], 1).is_some_and(|answer| matches!(answer[..], [b'N' | b'S', ..]))
}

/// The broker is ready when its management API says that it listens.
fn rabbitmq_answers(ports: Ports) -> bool {
    // "guest:guest" in base64.
    let request =
        "GET /api/overview HTTP/1.0\r\nHost: localhost\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n";
    let managed = ask(ports.management, request.as_bytes(), 12);
    managed.is_some_and(|answer| answer.ends_with(b" 200"))
        && TcpStream::connect(("127.0.0.1", ports.amqp)).is_ok()
}

fn ask(port: u16, question: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(question).ok()?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}
