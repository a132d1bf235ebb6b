//! Which processors may write to which schema: both ways.
//!
//! A processor needs what a version of the schema gave it ([`OLDEST`]). And a newer schema may have taken away what the processor
//! needs, or ask for what it does not know of: the schema itself says so, because the processor cannot know.

use contract::names::FeedName;
use snafu::{ResultExt, Snafu};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{Error, StatementSnafu, VERSION, quoted, version};

/// The oldest version that this release's processor can write to. It needs the column that version 5 gave `partitions`.
pub const OLDEST: i32 = 5;

/// Why a processor may not write to a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Snafu)]
pub enum Refusal {
    /// There is none.
    #[snafu(display("the schema is not there yet: the operator makes it"))]
    Missing,
    /// It lacks what the processor needs.
    #[snafu(display(
        "the schema has version {found}, this processor needs {OLDEST} or newer: the operator migrates it"
    ))]
    TooOld {
        /// The schema's version.
        found: i32,
    },
    /// It needs what the processor lacks.
    #[snafu(display(
        "the schema has version {found} and needs a processor that knows {}, this one knows {VERSION}: use a newer image",
        needed.map_or_else(|| "it".to_owned(), |needed| format!("version {needed}"))
    ))]
    TooNew {
        /// The schema's version.
        found: i32,
        /// The version that a processor has to know; `None`: the schema does not say, so its own.
        needed: Option<i32>,
    },
}

/// Whether this release's processor may write to the feed's schema; the schema's version if so.
///
/// # Errors
/// When the database cannot be asked.
pub async fn may_write(
    connection: &mut PgConnection,
    feed: &FeedName,
) -> Result<Result<i32, Refusal>, Error> {
    let found = version(connection, feed).await?;
    let needed = match found {
        // Only then it is asked, and every such schema has the table.
        Some(found) if found > VERSION => oldest_processor(connection, feed).await?,
        _ => None,
    };
    Ok(judge(found, needed))
}

async fn oldest_processor(connection: &mut PgConnection, feed: &FeedName) -> Result<Option<i32>, Error> {
    let query = format!(
        "SELECT oldest_processor FROM {}.compatibility",
        quoted(&feed.schema())
    );
    sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_optional(connection)
        .await
        .context(StatementSnafu {
            action: "read which processors may write to the schema",
        })
}

/// `needed` is what a newer schema asks of a processor.
fn judge(found: Option<i32>, needed: Option<i32>) -> Result<i32, Refusal> {
    let Some(found) = found else {
        return Err(Refusal::Missing);
    };
    if found < OLDEST {
        return Err(Refusal::TooOld { found });
    }
    if found > VERSION && needed.is_none_or(|needed| needed > VERSION) {
        return Err(Refusal::TooNew { found, needed });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_is_too_old_or_asks_for_more_is_refused_and_no_other() {
        let newer = VERSION + 3;
        let cases = [
            (None, None, Err(Refusal::Missing)),
            (Some(OLDEST - 1), None, Err(Refusal::TooOld { found: OLDEST - 1 })),
            (Some(OLDEST), None, Ok(OLDEST)),
            (Some(VERSION), None, Ok(VERSION)),
            (Some(newer), Some(OLDEST), Ok(newer)),
            (Some(newer), Some(VERSION), Ok(newer)),
            (
                Some(newer),
                Some(VERSION + 1),
                Err(Refusal::TooNew {
                    found: newer,
                    needed: Some(VERSION + 1),
                }),
            ),
            (
                Some(newer),
                None,
                Err(Refusal::TooNew {
                    found: newer,
                    needed: None,
                }),
            ),
        ];
        for (found, needed, expected) in cases {
            assert_eq!(judge(found, needed), expected, "{found:?} {needed:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_needed_and_who_acts() {
        let text = Refusal::TooNew {
            found: 9,
            needed: Some(8),
        }
        .to_string();
        let known =
            format!("needs a processor that knows version 8, this one knows {VERSION}: use a newer image");
        assert!(text.ends_with(&known), "{text}");
    }
}
