//! The Superset that all tests share, with the start program and the settings that the chart has.
//!
//! It needs half a minute, so nothing waits for it but a test that asks for it (`superset` on the socket of
//! [`super::control`]). It runs in a Python environment of this machine, also where the other servers are containers; what it
//! knows lies in a database of the test PostgreSQL.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;

use crate::progress::{Log, Progress};
use crate::workspace::{Workspace, hex};

/// A machine that compiles meanwhile is slow.
const READY_WITHIN: Duration = Duration::from_secs(600);

/// Makes the database that Superset's metadata is in.
const CREATE_DATABASE: &str = "
import sys, psycopg2
connection = psycopg2.connect(host='127.0.0.1', port=sys.argv[1], user='postgres', password='postgres', dbname='postgres')
connection.autocommit = True
connection.cursor().execute('CREATE DATABASE superset')
";

/// Runs, or is about to. It ends with this value.
#[derive(Debug)]
pub(super) struct Superset {
    url: String,
    password: String,
    readiness: Readiness,
    thread: Option<JoinHandle<()>>,
}

/// How far it is, for whoever waits for it.
#[derive(Clone, Debug)]
pub(super) struct Readiness(Arc<(Mutex<State>, Condvar)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    Failed(String),
    /// Whoever started it wants it to end.
    Ending,
}

/// What the thread needs that starts it.
struct Start {
    python: PathBuf,
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    postgres: u16,
    password: String,
}

impl Superset {
    /// Begins to start it, with the programs of a Python environment; `folder` is the servers' own.
    pub(super) fn start(
        workspace: &Workspace,
        progress: &Progress,
        python: &Path,
        folder: &Path,
        postgres: u16,
    ) -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let start = Start {
            python: python.join("python"),
            program: workspace.path("superset/server/start.py"),
            folder: folder.join("superset"),
            port,
            postgres,
            password: random()?,
        };
        let password = start.password.clone();
        let readiness = Readiness(Arc::new((Mutex::new(State::Starting), Condvar::new())));
        let (told, progress) = (readiness.clone(), progress.clone());
        // The process ends with the thread that starts it, so the thread stays.
        let thread = thread::spawn(move || {
            let started = progress.step("Starting Superset, which tests wait for", "superset", |log| {
                start.until_ready(&told, log)
            });
            match started {
                Ok(child) => start.watch(child, &told),
                Err(_) if told.ending() => {}
                Err(error) => {
                    eprintln!("\nSuperset did not start: {error:#}");
                    told.set(State::Failed(format!("{error:#}")));
                }
            }
        });
        Ok(Self {
            url: format!("http://127.0.0.1:{port}"),
            password,
            readiness,
            thread: Some(thread),
        })
    }

    /// What a test reads to find it.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("STOCKFEED_TEST_SUPERSET", self.url.clone()),
            ("STOCKFEED_TEST_SUPERSET_PASSWORD", self.password.clone()),
        ]
    }

    /// To wait by.
    pub(super) fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Fails when it has ended, or did not start.
    pub(super) fn check(&self) -> Result<()> {
        match self.readiness.state() {
            State::Failed(why) => bail!("{why}"),
            _ => Ok(()),
        }
    }
}

impl Drop for Superset {
    fn drop(&mut self) {
        self.readiness.set(State::Ending);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Readiness {
    /// Blocks until it is ready, or will not be.
    pub(super) fn wait(&self) -> Result<()> {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = changed
            .wait_while(state, |state| *state == State::Starting)
            .unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Ready => Ok(()),
            State::Failed(why) => Err(anyhow!("Superset does not run: {why}")),
            State::Starting | State::Ending => bail!("the servers are ending"),
        }
    }

    fn state(&self) -> State {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ending(&self) -> bool {
        self.state() == State::Ending
    }

    /// Nothing comes after the end.
    fn set(&self, next: State) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *state != State::Ending {
            *state = next;
        }
        self.0.1.notify_all();
    }

    /// Waits a little, or until it is to end.
    fn pause(&self) {
        let state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ending = |state: &mut State| *state != State::Ending;
        let _ = self
            .0
            .1
            .wait_timeout_while(state, Duration::from_millis(500), ending);
    }
}

impl Start {
    fn until_ready(&self, told: &Readiness, log: &Log) -> Result<Child> {
        log.run(Command::new(&self.python).args(["-c", CREATE_DATABASE, &self.postgres.to_string()]))?;
        let output = log.open()?;
        let mut child = self.command()?;
        let mut child = child
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("failed to start Superset")?;
        let started = Instant::now();
        let reason = loop {
            if self.answers() {
                told.set(State::Ready);
                return Ok(child);
            }
            if let Some(status) = child.try_wait()? {
                bail!("Superset ended with {status}");
            }
            if told.ending() {
                break "Superset is no longer wanted".to_owned();
            }
            if started.elapsed() > READY_WITHIN {
                break format!("Superset was not ready within {} s", READY_WITHIN.as_secs());
            }
            told.pause();
        };
        kill(&mut child);
        bail!(reason)
    }

