//! Child processes that end with this one, however it ends.

use std::{ffi::OsStr, path::Path, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{client::Done, measure::process, stand::Feed};

/// A program that runs. Ended when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Its process.
    pub pid: u32,
}

impl Running {
    /// Starts a program. Call it on the main thread: `setpriv` has the kernel end the program with the thread that started it,
    /// which covers what dropping does not.
    pub fn start<A: AsRef<OsStr>>(program: &Path, arguments: &[A], input: bool) -> Result<Self> {
        let guarded = Path::new("/usr/bin/setpriv").exists();
        let mut command = if guarded {
            let mut command = Command::new("/usr/bin/setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let pipe = |piped| if piped { Stdio::piped() } else { Stdio::null() };
        let child = command
            .args(arguments)
            .stdin(pipe(input))
            .stdout(pipe(input))
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let pid = child.id().context("the program has ended already")?;
        Ok(Self { child, pid })
    }

    /// Fails when the program has ended.
    pub fn check(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the program ended with {ended:?}");
        Ok(())
    }

    /// Processor time so far, in seconds.
    pub fn seconds(&self) -> Result<f64> {
        process::tree_seconds(self.pid)
    }

    /// Ends it and waits for its end.
    pub async fn end(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// This program again, as one of the clients that the processor is compared with.
#[derive(Debug)]
pub struct ClientProcess {
    /// The process.
    pub running: Running,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl ClientProcess {
    /// Starts a client for a feed and waits until it is ready.
    pub async fn start(role: &str, feed: &Feed, arguments: &[String]) -> Result<Self> {
        let mut all = vec!["client".to_owned(), role.to_owned()];
        all.extend(["--feed".to_owned(), feed.name.to_string()]);
        for (option, folder) in [
            ("--broker-directory", feed.broker_directory()),
            ("--database-directory", feed.database_directory()),
        ] {
            all.extend([option.to_owned(), folder.display().to_string()]);
        }
        all.extend_from_slice(arguments);
        let own = std::env::current_exe().context("failed to find this program")?;
        let mut running = Running::start(&own, &all, true)?;
        let input = running.child.stdin.take().context("the client has no input")?;
        let output = running.child.stdout.take().context("the client has no output")?;
        let mut client = Self {
            running,
            input,
            output: BufReader::new(output).lines(),
        };
        let ready = client.line().await?;
        ensure!(ready == "ready", "the client said {ready:?}");
        Ok(client)
    }

    /// Lets it work, and waits until it has.
    pub async fn work(&mut self) -> Result<Done> {
        self.input.write_all(b"\n").await?;
        self.input.flush().await?;
        let line = self.line().await?;
        serde_json::from_str(&line).with_context(|| format!("the client said {line:?}"))
    }

    async fn line(&mut self) -> Result<String> {
        self.output.next_line().await?.context("the client has ended")
    }
}
