//! Connecting to the database.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use crate::credentials::DatabaseCredentials;

pub use crate::relay::connect;

/// How long a connection may take to be there.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Options for a connection.
#[must_use]
pub fn options(credentials: &DatabaseCredentials, application: &str) -> PgConnectOptions {
    let DatabaseCredentials {
        host,
        port,
        database,
        username,
        password,
        ssl_mode,
        authorities,
        client,
    } = credentials;
    let options = PgConnectOptions::new_without_pgpass()
        .host(host)
        .port(*port)
        .database(database)
        .username(username)
        .password(password.expose_secret())
        .application_name(application);
    certificates::postgres::secure(options, *ssl_mode, authorities.as_deref(), client.as_ref())
}

/// A pool of at most `size` connections, opened as they are needed.
#[must_use]
pub fn pool(credentials: &DatabaseCredentials, application: &str, size: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options(credentials, application))
}