    /// Stays as long as it runs and is wanted.
    fn watch(&self, mut child: Child, told: &Readiness) {
        while !told.ending() {
            match child.try_wait() {
                Ok(None) => told.pause(),
                Ok(Some(status)) => return told.set(State::Failed(format!("Superset ended with {status}"))),
                Err(error) => return told.set(State::Failed(error.to_string())),
            }
        }
        kill(&mut child);
    }

    fn command(&self) -> Result<Command> {
        let Self {
            python,
            program,
            folder,
            port,
            postgres,
            password,
        } = self;
        let user = |name: &str, role: &str| json!({"username": name, "roles": [role], "passwordFile": folder.join("secrets/adminPassword")});
        // Access as the chart's values have it by default.
        let accounts = json!({
            "access": [
                {"role": "StockFeed viewer", "feeds": ["*/*"], "symbols": [], "sqlLab": false},
                {"role": "StockFeed analyst", "feeds": ["*/*"], "symbols": [], "sqlLab": true},
            ],
            "users": [user("viewer", "StockFeed viewer"), user("analyst", "StockFeed analyst")],
        });
        let files = [
            ("secrets/secretKey", random()?),
            ("secrets/adminUsername", "admin".to_owned()),
            ("secrets/adminPassword", password.clone()),
            ("secrets/operatorUsername", "stockfeed-operator".to_owned()),
            ("secrets/operatorPassword", password.clone()),
            ("database/host", "127.0.0.1".to_owned()),
            ("database/port", postgres.to_string()),
            ("database/dbname", "superset".to_owned()),
            ("database/username", "postgres".to_owned()),
            ("database/password", "postgres".to_owned()),
            ("accounts.yaml", accounts.to_string()),
        ];
        for sub in ["secrets", "database", "home"] {
            fs::create_dir_all(folder.join(sub))?;
        }
        for (file, content) in files {
            fs::write(folder.join(file), content)?;
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(python)
            .arg(program)
            .env("STOCKFEED_SUPERSET_SECRETS", folder.join("secrets"))
            .env("STOCKFEED_SUPERSET_DATABASE", folder.join("database"))
            .env("STOCKFEED_SUPERSET_ACCOUNTS", folder.join("accounts.yaml"))
            .env("STOCKFEED_SUPERSET_BIND", format!("127.0.0.1:{port}"))
            .env("SUPERSET_HOME", folder.join("home"))
            .env("PYTHONUNBUFFERED", "1")
            .env_remove("PYTHONPATH")
            .stdin(Stdio::null())
            // Ctrl-C is for this tool; Superset ends with it.
            .process_group(0);
        Ok(command)
    }

    fn answers(&self) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(
                b"GET /stockfeed/health/ready HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            )?;
            let mut status = [0; 12];
            stream.read_exact(&mut status)?;
            Ok::<_, std::io::Error>(status.ends_with(b" 200"))
        };
        ask().unwrap_or(false)
    }
}

/// Ends it with the processes that it forked.
fn kill(child: &mut Child) {
    let _ = Command::new("sh")
        .args(["-c", "kill -s KILL -- \"-$0\"", &child.id().to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let _ = child.wait();
}

/// A password that no other run has.
fn random() -> Result<String> {
    let mut bytes = [0; 24];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}
