//! What the operator finds beside Superset: feeds, and an API server that knows them.

#![allow(
    dead_code,
    reason = "every test binary compiles this, and none uses all of it"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::{collections::BTreeMap, sync::Mutex};

use axum::http::{Method, Request, Response, StatusCode};
use contract::names::FeedName;
use kube::{client::Body, core::DeserializeGuard};
use operator::{api::StockFeed, dashboards::Wanted};
use serde_json::{Value, json};
use test_servers::TestSuperset;

use crate::bench::Bench;

/// Where the operator's own Secrets lie.
pub const NAMESPACE_OF_OPERATOR: &str = "system";

/// What there is beside the operator. It outlives one that begins anew.
pub struct World {
    pub superset: TestSuperset,
    pub bench: Bench,
    pub namespace: String,
    pub feeds: Mutex<BTreeMap<String, Feed>>,
    pub events: Mutex<Vec<Value>>,
}

#[derive(Clone)]
pub struct Feed {
    pub wanted: Wanted,
    /// As the status has it.
    pub revision: Option<String>,
    pub enabled: bool,
    pub deleted: bool,
}

/// The feed, as the API server gives it.
pub fn object(feed: &FeedName, entry: &Feed) -> DeserializeGuard<StockFeed> {
    serde_json::from_value(json!({
        "apiVersion": "stockfeed.dev/v1alpha1", "kind": "StockFeed",
        "metadata": {"name": feed.name(), "namespace": feed.namespace(), "uid": feed.to_string()},
        "spec": {"symbols": ["AAPL"], "source": {"fmp": {"apiKeySecretRef": {"name": "fmp"}}},
                 "dashboards": {"enabled": entry.enabled}},
    }))
    .unwrap()
}

impl World {
    /// As the API server does.
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let secret = |data: BTreeMap<&str, &str>| {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            let data: BTreeMap<_, _> = data
                .into_iter()
                .map(|(key, value)| (key, STANDARD.encode(value)))
                .collect();
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE_OF_OPERATOR}, "data": data})
        };
        let found = match *request.method() {
            Method::POST => {
                let bytes = request.into_body().collect_bytes().await.unwrap_or_default();
                let event: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                self.events.lock().unwrap().push(event.clone());
                Some(event)
            }
            _ if path.ends_with("/secrets/superset") => Some(secret(BTreeMap::from([
                ("operatorUsername", "stockfeed-operator"),
                ("operatorPassword", self.superset.password.as_str()),
                ("databasePassword", "the-password-of-supersets-database"),
            ]))),
            _ if path.ends_with("/secrets/database") => {
                let data = self.bench.secret.iter();
                Some(secret(
                    data.map(|(key, value)| (key.as_str(), std::str::from_utf8(&value.0).unwrap()))
                        .collect(),
                ))
            }
            _ if path.contains("/stockfeeds/") => {
                let feeds = self.feeds.lock().unwrap();
                let entry = feeds.get(&name).filter(|entry| !entry.deleted);
                let feed = FeedName::new(&self.namespace, &name);
                entry
                    .zip(feed.ok())
                    .map(|(entry, feed)| serde_json::to_value(object(&feed, entry).0.unwrap()).unwrap())
            }
            _ => None,
        };
        let (status, body) = match found {
            Some(body) => (StatusCode::OK, body),
            None => (
                StatusCode::NOT_FOUND,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "it is not there"}),
            ),
        };
        let mut response = Response::new(Body::from(body.to_string().into_bytes()));
        *response.status_mut() = status;
        response
    }
}
