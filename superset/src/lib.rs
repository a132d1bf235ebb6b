//! The dashboards of feeds in Apache Superset, as code: rendered from the files in `assets`, and compared with what is there.
//!
//! Pure: no IO, no clock. The operator sends what is rendered here to Superset, and asks here what differs.
//!
//! A file in `assets` is what Superset exports, with less in it: what follows from the rest is added here, so that no two places can
//! disagree. [`assemble`] gives UUIDs and the files' references to each other, [`query`] the query that a chart saves for whoever asks
//! over REST, [`layout`] a dashboard's grid and its filters. `${…}` stands for what is the feed's own, and is put into the values
//! after the file is parsed, so that no name can change its structure.

mod assemble;
mod bundle;
mod connection;
mod difference;
mod layout;
mod query;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;
pub use template::OVERVIEW_DATABASE;

pub use self::{
    bundle::{Bundle, PASSWORD_MASK},
    difference::{Difference, UnreadableExport},
};

/// What the slug of each dashboard of ours begins with. The slug is the last part of the dashboard's path.
pub const SLUG_PREFIX: &str = "stockfeed-";

/// How Superset reaches a feed's tables: as the feed's reader role. The password is not here; it is sent beside the assets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Host name of the PostgreSQL server, as seen from Superset.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The role, which may only read.
    pub user: String,
    /// `sslmode` of libpq; `None`: the driver's default, `prefer`.
    pub ssl_mode: Option<String>,
    /// The certificates that the server's is checked against, in PEM. Superset takes them by `PUT /api/v1/database/{id}` only, as
    /// `server_cert`: they are in no asset.
    pub certificate_authority: Option<String>,
}

/// A feed, as far as its dashboards need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The schema with its tables.
    pub schema: String,
    /// How many calls to the source it may make a day; `None`: as many as it likes.
    pub calls_per_day: Option<u64>,
    /// How Superset reads it.
    pub connection: Connection,
}

/// The dashboard of one feed.
#[must_use]
pub fn feed(feed: &Feed) -> Bundle {
    assemble::assemble(&template::Set::feed(feed))
}

/// The dashboard over all feeds. They are in one database, which `connection` reaches as a role that may read each of them.
/// Every feed's schema must be at version 8 or newer.
#[must_use]
pub fn overview(feeds: &[Feed], connection: &Connection) -> Bundle {
    assemble::assemble(&template::Set::overview(feeds, connection))
}

/// The last part of the path of a feed's dashboard, `/superset/dashboard/<slug>/`: `stockfeed-markets-tech`. Where the namespace or
/// the name has a hyphen, eight hex digits of a hash tell `a-b`/`c` from `a`/`b-c`.
#[must_use]
pub fn slug(namespace: &str, name: &str) -> String {
    let plain = format!("{SLUG_PREFIX}{namespace}-{name}");
    if !namespace.contains('-') && !name.contains('-') {
        return plain;
    }
    format!("{plain}-{}", &bundle::sha256(&format!("{namespace}/{name}"))[..8])
}

/// What is put in place of a placeholder, by its name.
type Values = BTreeMap<&'static str, Value>;
