//! The two roles of a feed: the writer for the workers, the reader for dashboards and people.

use contract::names::FeedName;
use secrecy::{ExposeSecret as _, SecretString};
use snafu::ResultExt;
use sqlx::PgConnection;

use crate::{Error, PasswordSnafu, StatementSnafu, execute, quoted};

/// Makes the roles that are missing, without a password, and sets their search path to the feed's schema. Returns whether
/// anything was changed.
///
/// # Errors
/// When a statement fails, for example because the connection's role may not create roles.
pub async fn ensure(connection: &mut PgConnection, feed: &FeedName) -> Result<bool, Error> {
    let mut changed = false;
    for role in [feed.writer_role(), feed.reader_role()] {
        if !exists(connection, &role).await? {
            create(connection, &role).await?;
            changed = true;
        }
        let wanted = format!("search_path={}, pg_temp", quoted_if_needed(&feed.schema()));
        if search_path(connection, &role).await?.as_deref() != Some(wanted.as_str()) {
            let set = format!(
                "DO $$ BEGIN EXECUTE format('ALTER ROLE {} IN DATABASE %I SET search_path TO {}, pg_temp', current_database()); END $$",
                quoted(&role),
                quoted(&feed.schema()),
            );
            execute(connection, set, "set a role's search path").await?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Makes a role as a feed's roles are, without a password.
pub(crate) async fn create(connection: &mut PgConnection, role: &str) -> Result<(), Error> {
    let create = format!("CREATE ROLE {} LOGIN NOINHERIT", quoted(role));
    execute(connection, create, "create a role").await
}

/// Sets a role's password. What is sent is a SCRAM verifier, so the password itself is in no log of the server.
///
/// # Errors
/// When the statement fails.
pub async fn set_password(
    connection: &mut PgConnection,
    role: &str,
    password: &SecretString,
) -> Result<(), Error> {
    let verifier = postgres_protocol::password::scram_sha_256(password.expose_secret().as_bytes());
    if verifier.contains('\'') {
        return PasswordSnafu { role }.fail();
    }
    let statement = format!("ALTER ROLE {} LOGIN PASSWORD '{verifier}'", quoted(role));
    execute(connection, statement, "set a role's password").await
}

/// What the catalogue says of a role's logging in: whether it may, until when, how often at once, and with which verifier. `None` when
/// the connection's role may not read that, or there is no such role.
///
/// # Errors
/// When the statement fails.
pub async fn login_state(connection: &mut PgConnection, role: &str) -> Result<Option<String>, Error> {
    let action = "read how a role logs in";
    let readable: bool = sqlx::query_scalar("SELECT has_table_privilege('pg_authid', 'SELECT')")
        .fetch_one(&mut *connection)
        .await
        .context(StatementSnafu { action })?;
    if !readable {
        return Ok(None);
    }
    sqlx::query_scalar(
        "SELECT concat_ws(' ', rolcanlogin, coalesce(rolvaliduntil < now(), false), rolconnlimit, rolpassword)
         FROM pg_authid WHERE rolname = $1",
    )
    .bind(role)
    .fetch_optional(connection)
    .await
    .context(StatementSnafu { action })
}

/// Drops both roles and what they were granted in this database.
pub(crate) async fn drop(connection: &mut PgConnection, feed: &FeedName) -> Result<(), Error> {
    for role in [feed.writer_role(), feed.reader_role()] {
        if exists(connection, &role).await? {
            // Only members may drop what a role owns, and an administrator who is no superuser is not one yet.
            let role = quoted(&role);
            let statement = format!("GRANT {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}");
            execute(connection, statement, "drop a role").await?;
        }
    }
    Ok(())
}

async fn exists(connection: &mut PgConnection, role: &str) -> Result<bool, Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(role)
        .fetch_one(connection)
        .await
        .context(StatementSnafu {
            action: "look for a role",
        })
}

/// The role's setting in this database, as the catalog keeps it.
async fn search_path(connection: &mut PgConnection, role: &str) -> Result<Option<String>, Error> {
    sqlx::query_scalar(
        "SELECT setting FROM pg_db_role_setting, unnest(setconfig) AS setting
         WHERE setrole = (SELECT oid FROM pg_roles WHERE rolname = $1)
           AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND setting LIKE 'search_path=%'",
    )
    .bind(role)
    .fetch_optional(connection)
    .await
    .context(StatementSnafu {
        action: "read a role's search path",
    })
}

/// As PostgreSQL writes a list of identifiers back: in quotes only where it must. Ours are lower case, digits and
/// underscores, beginning with a letter, so never.
fn quoted_if_needed(identifier: &str) -> &str {
    identifier
}
