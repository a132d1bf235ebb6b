//! Commits as checkpoints. Each is of one partition; its number, unique within the job, holds generation and partition.

use axum::{
    Json,
    extract::{Path, State},
};
use contract::config::BatchConfig;
use jiff::Timestamp;
use operator::api::DeletionPolicy;
use serde_json::{Map, Value, json};

use super::{Answer, job, job_of};
use crate::{
    api::App,
    flink::job::{Job, Kind},
    observe::processor::{Checkpoint, partition_id},
    percentile::{rank, sorted},
};

/// As many as Flink shows.
const HISTORY: usize = 10;

/// A commit.
#[derive(Clone, Debug)]
pub struct Commit {
    pub id: i64,
    pub partition: (u32, u16),
    pub completed_at: Timestamp,
    pub milliseconds: f64,
    pub bytes: u64,
}

impl Commit {
    fn of(checkpoint: &Checkpoint) -> Option<Self> {
        let partition = partition_id(&checkpoint.partition)?;
        Some(Self {
            id: number(checkpoint.id, partition),
            partition,
            completed_at: checkpoint.completed_at,
            milliseconds: checkpoint.duration_milliseconds,
            bytes: checkpoint.bytes,
        })
    }

    /// Whole milliseconds, as Flink has them.
    #[expect(clippy::cast_possible_truncation, reason = "a commit takes seconds at most")]
    pub fn duration(&self) -> i64 {
        self.milliseconds.ceil() as i64
    }
}

/// The number of a checkpoint among those of all partitions: 10 bits of the generation, 6 of the partition.
fn number(id: i64, (generation, partition): (u32, u16)) -> i64 {
    (id << 16) | (i64::from(generation & 0x3ff) << 6) | i64::from(partition & 0x3f)
}

/// The last commits of all processors, newest first.
#[must_use]
pub fn all(job: &Job) -> Vec<Commit> {
    let processors = job.observation.iter().flat_map(|seen| seen.processors.values());
    let mut all: Vec<_> = processors
        .flat_map(|seen| &seen.state.checkpoints)
        .filter_map(Commit::of)
        .collect();
    all.sort_by_key(|commit| std::cmp::Reverse((commit.completed_at, commit.id)));
    all
}

/// How many were completed and failed, since the processors began; `None`: not known.
#[must_use]
pub fn totals(job: &Job) -> (Option<f64>, Option<f64>) {
    let sum = |of: fn(&crate::observe::processor::Figures) -> Option<f64>| {
        let processors = job.observation.iter().flat_map(|seen| seen.processors.values());
        processors
            .filter_map(|seen| of(&seen.figures))
            .reduce(|a, b| a + b)
    };
    (
        sum(|figures| figures.commits),
        sum(|figures| figures.commit_errors),
    )
}

/// `/jobs/{job}/checkpoints`
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "counts and sizes of batches"
)]
pub async fn overview(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let job = job(&app, &id).await?;
    let commits = all(&job);
    let (completed, failed) = totals(&job);
    let whole = |value: Option<f64>| value.unwrap_or(0.0) as i64;
    let of = |value: fn(&Commit) -> f64| statistics(commits.iter().map(value), true);
    let history: Vec<_> = commits
        .iter()
        .take(HISTORY)
        .map(|commit| view(&job, commit, false))
        .collect();
    Ok(Json(json!({
        "counts": {"restored": 0, "total": whole(completed) + whole(failed), "in_progress": 0, "completed": whole(completed), "failed": whole(failed)},
        "summary": {
            "checkpointed_size": of(|commit| commit.bytes as f64), "state_size": of(|commit| commit.bytes as f64),
            "end_to_end_duration": of(|commit| commit.duration() as f64), "alignment_buffered": of(|_| 0.0),
            "processed_data": of(|commit| commit.bytes as f64), "persisted_data": of(|_| 0.0),
        },
        "latest": {"completed": commits.first().map(|commit| view(&job, commit, false)), "savepoint": null, "failed": null, "restored": null},
        "history": history,
    })))
}

/// What is said of numbers: percentiles where they are, and `"NaN"` where there are none, as Flink writes it.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "whole numbers, as Flink has them"
)]
fn statistics(values: impl Iterator<Item = f64>, percentiles: bool) -> Value {
    let values = sorted(values);
    let whole = |value: Option<f64>| value.unwrap_or(0.0) as i64;
    let average = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let part = |part: f64| match rank(&values, part).filter(|_| percentiles) {
        Some(value) => json!(value),
        None => json!("NaN"),
    };
    json!({
        "min": whole(values.first().copied()), "max": whole(values.last().copied()), "avg": whole(Some(average)),
        "p50": part(0.5), "p90": part(0.9), "p95": part(0.95), "p99": part(0.99), "p999": part(0.999),
    })
}

fn in_vertex(commit: &Commit) -> Value {
    json!({
        "id": commit.id, "status": "COMPLETED", "latest_ack_timestamp": commit.completed_at.as_millisecond(),
        "checkpointed_size": commit.bytes, "state_size": commit.bytes, "end_to_end_duration": commit.duration(),
        "alignment_buffered": 0, "processed_data": commit.bytes, "persisted_data": 0, "num_subtasks": 1, "num_acknowledged_subtasks": 1,
    })
}

