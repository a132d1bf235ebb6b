//! What others changed in a feed's schema: compared at each look, put back where that can be done without a person, and said otherwise.

use std::{collections::BTreeSet, time::Duration};

use contract::names::FeedName;
use schema::drift::{self, Adopted, Difference, Kind, Left, Looked};
use snafu::ResultExt as _;

use super::{Databases, Error, LockedSnafu, SchemaSnafu, VersionUnknownSnafu, sessions::Session};
use crate::{api::status::reason, metrics::Heal, status::Verdict};

/// How long it is waited for what reads a table through. The server goes on with it for as long as it takes.
const REBUILDING: Duration = Duration::from_secs(25);
/// How many differences a message names.
const NAMED: usize = 3;

/// Makes the table of migrations anew where only that is missing, and says so.
pub(super) async fn adopt(
    databases: &Databases,
    session: &mut Session,
    feed: &FeedName,
) -> Result<Option<(Heal, String)>, Error> {
    let reference = databases.reference(session).await?;
    let adopted = drift::adopt(&mut session.connection, feed, &reference).await;
    match adopted.context(SchemaSnafu)? {
        Adopted::NotNeeded => Ok(None),
        Adopted::Adopted => {
            let what = "table _sqlx_migrations was missing; all else is as its last version made it";
            Ok(Some((Heal::Table, what.to_owned())))
        }
        Adopted::Unknown(differences) => {
            let said = differences.iter().map(|difference| difference.say("is"));
            let differences = listed(said.collect());
            VersionUnknownSnafu { differences }.fail()
        }
        Adopted::Waits => LockedSnafu.fail(),
    }
}

/// Puts back what differs, and notes that in `written`. What is to be said when not all is as it should be.
pub(super) async fn mend(
    databases: &Databases,
    session: &mut Session,
    feed: &FeedName,
    written: &mut Vec<(Heal, String)>,
) -> Result<Option<Verdict>, Error> {
    let schema = feed.schema();
    if written.is_empty() && databases.is_fresh(session, &schema) {
        return Ok(None);
    }
    let reference = databases.reference(session).await?;
    let connection = &mut session.connection;
    let looked = drift::look(connection, feed, &reference)
        .await
        .context(SchemaSnafu)?;
    let as_it_should_be = matches!(&looked, Looked::Differences(found) if found.is_empty());
    session.server.compared(schema, as_it_should_be);
    let found = match looked {
        Looked::Differences(found) => found,
        Looked::Locked => return Ok(Some(locked())),
    };
    if found.is_empty() {
        return Ok(None);
    }
    let left = drift::heal(connection, feed, &reference)
        .await
        .context(SchemaSnafu)?;
    let Some(mut left) = left else {
        return Ok(Some(locked()));
    };
    written.extend(healed(&found, &left));
    let slow: Vec<_> = left
        .iter()
        .map(|left| left.difference.clone())
        .filter(Difference::is_slow)
        .collect();
    if !slow.is_empty() {
        match tokio::time::timeout(REBUILDING, drift::rebuild(connection, feed, &reference)).await {
            Ok(rebuilt) => {
                let Some(rebuilt) = rebuilt.context(SchemaSnafu)? else {
                    return Ok(Some(locked()));
                };
                left = with_reasons(rebuilt, left);
                written.extend(healed(&slow, &left));
            }
            Err(_) => session.spoilt = true,
        }
    }
    Ok(judge(&left))
}

fn locked() -> Verdict {
    let message = "the schema cannot be compared: somebody holds a lock on a table of it";
    Verdict::no(reason::SCHEMA_LOCKED, message)
}

/// What of it is as it should be again.
fn healed(found: &[Difference], left: &[Left]) -> Vec<(Heal, String)> {
    let still: BTreeSet<_> = left.iter().map(|left| left.difference.say("is")).collect();
    found
        .iter()
        .filter(|difference| !still.contains(&difference.say("is")))
        .map(|difference| {
            let lost = match difference.loses_data() {
                true => ", and was made anew, empty: its rows are gone",
                false => "",
            };
            (
                heal_of(difference.kind()),
                format!("{}{lost}", difference.say("was")),
            )
        })
        .collect()
}

/// What is left after the second attempt, with what the first one found out of that which the second did not try.
fn with_reasons(mut left: Vec<Left>, mut before: Vec<Left>) -> Vec<Left> {
    for one in left.iter_mut().filter(|one| one.why.is_none()) {
        let same = before
            .iter_mut()
            .find(|earlier| earlier.difference.say("is") == one.difference.say("is"));
        if let Some(earlier) = same {
            one.why = earlier.why.take();
            one.waits = earlier.waits;
        }
    }
    left
}

/// What is to be said of what is left.
fn judge(left: &[Left]) -> Option<Verdict> {
    let is_for_a_person = |left: &&Left| !left.waits && (left.why.is_some() || !left.difference.is_slow());
    let (reason, of_these): (_, Vec<_>) = match left.iter().any(|left| is_for_a_person(&left)) {
        true => (
            reason::SCHEMA_DRIFTED,
            left.iter().filter(is_for_a_person).collect(),
        ),
        false => (reason::SCHEMA_LOCKED, left.iter().collect()),
    };
    if of_these.is_empty() {
        return None;
    }
    let said = of_these.iter().map(|left| {
        let why = left
            .why
            .as_deref()
            .unwrap_or_else(|| match (left.waits, left.difference.is_slow()) {
                (true, _) => "somebody migrates, or holds a lock",
                (false, true) => "it is being built",
                (false, false) => "the administrator cannot change it",
            });
        format!("{}: {why}", left.difference.say("is"))
    });
    Some(Verdict::no(reason, listed(said.collect())))
}

/// The first few of them.
fn listed(mut said: Vec<String>) -> String {
    let more = said.len().saturating_sub(NAMED);
    said.truncate(NAMED);
    let text = said.join("; ");
    match more {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}

const fn heal_of(kind: Kind) -> Heal {
    match kind {
        Kind::Schema => Heal::Schema,
        Kind::Owner => Heal::Owner,
        Kind::RoleAttribute | Kind::Membership => Heal::Roles,
        Kind::Table => Heal::Table,
        Kind::Column | Kind::Default | Kind::NotNull => Heal::Column,
        Kind::Constraint => Heal::Constraint,
        Kind::Index => Heal::Index,
        Kind::RowSecurity | Kind::Option => Heal::TableOption,
        Kind::View => Heal::View,
        Kind::Function => Heal::Function,
        Kind::Grant | Kind::DefaultPrivilege => Heal::Grant,
    }
}
