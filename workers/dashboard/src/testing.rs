//! A dashboard with an API server, a producer and a processor that are made up: what tests of the routes need.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode, header},
    routing::get,
};
use kube::Client;
use operator::http_client;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore};
use tower::{ServiceExt as _, service_fn};

use crate::{
    api::App,
    database::Databases,
    feeds::{Feeds, tests::guard},
    flink::{operations::Operations, task_managers},
    observe::{Watchers, ask::Asker},
    router::router,
    security::Hosts,
};

/// What the API server was asked to change.
pub type Writes = Arc<Mutex<Vec<(Method, String, Value)>>>;

/// A dashboard, and what it wrote.
pub struct Stand {
    pub router: Router,
    pub app: App,
    pub writes: Writes,
}

/// The token of a user who may do everything in namespace `markets`.
pub const ALICE: &str = "alice-token";
/// The token of a user who may only read.
pub const BOB: &str = "bob-token";

/// What the status of the feed says.
pub fn status() -> Value {
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": format!("{kind}: {reason}"),
               "lastTransitionTime": "2026-11-27T14:00:00Z"})
    };
    json!({
        "observedGeneration": 7, "symbols": 2, "partitions": 2, "replicas": "1/1", "backlog": 3,
        "watermark": "2026-11-27T14:29:54Z", "lastTickTime": "2026-11-27T14:29:59Z", "quarantined": 1, "missingMessages": 0,
        "queues": [{"generation": 1, "partitions": 2}],
        "quota": {"projectedCallsPerDay": 100, "minimumInterval": "1s"},
        "scaling": {"replicas": 1, "wanted": 1, "reason": "Steady", "message": "as it is"},
        "conditions": [
            condition("Ready", "True", "Ready"), condition("SourceReady", "True", "Answering"),
            condition("SchemaReady", "True", "AsDeclared"), condition("ProducerReady", "True", "Available"),
            condition("DataComplete", "False", "MessagesMissing"),
        ],
    })
}