fn view(job: &Job, commit: &Commit, with_tasks: bool) -> Value {
    let vertices: Vec<_> = job
        .vertices
        .iter()
        .filter(|vertex| vertex.kind != Kind::Source)
        .collect();
    let tasks: Map<String, Value> = vertices
        .iter()
        .filter(|_| with_tasks)
        .map(|vertex| (vertex.id.clone(), in_vertex(commit)))
        .collect();
    let acknowledged = commit.completed_at.as_millisecond();
    json!({
        "className": "completed", "id": commit.id, "status": "COMPLETED", "is_savepoint": false, "savepointFormat": null,
        "trigger_timestamp": acknowledged - commit.duration(), "latest_ack_timestamp": acknowledged,
        "checkpointed_size": commit.bytes, "state_size": commit.bytes, "end_to_end_duration": commit.duration(),
        "alignment_buffered": 0, "processed_data": commit.bytes, "persisted_data": 0,
        "num_subtasks": vertices.len(), "num_acknowledged_subtasks": vertices.len(), "checkpoint_type": "CHECKPOINT", "tasks": tasks,
        "external_path": storage(job), "discarded": false,
    })
}

/// Where a commit is.
fn storage(job: &Job) -> String {
    let key = &job.feed.key;
    let schema = contract::names::FeedName::new(&key.namespace, &key.name).map(|name| name.schema());
    format!("postgresql:{}.partitions", schema.unwrap_or_default())
}

fn find(job: &Job, id: &str) -> Result<Commit, super::Failure> {
    let number: i64 = id
        .parse()
        .map_err(|_| super::bad_request(format!("{id} is no number of a checkpoint")))?;
    let found = all(job).into_iter().find(|commit| commit.id == number);
    found.ok_or_else(|| {
        super::not_found(format!(
            "Could not find checkpointing statistics for checkpoint {number}."
        ))
    })
}

/// `/jobs/{job}/checkpoints/details/{checkpoint}`
pub async fn details(State(app): State<App>, Path((id, checkpoint)): Path<(String, String)>) -> Answer {
    let job = job(&app, &id).await?;
    let commit = find(&job, &checkpoint)?;
    Ok(Json(view(&job, &commit, true)))
}

/// `/jobs/{job}/checkpoints/details/{checkpoint}/subtasks/{vertex}`: the one subtask whose commit it is.
#[expect(clippy::cast_precision_loss, reason = "sizes of batches")]
pub async fn subtasks(
    State(app): State<App>,
    Path((id, checkpoint, vertex)): Path<(String, String, String)>,
) -> Answer {
    let job = job(&app, &id).await?;
    let commit = find(&job, &checkpoint)?;
    let vertex = job
        .vertex(&vertex)
        .filter(|vertex| vertex.kind != Kind::Source)
        .ok_or_else(|| {
            super::not_found(format!(
                "There is no checkpoint {checkpoint} of JobVertex {vertex}."
            ))
        })?;
    let name = format!("{}.{}", commit.partition.0, commit.partition.1);
    let index = vertex
        .subtasks
        .iter()
        .position(|subtask| subtask.partition.as_deref() == Some(&name))
        .unwrap_or_default();
    let one = |value: f64| statistics(std::iter::once(value), false);
    let mut answer = in_vertex(&commit);
    let (bytes, duration) = (commit.bytes as f64, commit.duration() as f64);
    answer["summary"] = json!({
        "checkpointed_size": one(bytes), "state_size": one(bytes), "end_to_end_duration": one(duration),
        "checkpoint_duration": {"sync": one(duration), "async": one(0.0)},
        "alignment": {"buffered": one(0.0), "processed": one(bytes), "persisted": one(0.0), "duration": one(0.0)},
        "start_delay": one(0.0),
    });
    answer["subtasks"] = json!([{
        "className": "completed", "index": index, "ack_timestamp": commit.completed_at.as_millisecond(),
        "end_to_end_duration": commit.duration(), "checkpointed_size": commit.bytes, "state_size": commit.bytes,
        "checkpoint": {"sync": commit.duration(), "async": 0},
        "alignment": {"buffered": 0, "processed": commit.bytes, "persisted": 0, "duration": 0},
        "start_delay": 0, "unaligned_checkpoint": false, "aborted": false, "status": "completed",
    }]);
    Ok(Json(answer))
}

/// `/jobs/{job}/checkpoints/config`
pub async fn config(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let job = job_of(&app, &id)?;
    let object = job.feed.object.as_ref().ok();
    let deleted = object.is_some_and(|object| object.spec.deletion_policy == DeletionPolicy::Delete);
    let linger = i64::try_from(BatchConfig::default().linger.as_millis()).unwrap_or_default();
    Ok(Json(json!({
        // A commit follows the first message of a batch after so long at the latest.
        "mode": "exactly_once", "interval": linger, "timeout": 0, "min_pause": 0,
        "max_concurrent": job.summary.partition_count.unwrap_or(1),
        "externalization": {"enabled": true, "delete_on_cancellation": deleted},
        "state_backend": "PostgreSQL", "checkpoint_storage": storage(&job), "unaligned_checkpoints": false,
        "tolerable_failed_checkpoints": 0, "aligned_checkpoint_timeout": 0, "checkpoints_after_tasks_finish": true,
        "state_changelog_enabled": false, "changelog_periodic_materialization_interval": 0, "changelog_storage": "none",
    })))
}
