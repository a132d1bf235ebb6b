//! A feed under load: many symbols with a quote a second each, a copy of every message, and the count at the end.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::{
    RELEASE, SYSTEM,
    broker::{Broker, Tapped},
    cluster::{Cluster, value},
    database::{Session, count},
    feed::{self, Feed},
    ticks::{compare, only_last_quotes_are_repeated, published, stored},
    wait,
};

/// How soon ticks must go on.
const GO_ON: Duration = Duration::from_secs(90);

/// The resource's spec, with so many symbols.
#[must_use]
pub fn spec(symbols: usize) -> Value {
    let symbols: Vec<String> = (0..symbols).map(|number| format!("S{number:03}")).collect();
    let mut spec = feed::spec();
    spec["symbols"] = json!(symbols);
    spec["interval"] = json!("100ms");
    spec
}

/// Copies the simulator's key to a namespace, under the name that [`feed::spec`] gives.
///
/// # Errors
/// When the chart has no simulator.
pub async fn put_key(cluster: &Cluster, namespace: &str) -> Result<()> {
    let key = cluster.secret(SYSTEM, &format!("{RELEASE}-simulator")).await?;
    cluster
        .put_secret(namespace, "fmp", &[("apiKey", value(&key, "apiKey")?)])
        .await
}

/// Waits until five more ticks of each symbol are stored.
///
/// # Errors
/// When they do not come.
pub async fn await_more_ticks(reader: &mut Session, feed: &Feed, symbols: usize) -> Result<()> {
    let enough = count(reader, &feed.name, "stock_data").await? + 5 * i64::try_from(symbols)?;
    wait::until(
        &format!("more than {enough} ticks are stored"),
        GO_ON,
        async || {
            let now = count(reader, &feed.name, "stock_data").await?;
            ensure!(now > enough, "{now} are");
            Ok(())
        },
    )
    .await
}

/// Compares what the tap got in the feed's whole life, after what it got before, with what is stored. The feed is at rest.
///
/// # Errors
/// When a tick is missing, twice, or out of order.
pub async fn all_is_stored_once(
    feed: &Feed,
    broker: &Broker,
    reader: &mut Session,
    tapped: &mut Vec<Tapped>,
    symbols: usize,
) -> Result<()> {
    let stored = stored(reader).await?;
    tapped.extend(broker.take_tapped(&feed.name).await?);
    let published = published(tapped)?;
    only_last_quotes_are_repeated(&published)?;
    compare(&published, &stored, symbols)
}

/// Nothing is missing, was too late, or could not be used.
///
/// # Errors
/// When there is something.
pub async fn nothing_was_put_aside(feed: &Feed, reader: &mut Session) -> Result<()> {
    for table in ["gaps", "late_ticks", "quarantine"] {
        let rows = count(reader, &feed.name, table).await?;
        ensure!(rows == 0, "table {table} has {rows} rows");
    }
    Ok(())
}

/// The notes of a feed's Events of a reason.
///
/// # Errors
/// When they cannot be listed.
pub async fn notes(cluster: &Cluster, feed: &Feed, reason: &str) -> Result<Vec<String>> {
    let events = cluster
        .api::<Event>(feed.name.namespace())
        .list(&ListParams::default())
        .await?;
    let of_reason = events
        .items
        .into_iter()
        .filter(|event| event.reason.as_deref() == Some(reason));
    Ok(of_reason.filter_map(|event| event.note).collect())
}
