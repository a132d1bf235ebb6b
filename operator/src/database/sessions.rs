//! Sessions of administrators that are kept between reconciliations, a few for each database.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use schema::drift::Reference;
use snafu::ResultExt as _;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Error, SchemaSnafu, connect_admin};
use crate::{
    connection::DatabaseConnection,
    metrics::requests::{self, Access, Answer, Requests},
};

/// The most sessions of one database.
const SESSIONS: usize = 8;
/// How long a session is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(90);
/// How often a session is used. The server's process remembers what it ever saw of the catalogue, half a MiB a feed and more of one
/// that it made, and gives none of it back.
const USES: u32 = 32;
/// A database that no feed has used for this long is forgotten, with its password.
const UNUSED: Duration = Duration::from_secs(600);

/// All databases that feeds use.
pub struct Databases {
    requests: Requests,
    servers: Mutex<HashMap<String, (Instant, Arc<Server>)>>,
    /// Databases of one kind have equal ones, which are kept once.
    references: Mutex<Vec<Weak<Reference>>>,
    /// How long a schema that was as it should be is not compared again.
    rest: Duration,
}

/// One database, as one administrator may use it.
pub(super) struct Server {
    limit: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    proven: Mutex<HashMap<String, String>>,
    /// Schemas that were as they should be, and when.
    compared: Mutex<HashMap<String, Instant>>,
    /// Who makes it keeps the others waiting for it.
    reference: tokio::sync::Mutex<Option<Arc<Reference>>>,
}

/// A session that waits for its next use.
struct Idle {
    since: Instant,
    uses: u32,
    connection: PgConnection,
}

/// A session. It is kept for others when it is given back, and closed when it is dropped: what failed in it may go on failing.
pub(super) struct Session {
    pub(super) connection: PgConnection,
    pub(super) server: Arc<Server>,
    /// It is not to be used again: it was left in mid-work.
    pub(super) spoilt: bool,
    uses: u32,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Databases {
    /// None is known yet.
    #[must_use]
    pub fn new(requests: Requests) -> Self {
        Self {
            requests,
            servers: Mutex::default(),
            references: Mutex::default(),
            rest: Duration::ZERO,
        }
    }

    /// Compares a schema that was as it should be not again for so long, however often its feed is looked at.
    #[must_use]
    pub fn resting(self, rest: Duration) -> Self {
        Self { rest, ..self }
    }

    /// Whether a feed's schema was as it should be, just now.
    pub(super) fn is_fresh(&self, session: &Session, schema: &str) -> bool {
        let compared = lock(&session.server.compared);
        compared
            .get(schema)
            .is_some_and(|since| since.elapsed() < self.rest)
    }

    /// Counts a look at a feed's side, or its removal.
    pub(super) fn count<T>(
        &self,
        looked: &Result<T, Error>,
        wrote: impl FnOnce(&T) -> bool,
        duration: Duration,
    ) {
        let (access, answer) = match looked {
            Ok(outcome) if wrote(outcome) => (Access::Write, Answer::Ok),
            Ok(_) => (Access::Read, Answer::Ok),
            Err(error) => (Access::Read, error.answer()),
        };
        self.requests
            .ended(requests::Server::Database, access, answer, duration);
    }

    /// A session of the administrator, one that is there or a new one.
    pub(super) async fn session(&self, admin: &DatabaseConnection) -> Result<Session, Error> {
        let server = self.server(admin);
        // Never closed, so that there is always a permit in the end.
        let permit = Arc::clone(&server.limit).acquire_owned().await.ok();
        while let Some(Idle {
            uses, mut connection, ..
        }) = server.take()
        {
            if uses >= USES {
                connection.close().await.ok();
                continue;
            }
            // The server may have ended it meanwhile.
            if connection.ping().await.is_ok() {
                return Ok(Session {
                    connection,
                    server,
                    spoilt: false,
                    uses: uses + 1,
                    _permit: permit,
                });
            }
        }
        Ok(Session {
            connection: connect_admin(admin).await?,
            server,
            spoilt: false,
            uses: 1,
            _permit: permit,
        })
    }

    /// How a schema has to be in this database. Made at the first look, and when the server is of another version than before.
    pub(super) async fn reference(&self, session: &mut Session) -> Result<Arc<Reference>, Error> {
        let Session {
            connection, server, ..
        } = session;
        let mut held = server.reference.lock().await;
        if let Some(reference) = held.as_ref().filter(|reference| reference.is_of(connection)) {
            return Ok(Arc::clone(reference));
        }
        let made = Reference::make(connection).await.context(SchemaSnafu)?;
        let reference = self.shared(made);
        *held = Some(Arc::clone(&reference));
        Ok(reference)
    }

    fn shared(&self, made: Reference) -> Arc<Reference> {
        let mut references = lock(&self.references);
        references.retain(|reference| reference.strong_count() > 0);
        if let Some(equal) = references
            .iter()
            .filter_map(Weak::upgrade)
            .find(|reference| **reference == made)
        {
            return equal;
        }
        let made = Arc::new(made);
        references.push(Arc::downgrade(&made));
        made
    }

    fn server(&self, admin: &DatabaseConnection) -> Arc<Server> {
        let now = Instant::now();
        let mut servers = lock(&self.servers);
        servers.retain(|_, (used, _)| now.saturating_duration_since(*used) < UNUSED);
        let (used, server) = servers.entry(admin.fingerprint()).or_insert_with(|| {
            let server = Server {
                limit: Arc::new(Semaphore::new(SESSIONS)),
                idle: Mutex::default(),
                proven: Mutex::default(),
                compared: Mutex::default(),
                reference: tokio::sync::Mutex::default(),
            };
            (now, Arc::new(server))
        });
        *used = now;
        Arc::clone(server)
    }
}

impl Server {
    fn take(&self) -> Option<Idle> {
        let mut idle = lock(&self.idle);
        idle.retain(|idle| idle.since.elapsed() < IDLE);
        idle.pop()
    }

    /// Whether a role was seen to log in while it was as it is now.
    pub(super) fn is_proven(&self, role: &str, state: &str) -> bool {
        lock(&self.proven).get(role).is_some_and(|proven| proven == state)
    }

    /// A schema was seen to be as it should be, or not to be.
    pub(super) fn compared(&self, schema: String, as_it_should_be: bool) {
        let mut compared = lock(&self.compared);
        match as_it_should_be {
            true => drop(compared.insert(schema, Instant::now())),
            false => drop(compared.remove(&schema)),
        }
    }

    /// A role was seen to log in.
    pub(super) fn prove(&self, role: &str, state: String) {
        lock(&self.proven).insert(role.to_owned(), state);
    }
}

impl Session {
    /// Keeps the session for others.
    pub(super) fn give_back(self) {
        if self.spoilt {
            return;
        }
        lock(&self.server.idle).push(Idle {
            since: Instant::now(),
            uses: self.uses,
            connection: self.connection,
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
