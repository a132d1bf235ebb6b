//! The job manager: the dashboard and the operator, as far as they are that. And what Flink says of itself.

use axum::{
    Json,
    extract::{Query, State},
};
use serde_json::{Value, json};

use super::{
    Answer, jobs,
    metrics::{self, Asked, Values},
};
use crate::{
    api::App,
    summary::{State as FeedState, Summary},
};

/// Flink's page asks as often, in milliseconds.
const REFRESH_MILLISECONDS: u32 = 3000;
/// The version of Flink whose API this is.
const FLINK_VERSION: &str = "1.20.5";

/// `/config`
pub async fn config() -> Json<Value> {
    Json(json!({
        "refresh-interval": REFRESH_MILLISECONDS, "timezone-name": "Coordinated Universal Time", "timezone-offset": 0,
        "flink-version": FLINK_VERSION, "flink-revision": format!("StockFeed {}", env!("CARGO_PKG_VERSION")),
        // A job is cancelled there by GET, which is refused here.
        "features": {"web-submit": false, "web-cancel": false, "web-rescale": false, "web-history": false},
    }))
}

/// Slots are partitions: one is free when no processor that is ready can own it.
struct Slots {
    managers: i64,
    total: i64,
    free: i64,
}

fn slots(summaries: &[Summary]) -> Slots {
    let mut slots = Slots {
        managers: 0,
        total: 0,
        free: 0,
    };
    for summary in summaries {
        let ready = summary.processor_count.map_or(0, |count| i64::from(count.ready));
        let partitions = i64::from(summary.partition_count.unwrap_or(0));
        slots.managers += ready;
        slots.total += partitions;
        slots.free += if ready == 0 { partitions } else { 0 };
    }
    slots
}

/// `/overview`
pub async fn overview(State(app): State<App>) -> Json<Value> {
    let summaries = app.summaries(None, service::clock::now());
    let slots = slots(&summaries);
    Json(json!({
        "taskmanagers": slots.managers, "slots-total": slots.total, "slots-available": slots.free,
        // None is ever finished, cancelled or failed for good: a feed that is deleted is gone.
        "jobs-running": summaries.len(), "jobs-finished": 0, "jobs-cancelled": 0, "jobs-failed": 0,
        "flink-version": FLINK_VERSION, "flink-commit": env!("CARGO_PKG_VERSION"),
    }))
}

/// `/jobmanager/config`
pub async fn job_manager_config(State(app): State<App>) -> Json<Value> {
    let namespaces = match app.namespaces.as_slice() {
        [] => "all".to_owned(),
        some => some.join(", "),
    };
    let pairs = [
        ("stockfeed.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("stockfeed.watch-namespaces", namespaces),
        ("stockfeed.dashboard.actions", app.actions.to_string()),
        (
            "stockfeed.dashboard.observe-every-seconds",
            crate::observe::PERIOD.to_string(),
        ),
        (
            "stockfeed.dashboard.max-observed-feeds",
            crate::observe::MAX_LOOKED_AT.to_string(),
        ),
        ("web.refresh-interval", REFRESH_MILLISECONDS.to_string()),
        ("web.submit.enable", "false".to_owned()),
        ("web.cancel.enable", "false".to_owned()),
    ];
    let all = pairs.map(|(key, value)| json!({"key": key, "value": value}));
    Json(Value::Array(all.to_vec()))
}

/// `/jobs/{job}/jobmanager/config`
pub async fn of_job(State(app): State<App>, axum::extract::Path(id): axum::extract::Path<String>) -> Answer {
    super::feed(&app, &id)?;
    Ok(job_manager_config(State(app)).await)
}

/// `/jobmanager/environment`
pub async fn environment() -> Json<Value> {
    let version = format!(
        "StockFeed {} (a static binary, no JVM)",
        env!("CARGO_PKG_VERSION")
    );
    Json(json!({"jvm": {"version": version, "arch": std::env::consts::ARCH, "options": []}, "classpath": []}))
}

/// `/jobmanager/metrics`
#[expect(clippy::cast_precision_loss, reason = "metrics are floats in Flink")]
pub async fn job_manager_metrics(State(app): State<App>, Query(asked): Query<Asked>) -> Json<Value> {
    let summaries = app.summaries(None, service::clock::now());
    let slots = slots(&summaries);
    let running = jobs::all(&app)
        .iter()
        .filter(|job| job.state == "RUNNING")
        .count();
    let in_state =
        |state: FeedState| summaries.iter().filter(|summary| summary.state == state).count() as f64;
    let values: Values = [
        ("numRegisteredTaskManagers", slots.managers as f64),
        ("numRunningJobs", running as f64),
        ("taskSlotsTotal", slots.total as f64),
        ("taskSlotsAvailable", slots.free as f64),
        ("stockfeed.numFeedsReady", in_state(FeedState::Ready)),
        ("stockfeed.numFeedsStalled", in_state(FeedState::Stalled)),
        ("stockfeed.numFeedsObserved", app.watchers.observed() as f64),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    Json(metrics::plain(&values, &asked))
}

/// `/jobmanager/log` and `/stdout`: where they are.
pub async fn log() -> &'static str {
    "The cluster keeps the logs: kubectl logs of the pods with the labels app.kubernetes.io/component=operator and =dashboard\n"
}

/// `/jobmanager/logs`
pub async fn logs() -> Json<Value> {
    Json(json!({"logs": []}))
}

/// `/jobmanager/thread-dump`
pub async fn thread_dump() -> Json<Value> {
    Json(json!({"threadInfos": []}))
}

/// `/jobmanager/profiler`
pub async fn profiler() -> Json<Value> {
    Json(json!({"profilingList": []}))
}
