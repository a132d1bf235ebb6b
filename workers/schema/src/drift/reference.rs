//! How a schema is when only the migrations have made it.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
};

use snafu::ResultExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, migrate::Migrate as _};

use super::{
    Kind,
    fact::{self, Fact, Key},
};
use crate::{Error, MIGRATIONS, MigrateSnafu, StatementSnafu, VERSION, execute, quoted, roles};

/// Stands for a feed's schema. No identifier has such a character.
pub(super) const FEED: &str = "\u{1}";
/// What all feeds of a database share.
const SHARED: &str = "stockfeed";

/// How a schema is when only the migrations of this release have made it, in one database of one version of the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    server: Option<u32>,
    relations: Vec<String>,
    routines: Vec<String>,
    facts: BTreeMap<Key, Fact>,
}

impl Reference {
    /// Applies the migrations to a schema that nobody sees, reads what that gave, and rolls it back. It takes some tenths of a second and
    /// a few hundred rows of the catalogue that vacuum takes away, so do it once for all feeds of a database.
    ///
    /// # Errors
    /// When a statement fails. The connection may hold locks then: close it.
    pub async fn make(connection: &mut PgConnection) -> Result<Self, Error> {
        let server = connection.server_version_num();
        let name: String = sqlx::query_scalar("SELECT 'Reference ' || gen_random_uuid()")
            .fetch_one(&mut *connection)
            .await
            .context(StatementSnafu {
                action: "name a schema",
            })?;
        let context = || MigrateSnafu { schema: name.clone() };
        // Before anything else: who migrates holds it, and wants the rows of the catalogue that are changed below.
        connection
            .lock()
            .await
            .map_err(Box::new)
            .with_context(|_| context())?;
        let mut transaction = connection.begin().await.context(StatementSnafu {
            action: "begin a transaction",
        })?;
        let read = read(&mut transaction, &name).await?;
        transaction
            .rollback()
            .await
            .context(StatementSnafu { action: "roll back" })?;
        connection
            .unlock()
            .await
            .map_err(Box::new)
            .with_context(|_| context())?;
        let (relations, routines, facts) = read;
        let facts = facts
            .into_iter()
            // Only an administrator's defaults can have given PUBLIC a right.
            .filter(|fact| fact.kind != Kind::Grant || !fact.part.starts_with("PUBLIC "))
            .map(|fact| fact.of(&name, FEED))
            .map(|fact| (fact.key(), fact))
            .collect();
        Ok(Self {
            server,
            relations,
            routines,
            facts,
        })
    }

    /// Whether it tells of a server of this connection's version: another one may write definitions otherwise.
    #[must_use]
    pub fn is_of(&self, connection: &PgConnection) -> bool {
        self.server == connection.server_version_num()
    }

    pub(super) fn relations(&self) -> &[String] {
        &self.relations
    }

    pub(super) fn routines(&self) -> &[String] {
        &self.routines
    }

    pub(super) fn facts(&self) -> &BTreeMap<Key, Fact> {
        &self.facts
    }
}

type Read = (Vec<String>, Vec<String>, Vec<Fact>);

