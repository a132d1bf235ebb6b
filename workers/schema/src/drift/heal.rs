//! Makes a schema again as the migrations make it, without holding up those who write.
//!
//! Statements are committed one by one, each waits for a lock for a second at most, and none reads a table through under a lock that
//! writers need: constraints are checked after they were added, indexes are built `CONCURRENTLY`.

use std::collections::BTreeMap;

use contract::names::FeedName;
use snafu::ResultExt as _;
use sqlx::{AssertSqlSafe, PgConnection, migrate::Migrate as _};

use super::{
    Difference, How, Kind, Looked, Reference,
    fact::{DEADLOCK_DETECTED, Key, LOCK_NOT_AVAILABLE},
    look,
    reference::FEED,
};
use crate::{Error, MigrateSnafu, StatementSnafu, VERSION, execute, quoted, version};

/// How long the lock of migrations is waited for. Nobody else waits meanwhile.
const FOR_MIGRATIONS: &str = "5s";
/// How long a statement waits for a table. Commits queue behind it meanwhile.
const FOR_A_TABLE: &str = "1s";
/// How long what is done `CONCURRENTLY` waits for the transactions of others. Nobody queues behind it.
const CONCURRENTLY: &str = "20s";
/// Which says which migrations were applied.
const MIGRATIONS_TABLE: &str = "table _sqlx_migrations";
/// What is mended may show what else is not as it should be: grants of a view that is back.
const PASSES: usize = 3;

/// Something that is still not as the migrations make it.
#[derive(Debug)]
pub struct Left {
    /// What.
    pub difference: Difference,
    /// Why; `None` when nothing was tried.
    pub why: Option<String>,
    /// Somebody holds a lock, so it may be done the next time.
    pub waits: bool,
}

/// Mends what [`Difference::is_slow`]: what takes as long as it takes to read a table. Without the lock of migrations, since who waits for
/// that has a snapshot, which `CONCURRENTLY` would wait for in turn. What was begun by one run is gone on with by the next.
///
/// # Errors
/// As [`heal`].
pub async fn rebuild(
    connection: &mut PgConnection,
    feed: &FeedName,
    reference: &Reference,
) -> Result<Option<Vec<Left>>, Error> {
    let left = Healing::begin(&mut *connection, feed, reference)
        .await?
        .rebuild()
        .await?;
    end(connection).await?;
    Ok(left)
}

/// What became of a schema that does not say which version it has.
#[derive(Debug)]
pub enum Adopted {
    /// Nothing of ours is there, or it does say so.
    NotNeeded,
    /// It is as this release makes it, and says so now.
    Adopted,
    /// It is otherwise, so nobody knows which version it has.
    Unknown(Vec<Difference>),
    /// Somebody holds a lock.
    Waits,
}

/// Where the table of migrations was dropped and the rest is as this release makes it, makes that table anew. Otherwise migrations would begin
/// from the first, and fail.
///
/// # Errors
/// As [`heal`].
pub async fn adopt(
    connection: &mut PgConnection,
    feed: &FeedName,
    reference: &Reference,
) -> Result<Adopted, Error> {
    let is_there: bool = sqlx::query_scalar("SELECT to_regnamespace(quote_ident($1)) IS NOT NULL")
        .bind(feed.schema())
        .fetch_one(&mut *connection)
        .await
        .context(StatementSnafu {
            action: "look for the schema",
        })?;
    if !is_there {
        return Ok(Adopted::NotNeeded);
    }
    let healing = Healing::begin(&mut *connection, feed, reference).await?;
    let adopted = healing.adopt().await?;
    end(connection).await?;
    Ok(adopted)
}

