//! Connecting to the database.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};

use crate::credentials::{DatabaseCredentials, SslMode};

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
    } = credentials;
    let ssl_mode = match ssl_mode {
        SslMode::Disable => PgSslMode::Disable,
        SslMode::Prefer => PgSslMode::Prefer,
        SslMode::Require => PgSslMode::Require,
        SslMode::VerifyCa => PgSslMode::VerifyCa,
        SslMode::VerifyFull => PgSslMode::VerifyFull,
    };
    let options = PgConnectOptions::new_without_pgpass()
        .host(host)
        .port(*port)
        .database(database)
        .username(username)
        .password(password.expose_secret())
        .ssl_mode(ssl_mode)
        .application_name(application);
    match authorities {
        Some(pem) => options.ssl_root_cert_from_pem(pem.clone().into_bytes()),
        None => options,
    }
}

/// A pool of at most `size` connections, opened as they are needed.
#[must_use]
pub fn pool(credentials: &DatabaseCredentials, application: &str, size: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options(credentials, application))
}
