//! Every name a feed has in the broker and in the database.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use snafu::{Snafu, ensure};

use crate::symbol::Symbol;

/// The longest identifier PostgreSQL keeps, in bytes.
const MAX_IDENTIFIER: usize = 63;
/// The longest suffix that is put on a schema's name (`_writer`, `_reader`).
const MAX_SUFFIX: usize = 7;

/// The word that stands for the symbol in a heartbeat's routing key. Lower case, so that no symbol is called so.
pub const HEARTBEAT_KEY: &str = "heartbeat";

/// A feed's namespace and name: both DNS labels (RFC 1123), so neither has a dot and names joined by one are unique.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", rename_all = "camelCase")]
pub struct FeedName {
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    namespace: String,
    name: String,
}

/// A namespace or name that is not a DNS label.
#[derive(Clone, Debug, PartialEq, Eq, Snafu)]
#[snafu(display(
    "{field} {text:?} is not a DNS label: use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit"
))]
pub struct InvalidName {
    field: &'static str,
    text: String,
}

impl FeedName {
    /// Checks and joins a namespace and a name.
    ///
    /// # Errors
    /// When one of them is not a DNS label.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Result<Self, InvalidName> {
        let (namespace, name) = (namespace.into(), name.into());
        ensure!(
            is_label(&namespace),
            InvalidNameSnafu {
                field: "namespace",
                text: &namespace
            }
        );
        ensure!(
            is_label(&name),
            InvalidNameSnafu {
                field: "name",
                text: &name
            }
        );
        Ok(Self { namespace, name })
    }

    /// The Kubernetes namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name of the `StockFeed`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The topic exchange that ticks are published to.
    #[must_use]
    pub fn exchange(&self) -> String {
        format!("{}.{}.ticks", self.namespace, self.name)
    }

    /// The queue of one partition of one generation.
    #[must_use]
    pub fn queue(&self, generation: u32, partition: u16) -> String {
        format!("{}.{}.ticks.{generation}.{partition}", self.namespace, self.name)
    }

    /// The prefix that all partition queues share.
    #[must_use]
    pub fn queue_prefix(&self) -> String {
        format!("{}.{}.ticks.", self.namespace, self.name)
    }

    /// The queue of what the broker itself gave up on.
    #[must_use]
    pub fn dead_letter_queue(&self) -> String {
        format!("{}.{}.dead", self.namespace, self.name)
    }

    /// The feed's broker user.
    #[must_use]
    pub fn broker_user(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    /// The regular expression of the broker objects that the user may touch.
    #[must_use]
    pub fn broker_permission(&self) -> String {
        format!(r"^{}\.{}\.", self.namespace, self.name)
    }

    /// The database schema.
    ///
    /// `markets_tech` for feed `tech` in namespace `markets`. An identifier cannot have a hyphen without quotes, and is
    /// cut off at 63 bytes: where a name has a hyphen or is long, eight hex digits of a hash keep it unique. Names that
    /// would begin with a digit, or with PostgreSQL's own `pg_`, get `sf_` before them.
    #[must_use]
    pub fn schema(&self) -> String {
        let plain = format!("{}_{}", self.namespace, self.name);
        let limit = MAX_IDENTIFIER - MAX_SUFFIX;
        let reserved = plain.starts_with("pg_") || plain.starts_with(|first: char| first.is_ascii_digit());
        if !reserved && !plain.contains('-') && plain.len() <= limit {
            return plain;
        }
        let digest = Sha256::digest(self.broker_user().as_bytes());
        let hash: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let mut readable = format!("{}{}", if reserved { "sf_" } else { "" }, plain.replace('-', "_"));
        readable.truncate(limit - 1 - hash.len());
        format!("{readable}_{hash}")
    }

    /// The role the workers use.
    #[must_use]
    pub fn writer_role(&self) -> String {
        format!("{}_writer", self.schema())
    }

    /// The role people and dashboards use.
    #[must_use]
    pub fn reader_role(&self) -> String {
        format!("{}_reader", self.schema())
    }
}

impl fmt::Display for FeedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

impl TryFrom<Unchecked> for FeedName {
    type Error = InvalidName;

    fn try_from(Unchecked { namespace, name }: Unchecked) -> Result<Self, InvalidName> {
        Self::new(namespace, name)
    }
}

/// The routing key of a message with ticks of one symbol: `<generation>-<partition>.<symbol>`, so anyone may bind `*.AAPL`.
/// The generation is part of the first word, so that queues of two generations on one exchange never get the same message.
#[must_use]
pub fn routing_key(generation: u32, partition: u16, symbol: &Symbol) -> String {
    format!("{generation}-{partition}.{symbol}")
}

/// The routing key of a heartbeat.
#[must_use]
pub fn heartbeat_routing_key(generation: u32, partition: u16) -> String {
    format!("{generation}-{partition}.{HEARTBEAT_KEY}")
}

/// The binding key of a partition's queue: everything of that partition.
#[must_use]
pub fn binding_key(generation: u32, partition: u16) -> String {
    format!("{generation}-{partition}.#")
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(namespace: &str, name: &str) -> FeedName {
        FeedName::new(namespace, name).unwrap()
    }

    #[test]
    fn names_are_those_of_the_architecture() {
        let tech = feed("markets", "tech");
        assert_eq!(tech.exchange(), "markets.tech.ticks");
        assert_eq!(tech.queue(3, 0), "markets.tech.ticks.3.0");
        assert_eq!(tech.dead_letter_queue(), "markets.tech.dead");
        assert_eq!(tech.broker_user(), "markets.tech");
        assert_eq!(tech.broker_permission(), r"^markets\.tech\.");
        assert_eq!(tech.schema(), "markets_tech");
        assert_eq!(tech.writer_role(), "markets_tech_writer");
        assert_eq!(tech.reader_role(), "markets_tech_reader");
        assert_eq!(routing_key(3, 2, &"BRK.B".parse().unwrap()), "3-2.BRK.B");
        assert_eq!(heartbeat_routing_key(3, 2), "3-2.heartbeat");
        assert_eq!(binding_key(3, 2), "3-2.#");
    }

    #[test]
    fn hyphens_do_not_make_two_feeds_share_a_schema() {
        let schemas = [
            feed("a-b", "c").schema(),
            feed("a", "b-c").schema(),
            feed("a--b", "c").schema(),
            feed("a", "b").schema(),
        ];
        let unique: std::collections::BTreeSet<_> = schemas.iter().collect();
        assert_eq!(unique.len(), schemas.len(), "{schemas:?}");
    }

    #[test]
    fn refuses_what_is_not_a_label() {
        for name in ["", "a.b", "A", "-a", "a-", "a_b", &"a".repeat(64)] {
            assert!(FeedName::new("markets", name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_role_fits_an_identifier_and_needs_no_quotes(
            namespace in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
            name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        ) {
            let feed = feed(&namespace, &name);
            for identifier in [feed.schema(), feed.writer_role(), feed.reader_role()] {
                prop_assert!(identifier.len() <= MAX_IDENTIFIER);
                prop_assert!(!identifier.starts_with("pg_") && !identifier.as_bytes()[0].is_ascii_digit());
                prop_assert!(identifier.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
            }
        }
    }
}
