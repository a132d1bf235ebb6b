//! What the installation has in its database server beside its feeds: a role that reads all of them, and Superset's own database.

use std::time::Instant;

use schema::installation::{OVERVIEW_ROLE, ensure_database, ensure_overview};
use secrecy::SecretString;
use snafu::ResultExt as _;

use super::{Databases, Error, SchemaSnafu, Shown, TIMEOUT, login, within};
use crate::connection::DatabaseConnection;

/// Superset's own database, and its owner.
const SUPERSET: &str = "superset";

/// Makes sure that there is a role with this password that reads what the readers read. Returns whether anything was changed.
///
/// # Errors
/// When the database cannot be told.
pub async fn overview(
    databases: &Databases,
    admin: &DatabaseConnection,
    readers: &[String],
    password: &SecretString,
) -> Result<bool, Error> {
    let began = Instant::now();
    let ensured = within(TIMEOUT, async {
        let mut session = databases.session(admin).await?;
        let made = ensure_overview(&mut session.connection, readers)
            .await
            .context(SchemaSnafu)?;
        let server = &session.server;
        let set = login(
            server,
            &mut session.connection,
            admin,
            OVERVIEW_ROLE,
            password,
            shown(admin),
        )
        .await?;
        session.give_back();
        Ok(made || set)
    })
    .await;
    databases.count(&ensured, |changed| *changed, began.elapsed());
    ensured
}

/// Makes sure that Superset has a database, and a role that can log in to it with this password. Returns what was not so.
///
/// # Errors
/// When the database server cannot be told.
pub async fn superset(
    databases: &Databases,
    admin: &DatabaseConnection,
    password: &SecretString,
) -> Result<Vec<&'static str>, Error> {
    let began = Instant::now();
    let ensured = within(TIMEOUT, async {
        let mut session = databases.session(admin).await?;
        let mut missing = ensure_database(&mut session.connection, SUPERSET)
            .await
            .context(SchemaSnafu)?;
        // It may log in to its own database only.
        let own = DatabaseConnection {
            dbname: SUPERSET.to_owned(),
            ..admin.clone()
        };
        let server = &session.server;
        if login(
            server,
            &mut session.connection,
            &own,
            SUPERSET,
            password,
            shown(admin),
        )
        .await?
        {
            missing.push("the role's password");
        }
        session.give_back();
        Ok(missing)
    })
    .await;
    databases.count(&ensured, |missing| !missing.is_empty(), began.elapsed());
    ensured
}

/// Superset has no client certificate, and what it cannot do is not to be proven with one.
fn shown(admin: &DatabaseConnection) -> Shown<'_> {
    Shown {
        client: admin.worker_client.as_ref(),
        remedy: "Superset has no client certificate: let its roles in without one (pg_hba.conf)",
    }
}