/// Makes the feed's schema again as the migrations make it, but for what [`Difference::is_slow`], and returns what is left; `None` when
/// somebody holds a lock that is needed to see that. Under the lock that migrations hold, and only while the schema has the version of
/// this release. The connection must not be in a transaction.
///
/// # Errors
/// When the database cannot be asked. The connection may hold locks then: close it.
pub async fn heal(
    connection: &mut PgConnection,
    feed: &FeedName,
    reference: &Reference,
) -> Result<Option<Vec<Left>>, Error> {
    let left = Healing::begin(&mut *connection, feed, reference)
        .await?
        .heal()
        .await?;
    end(connection).await?;
    Ok(left)
}

pub(super) struct Healing<'a> {
    pub(super) connection: &'a mut PgConnection,
    pub(super) feed: &'a FeedName,
    pub(super) reference: &'a Reference,
    failures: BTreeMap<Key, Failure>,
}

/// Why something could not be mended.
pub(super) struct Failure {
    pub(super) why: String,
    pub(super) waits: bool,
}

/// The outer error ends the healing, the inner one concerns one difference.
pub(super) type Tried = Result<Result<(), Failure>, Error>;

impl<'a> Healing<'a> {
    /// Sets the session up as migrations have it.
    async fn begin(
        connection: &'a mut PgConnection,
        feed: &'a FeedName,
        reference: &'a Reference,
    ) -> Result<Self, Error> {
        let path = format!(
            "SET search_path TO {}, pg_temp; SET check_function_bodies TO off; SET lock_timeout TO '{FOR_MIGRATIONS}'",
            quoted(&feed.schema())
        );
        execute(connection, path, "set the search path").await?;
        Ok(Self {
            connection,
            feed,
            reference,
            failures: BTreeMap::new(),
        })
    }

    async fn adopt(mut self) -> Result<Adopted, Error> {
        if !self.lock().await? {
            return Ok(Adopted::Waits);
        }
        let differences = match look(self.connection, self.feed, self.reference).await? {
            Looked::Differences(differences) => differences,
            Looked::Locked => return self.unlock().await.map(|()| Adopted::Waits),
        };
        let is_missing = |one: &Difference| one.how == How::Missing && one.kind() == Kind::Table;
        let is_of_role = |one: &Difference| matches!(one.kind(), Kind::RoleAttribute | Kind::Membership);
        let all = self.reference.facts().values();
        let all = all
            .filter(|fact| fact.kind == Kind::Table && !fact.is_shared())
            .count();
        let (table, rest): (Vec<_>, Vec<_>) = differences
            .into_iter()
            .filter(|one| !one.fact.is_shared() && !is_of_role(one) && one.how != How::Extra)
            .partition(|one| is_missing(one) && one.fact.object == MIGRATIONS_TABLE);
        let adopted = match table.first() {
            None => Adopted::NotNeeded,
            Some(_) if rest.iter().filter(|one| is_missing(one)).count() + 1 == all => Adopted::NotNeeded,
            Some(_) if rest.iter().any(|one| one.kind() != Kind::Grant) => Adopted::Unknown(rest),
            Some(table) => match self.make_table(&table.fact).await? {
                Ok(()) => Adopted::Adopted,
                Err(failure) if failure.waits => Adopted::Waits,
                Err(_) => Adopted::Unknown(vec![table.clone()]),
            },
        };
        self.unlock().await?;
        Ok(adopted)
    }

    async fn heal(mut self) -> Result<Option<Vec<Left>>, Error> {
        if !self.lock().await? {
            return self.left(true).await;
        }
        self.patience(FOR_A_TABLE).await?;
        let ours = self.is_our_version().await?;
        for _ in 0..PASSES {
            let work = self.differences().await?.unwrap_or_default();
            let mut mended = false;
            for difference in work.iter().filter(|one| ours && !one.is_slow()) {
                mended |= self.note(difference).await?;
            }
            if !mended {
                break;
            }
        }
        self.unlock().await?;
        self.left(false).await
    }

    async fn rebuild(mut self) -> Result<Option<Vec<Left>>, Error> {
        self.patience(FOR_A_TABLE).await?;
        let work = self.differences().await?.unwrap_or_default();
        for difference in work.iter().filter(|one| one.is_slow()) {
            if self.is_our_version().await? {
                self.note(difference).await?;
            }
        }
        self.left(false).await
    }

