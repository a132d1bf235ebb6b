//! What went wrong, as Flink tells of exceptions: newest root cause first.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, job};
use crate::{
    api::App,
    detail::detail,
    errors::{FeedError, errors},
    flink::{job::Job, task_managers},
};

/// How many.
#[derive(Deserialize)]
pub struct Asked {
    #[serde(rename = "maxExceptions")]
    max_exceptions: Option<usize>,
}

/// As many as Flink gives where nothing is asked for.
const SHOWN: usize = 20;

/// `/jobs/{job}/exceptions`
pub async fn exceptions(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    let job = job(&app, &id).await?;
    let seen = job.observation.as_deref();
    let all = errors(&detail(&job.feed, seen, service::clock::now()), seen);
    let shown = asked.max_exceptions.unwrap_or(SHOWN);
    let truncated = all.len() > shown;
    let root = all.first();
    let entries: Vec<_> = all.iter().take(shown).map(|error| entry(&job, error)).collect();
    let old: Vec<_> = all
        .iter()
        .take(shown)
        .map(|error| old_entry(&job, error))
        .collect();
    Ok(Json(json!({
        "root-exception": root.map(trace), "timestamp": root.map(|error| milliseconds(error, &job)),
        "all-exceptions": old, "truncated": truncated,
        "exceptionHistory": {"entries": entries, "truncated": truncated},
    })))
}

fn trace(error: &FeedError) -> String {
    match error.message.is_empty() {
        true => error.cause.clone(),
        false => format!("{}: {}", error.cause, error.message),
    }
}

fn milliseconds(error: &FeedError, job: &Job) -> i64 {
    error.at.map_or(job.now, |at| at.as_millisecond())
}

/// Where it happened: the pod's address, if it is a pod's.
fn place(job: &Job, error: &FeedError) -> Option<(String, String)> {
    let pods = &job.observation.as_ref()?.pods;
    let pod = pods
        .iter()
        .find(|pod| error.component.split(' ').next() == Some(&pod.name))?;
    let endpoint = format!("{}:{}", pod.address?, pod.component.port());
    Some((endpoint, task_managers::id(&job.feed.key.namespace, &pod.name)))
}

fn entry(job: &Job, error: &FeedError) -> Value {
    let mut entry = json!({
        "exceptionName": error.cause, "stacktrace": trace(error), "timestamp": milliseconds(error, job), "failureLabels": {},
        "taskName": error.component, "concurrentExceptions": [],
    });
    if let Some((endpoint, manager)) = place(job, error) {
        entry["location"] = json!(endpoint);
        entry["endpoint"] = json!(endpoint);
        entry["taskManagerId"] = json!(manager);
    }
    entry
}

fn old_entry(job: &Job, error: &FeedError) -> Value {
    let (endpoint, manager) = place(job, error).unzip();
    let unassigned = || super::job::UNASSIGNED.to_owned();
    let endpoint = endpoint.unwrap_or_else(unassigned);
    json!({
        "exception": trace(error), "task": error.component, "location": endpoint, "endpoint": endpoint,
        "timestamp": milliseconds(error, job), "taskManagerId": manager.unwrap_or_else(unassigned),
    })
}
