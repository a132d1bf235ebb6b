//! Sessions of administrators that are kept between reconciliations, a few for each database.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Connection as _, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Error, connect_admin};
use crate::{
    connection::DatabaseConnection,
    metrics::requests::{self, Access, Answer, Requests},
};

/// The most sessions of one database.
const SESSIONS: usize = 8;
/// How long a session is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(90);
/// A database that no feed has used for this long is forgotten, with its password.
const UNUSED: Duration = Duration::from_secs(600);

/// All databases that feeds use.
pub struct Databases {
    requests: Requests,
    servers: Mutex<HashMap<String, (Instant, Arc<Server>)>>,
}

/// One database, as one administrator may use it.
pub(super) struct Server {
    limit: Arc<Semaphore>,
    idle: Mutex<Vec<(Instant, PgConnection)>>,
    proven: Mutex<HashMap<String, String>>,
}

/// A session. It is kept for others when it is given back, and closed when it is dropped: what failed in it may go on failing.
pub(super) struct Session {
    pub(super) connection: PgConnection,
    pub(super) server: Arc<Server>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Databases {
    /// None is known yet.
    #[must_use]
    pub fn new(requests: Requests) -> Self {
        Self {
            requests,
            servers: Mutex::default(),
        }
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
        while let Some(mut connection) = server.take() {
            // The server may have ended it meanwhile.
            if connection.ping().await.is_ok() {
                return Ok(Session {
                    connection,
                    server,
                    _permit: permit,
                });
            }
        }
        Ok(Session {
            connection: connect_admin(admin).await?,
            server,
            _permit: permit,
        })
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
            };
            (now, Arc::new(server))
        });
        *used = now;
        Arc::clone(server)
    }
}

impl Server {
    fn take(&self) -> Option<PgConnection> {
        let mut idle = lock(&self.idle);
        idle.retain(|(since, _)| since.elapsed() < IDLE);
        idle.pop().map(|(_, connection)| connection)
    }

    /// Whether a role was seen to log in while it was as it is now.
    pub(super) fn is_proven(&self, role: &str, state: &str) -> bool {
        lock(&self.proven).get(role).is_some_and(|proven| proven == state)
    }

    /// A role was seen to log in.
    pub(super) fn prove(&self, role: &str, state: String) {
        lock(&self.proven).insert(role.to_owned(), state);
    }
}

impl Session {
    /// Keeps the session for others.
    pub(super) fn give_back(self) {
        lock(&self.server.idle).push((Instant::now(), self.connection));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