    /// Takes the lock of migrations; false when somebody migrates for long.
    async fn lock(&mut self) -> Result<bool, Error> {
        match self.connection.lock().await {
            Ok(()) => Ok(true),
            Err(sqlx::migrate::MigrateError::Execute(sqlx::Error::Database(error)))
                if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) =>
            {
                Ok(false)
            }
            Err(error) => Err(Box::new(error)).context(MigrateSnafu {
                schema: self.feed.schema(),
            }),
        }
    }

    async fn unlock(&mut self) -> Result<(), Error> {
        let unlocked = self.connection.unlock().await;
        unlocked.map_err(Box::new).context(MigrateSnafu {
            schema: self.feed.schema(),
        })
    }

    async fn is_our_version(&mut self) -> Result<bool, Error> {
        Ok(version(self.connection, self.feed).await? == Some(VERSION))
    }

    /// `None` while somebody holds a lock that is needed to see them.
    async fn differences(&mut self) -> Result<Option<Vec<Difference>>, Error> {
        Ok(match look(self.connection, self.feed, self.reference).await? {
            Looked::Differences(differences) => Some(differences),
            Looked::Locked => None,
        })
    }

    async fn left(mut self, waits: bool) -> Result<Option<Vec<Left>>, Error> {
        let Some(left) = self.differences().await? else {
            return Ok(None);
        };
        let left = left.into_iter().map(|difference| {
            let failure = self.failures.remove(&difference.key());
            let (why, waits) = match failure {
                Some(Failure { why, waits }) => (Some(why), waits),
                None => (None, waits),
            };
            Left {
                difference,
                why,
                waits,
            }
        });
        Ok(Some(left.collect()))
    }

    /// Tries to mend something, and remembers why that failed. Whether anything was mended.
    async fn note(&mut self, difference: &Difference) -> Result<bool, Error> {
        let failure = self.mend(difference).await?.err();
        let mended = failure.is_none();
        let key = difference.key();
        match failure {
            Some(failure) => drop(self.failures.insert(key, failure)),
            None => drop(self.failures.remove(&key)),
        }
        Ok(mended)
    }

    pub(super) async fn all(&mut self, statements: &[impl AsRef<str>]) -> Tried {
        for statement in statements {
            if let Err(failure) = self.statement(statement.as_ref()).await? {
                return Ok(Err(failure));
            }
        }
        Ok(Ok(()))
    }

    /// Runs one statement, or several as one transaction.
    pub(super) async fn statement(&mut self, statement: &str) -> Tried {
        let concurrently = statement.contains(" CONCURRENTLY ");
        if concurrently {
            self.patience(CONCURRENTLY).await?;
        }
        let text = statement.replace(FEED, &self.feed.schema());
        let done = sqlx::raw_sql(AssertSqlSafe(text))
            .execute(&mut *self.connection)
            .await;
        if concurrently {
            self.patience(FOR_A_TABLE).await?;
        }
        match done {
            Ok(_) => Ok(Ok(())),
            Err(sqlx::Error::Database(error)) => Ok(Err(Failure {
                why: error.message().to_owned(),
                waits: matches!(
                    error.code().as_deref(),
                    Some(LOCK_NOT_AVAILABLE | DEADLOCK_DETECTED)
                ),
            })),
            Err(error) => Err(error).context(StatementSnafu {
                action: "mend the schema",
            }),
        }
    }

    async fn patience(&mut self, limit: &str) -> Result<(), Error> {
        let set = format!("SET lock_timeout TO '{limit}'");
        execute(self.connection, set, "set the lock timeout").await
    }
}

async fn end(connection: &mut PgConnection) -> Result<(), Error> {
    let reset = "RESET search_path; RESET check_function_bodies; RESET lock_timeout";
    execute(connection, reset.to_owned(), "reset the session").await
}
