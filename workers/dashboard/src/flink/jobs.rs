//! Jobs: the overview, one job, its plan, its configuration and its accumulators.

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Map, Value, json};

use super::{Answer, job, job_of};
use crate::{
    api::App,
    flink::job::{JOB_STATES, Job, MAX_PARALLELISM, TASK_STATES, Vertex, counts},
    summary::find,
};

/// `/jobs`
pub async fn list(State(app): State<App>) -> Json<Value> {
    let jobs = all(&app);
    let jobs: Vec<_> = jobs
        .iter()
        .map(|job| json!({"id": job.id, "status": job.state}))
        .collect();
    Json(json!({"jobs": jobs}))
}

/// `/jobs/overview`
pub async fn overview(State(app): State<App>) -> Json<Value> {
    let jobs: Vec<_> = all(&app).iter().map(in_overview).collect();
    Json(json!({"jobs": jobs}))
}

/// Every feed as a job, from its status alone unless it is looked at anyhow.
pub fn all(app: &App) -> Vec<Job> {
    let now = service::clock::now();
    let feeds = app.feeds.all();
    feeds
        .into_iter()
        .map(|feed| {
            let seen = app.watchers.last(&feed.key);
            Job::of(feed, seen, now)
        })
        .collect()
}

fn in_overview(job: &Job) -> Value {
    let counts = job.task_counts();
    let mut tasks: Map<String, Value> = counts
        .into_iter()
        .map(|(state, count)| (state.to_ascii_lowercase(), count))
        .collect();
    let total: usize = job.vertices.iter().map(|vertex| vertex.subtasks.len()).sum();
    tasks.insert("total".to_owned(), json!(total));
    json!({
        "jid": job.id, "name": job.name, "start-time": job.start, "end-time": -1, "duration": job.now - job.start,
        "state": job.state, "last-modification": last_change(job), "tasks": tasks,
    })
}

/// When a condition changed last.
fn last_change(job: &Job) -> i64 {
    let object = job.feed.object.as_ref().ok();
    let conditions = object
        .and_then(|object| object.status.as_ref())
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let changes = conditions
        .iter()
        .map(|condition| condition.last_transition_time.0.as_millisecond());
    changes.max().unwrap_or(job.start)
}

/// `/jobs/{job}/status`
pub async fn status(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let feed = super::feed(&app, &id)?;
    let seen = app.watchers.last(&feed.key);
    let job = Job::of(feed, seen, service::clock::now());
    Ok(Json(json!({"status": job.state})))
}

/// `/jobs/{job}`
pub async fn one(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let job = job(&app, &id).await?;
    let vertices: Vec<_> = job.vertices.iter().map(|vertex| in_job(&job, vertex)).collect();
    let states = TASK_STATES.iter().map(|state| {
        let in_it = job
            .vertices
            .iter()
            .filter(|vertex| vertex.state() == *state)
            .count();
        ((*state).to_owned(), json!(in_it))
    });
    Ok(Json(json!({
        "jid": job.id, "name": job.name, "isStoppable": app.actions, "state": job.state, "job-type": "STREAMING",
        "start-time": job.start, "end-time": -1, "duration": job.now - job.start, "maxParallelism": MAX_PARALLELISM, "now": job.now,
        "timestamps": timestamps(&job),
        "vertices": vertices,
        "status-counts": states.collect::<Map<_, _>>(),
        "plan": plan_of(&job),
    })))
}

/// When the job entered its states, as far as conditions tell.
fn timestamps(job: &Job) -> Map<String, Value> {
    use operator::api::status::ConditionType::{Ready, Suspended};
    let object = job.feed.object.as_ref().ok();
    let status = object.and_then(|object| object.status.as_ref());
    let changed = |kind| {
        let condition = find(status?, kind)?;
        Some((
            condition.status == "True",
            condition.last_transition_time.0.as_millisecond(),
        ))
    };
    let of = |state: &str| match (state, changed(Ready), changed(Suspended)) {
        ("INITIALIZING", ..) => job.start,
        ("RUNNING", Some((true, at)), _) => at,
        ("SUSPENDED", _, Some((true, at))) => at,
        (state, Some((false, at)), _) if state == job.state => at,
        _ => 0,
    };
    let pairs = JOB_STATES
        .iter()
        .map(|state| ((*state).to_owned(), json!(of(state))));
    pairs.collect()
}

