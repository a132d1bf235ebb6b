//! Vertices: subtasks, where they run, how they spend their time, and their watermarks.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Map, Value, json};

use super::{Answer, Failure, job};
use crate::{
    api::App,
    flink::job::{Job, Kind, MAX_PARALLELISM, Subtask, TASK_STATES, Vertex, counts},
    graph::level,
    percentile::{rank, sorted},
};

/// The first five states of a task, in the order of [`Subtask::entered`].
const BEGINNINGS: [&str; 5] = ["CREATED", "SCHEDULED", "DEPLOYING", "INITIALIZING", "RUNNING"];
/// What is aggregated over subtasks.
const AGGREGATED: [&str; 7] = [
    "read-bytes",
    "write-bytes",
    "read-records",
    "write-records",
    "accumulated-backpressured-time",
    "accumulated-idle-time",
    "accumulated-busy-time",
];

type Ids = Path<(String, String)>;

async fn both(app: &App, Path((job_id, vertex_id)): Ids) -> Result<(Job, usize), Failure> {
    let job = job(app, &job_id).await?;
    let place = job.vertices.iter().position(|vertex| vertex.id == vertex_id);
    match place {
        Some(place) => Ok((job, place)),
        None => Err(super::not_found(format!("JobVertex {vertex_id} not found"))),
    }
}

/// `/jobs/{job}/vertices/{vertex}`
pub async fn one(State(app): State<App>, ids: Ids) -> Answer {
    let (job, place) = both(&app, ids).await?;
    let vertex = &job.vertices[place];
    let subtasks: Vec<_> = vertex
        .subtasks
        .iter()
        .map(|subtask| in_vertex(subtask, job.now))
        .collect();
    Ok(Json(json!({
        "id": vertex.id, "name": vertex.name, "parallelism": vertex.subtasks.len(), "maxParallelism": MAX_PARALLELISM, "now": job.now,
        "subtasks": subtasks, "aggregated": aggregated(&vertex.subtasks, job.now),
    })))
}

fn in_vertex(subtask: &Subtask, now: i64) -> Value {
    let start = subtask.start();
    json!({
        "subtask": subtask.index, "status": subtask.state, "attempt": subtask.attempt,
        "host": subtask.host(), "endpoint": subtask.endpoint,
        "start-time": start, "end-time": -1, "duration": if start > 0 { now - start } else { -1 },
        "metrics": subtask.io.json(), "taskmanager-id": subtask.task_manager,
        "status-duration": status_durations(subtask, now), "start_time": start,
    })
}

fn status_durations(subtask: &Subtask, now: i64) -> Map<String, Value> {
    let pairs = BEGINNINGS.iter().zip(subtask.durations(now));
    pairs
        .map(|(state, duration)| ((*state).to_owned(), json!(duration)))
        .collect()
}

fn aggregated(subtasks: &[Subtask], now: i64) -> Value {
    let metrics = AGGREGATED.iter().map(|name| {
        let values = subtasks
            .iter()
            .map(|subtask| subtask.io.json()[*name].as_f64().unwrap_or(0.0));
        ((*name).to_owned(), statistics(values))
    });
    let durations = BEGINNINGS.iter().enumerate().map(|(index, state)| {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
        let values = subtasks
            .iter()
            .map(|subtask| subtask.durations(now)[index] as f64);
        ((*state).to_owned(), statistics(values))
    });
    json!({"metrics": metrics.collect::<Map<_, _>>(), "status-duration": durations.collect::<Map<_, _>>()})
}

/// As Flink has them: whole numbers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "whole numbers, as Flink has them"
)]
fn statistics(values: impl Iterator<Item = f64>) -> Value {
    let values = sorted(values);
    let whole = |value: Option<f64>| value.unwrap_or(0.0) as i64;
    let sum: f64 = values.iter().sum();
    json!({
        "min": whole(values.first().copied()), "max": whole(values.last().copied()),
        "avg": whole(Some(sum / values.len().max(1) as f64)), "sum": whole(Some(sum)),
        "median": whole(rank(&values, 0.5)), "p25": whole(rank(&values, 0.25)), "p75": whole(rank(&values, 0.75)),
        "p95": whole(rank(&values, 0.95)),
    })
}

