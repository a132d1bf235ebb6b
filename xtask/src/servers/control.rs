//! Servers for tests that kill them: a Unix socket on which a test asks for a pair of its own and says what happens to it.
//!
//! One connection is one pair, from the first line that it writes to its end, however that comes. The lines of a test are
//! `begin`, then `kill`, `start`, `stop` or `cont` with `postgres` or `rabbitmq`. Each is answered when it is done: a server
//! that was started answers by then. The answer is `ok` or `error: …`; that to `begin` is a line `NAME=value` for each
//! variable that says where the servers are, and then `ok`.
//!
//! The line `superset`, of whatever connection, is answered when the Superset that all tests share is ready.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};

use super::pair::{Kind, Origin, Pair};
use super::superset::Readiness;
use crate::progress::Progress;

/// Listens until it is dropped; every pair ends with it.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
    listener: Option<JoinHandle<()>>,
    connections: Connections,
}

/// The connections that are open, and the threads that serve them; `None` once no more are taken.
type Connections = Arc<Mutex<Option<Vec<(UnixStream, JoinHandle<()>)>>>>;

/// What a thread needs to serve a connection.
#[derive(Clone, Debug)]
struct Place {
    origin: Origin,
    folder: PathBuf,
    progress: Progress,
    superset: Option<Readiness>,
}

impl Control {
    /// Listens in `folder`, where the pairs' data will lie too.
    pub(super) fn listen(
        origin: Origin,
        folder: &Path,
        progress: &Progress,
        superset: Option<Readiness>,
    ) -> Result<Self> {
        let path = folder.join("control");
        let socket = UnixListener::bind(&path)
            .with_context(|| format!("failed to listen on the socket {}", path.display()))?;
        let place = Place {
            origin,
            folder: folder.to_owned(),
            progress: progress.clone(),
            superset,
        };
        let connections = Connections::new(Mutex::new(Some(Vec::new())));
        let taken = Arc::clone(&connections);
        let listener = thread::spawn(move || {
            for (number, stream) in (1..).zip(socket.incoming()) {
                let Ok((stream, other)) = stream.and_then(|stream| Ok((stream.try_clone()?, stream))) else {
                    continue;
                };
                let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(taken) = taken.as_mut() else {
                    return;
                };
                let place = place.clone();
                // The pair's processes end with the thread that starts them, so each pair has one.
                let serving = thread::spawn(move || serve(&place, number, &stream));
                taken.push((other, serving));
            }
        });
        Ok(Self {
            path,
            listener: Some(listener),
            connections,
        })
    }

    /// The socket.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let open = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        for (stream, serving) in open.into_iter().flatten() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            let _ = serving.join();
        }
        // The listener waits for a connection, and sees at the next one that it is to end.
        if UnixStream::connect(&self.path).is_ok()
            && let Some(listener) = self.listener.take()
        {
            let _ = listener.join();
        }
    }
}

fn serve(place: &Place, number: u32, stream: &UnixStream) {
    let mut pair = None;
    let mut answers = stream;
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let answer = match obey(place, number, &mut pair, &line) {
            Ok(lines) => format!("{lines}ok\n"),
            Err(error) => format!("error: {}\n", format!("{error:#}").replace('\n', " ")),
        };
        if answers.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn obey(place: &Place, number: u32, pair: &mut Option<Pair>, line: &str) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match (words.as_slice(), pair.as_mut()) {
        (["begin"], None) => {
            let log = place.progress.log(&format!("servers-{number}"))?;
            let name = format!("{}-{number}", std::process::id());
            let folder = place.folder.join(number.to_string());
            let pair = pair.insert(Pair::start(
                &place.origin,
                super::Purpose::Tests { superset: false },
                &name,
                folder,
                &log,
            )?);
            let environment = pair.environment();
            let lines = environment
                .iter()
                .map(|(name, value)| format!("{name}={value}\n"));
            return Ok(lines.collect());
        }
        (["superset"], _) => {
            let superset = place.superset.as_ref();
            superset
                .context("no Superset was started with these servers")?
                .wait()?;
        }
        ([verb, server], Some(pair)) => {
            let kind: Kind = server.parse()?;
            match *verb {
                "kill" => pair.kill(kind)?,
                "start" => pair.start_again(kind)?,
                "stop" => pair.stop(kind)?,
                "cont" => pair.resume(kind)?,
                _ => bail!("{verb:?} is not kill, start, stop or cont"),
            }
        }
        _ => bail!("{line:?} is not understood here"),
    }
    Ok(String::new())
}