fn pod(name: &str, component: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "markets", "creationTimestamp": "2026-11-27T13:00:00Z",
            "labels": {"app.kubernetes.io/component": component, "app.kubernetes.io/instance": "tech"}},
        "spec": {"nodeName": "node-1", "containers": [{"name": component, "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m"}}}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-27T13:00:09Z"},
                           {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-27T13:00:01Z"}],
            "containerStatuses": [{"name": component, "ready": true, "restartCount": 1, "image": "", "imageID": "",
                "state": {"running": {"startedAt": "2026-11-27T13:00:05Z"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-11-27T13:00:03Z"}}}]},
    })
}

/// As a processor answers.
pub fn state() -> Value {
    let partition = |checkpoint: i64| {
        json!({
            "claimed_at": "2026-11-27T13:00:10Z", "checkpoint": checkpoint, "watermark": "2026-11-27T14:29:54Z", "watermark_lag_seconds": 6.0,
            "last_event_time": "2026-11-27T14:29:59Z", "waiting_for_missing": false, "publishers": {}, "prefetch": 64,
            "totals": {"messages": 100, "duplicates": 1, "ticks": 100, "bytes": 20_480, "late": 2, "quarantined": 1, "gaps": 0},
            "time": {"idle": 0.3, "busy": 0.1, "backpressured": 0.6},
            "spent": {"idle_seconds": 30.0, "busy_seconds": 10.0, "backpressured_seconds": 60.0},
            "queue": {"ready": 3, "consumers": 1, "at": "2026-11-27T14:29:58Z"},
        })
    };
    let commit = |partition: &str, id: i64| {
        json!({"id": id, "partition": partition, "completed_at": "2026-11-27T14:29:59.9Z", "duration_milliseconds": 2.1, "messages": 10,
               "duplicates": 0, "ticks": 10, "candles": 40, "late": 0, "quarantined": 0, "bytes": 2048})
    };
    json!({
        "feed": "markets/tech", "instance": "tech-processor-1", "version": "0.1.0", "started_at": "2026-11-27T13:00:05Z",
        "broker_connected": true, "consuming": 2, "queues": 2, "database_ok": true,
        "partitions": {"1.0": partition(17), "1.1": partition(4)},
        "checkpoints": [commit("1.0", 17), commit("1.1", 4), commit("1.0", 16)],
        "errors": [{"at": "2026-11-27T14:00:00Z", "scope": "partition 1.0", "cause": "connection refused", "message": "failed to commit: connection refused"}],
    })
}

const PROCESSOR_METRICS: &str = "stockfeed_processor_commits_total 21\nstockfeed_processor_commit_errors_total 1\n\
    stockfeed_processor_commit_duration_seconds_bucket{le=\"0.005\"} 21\nstockfeed_processor_commit_duration_seconds_bucket{le=\"+Inf\"} 21\n# EOF\n";

fn ready() -> Value {
    json!({
        "ready": true, "shutting_down": false, "broker": {"connected": true, "reason": "Ok", "message": null, "held_messages": 0},
        "source": {"ready": true, "problem": null, "last_attempt": "2026-11-27T14:29:59Z", "last_success": "2026-11-27T14:29:59Z",
                   "consecutive_failures": 0, "paused_until": null, "bound": "2026-11-27T14:29:54Z", "batches": true},
        "quota": {}, "spool": {"messages": 0, "bytes": 0, "max_bytes": 1024, "full": false},
    })
}

async fn serve(router: Router) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

/// An API server that knows one feed, its pods, two users, and writes down what it is asked to change.
fn api_server(writes: Writes) -> Client {
    let service = service_fn(move |request: Request<kube::client::Body>| {
        let writes = Arc::clone(&writes);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap_or_default();
            let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (status, answer) = answered(&parts.method, parts.uri.path(), &sent, &writes);
            let bytes = serde_json::to_vec(&answer).unwrap();
            let response = axum::http::Response::builder()
                .status(status)
                .body(kube::client::Body::from(bytes))
                .unwrap();
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    Client::new(service, "default")
}

fn answered(method: &Method, path: &str, sent: &Value, writes: &Writes) -> (u16, Value) {
    let list =
        |kind: &str, items: Value| json!({"apiVersion": "v1", "kind": kind, "metadata": {}, "items": items});
    if path.ends_with("/tokenreviews") {
        let user = match sent["spec"]["token"].as_str() {
            Some(ALICE) => Some("alice"),
            Some(BOB) => Some("bob"),
            _ => None,
        };
        let mut review = sent.clone();
        review["status"] =
            json!({"authenticated": user.is_some(), "user": {"username": user, "groups": ["everybody"]}});
        return (201, review);
    }
    if path.ends_with("/subjectaccessreviews") {
        let asked = &sent["spec"];
        let attributes = &asked["resourceAttributes"];
        let may = attributes["namespace"] == "markets"
            && attributes["resource"] == "stockfeeds"
            && (asked["user"] == "alice" || attributes["verb"] == "get");
        let mut review = sent.clone();
        review["status"] = json!({"allowed": may});
        return (201, review);
    }
    if method == Method::PATCH {
        writes
            .lock()
            .unwrap()
            .push((method.clone(), path.to_owned(), sent.clone()));
        let feed = json!({"apiVersion": "stockfeed.dev/v1alpha1", "kind": "StockFeed", "metadata": {"name": "tech", "namespace": "markets"},
                          "spec": {"symbols": ["AAPL"], "source": {"fmp": {"apiKeySecretRef": {"name": "fmp"}}}}});
        return (200, feed);
    }
    if path.ends_with("/pods") {
        return (
            200,
            list(
                "PodList",
                json!([
                    pod("tech-producer-1", "producer"),
                    pod("tech-processor-1", "processor")
                ]),
            ),
        );
    }
    if path.ends_with("/events") {
        let event = json!({"metadata": {"name": "e"}, "eventTime": "2026-11-27T14:00:00.000000Z", "type": "Normal", "reason": "ScaledOut", "note": "from 1 to 2",
                           "regarding": {"kind": "StockFeed", "name": "tech"}});
        return (200, list("EventList", json!([event])));
    }
    (
        404,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": format!("{path} not found"), "reason": "NotFound", "code": 404}),
    )
}

/// A dashboard that shows `markets/tech`, which runs.
pub async fn stand(actions: bool) -> Stand {
    // Another test of this process may have installed it.
    let _installed = service::tls::install_provider();
    let processor = Router::new()
        .route("/state", get(async || Json(state())))
        .route("/metrics", get(async || PROCESSOR_METRICS));
    let producer = Router::new()
        .route("/ready", get(async || Json(ready())))
        .route("/metrics", get(async || "stockfeed_producer_messages_total{kind=\"Ticks\"} 100\nstockfeed_producer_quotes_total{outcome=\"Published\"} 100\n# EOF\n"));
    let (producer, processor) = (serve(producer).await, serve(processor).await);
    let writes = Writes::default();
    let client = api_server(Arc::clone(&writes));
    let feeds: Feeds = crate::feeds::tests::feeds(vec![guard("markets", "tech", &status())]);
    let http = http_client::build(None, Duration::from_secs(2)).unwrap();
    let asker = Asker::new(client.clone(), http).with_ports(producer, processor);
    let app = App {
        watchers: Watchers::new(asker.clone(), feeds.clone()),
        databases: Databases::new(client.clone()),
        asker,
        feeds,
        client,
        actions,
        namespaces: Arc::default(),
        streams: Arc::new(Semaphore::new(2)),
        task_managers: task_managers::Cache::default(),
        operations: Operations::default(),
    };
    Stand {
        router: router(app.clone(), Hosts::new(&["stockfeed-dashboard".to_owned()])),
        app,
        writes,
    }
}

impl Stand {
    /// Sends a request.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, Value, axum::http::HeaderMap) {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header(header::HOST, "localhost:8081");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (parts.status, value, parts.headers)
    }

    /// Reads a path.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        let (status, value, _) = self.send(Method::GET, path, &[]).await;
        (status, value)
    }
}
