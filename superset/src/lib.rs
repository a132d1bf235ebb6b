//! The dashboards of feeds in Apache Superset, as code: rendered from the files in `assets`, and compared with what is there.
//!
//! Pure: no IO, no clock. The operator sends what is rendered here to Superset, and asks here what differs.

use std::collections::BTreeMap;

use serde_json::Value;

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
    /// The certificates that the server's is checked against, in PEM.
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

/// Assets of Superset: a database with datasets, charts and dashboards on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// Path in the archive, below its one folder, to content.
    pub files: BTreeMap<String, Value>,
}

/// How something in Superset is not as rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is, for people: `chart "Price trend"`.
    pub asset: String,
    /// The key that differs, as a path; empty: the whole is missing.
    pub key: String,
}
