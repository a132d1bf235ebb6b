//! What was fetched and is not confirmed by the broker, on disk; and what numbering needs to go on after a restart.
//!
//! Both are written in one transaction of an embedded database, before anything of it is published. So a producer that is killed
//! at any moment goes on with the same publisher, publishes again what was not confirmed, under the same numbers, and never
//! gives a number to two messages. The file survives a restart of the container, and one of the pod where the volume does.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use contract::{config::SpoolConfig, symbol::Symbol};
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
};
use serde::Serialize;
use snafu::{ResultExt as _, Snafu};
use tokio::sync::Notify;
use utoipa::ToSchema;

use crate::message::{Fingerprint, Outgoing, Position};

/// Messages by the order in which they were composed, as JSON.
const MESSAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("messages");
/// The last quote of each symbol, as JSON.
const LAST: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("last");
/// One row: publisher, generation, numbers and bounds, as JSON.
const POSITION: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("position");
/// The key of the one row.
const NOW: &str = "now";
/// The file in the spool's folder.
const FILE: &str = "spool.redb";
/// What of the file is kept in memory.
const CACHE: usize = 8 << 20;

/// Why the spool cannot be used.
#[derive(Debug, Snafu)]
#[snafu(display("failed to {action} the spool {}: {source}", path.display()))]
pub struct Error {
    /// What was attempted.
    action: &'static str,
    /// Which file.
    path: PathBuf,
    /// Why. Boxed: it is large.
    #[snafu(source(from(redb::Error, Box::new)))]
    source: Box<redb::Error>,
}

/// How full the spool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct SpoolState {
    /// Messages that wait for the broker's confirm.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// With so many bytes nothing more is fetched; absent: no limit.
    pub max_bytes: Option<u64>,
    /// Whether that is so.
    pub full: bool,
}

/// What a spool holds when it is opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Where numbering stopped; `None` in a new spool.
    pub position: Option<Position>,
    /// The last quote of each symbol.
    pub last: Vec<(Symbol, Fingerprint)>,
}

/// What one fetch adds.
#[derive(Debug)]
pub struct Addition {
    /// Messages in their order.
    pub messages: Vec<Outgoing>,
    /// Where numbering stands after them.
    pub position: Position,
    /// Symbols whose last quote is another one now.
    pub last: Vec<(Symbol, Fingerprint)>,
}

/// The spool of a producer. Its calls block for as long as the disk takes.
pub struct Spool {
    database: Database,
    path: PathBuf,
    max_bytes: Option<u64>,
    messages: AtomicU64,
    bytes: AtomicU64,
    added: Notify,
}

