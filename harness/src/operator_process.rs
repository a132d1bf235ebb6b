//! The operator as a process.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{ApiServer, NAMESPACE};

/// A running operator. It is killed with this value.
pub struct OperatorProcess {
    child: Child,
    port: u16,
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// The most memory that it ever had, in MiB.
    pub peak_rss_mib: f64,
    /// Processor time, in seconds.
    pub cpu_seconds: f64,
}

impl OperatorProcess {
    /// Starts it as the operator's account, alone. Its log lies in `folder`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(program: &Path, api_server: &ApiServer, folder: &Path, arguments: &[&str]) -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log = File::create(folder.join("operator.log"))?;
        let child = Command::new(program)
            .env("KUBECONFIG", api_server.operator_kubeconfig()?)
            .args([
                "--producer-image=stockfeed/producer:bench",
                "--processor-image=stockfeed/processor:bench",
                &format!("--broker-secret={NAMESPACE}/installation-broker"),
                &format!("--database-secret={NAMESPACE}/installation-database"),
                &format!("--listen=127.0.0.1:{port}"),
                "--leader-election=false",
                "--log-format=json",
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        Ok(Self { child, port })
    }

    /// Waits until it works.
    ///
    /// # Errors
    /// When it does not within a minute.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let ready = async {
            while self.get("/readyz").await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), ready).await;
        waited.context("the operator is not ready; see operator.log")
    }

    /// What it answers at a path of its HTTP server, when that is a success.
    ///
    /// # Errors
    /// When it does not answer, or answers with an error.
    pub async fn get(&self, path: &str) -> Result<String> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        anyhow::ensure!(head.contains(" 200 "), "answered {head}");
        Ok(body.to_owned())
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn usage(&self) -> Result<Usage> {
        let process = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
            .context("no VmHWM")?;
        let stat = fs::read_to_string(format!("{process}/stat"))?;
        // The program's name is in parentheses and may hold spaces.
        let (_, fields) = stat.rsplit_once(')').context("no name")?;
        let ticks = |place: usize| -> Option<f64> { fields.split_whitespace().nth(place)?.parse().ok() };
        let (user, system) = ticks(11).zip(ticks(12)).context("no times")?;
        Ok(Usage {
            peak_rss_mib: peak / 1024.0,
            cpu_seconds: (user + system) / 100.0,
        })
    }

    /// Kills it at once.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for OperatorProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