fn in_job(job: &Job, vertex: &Vertex) -> Value {
    let start = vertex.start();
    json!({
        "id": vertex.id, "slotSharingGroupId": job.id, "name": vertex.name, "maxParallelism": MAX_PARALLELISM,
        "parallelism": vertex.subtasks.len(), "status": vertex.state(),
        "start-time": start, "end-time": -1, "duration": if start > 0 { job.now - start } else { -1 },
        "tasks": counts(&vertex.subtasks), "metrics": vertex.io().json(),
    })
}

/// `/jobs/{job}/plan`
pub async fn plan(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let job = job(&app, &id).await?;
    Ok(Json(json!({"plan": plan_of(&job)})))
}

fn plan_of(job: &Job) -> Value {
    let node = |(index, vertex): (usize, &Vertex)| {
        let mut node = json!({
            "id": vertex.id, "parallelism": vertex.subtasks.len(), "operator": "", "operator_strategy": "",
            "description": vertex.description, "optimizer_properties": {},
        });
        if let Some(upstream) = index.checked_sub(1).and_then(|index| job.vertices.get(index)) {
            // Ticks go to the partition of their symbol, and stay there.
            let strategy = if index == 1 { "HASH" } else { "FORWARD" };
            node["inputs"] = json!([{"num": 0, "id": upstream.id, "ship_strategy": strategy, "exchange": "pipelined_bounded"}]);
        }
        node
    };
    let nodes: Vec<_> = job.vertices.iter().enumerate().rev().map(node).collect();
    json!({"jid": job.id, "name": job.name, "type": "STREAMING", "nodes": nodes})
}

/// `/jobs/{job}/config`
pub async fn config(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let job = job_of(&app, &id)?;
    let spec = job.feed.object.as_ref().ok().and_then(|object| {
        let mut spec = serde_json::to_value(&object.spec).ok()?;
        // Names of Secrets and what a query may hold are nobody's business here.
        let fields = spec.as_object_mut()?;
        for field in ["source", "broker", "database", "template"] {
            fields.remove(field);
        }
        Some(spec)
    });
    let mut user = Map::new();
    flatten("", &spec.unwrap_or_default(), &mut user);
    Ok(Json(json!({
        "jid": job.id, "name": job.name,
        "execution-config": {
            "execution-mode": "PIPELINED",
            "restart-strategy": "Kubernetes restarts what ended; what is not committed is delivered again",
            "job-parallelism": job.summary.partition_count.unwrap_or(1), "object-reuse-mode": false, "user-config": user,
        },
    })))
}

/// `a.b: "c"` of `{"a": {"b": "c"}}`.
fn flatten(prefix: &str, value: &Value, flat: &mut Map<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{name}"), value, flat);
            }
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(text).collect();
            flat.insert(prefix.to_owned(), json!(items.join(", ")));
        }
        Value::Null => {}
        other => {
            flat.insert(prefix.to_owned(), json!(text(other)));
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `/jobs/{job}/accumulators`
pub async fn accumulators(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let job = job(&app, &id).await?;
    let all = super::vertices::accumulators_of(
        job.vertices
            .get(1)
            .map(|vertex| vertex.subtasks.as_slice())
            .unwrap_or_default(),
    );
    Ok(Json(
        json!({"job-accumulators": [], "user-task-accumulators": all, "serialized-user-task-accumulators": {}}),
    ))
}

/// `/jobs/{job}/resource-requirements`
pub async fn resource_requirements(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let job = job_of(&app, &id)?;
    let bounds = |vertex: &Vertex| {
        let parallelism = vertex.subtasks.len();
        (
            vertex.id.clone(),
            json!({"parallelism": {"lowerBound": parallelism, "upperBound": parallelism}}),
        )
    };
    let all: Map<String, Value> = job.vertices.iter().map(bounds).collect();
    Ok(Json(Value::Object(all)))
}
