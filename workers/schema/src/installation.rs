//! What an installation has in its database server beside its feeds: a role that reads all of them, and Superset's own database.

use snafu::ResultExt;
use sqlx::PgConnection;

use crate::{Error, StatementSnafu, execute, quoted};

/// The role that reads the feeds of a server. Its dashboard shows all of them.
pub const OVERVIEW_ROLE: &str = "stockfeed_overview";

/// Makes a role that reads what all of these roles read, without a password. Returns whether anything was changed.
///
/// # Errors
/// When a statement fails.
pub async fn ensure_overview(connection: &mut PgConnection, readers: &[String]) -> Result<bool, Error> {
    let mut changed = ensure_role(connection, OVERVIEW_ROLE).await?;
    // A reader that is gone meanwhile is left out.
    let missing: Vec<String> = sqlx::query_scalar(
        "SELECT rolname::text FROM pg_roles reader
         WHERE rolname = ANY($1) AND NOT EXISTS (
           SELECT FROM pg_auth_members
           WHERE roleid = reader.oid AND member = (SELECT oid FROM pg_roles WHERE rolname = $2))
         ORDER BY rolname",
    )
    .bind(readers)
    .bind(OVERVIEW_ROLE)
    .fetch_all(&mut *connection)
    .await
    .context(StatementSnafu {
        action: "read who is a member of the feeds' readers",
    })?;
    for reader in missing {
        let grant = format!("GRANT {} TO {}", quoted(&reader), quoted(OVERVIEW_ROLE));
        execute(connection, grant, "let the overview's role read a feed").await?;
        changed = true;
    }
    Ok(changed)
}

/// Makes a database with an owner of the same name, which alone may connect to it. The owner has no password yet. Returns what was
/// missing.
///
/// # Errors
/// When a statement fails.
pub async fn ensure_database(connection: &mut PgConnection, name: &str) -> Result<Vec<&'static str>, Error> {
    let mut missing = Vec::new();
    if ensure_role(connection, name).await? {
        missing.push("the role");
    }
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut *connection)
        .await
        .context(StatementSnafu {
            action: "look for a database",
        })?;
    if exists {
        return Ok(missing);
    }
    let name = quoted(name);
    // Only members may give something to a role, and an administrator who is no superuser is not one yet.
    let grant = format!("GRANT {name} TO CURRENT_USER");
    execute(connection, grant, "become a member of a role").await?;
    let create = format!("CREATE DATABASE {name} OWNER {name}");
    execute(connection, create, "create a database").await?;
    let revoke = format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC");
    execute(connection, revoke, "keep others out of a database").await?;
    missing.push("the database");
    Ok(missing)
}

async fn ensure_role(connection: &mut PgConnection, role: &str) -> Result<bool, Error> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(role)
        .fetch_one(&mut *connection)
        .await
        .context(StatementSnafu {
            action: "look for a role",
        })?;
    if !exists {
        // Unlike those of feeds it has what its groups have.
        // Another installation of the same server may have made it this very moment.
        let create = format!(
            "DO $$ BEGIN CREATE ROLE {} LOGIN INHERIT; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
            quoted(role)
        );
        execute(connection, create, "create a role").await?;
    }
    Ok(!exists)
}
