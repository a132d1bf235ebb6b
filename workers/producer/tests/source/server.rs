//! A server that answers with whatever bytes a test wants, and counts what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The time of the server's clock, in every answer's header `Date`.
pub const DATE: &str = "Wed, 25 Nov 2026 14:30:00 GMT";

/// An answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These bytes, then the connection is closed.
    Bytes(String),
    /// These bytes, and then so many blanks.
    Padded(String, usize),
    /// Nothing, for longer than anyone waits.
    Hang,
}

/// A request as it came: the head, up to the empty line.
pub type Head = String;

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<Head>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers each request, numbered from 0, by its target (path and query).
    pub async fn start(script: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (script, seen) = (Arc::new(script), Arc::clone(&heads));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                tokio::spawn(async move {
                    // A client that goes away in the middle is what some tests are about.
                    drop(answer(stream, &*script, &seen).await);
                });
            }
        });
        Self { address, heads, task }
    }

    /// Where it listens, as a URL without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests came.
    pub fn count(&self) -> u64 {
        u64::try_from(self.heads.lock().unwrap().len()).unwrap()
    }

    /// The heads of all requests, in the order in which they came.
    pub fn heads(&self) -> Vec<Head> {
        self.heads.lock().unwrap().clone()
    }

    /// The targets of all requests, in the order in which they came.
    pub fn targets(&self) -> Vec<String> {
        self.heads().iter().map(|head| target(head).to_owned()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The URL of a port that nobody listens on.
pub fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A whole answer. Headers are given as lines.
pub fn reply(status: u16, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(head(status, headers, length) + body)
}

/// 200 with JSON.
pub fn json(body: &str) -> Reply {
    reply(200, "content-type: application/json", body)
}

/// The head of an answer.
pub fn head(status: u16, headers: &str, length: usize) -> String {
    let headers: String = headers.lines().map(|line| format!("{line}\r\n")).collect();
    format!(
        "HTTP/1.1 {status} Reason\r\ndate: {DATE}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n"
    )
}

async fn answer(
    mut stream: TcpStream,
    script: &(dyn Fn(&str, usize) -> Reply + Send + Sync),
    seen: &Mutex<Vec<Head>>,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8(bytes).unwrap();
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(head.clone());
        seen.len() - 1
    };
    match script(target(&head), number) {
        Reply::Bytes(bytes) => stream.write_all(bytes.as_bytes()).await?,
        Reply::Padded(bytes, mut left) => {
            stream.write_all(bytes.as_bytes()).await?;
            let blanks = vec![b' '; 64 * 1024];
            while left > 0 {
                let length = left.min(blanks.len());
                stream.write_all(&blanks[..length]).await?;
                left -= length;
            }
        }
        Reply::Hang => tokio::time::sleep(std::time::Duration::from_secs(60)).await,
    }
    stream.shutdown().await
}

fn target(head: &str) -> &str {
    head.split(' ').nth(1).unwrap()
}
