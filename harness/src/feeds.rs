//! Many feeds, all alike.

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::{Api, Client, api::PostParams};
use operator::api::StockFeed;
use serde_json::json;

use crate::NAMESPACE;

/// How many are created at once.
const AT_ONCE: usize = 32;

/// A feed of one symbol and one partition.
///
/// # Errors
/// When the definition has changed so that this is none.
pub fn feed(number: usize) -> Result<StockFeed> {
    let feed = json!({
        "apiVersion": "stockfeed.dev/v1alpha1", "kind": "StockFeed",
        "metadata": {"name": format!("feed-{number:04}"), "namespace": NAMESPACE},
        "spec": {
            "symbols": ["AAPL"], "interval": "60s",
            "source": {"fmp": {"apiKeySecretRef": {"name": "fmp", "key": "apiKey"}}},
            "processing": {"partitions": 1},
            "deletionPolicy": "Delete",
        },
    });
    Ok(serde_json::from_value(feed)?)
}

/// Creates that many feeds.
///
/// # Errors
/// When the API server refuses one.
pub async fn create(client: &Client, count: usize) -> Result<()> {
    let api = Api::<StockFeed>::namespaced(client.clone(), NAMESPACE);
    futures::stream::iter(0..count)
        .map(|number| {
            let api = api.clone();
            async move {
                api.create(&PostParams::default(), &feed(number)?).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}
