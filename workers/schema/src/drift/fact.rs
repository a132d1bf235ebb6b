//! What the catalogue says.

use snafu::ResultExt as _;
use sqlx::PgConnection;

use crate::{Error, StatementSnafu};

/// What PostgreSQL answers when a lock was waited for in vain.
pub(super) const LOCK_NOT_AVAILABLE: &str = "55P03";

/// What PostgreSQL answers when two wait for each other, and this one gave way.
pub(super) const DEADLOCK_DETECTED: &str = "40P01";

const LOOK: &str = include_str!("look.sql");

/// What a fact is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(type_name = "text")]
pub enum Kind {
    /// A schema.
    Schema,
    /// Whose something is.
    Owner,
    /// What a role may do in the whole server.
    RoleAttribute,
    /// That a role has another one's rights.
    Membership,
    /// A table.
    Table,
    /// Whether a table shows some roles some rows only.
    RowSecurity,
    /// A column, with its type.
    Column,
    /// A column's default.
    Default,
    /// That a column has a value in each row.
    NotNull,
    /// A constraint.
    Constraint,
    /// An index.
    Index,
    /// How a table is stored.
    Option,
    /// A view.
    View,
    /// A function.
    Function,
    /// A right.
    Grant,
    /// A right on what is yet to be made.
    DefaultPrivilege,
}

impl Kind {
    /// Whether other facts are about what this one says that it exists.
    pub(super) fn is_thing(self) -> bool {
        matches!(self, Self::Schema | Self::Table | Self::View | Self::Function)
    }
}

/// What tells facts apart: kind, object, part.
pub(super) type Key = (Kind, String, String);

/// A row of `look.sql`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Fact {
    pub(super) kind: Kind,
    /// What it is about: "table gaps", "role writer".
    pub(super) object: String,
    /// Of the object: a column, an index, a right; empty for the object itself.
    pub(super) part: String,
    pub(super) digest: String,
    /// In the reference all of it, otherwise its beginning.
    pub(super) definition: String,
    /// In the reference the order in which the migrations made things.
    pub(super) place: i64,
    /// Makes it so, where nothing is there that could be disturbed.
    pub(super) make: Option<String>,
    /// Makes it so in a table that has rows and is written to, one statement after the other.
    pub(super) live: Option<Vec<String>>,
    /// Takes it away.
    pub(super) undo: Option<String>,
}

impl Fact {
    pub(super) fn key(&self) -> Key {
        (self.kind, self.object.clone(), self.part.clone())
    }

    /// Whether it is of what all feeds of a database share.
    pub(super) fn is_shared(&self) -> bool {
        let name = self.object.split_once(' ').map(|(_, name)| name);
        name.is_some_and(|name| name == "stockfeed" || name.starts_with("stockfeed."))
    }

    /// With all that tells of the schema it was read in, `from`, telling of `to`.
    pub(super) fn of(self, from: &str, to: &str) -> Self {
        let renamed = |text: String| text.replace(from, to);
        Self {
            make: self.make.map(renamed),
            live: self
                .live
                .map(|statements| statements.into_iter().map(renamed).collect()),
            undo: self.undo.map(renamed),
            ..self
        }
    }
}

/// Reads the facts of a schema, of these names; `None` when somebody holds a lock that is needed for it. `whole` with definitions as
/// long as they are, and with what makes them so.
pub(super) async fn read(
    connection: &mut PgConnection,
    schema: &str,
    relations: &[String],
    routines: &[String],
    whole: bool,
) -> Result<Option<Vec<Fact>>, Error> {
    let facts = sqlx::query_as(LOOK)
        .bind(schema)
        .bind(relations)
        .bind(routines)
        .bind(whole)
        .fetch_all(connection)
        .await;
    match facts {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) => Ok(None),
        facts => facts.map(Some).context(StatementSnafu {
            action: "compare the schema",
        }),
    }
}
