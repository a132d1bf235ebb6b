//! Whether a feed's schema is as the migrations make it, and making it so again.
//!
//! What is expected is no list that somebody has to keep: the migrations are applied to a schema that is rolled back, and the same
//! query reads the catalogue there and in the feed's schema ([`Reference`]). See docs/adr/0014.
//!
//! What others add (tables, columns, indexes, functions, rights of roles that are not ours) is none of our business; what they
//! take away or change of ours, and rights on ours for writer, reader or PUBLIC, are.

use std::collections::{BTreeMap, BTreeSet};

use contract::names::FeedName;
use sqlx::PgConnection;

use crate::Error;

mod difference;
mod fact;
mod heal;
mod mend;
mod partitioned;
mod reference;

pub use difference::{Difference, How};
pub use fact::Kind;
use fact::{Fact, Key};
pub use heal::{Adopted, Left, adopt, heal, rebuild};
pub use reference::Reference;

/// What a look at a schema found.
#[derive(Debug)]
pub enum Looked {
    /// Everything that is not as the migrations make it, in the order in which it has to be mended.
    Differences(Vec<Difference>),
    /// Somebody holds a lock that reading a definition needs.
    Locked,
}

/// Compares the feed's schema, its roles and what all feeds share with the reference: one query that writes nothing.
///
/// # Errors
/// When the database cannot be asked.
pub async fn look(
    connection: &mut PgConnection,
    feed: &FeedName,
    reference: &Reference,
) -> Result<Looked, Error> {
    let found = fact::read(
        connection,
        &feed.schema(),
        reference.relations(),
        reference.routines(),
        false,
    )
    .await?;
    Ok(found.map_or(Looked::Locked, |found| {
        Looked::Differences(compare(reference.facts(), found))
    }))
}

/// What is expected and is not there or is otherwise, and what is there of ours that is not expected.
fn compare(expected: &BTreeMap<Key, Fact>, found: Vec<Fact>) -> Vec<Difference> {
    let found: BTreeMap<Key, Fact> = found.into_iter().map(|fact| (fact.key(), fact)).collect();
    let things: BTreeSet<&str> = found
        .values()
        .filter(|fact| fact.kind.is_thing())
        .map(|fact| fact.object.as_str())
        .collect();
    let known: BTreeSet<&str> = expected
        .values()
        .filter(|fact| fact.kind.is_thing())
        .map(|fact| fact.object.as_str())
        .collect();
    let column = |fact: &Fact| (Kind::Column, fact.object.clone(), fact.part.clone());
    // What belongs to something that is missing is missing with it, and comes back with it.
    let stands = |fact: &&Fact| {
        let object = fact.object.as_str();
        let gone = known.contains(object) && !things.contains(object);
        let of_column = matches!(fact.kind, Kind::Default | Kind::NotNull);
        fact.kind.is_thing() || !(gone || of_column && !found.contains_key(&column(fact)))
    };
    let missing = expected.values().filter(stands).filter_map(|wanted| {
        let how = match found.get(&wanted.key()) {
            None => How::Missing,
            // What is shared may have been changed by an operator of a later release, for feeds of its own.
            Some(found) if found.digest != wanted.digest && !wanted.is_shared() => How::Changed {
                found: found.definition.clone(),
            },
            Some(_) => return None,
        };
        Some(Difference::new(wanted, how))
    });
    let extra = found
        .values()
        .filter(|fact| !expected.contains_key(&fact.key()))
        .filter(|fact| match fact.kind {
            Kind::Default | Kind::NotNull => expected.contains_key(&column(fact)),
            // A function of ours by name, with other arguments, is somebody's own.
            Kind::Owner | Kind::Grant => {
                !fact.object.starts_with("function ") || known.contains(fact.object.as_str())
            }
            Kind::Membership | Kind::DefaultPrivilege => true,
            _ => false,
        })
        .map(|fact| Difference::new(fact, How::Extra));
    let mut differences: Vec<_> = missing.chain(extra).collect();
    differences.sort_by_key(Difference::order);
    differences
}

#[cfg(test)]
mod tests;