/// `/jobs/{job}/vertices/{vertex}/subtasks/{subtask}` and its attempts, of which the present one is known.
pub async fn subtask(
    State(app): State<App>,
    Path((job, vertex, index)): Path<(String, String, usize)>,
) -> Answer {
    let (job, place) = both(&app, Path((job, vertex))).await?;
    let found = job.vertices[place].subtasks.get(index);
    let subtask = found.ok_or_else(|| super::not_found(format!("Subtask {index} not found")))?;
    Ok(Json(in_vertex(subtask, job.now)))
}

/// `/jobs/{job}/vertices/{vertex}/subtasks/{subtask}/attempts/{attempt}`
pub async fn attempt(
    State(app): State<App>,
    Path((job, vertex, index, attempt)): Path<(String, String, usize, i32)>,
) -> Answer {
    let Json(subtask) = subtask(State(app), Path((job, vertex, index))).await?;
    match subtask["attempt"] == json!(attempt) {
        true => Ok(Json(subtask)),
        false => Err(super::not_found(format!("Attempt {attempt} not found"))),
    }
}

/// `/jobs/{job}/vertices/{vertex}/subtasktimes`
pub async fn times(State(app): State<App>, ids: Ids) -> Answer {
    let (job, place) = both(&app, ids).await?;
    let vertex = &job.vertices[place];
    let subtask = |subtask: &Subtask| {
        let entered = |state: &str| {
            let place = BEGINNINGS.iter().position(|beginning| *beginning == state);
            place.map_or(0, |place| subtask.entered[place])
        };
        let timestamps: Map<String, Value> = TASK_STATES
            .iter()
            .map(|state| ((*state).to_owned(), json!(entered(state))))
            .collect();
        let first = subtask.entered.iter().copied().find(|entered| *entered > 0);
        json!({
            "subtask": subtask.index, "host": subtask.host(), "endpoint": subtask.endpoint,
            "duration": first.map_or(-1, |first| job.now - first), "timestamps": timestamps,
        })
    };
    let subtasks: Vec<_> = vertex.subtasks.iter().map(subtask).collect();
    Ok(Json(
        json!({"id": vertex.id, "name": vertex.name, "now": job.now, "subtasks": subtasks}),
    ))
}

/// `/jobs/{job}/vertices/{vertex}/taskmanagers`
pub async fn task_managers(State(app): State<App>, ids: Ids) -> Answer {
    let (job, place) = both(&app, ids).await?;
    let vertex = &job.vertices[place];
    let mut by_manager: BTreeMap<&str, Vec<&Subtask>> = BTreeMap::new();
    for subtask in &vertex.subtasks {
        by_manager.entry(&subtask.task_manager).or_default().push(subtask);
    }
    let managers: Vec<_> = by_manager
        .into_values()
        .map(|subtasks| {
            let part = Vertex {
                id: vertex.id.clone(),
                kind: vertex.kind,
                name: String::new(),
                description: String::new(),
                subtasks: subtasks.into_iter().cloned().collect(),
            };
            let first = &part.subtasks[0];
            let start = part.start();
            json!({
                "host": first.endpoint, "endpoint": first.endpoint, "status": part.state(), "start-time": start, "end-time": -1,
                "duration": if start > 0 { job.now - start } else { -1 }, "metrics": part.io().json(),
                "status-counts": counts(&part.subtasks), "taskmanager-id": first.task_manager,
                "aggregated": aggregated(&part.subtasks, job.now),
            })
        })
        .collect();
    Ok(Json(
        json!({"id": vertex.id, "name": vertex.name, "now": job.now, "taskmanagers": managers}),
    ))
}

