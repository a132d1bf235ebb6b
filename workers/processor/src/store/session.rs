//! Database sessions of an owner.

use service::credentials::DatabaseCredentials;
use snafu::ResultExt;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{DatabaseSnafu, Error, TimeoutSnafu};

/// How long a session may sit in a transaction and say nothing. One that was stopped while it took a partition over is known to
/// nobody, so nobody could end it.
const IDLE_TIMEOUT: &str = "10s";

/// The name of an owner's sessions. The server keeps 63 bytes of it.
pub(super) fn application(unique: Uuid) -> String {
    format!("stockfeed processor {unique}")
}

/// Ends the sessions of this name, all but the one that asks, and waits until they are gone.
pub(super) async fn end_sessions(connection: &mut PgConnection, application: &str) -> Result<(), Error> {
    // A role may end its own sessions.
    sqlx::query(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
         WHERE application_name = $1 AND usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()",
    )
    .bind(application)
    .execute(connection)
    .await
    .context(DatabaseSnafu { action: "end the sessions of an earlier owner" })?;
    Ok(())
}

/// Connects as the feed's writer, with the feed's schema as search path whatever the role's setting says.
///
/// # Errors
/// When the database refuses or does not answer.
pub async fn connect(
    credentials: &DatabaseCredentials,
    schema: &str,
    application: &str,
) -> Result<PgConnection, Error> {
    let options = service::postgres::options(credentials, application).options([
        ("search_path", schema),
        ("idle_in_transaction_session_timeout", IDLE_TIMEOUT),
        // Each statement is prepared while its tables are new and small, and that plan stays. All of them go by an index; a plan
        // that reads a whole table would cost more with every candle.
        ("enable_seqscan", "off"),
    ]);
    let action = "connect to the database";
    match tokio::time::timeout(
        service::postgres::ACQUIRE_TIMEOUT,
        service::postgres::connect(options),
    )
    .await
    {
        Ok(connection) => connection.context(DatabaseSnafu { action }),
        Err(_) => TimeoutSnafu.fail(),
    }
}
