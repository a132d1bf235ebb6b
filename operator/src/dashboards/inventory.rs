//! What Superset has: read in a few requests for all feeds, a hundred entries each.

use std::collections::{BTreeMap, BTreeSet};

use contract::names::FeedName;
use serde::Deserialize;

use super::client::{Client, Error};

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Database {
    /// Superset's number.
    pub id: i64,
    /// Ours stays the same when everything was lost.
    pub uuid: String,
    /// For people.
    pub database_name: String,
}

/// A dashboard.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Dashboard {
    /// Superset's number.
    pub id: i64,
    /// Ours stays the same when everything was lost.
    pub uuid: String,
    /// Who sees it.
    pub roles: Vec<Role>,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Role {
    /// Superset's number.
    pub id: i64,
    /// For people.
    pub name: String,
}

/// Anything with a number and a UUID.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Asset {
    /// Superset's number.
    pub id: i64,
    /// Ours stays the same when everything was lost.
    pub uuid: String,
}

/// What Superset has.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// By UUID.
    pub databases: BTreeMap<String, Database>,
    /// By UUID.
    pub dashboards: BTreeMap<String, Dashboard>,
    /// By name.
    pub roles: BTreeMap<String, i64>,
    /// Whose connections are, by UUID, of those that are a feed's.
    pub owners: BTreeMap<String, FeedName>,
}

impl Inventory {
    /// Reads it.
    ///
    /// # Errors
    /// When Superset cannot be asked.
    pub async fn read(client: &Client) -> Result<Self, Error> {
        let databases: Vec<Database> = client
            .list(
                "database/",
                "columns:!(id,uuid,database_name),order_column:database_name,order_direction:asc",
            )
            .await?;
        let dashboards: Vec<Dashboard> = client
            .list(
                "dashboard/",
                "columns:!(id,uuid,roles.id,roles.name),order_column:dashboard_title,order_direction:asc",
            )
            .await?;
        let roles: Vec<Role> = client.list("security/roles/", "").await?;
        Ok(Self {
            databases: databases
                .into_iter()
                .map(|database| (database.uuid.clone(), database))
                .collect(),
            dashboards: dashboards
                .into_iter()
                .map(|dashboard| (dashboard.uuid.clone(), dashboard))
                .collect(),
            roles: roles.into_iter().map(|role| (role.name, role.id)).collect(),
            owners: BTreeMap::new(),
        })
    }
}

/// The UUIDs as Rison has a list of texts.
pub(super) fn rison_list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let quoted: BTreeSet<_> = texts
        .map(|text| format!("'{}'", text.replace('!', "!!").replace('\'', "!'")))
        .collect();
    let quoted: Vec<_> = quoted.into_iter().collect();
    format!("!({})", quoted.join(","))
}