impl fmt::Debug for Spool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Spool")
            .field("path", &self.path)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Spool {
    /// Opens the spool, or makes it; without a folder it is in memory.
    ///
    /// # Errors
    /// When the file cannot be made or is none of ours.
    pub fn open(config: Option<&SpoolConfig>) -> Result<(Arc<Self>, Recovered), Error> {
        let path = config.map_or_else(
            || Path::new("(memory)").to_owned(),
            |config| config.directory.join(FILE),
        );
        let result: Result<_, redb::Error> = (|| {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE);
            let database = match config {
                Some(_) => builder.create(&path)?,
                None => builder.create_with_backend(redb::backends::InMemoryBackend::new())?,
            };
            let (recovered, messages, bytes) = recover(&database)?;
            Ok((database, recovered, messages, bytes))
        })();
        let (database, recovered, messages, bytes) = result.context(Snafu {
            action: "open",
            path: &path,
        })?;
        let spool = Self {
            database,
            path,
            max_bytes: config.map(|config| config.max_bytes),
            messages: messages.into(),
            bytes: bytes.into(),
            added: Notify::new(),
        };
        Ok((Arc::new(spool), recovered))
    }

    /// Adds what was fetched. It is on the disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written; nothing of it is there then.
    pub fn add(&self, addition: &Addition) -> Result<(), Error> {
        let bytes = self.write(addition).context(Snafu {
            action: "write to",
            path: &self.path,
        })?;
        self.messages
            .fetch_add(addition.messages.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.added.notify_one();
        Ok(())
    }

    /// The first messages with their keys, at most so many.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn first(&self, most: usize) -> Result<Vec<(u64, Outgoing)>, Error> {
        let result: Result<_, redb::Error> = (|| {
            let reading = self.database.begin_read()?;
            let table = reading.open_table(MESSAGES)?;
            let mut messages = Vec::new();
            for row in table.iter()?.take(most) {
                let (key, value) = row?;
                if let Ok(message) = serde_json::from_slice(value.value()) {
                    messages.push((key.value(), message));
                }
            }
            Ok(messages)
        })();
        result.context(Snafu {
            action: "read",
            path: &self.path,
        })
    }

    /// Removes messages that are confirmed. Should the producer be killed before the disk has it, they are published again,
    /// and the processor drops them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remove(&self, keys: &[u64]) -> Result<(), Error> {
        let result: Result<_, redb::Error> = (|| {
            let mut writing = self.database.begin_write()?;
            writing.set_durability(redb::Durability::None)?;
            let mut bytes = 0;
            {
                let mut table = writing.open_table(MESSAGES)?;
                for key in keys {
                    if let Some(removed) = table.remove(key)? {
                        bytes += removed.value().len() as u64;
                    }
                }
            }
            writing.commit()?;
            Ok(bytes)
        })();
        let bytes = result.context(Snafu {
            action: "write to",
            path: &self.path,
        })?;
        self.messages.fetch_sub(keys.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Returns when something was added since the last time.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    /// How full it is.
    #[must_use]
    pub fn state(&self) -> SpoolState {
        let bytes = self.bytes.load(Ordering::Relaxed);
        SpoolState {
            messages: self.messages.load(Ordering::Relaxed),
            bytes,
            max_bytes: self.max_bytes,
            full: self.max_bytes.is_some_and(|most| bytes >= most),
        }
    }

    fn write(&self, addition: &Addition) -> Result<u64, redb::Error> {
        let writing = self.database.begin_write()?;
        let mut bytes = 0;
        {
            let mut table = writing.open_table(MESSAGES)?;
            let first = addition.position.added - addition.messages.len() as u64;
            for (key, message) in (first..).zip(&addition.messages) {
                let value = json(message);
                bytes += value.len() as u64;
                table.insert(key, value.as_slice())?;
            }
            let mut last = writing.open_table(LAST)?;
            for (symbol, fingerprint) in &addition.last {
                last.insert(symbol.as_str(), json(fingerprint).as_slice())?;
            }
            let mut position = writing.open_table(POSITION)?;
            position.insert(NOW, json(&addition.position).as_slice())?;
        }
        writing.commit()?;
        Ok(bytes)
    }
}

/// Reads what is there, and makes the tables that are not.
fn recover(database: &Database) -> Result<(Recovered, u64, u64), redb::Error> {
    let writing = database.begin_write()?;
    let mut recovered = Recovered::default();
    let (messages, mut bytes);
    {
        let table = writing.open_table(MESSAGES)?;
        messages = table.len()?;
        bytes = 0;
        for row in table.iter()? {
            bytes += row?.1.value().len() as u64;
        }
        for row in writing.open_table(LAST)?.iter()? {
            let (symbol, fingerprint) = row?;
            let symbol = symbol.value().parse().ok();
            let fingerprint = serde_json::from_slice(fingerprint.value()).ok();
            recovered.last.extend(symbol.zip(fingerprint));
        }
        if let Some(position) = writing.open_table(POSITION)?.get(NOW)? {
            recovered.position = serde_json::from_slice(position.value()).ok();
        }
    }
    writing.commit()?;
    Ok((recovered, messages, bytes))
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    // Cannot fail: structs of strings, numbers and lists.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
