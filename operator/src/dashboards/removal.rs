//! What has no feed any more goes: dashboard, charts, datasets, and the connection last, by which the rest is found.
//!
//! Charts that people made stay, with the datasets and the connection that they read.

use std::collections::BTreeSet;

use serde::Deserialize;
use superset::Bundle;

use super::{
    client::{Client, Error},
    inventory::{Asset, Database, Inventory, rison_list},
};

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// All of it is gone.
    All,
    /// Something of a person's own needs the rest.
    But {
        /// How many charts people made on it.
        charts: usize,
        /// How many datasets people made on it.
        datasets: usize,
    },
}

#[derive(Deserialize)]
struct Chart {
    id: i64,
    uuid: String,
    datasource_id: Option<i64>,
}

/// Removes what a connection of ours has, and the connection. `bundle` says which of it is ours.
///
/// # Errors
/// When Superset cannot be told.
pub async fn remove(
    client: &Client,
    what: &str,
    bundle: &Bundle,
    database: &Database,
    inventory: &Inventory,
) -> Result<Removed, Error> {
    let of_kind =
        |kind: &str| -> BTreeSet<String> { bundle.uuids_of(kind).iter().map(ToString::to_string).collect() };
    for uuid in of_kind("dashboards") {
        if let Some(dashboard) = inventory.dashboards.get(&uuid) {
            let path = format!("dashboard/{}", dashboard.id);
            client.delete(&format!("remove {what}"), &path).await?;
        }
    }
    let query = format!(
        "columns:!(id,uuid),filters:!((col:database,opr:rel_o_m,value:{}))",
        database.id
    );
    let datasets: Vec<Asset> = client.list("dataset/", &query).await?;
    let mut charts: Vec<Chart> = Vec::new();
    if !datasets.is_empty() {
        let ids: Vec<_> = datasets.iter().map(|dataset| dataset.id.to_string()).collect();
        let query = format!(
            "columns:!(id,uuid,datasource_id),filters:!((col:datasource_id,opr:in,value:!({})))",
            ids.join(",")
        );
        charts = client.list("chart/", &query).await?;
    }
    let (ours, theirs): (Vec<_>, Vec<_>) = {
        let known = of_kind("charts");
        charts.into_iter().partition(|chart| known.contains(&chart.uuid))
    };
    let ids: Vec<i64> = ours.iter().map(|chart| chart.id).collect();
    delete_all(client, &format!("remove the charts of {what}"), "chart/", &ids).await?;
    let used: BTreeSet<i64> = theirs.iter().filter_map(|chart| chart.datasource_id).collect();
    let known = of_kind("datasets");
    let (goes, stays): (Vec<_>, Vec<_>) = datasets
        .into_iter()
        .partition(|dataset| known.contains(&dataset.uuid) && !used.contains(&dataset.id));
    let ids: Vec<i64> = goes.iter().map(|dataset| dataset.id).collect();
    delete_all(
        client,
        &format!("remove the datasets of {what}"),
        "dataset/",
        &ids,
    )
    .await?;
    if !stays.is_empty() {
        return Ok(Removed::But {
            charts: theirs.len(),
            datasets: stays
                .iter()
                .filter(|dataset| !known.contains(&dataset.uuid))
                .count(),
        });
    }
    let path = format!("database/{}", database.id);
    client
        .delete(&format!("remove the connection of {what}"), &path)
        .await?;
    Ok(Removed::All)
}

async fn delete_all(client: &Client, action: &str, path: &str, ids: &[i64]) -> Result<(), Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    client
        .delete_all(action, path, &format!("!({})", ids.join(",")))
        .await
}

/// The numbers of the assets with these UUIDs, in the order of nothing.
///
/// # Errors
/// When Superset cannot be asked.
pub(super) async fn numbers(
    client: &Client,
    path: &str,
    uuids: &BTreeSet<String>,
) -> Result<BTreeSet<i64>, Error> {
    /// As many as fit into the line of a request.
    const AT_ONCE: usize = 50;

    let uuids: Vec<_> = uuids.iter().map(String::as_str).collect();
    let mut numbers = BTreeSet::new();
    for some in uuids.chunks(AT_ONCE) {
        let list = rison_list(some.iter().copied());
        let query = format!("columns:!(id,uuid),filters:!((col:uuid,opr:in,value:{list}))");
        let assets: Vec<Asset> = client.list(path, &query).await?;
        numbers.extend(assets.into_iter().map(|asset| asset.id));
    }
    Ok(numbers)
}
