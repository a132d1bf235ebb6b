//! Flink's REST API (1.20), as far as Flink's own page reads it: a feed is a job, a processor a task manager, a commit a checkpoint.
//!
//! Its answers have Flink's shape, also where Flink contradicts itself: the page reads `backpressure-level` and programs
//! `backpressureLevel`, values of metrics are text, what is not known of a time is -1. What StockFeed does not have (heaps, garbage
//! collectors, flame graphs) is what Flink answers where it has none: 0, an empty list, or left out.
//!
//! <https://nightlies.apache.org/flink/flink-docs-release-1.20/docs/ops/rest_api/>

mod checkpoints;
mod exceptions;
pub mod job;
mod job_manager;
mod jobs;
mod metrics;
pub mod operations;
pub mod task_managers;
mod tasks;
mod vertices;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{
    Json, Router,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{any, get, patch, post},
};
use serde_json::{Value, json};

use crate::{api::App, error::ApiError, feeds::Feed, flink::job::Job};

/// First parts of paths that are Flink's: what is unknown below them is answered as Flink does.
pub const PATHS: [&str; 9] = [
    "config",
    "overview",
    "jobs",
    "joboverview",
    "jobmanager",
    "taskmanagers",
    "jars",
    "cluster",
    "v1",
];

/// An answer, or what Flink says instead.
type Answer = Result<Json<Value>, Failure>;

/// `{"errors": [...]}`
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let remedy = error.remedy.as_ref().map(|remedy| format!(": {remedy}"));
        Self {
            message: format!("{}{}", error.message, remedy.unwrap_or_default()),
            status: error.into_response().status(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"errors": [self.message]}))).into_response()
    }
}

fn not_found(message: String) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, message)
}

fn bad_request(message: String) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, message)
}

/// The feed with this job id.
fn feed(app: &App, id: &str) -> Result<Arc<Feed>, Failure> {
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id {
        return Err(bad_request(format!(
            "Bad request, could not parse parameters: {id} is no job id of 32 hexadecimal digits"
        )));
    }
    app.feeds
        .by_id(&id.to_ascii_lowercase())
        .ok_or_else(|| not_found(format!("Job {id} not found")))
}

/// A job, whose feed is looked at from now on.
async fn job(app: &App, id: &str) -> Result<Job, Failure> {
    let feed = feed(app, id)?;
    let seen = app.look(&feed).await?;
    Ok(Job::of(feed, seen, service::clock::now()))
}

/// A job, as it is known.
fn job_of(app: &App, id: &str) -> Result<Job, Failure> {
    let feed = feed(app, id)?;
    let seen = app.watchers.last(&feed.key);
    Ok(Job::of(feed, seen, service::clock::now()))
}

/// The routes, for `/` and `/v1`.
pub fn router() -> Router<App> {
    Router::new()
        .route("/config", get(job_manager::config))
        .route("/overview", get(job_manager::overview))
        .merge(job_routes())
        .merge(vertex_routes())
        .merge(manager_routes())
        .method_not_allowed_fallback(async || {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "This is read by GET.")
        })
}

fn job_routes() -> Router<App> {
    Router::new()
        .route("/jobs", get(jobs::list))
        .route("/jobs/overview", get(jobs::overview))
        .route("/jobs/metrics", get(metrics::jobs_together))
        .route("/jobs/{job}", get(jobs::one).merge(patch(operations::cancel)))
        .route("/jobs/{job}/status", get(jobs::status))
        .route("/jobs/{job}/plan", get(jobs::plan))
        .route("/jobs/{job}/config", get(jobs::config))
        .route("/jobs/{job}/metrics", get(metrics::one_job))
        .route("/jobs/{job}/accumulators", get(jobs::accumulators))
        .route("/jobs/{job}/exceptions", get(exceptions::exceptions))
        .route(
            "/jobs/{job}/resource-requirements",
            get(jobs::resource_requirements),
        )
        .route("/jobs/{job}/jobmanager/config", get(job_manager::of_job))
        .route(
            "/jobs/{job}/checkpoints",
            get(checkpoints::overview).merge(post(operations::checkpoint)),
        )
        .route("/jobs/{job}/checkpoints/config", get(checkpoints::config))
        .route(
            "/jobs/{job}/checkpoints/details/{checkpoint}",
            get(checkpoints::details),
        )
        .route(
            "/jobs/{job}/checkpoints/details/{checkpoint}/subtasks/{vertex}",
            get(checkpoints::subtasks),
        )
        .route("/jobs/{job}/checkpoints/{request}", get(operations::status))
        .route("/jobs/{job}/savepoints", post(operations::checkpoint))
        .route("/jobs/{job}/savepoints/{request}", get(operations::status))
        .route("/jobs/{job}/stop", post(operations::stop))
        .route("/jobs/{job}/yarn-cancel", any(operations::by_get))
        .route("/jobs/{job}/yarn-stop", any(operations::by_get))
}

fn vertex_routes() -> Router<App> {
    let at = |path: &str| format!("/jobs/{{job}}/vertices/{{vertex}}{path}");
    Router::new()
        .route(&at(""), get(vertices::one))
        .route(&at("/subtasktimes"), get(vertices::times))
        .route(&at("/taskmanagers"), get(vertices::task_managers))
        .route(&at("/accumulators"), get(vertices::accumulators))
        .route(&at("/backpressure"), get(vertices::backpressure))
        .route(&at("/watermarks"), get(vertices::watermarks))
        .route(&at("/flamegraph"), get(vertices::flame_graph))
        .route(&at("/metrics"), get(metrics::vertex))
        .route(&at("/jm-operator-metrics"), get(async || Json(json!([]))))
        .route(&at("/subtasks/metrics"), get(metrics::vertex_together))
        .route(&at("/subtasks/accumulators"), get(vertices::subtask_accumulators))
        .route(&at("/subtasks/{subtask}"), get(vertices::subtask))
        .route(&at("/subtasks/{subtask}/metrics"), get(metrics::subtask))
        .route(
            &at("/subtasks/{subtask}/attempts/{attempt}"),
            get(vertices::attempt),
        )
}

fn manager_routes() -> Router<App> {
    Router::new()
        .route("/taskmanagers", get(task_managers::list_all))
        .route("/taskmanagers/metrics", get(task_managers::metrics_together))
        .route("/taskmanagers/{id}", get(task_managers::one))
        .route("/taskmanagers/{id}/metrics", get(task_managers::metrics))
        .route("/taskmanagers/{id}/logs", get(task_managers::logs))
        .route("/taskmanagers/{id}/log", get(task_managers::log))
        .route("/taskmanagers/{id}/stdout", get(task_managers::log))
        .route("/taskmanagers/{id}/thread-dump", get(task_managers::thread_dump))
        .route("/taskmanagers/{id}/profiler", get(task_managers::profiler))
        .route("/jobmanager/config", get(job_manager::job_manager_config))
        .route("/jobmanager/environment", get(job_manager::environment))
        .route("/jobmanager/metrics", get(job_manager::job_manager_metrics))
        .route("/jobmanager/log", get(job_manager::log))
        .route("/jobmanager/stdout", get(job_manager::log))
        .route("/jobmanager/logs", get(job_manager::logs))
        .route("/jobmanager/thread-dump", get(job_manager::thread_dump))
        .route("/jobmanager/profiler", get(job_manager::profiler))
}

/// What is answered to a path below Flink's that is none.
#[must_use]
pub fn unknown(uri: &Uri) -> Failure {
    not_found(format!("Unable to load requested file {}.", uri.path()))
}
