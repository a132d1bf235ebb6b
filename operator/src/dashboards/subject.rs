//! What has dashboards: each feed, and all of them together. Pure.

use std::{fmt, sync::Arc};

use contract::names::FeedName;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use superset::{Bundle, Connection};

use super::{
    Wanted,
    access::Access,
    inventory::{Dashboard, Database, Inventory},
};
use crate::{api::DriftPolicy, dereference::hex};

/// What has dashboards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A feed.
    Feed(FeedName),
    /// All feeds of the installation's database.
    Overview,
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feed(name) => write!(formatter, "the dashboards of feed {name}"),
            Self::Overview => formatter.write_str("the dashboard of all feeds"),
        }
    }
}

impl Subject {
    /// Whether a role sees it. All feeds at once are seen by who sees each of them.
    #[must_use]
    pub fn is_seen(&self, access: &Access) -> bool {
        match self {
            Self::Feed(name) => access.sees(name),
            Self::Overview => access.feeds.iter().any(|pattern| pattern == "*/*"),
        }
    }
}

/// What is to be in Superset for a subject.
#[derive(Clone, Debug)]
pub struct Target {
    source: Source,
    database: String,
    dashboard: String,
    /// UUIDs of the datasets whose rows have a symbol.
    pub with_symbols: Vec<String>,
    /// The dashboard's path in Superset.
    pub path: String,
    /// Of the role that Superset reads as.
    pub password: SecretString,
    /// What becomes of changes.
    pub policy: DriftPolicy,
    /// Tells it from what it was before, and gives nothing of the password away.
    pub revision: String,
}

/// What the assets are rendered from: a thousand of them in memory would be in the way.
#[derive(Clone, Debug)]
enum Source {
    Feed(Arc<Wanted>),
    Overview(Arc<Vec<superset::Feed>>, Connection),
}

impl Target {
    /// Of a feed.
    #[must_use]
    pub fn feed(wanted: Arc<Wanted>) -> Self {
        let (password, policy) = (wanted.password.clone(), wanted.policy);
        let made = wanted.made.to_string();
        Self::new(Source::Feed(wanted), password, policy, &made)
    }

    /// Of all feeds of the installation's database.
    #[must_use]
    pub fn overview(feeds: Arc<Vec<superset::Feed>>, connection: Connection, password: SecretString) -> Self {
        Self::new(
            Source::Overview(feeds, connection),
            password,
            DriftPolicy::Heal,
            "",
        )
    }

    fn new(source: Source, password: SecretString, policy: DriftPolicy, made: &str) -> Self {
        let bundle = source.bundle();
        let authority = source.connection().certificate_authority.as_deref();
        let mut digest = Sha256::new();
        for part in [bundle.digest().as_str(), made, authority.unwrap_or_default()] {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        let first = |kind: &str| {
            let uuids = bundle.uuids_of(kind);
            uuids.first().map(ToString::to_string).unwrap_or_default()
        };
        Self {
            database: first("databases"),
            dashboard: first("dashboards"),
            with_symbols: with_symbols(&bundle),
            path: format!("/superset/dashboard/{}/", bundle.slug()),
            password,
            policy,
            revision: hex(&digest.finalize()[..8]),
            source,
        }
    }

    /// The assets.
    #[must_use]
    pub fn bundle(&self) -> Bundle {
        self.source.bundle()
    }

    /// How Superset reads the tables.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        self.source.connection()
    }

    /// Whether it is of the same making, so that it needs not be rendered again.
    #[must_use]
    pub fn is_of(&self, wanted: &Arc<Wanted>) -> bool {
        matches!(&self.source, Source::Feed(own) if Arc::ptr_eq(own, wanted))
    }

    /// Whether it is of these feeds, so that it needs not be rendered again.
    #[must_use]
    pub fn is_of_feeds(&self, feeds: &[superset::Feed]) -> bool {
        matches!(&self.source, Source::Overview(own, _) if **own == feeds)
    }

    /// Whether it is the same, password included.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.revision == other.revision && self.password.expose_secret() == other.password.expose_secret()
    }

    /// The connection as it is in Superset.
    #[must_use]
    pub fn database<'a>(&self, inventory: &'a Inventory) -> Option<&'a Database> {
        inventory.databases.get(&self.database)
    }

    /// The dashboard as it is in Superset.
    #[must_use]
    pub fn dashboard<'a>(&self, inventory: &'a Inventory) -> Option<&'a Dashboard> {
        inventory.dashboards.get(&self.dashboard)
    }
}

impl Source {
    fn bundle(&self) -> Bundle {
        match self {
            Self::Feed(wanted) => superset::feed(&wanted.feed),
            Self::Overview(feeds, connection) => superset::overview(feeds, connection),
        }
    }

    fn connection(&self) -> &Connection {
        match self {
            Self::Feed(wanted) => &wanted.feed.connection,
            Self::Overview(_, connection) => connection,
        }
    }
}

/// What Superset is asked to try a connection with: what it has, and the password that it knows.
#[must_use]
pub fn trial(bundle: &Bundle, connection: &Connection) -> Value {
    let mut files = bundle.files.iter();
    let file = files.find(|(path, _)| path.starts_with("databases/"));
    let file = file.map_or(&Value::Null, |(_, file)| file);
    let mut trial = json!({
        "database_name": file["database_name"],
        "sqlalchemy_uri": file["sqlalchemy_uri"],
        "extra": file["extra"].to_string(),
    });
    if let Some(authority) = &connection.certificate_authority {
        trial["server_cert"] = json!(authority);
    }
    trial
}

fn with_symbols(bundle: &Bundle) -> Vec<String> {
    let has_symbol = |file: &Value| {
        let columns = file["columns"].as_array();
        columns.is_some_and(|columns| columns.iter().any(|column| column["column_name"] == "symbol"))
    };
    let files = bundle.files.iter();
    files
        .filter(|(path, file)| path.starts_with("datasets/") && has_symbol(file))
        .filter_map(|(_, file)| file["uuid"].as_str().map(str::to_owned))
        .collect()
}

/// A feed of which only the name is known: its UUIDs follow from that.
#[must_use]
pub fn nameless(name: &FeedName) -> Bundle {
    superset::feed(&superset::Feed {
        namespace: name.namespace().to_owned(),
        name: name.name().to_owned(),
        schema: name.schema(),
        calls_per_day: None,
        connection: nowhere(),
    })
}

/// A connection of which nothing is known.
#[must_use]
pub fn nowhere() -> Connection {
    Connection {
        host: String::new(),
        port: 0,
        database: String::new(),
        user: String::new(),
        ssl_mode: None,
        certificate_authority: None,
    }
}

/// Whose a connection is, when it is one of ours: its name says whose it would be, and its UUID that it is.
#[must_use]
pub fn owner(database: &Database) -> Option<FeedName> {
    let (namespace, name) = database.database_name.split_once('/')?;
    let name = FeedName::new(namespace, name).ok()?;
    let uuids = nameless(&name).uuids_of("databases");
    let is_ours = uuids.iter().any(|uuid| uuid.to_string() == database.uuid);
    is_ours.then_some(name)
}
