//! Servers of one's own, to be killed.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::Mutex,
};

use crate::{Addresses, addresses};

/// A PostgreSQL and a RabbitMQ that no other test uses. They end with this value, or with the test's process.
///
/// They are started by `cargo xtask test` or `cargo xtask servers`, which listens on the socket of
/// `STOCKFEED_TEST_CONTROL`; what is said there is described in `xtask/src/servers/control.rs`.
#[derive(Debug)]
pub struct OwnServers {
    connection: Mutex<BufReader<UnixStream>>,
    addresses: Addresses,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// PostgreSQL.
    Postgres,
    /// RabbitMQ.
    Rabbitmq,
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Postgres => "postgres",
            Self::Rabbitmq => "rabbitmq",
        })
    }
}

impl OwnServers {
    /// Starts both, which takes some seconds, and waits until they answer.
    ///
    /// # Errors
    /// When nobody listens who could start them, or they do not start.
    pub async fn start() -> anyhow::Result<Self> {
        let mut connection = connect().await?;
        let values = ask(&mut connection, "begin").await?;
        Ok(Self {
            connection: Mutex::new(connection),
            addresses: Addresses::given(values),
        })
    }

    /// Where they are; the same after a restart.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Ends every process of a server by SIGKILL. Its data stays. Returns when none is left.
    ///
    /// # Errors
    /// When the server does not run.
    pub async fn kill(&self, server: Server) -> anyhow::Result<()> {
        self.tell("kill", server).await
    }

    /// Starts a server that was killed, with its data, on its port. Returns when it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_again(&self, server: Server) -> anyhow::Result<()> {
        self.tell("start", server).await
    }

    /// Stops every process of a server by SIGSTOP: connections stay, nothing answers.
    ///
    /// # Errors
    /// When the server does not run.
    pub async fn stop(&self, server: Server) -> anyhow::Result<()> {
        self.tell("stop", server).await
    }

    /// Lets a stopped server go on.
    ///
    /// # Errors
    /// When the server does not run.
    pub async fn resume(&self, server: Server) -> anyhow::Result<()> {
        self.tell("cont", server).await
    }

    async fn tell(&self, verb: &str, server: Server) -> anyhow::Result<()> {
        let mut connection = self.connection.lock().await;
        ask(&mut connection, &format!("{verb} {server}")).await?;
        Ok(())
    }
}

/// Says one line to whoever started the servers, and waits until it is done.
pub(crate) async fn ask_once(line: &str) -> anyhow::Result<()> {
    ask(&mut connect().await?, line).await?;
    Ok(())
}

async fn connect() -> anyhow::Result<BufReader<UnixStream>> {
    let path = addresses::variable("STOCKFEED_TEST_CONTROL")?;
    let stream = UnixStream::connect(&path)
        .await
        .with_context(|| format!("nobody listens on {path}"))?;
    Ok(BufReader::new(stream))
}

/// Sends a line, and reads lines `NAME=value` up to the one that says how it went.
async fn ask(connection: &mut BufReader<UnixStream>, line: &str) -> anyhow::Result<BTreeMap<String, String>> {
    connection
        .get_mut()
        .write_all(format!("{line}\n").as_bytes())
        .await?;
    let mut values = BTreeMap::new();
    loop {
        let mut answer = String::new();
        if connection.read_line(&mut answer).await? == 0 {
            bail!("{line}: whoever started the servers has gone");
        }
        let answer = answer.trim_end();
        if answer == "ok" {
            return Ok(values);
        }
        let Some((name, value)) = answer.split_once('=') else {
            bail!("{line}: {answer}");
        };
        if name.contains(' ') {
            bail!("{line}: {answer}");
        }
        values.insert(name.to_owned(), value.to_owned());
    }
}