/// `/jobs/{job}/vertices/{vertex}/backpressure`. What is not known is deprecated, in Flink's words: ask again.
pub async fn backpressure(State(app): State<App>, ids: Ids) -> Answer {
    let (job, place) = both(&app, ids).await?;
    let known = job.vertices[place]
        .subtasks
        .iter()
        .filter_map(|subtask| Some((subtask.index, subtask.time?)));
    let subtasks: Vec<_> = known
        .clone()
        .map(|(index, [busy, idle, held])| {
            json!({"subtask": index, "backpressureLevel": level(held), "backpressure-level": level(held),
                   "ratio": held, "idleRatio": idle, "busyRatio": busy})
        })
        .collect();
    let highest = known.map(|(_, [_, _, held])| held).fold(0.0, f64::max);
    let at = job
        .observation
        .as_ref()
        .map_or(job.now, |seen| seen.at.as_millisecond());
    Ok(Json(json!({
        "status": if subtasks.is_empty() { "deprecated" } else { "ok" },
        "backpressureLevel": level(highest), "backpressure-level": level(highest), "end-timestamp": at, "subtasks": subtasks,
    })))
}

/// `/jobs/{job}/vertices/{vertex}/watermarks`. A source has none that comes in.
pub async fn watermarks(State(app): State<App>, ids: Ids) -> Answer {
    let (job, place) = both(&app, ids).await?;
    let vertex = &job.vertices[place];
    let has_input = vertex.kind != Kind::Source;
    let of = |subtask: &Subtask| {
        // The least number there is: no watermark yet.
        let value = subtask
            .watermark
            .map_or(i64::MIN, |watermark| watermark.as_millisecond());
        json!({"id": format!("{}.currentInputWatermark", subtask.index), "value": value.to_string()})
    };
    let all: Vec<_> = vertex.subtasks.iter().filter(|_| has_input).map(of).collect();
    Ok(Json(Value::Array(all)))
}

/// Counters since partitions were claimed.
pub fn accumulators_of(subtasks: &[Subtask]) -> Value {
    let counters: Vec<_> = subtasks.iter().filter_map(|subtask| subtask.counters).collect();
    if counters.is_empty() {
        return json!([]);
    }
    let sum = |of: fn(&crate::observe::processor::Totals) -> u64| counters.iter().map(of).sum::<u64>();
    let all = [
        ("duplicates", sum(|totals| totals.duplicates)),
        ("gaps", sum(|totals| totals.gaps)),
        ("late", sum(|totals| totals.late)),
        ("messages", sum(|totals| totals.messages)),
        ("quarantined", sum(|totals| totals.quarantined)),
        ("ticks", sum(|totals| totals.ticks)),
    ];
    let view =
        |(name, value): (&str, u64)| json!({"name": name, "type": "LongCounter", "value": value.to_string()});
    all.map(view).to_vec().into()
}

/// `/jobs/{job}/vertices/{vertex}/accumulators`
pub async fn accumulators(State(app): State<App>, ids: Ids) -> Answer {
    let (job, place) = both(&app, ids).await?;
    let vertex = &job.vertices[place];
    Ok(Json(
        json!({"id": vertex.id, "user-accumulators": accumulators_of(&vertex.subtasks)}),
    ))
}

/// `/jobs/{job}/vertices/{vertex}/subtasks/accumulators`
pub async fn subtask_accumulators(State(app): State<App>, ids: Ids) -> Answer {
    let (job, place) = both(&app, ids).await?;
    let vertex = &job.vertices[place];
    let of = |subtask: &Subtask| {
        json!({"subtask": subtask.index, "attempt": subtask.attempt, "host": subtask.host(), "endpoint": subtask.endpoint,
               "user-accumulators": accumulators_of(std::slice::from_ref(subtask))})
    };
    let subtasks: Vec<_> = vertex.subtasks.iter().map(of).collect();
    Ok(Json(
        json!({"id": vertex.id, "parallelism": vertex.subtasks.len(), "subtasks": subtasks}),
    ))
}

/// `/jobs/{job}/vertices/{vertex}/flamegraph`: there are none, which is -2 in Flink's words.
pub async fn flame_graph(State(app): State<App>, ids: Ids) -> Answer {
    both(&app, ids).await?;
    Ok(Json(json!({"endTimestamp": -2, "data": null})))
}
