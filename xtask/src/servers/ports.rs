//! The ports of a pair of servers, and whether the servers answer on them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail};

use super::Kind;

/// The ports of one pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) postgres: u16,
    pub(super) amqp: u16,
    pub(super) amqps: u16,
    pub(super) management: u16,
    pub(super) management_tls: u16,
    pub(super) distribution: u16,
    pub(super) epmd: u16,
}

impl Ports {
    /// Ports that are free now. All are held until the last is known, so that they differ.
    pub(super) fn free() -> Result<Self> {
        let listeners = (0..7)
            .map(|_| TcpListener::bind(("127.0.0.1", 0)))
            .collect::<Result<Vec<_>, _>>()?;
        let ports = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect::<Result<Vec<_>>>()?;
        let [
            postgres,
            amqp,
            amqps,
            management,
            management_tls,
            distribution,
            epmd,
        ] = ports[..]
        else {
            bail!("found no free ports")
        };
        Ok(Self {
            postgres,
            amqp,
            amqps,
            management,
            management_tls,
            distribution,
            epmd,
        })
    }

    /// What a test reads to find the servers.
    pub(super) fn environment(self) -> Vec<(&'static str, String)> {
        let Self {
            postgres,
            amqp,
            amqps,
            management,
            management_tls,
            ..
        } = self;
        vec![
            (
                "STOCKFEED_TEST_POSTGRES",
                // Plain: what is not about TLS is not slowed down by it.
                format!("postgres://postgres:postgres@127.0.0.1:{postgres}/postgres?sslmode=disable"),
            ),
            (
                "STOCKFEED_TEST_AMQP",
                format!("amqp://guest:guest@127.0.0.1:{amqp}"),
            ),
            (
                "STOCKFEED_TEST_RABBITMQ_MANAGEMENT",
                format!("http://127.0.0.1:{management}"),
            ),
            ("STOCKFEED_TEST_AMQPS_PORT", amqps.to_string()),
            (
                "STOCKFEED_TEST_RABBITMQ_MANAGEMENT_TLS_PORT",
                management_tls.to_string(),
            ),
            ("STOCKFEED_TEST_RABBITMQ_USER", "guest".to_owned()),
            ("STOCKFEED_TEST_RABBITMQ_PASSWORD", "guest".to_owned()),
        ]
    }

    /// Whether a server can be worked with.
    pub(super) fn answers(self, kind: Kind) -> bool {
        match kind {
            Kind::Postgres => postgres_answers(self.postgres),
            Kind::Rabbitmq => rabbitmq_answers(self),
        }
    }
}

/// PostgreSQL listens on TCP only after its first start is over. After a crash it listens at once, and refuses logins until
/// it has recovered: only a question for a password says that it is ready.
fn postgres_answers(port: u16) -> bool {
    const PARAMETERS: &[u8] = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(PARAMETERS.len() + 4).unwrap_or_default();
    let question = [&length.to_be_bytes(), PARAMETERS].concat();
    ask(port, &question, 1).is_some_and(|answer| answer == *b"R")
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