/// Boxed: the migrator's future is generic over lifetimes in a way that is not `Send` otherwise.
fn read<'a>(
    connection: &'a mut PgConnection,
    schema: &'a str,
) -> Pin<Box<dyn Future<Output = Result<Read, Error>> + Send + 'a>> {
    Box::pin(async move {
        // The migrations make it only where it is missing, so what is there is put out of their way.
        let move_away = format!(
            "DO $$ BEGIN IF to_regnamespace('{SHARED}') IS NOT NULL THEN ALTER SCHEMA {SHARED} RENAME TO {}; END IF; END $$",
            quoted(&format!("{schema} shared"))
        );
        execute(connection, move_away, "move a schema away").await?;
        for role in ["writer", "reader"] {
            roles::create(connection, &format!("{schema}_{role}")).await?;
        }
        let begin = format!(
            "CREATE SCHEMA {schema}; SET LOCAL search_path TO {schema}, pg_temp",
            schema = quoted(schema)
        );
        execute(connection, begin, "create the schema").await?;
        MIGRATIONS
            .run_direct(Some(VERSION.into()), connection, false)
            .await
            .map_err(Box::new)
            .with_context(|_| MigrateSnafu { schema })?;
        let relations = names(
            connection,
            schema,
            "SELECT relname::text FROM pg_class WHERE relnamespace::regnamespace::text IN (quote_ident($1), $2)
             AND relkind IN ('r', 'p', 'v', 'S') ORDER BY relname",
        )
        .await?;
        let routines = names(
            connection,
            schema,
            "SELECT DISTINCT proname::text FROM pg_proc WHERE pronamespace::regnamespace::text IN (quote_ident($1), $2)
             ORDER BY proname",
        )
        .await?;
        // How long a migration took is another thing each time, and none that matters.
        let timeless = "UPDATE _sqlx_migrations SET execution_time = 0";
        execute(connection, timeless.to_owned(), "forget how long migrations took").await?;
        let facts = fact::read(connection, schema, &relations, &routines, true).await?;
        let mut facts = facts.unwrap_or_default();
        for table in tables(&facts) {
            fill(connection, &mut facts, &table).await?;
        }
        rank(&mut facts);
        Ok((relations, routines, facts))
    })
}

async fn names(
    connection: &mut PgConnection,
    schema: &str,
    query: &'static str,
) -> Result<Vec<String>, Error> {
    sqlx::query_scalar(query)
        .bind(schema)
        .bind(SHARED)
        .fetch_all(connection)
        .await
        .context(StatementSnafu {
            action: "list what the migrations made",
        })
}

fn tables(facts: &[Fact]) -> Vec<String> {
    let tables = facts.iter().filter(|fact| fact.kind == Kind::Table);
    tables.map(|fact| fact.object.clone()).collect()
}

/// Lets a table that is made anew have the rows that the migrations gave it, but for what it has by default.
async fn fill(connection: &mut PgConnection, facts: &mut [Fact], object: &str) -> Result<(), Error> {
    let has = |kind, part: &str| {
        let mut facts = facts.iter();
        facts.any(|fact| fact.kind == kind && fact.object == object && fact.part == part)
    };
    let columns = facts
        .iter()
        .filter(|fact| fact.kind == Kind::Column && fact.object == object)
        .filter(|fact| !has(Kind::Default, &fact.part) && !fact.definition.contains(" GENERATED "))
        .map(|fact| quoted(&fact.part))
        .collect::<Vec<_>>()
        .join(", ");
    let Some(table) = object.strip_prefix("table ") else {
        return Ok(());
    };
    let query = format!(
        "SELECT format('; INSERT INTO {table} ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::{table}, %L)',
                       json_agg(line ORDER BY line::text)::text)
         FROM (SELECT {columns} FROM {table}) AS line HAVING count(*) > 0"
    );
    let insert: Option<String> = sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_optional(connection)
        .await
        .context(StatementSnafu {
            action: "read the rows that the migrations made",
        })?;
    let table = facts
        .iter_mut()
        .find(|fact| fact.kind == Kind::Table && fact.object == object);
    if let (Some(insert), Some(make)) = (insert, table.and_then(|table| table.make.as_mut())) {
        make.push_str(&insert);
    }
    Ok(())
}

/// Numbers of objects are other ones each time; their order is not.
fn rank(facts: &mut [Fact]) {
    let places: BTreeSet<i64> = facts.iter().map(|fact| fact.place).collect();
    let ranks: BTreeMap<i64, i64> = places.into_iter().zip(0..).collect();
    for fact in facts {
        fact.place = ranks.get(&fact.place).copied().unwrap_or_default();
    }
}
