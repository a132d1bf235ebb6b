//! A feed as Flink would see it: a job of four vertices, of which the last three have a subtask for each partition.
//!
//! A partition is one task that consumes, folds and commits. Where Flink has three vertices in a row, this task's time is told so:
//! what it does itself belongs to the partitions and the windows, and the time in which the database holds it up to the sink.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    detail::measured,
    feeds::Feed,
    flink::tasks::{partition_tasks, source_task},
    observe::Observation,
    summary::{State, Summary},
};

/// States of a job, in Flink's words.
pub const JOB_STATES: [&str; 11] = [
    "INITIALIZING",
    "CREATED",
    "RUNNING",
    "FAILING",
    "FAILED",
    "CANCELLING",
    "CANCELED",
    "FINISHED",
    "RESTARTING",
    "SUSPENDED",
    "RECONCILING",
];
/// States of a task, in Flink's words.
pub const TASK_STATES: [&str; 10] = [
    "CREATED",
    "SCHEDULED",
    "DEPLOYING",
    "INITIALIZING",
    "RUNNING",
    "FINISHED",
    "CANCELING",
    "CANCELED",
    "FAILED",
    "RECONCILING",
];
/// Where a task is that is nowhere.
pub const UNASSIGNED: &str = "(unassigned)";
/// No parallelism is higher: partitions are at most so many.
pub const MAX_PARALLELISM: u16 = 64;

/// What a vertex is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Source,
    Partitions,
    Windows,
    Sink,
}

/// A job.
pub struct Job {
    pub feed: Arc<Feed>,
    pub observation: Option<Arc<Observation>>,
    pub summary: Summary,
    pub id: String,
    pub name: String,
    pub state: &'static str,
    pub now: i64,
    pub start: i64,
    pub vertices: Vec<Vertex>,
}

/// A vertex.
pub struct Vertex {
    pub id: String,
    pub kind: Kind,
    pub name: String,
    pub description: String,
    pub subtasks: Vec<Subtask>,
}

/// A subtask. Times are milliseconds since 1970.
#[derive(Clone, Debug)]
pub struct Subtask {
    pub index: usize,
    /// `generation.partition`, of a partition.
    pub partition: Option<String>,
    pub state: &'static str,
    pub attempt: i32,
    pub endpoint: String,
    pub task_manager: String,
    /// When it was created, scheduled, deployed, initialised and run; 0: not yet.
    pub entered: [i64; 5],
    pub io: Io,
    /// Busy, idle and backpressured, as shares; `None`: not known.
    pub time: Option<[f64; 3]>,
    pub rates: SubtaskRates,
    pub watermark: Option<Timestamp>,
    pub pending: Option<u32>,
    pub counters: Option<crate::observe::processor::Totals>,
}

/// What went in and out; `None`: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Io {
    pub read_bytes: Option<u64>,
    pub write_bytes: Option<u64>,
    pub read_records: Option<u64>,
    pub write_records: Option<u64>,
    /// Milliseconds.
    pub busy: Option<f64>,
    pub idle: Option<f64>,
    pub backpressured: Option<f64>,
}

/// What goes in and out each second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SubtaskRates {
    pub records_in: Option<f64>,
    pub records_out: Option<f64>,
    pub bytes_in: Option<f64>,
}

impl Job {
    /// From a feed and what was observed of it.
    #[must_use]
    pub fn of(feed: Arc<Feed>, observation: Option<Arc<Observation>>, now: Timestamp) -> Self {
        let summary = measured(&feed, observation.as_deref(), now);
        let id = feed.id();
        let vertices = vertices(&id, &feed, observation.as_deref(), &summary);
        Self {
            name: feed.key.to_string(),
            state: job_state(&summary, &feed),
            now: now.as_millisecond(),
            start: feed.created_at.map_or(0, Timestamp::as_millisecond),
            id,
            summary,
            vertices,
            observation,
            feed,
        }
    }

    /// A vertex.
    #[must_use]
    pub fn vertex(&self, id: &str) -> Option<&Vertex> {
        self.vertices.iter().find(|vertex| vertex.id == id)
    }

    /// How many tasks are in each state.
    #[must_use]
    pub fn task_counts(&self) -> Map<String, Value> {
        counts(self.vertices.iter().flat_map(|vertex| &vertex.subtasks))
    }

    /// How many pods of the feed were restarted, over all of them.
    #[must_use]
    pub fn restarts(&self) -> i64 {
        let pods = self.observation.iter().flat_map(|seen| &seen.pods);
        pods.map(|pod| i64::from(pod.restarts)).sum()
    }
}

impl Vertex {
    /// What most needs attention of its subtasks' states.
    #[must_use]
    pub fn state(&self) -> &'static str {
        let worst = [
            "FAILED",
            "CREATED",
            "SCHEDULED",
            "DEPLOYING",
            "INITIALIZING",
            "CANCELED",
            "RUNNING",
            "FINISHED",
        ];
        let has = |state: &&&str| self.subtasks.iter().any(|subtask| subtask.state == **state);
        worst.iter().find(has).copied().unwrap_or("CREATED")
    }

    /// When the first of its subtasks began; -1: none has.
    #[must_use]
    pub fn start(&self) -> i64 {
        let begun = self
            .subtasks
            .iter()
            .map(Subtask::start)
            .filter(|start| *start > 0);
        begun.min().unwrap_or(-1)
    }

    /// The sum over its subtasks.
    #[must_use]
    pub fn io(&self) -> Io {
        self.subtasks
            .iter()
            .fold(Io::default(), |sum, subtask| sum.plus(&subtask.io))
    }
}

/// How many subtasks are in each state, every state included.
pub fn counts<'a>(subtasks: impl IntoIterator<Item = &'a Subtask>) -> Map<String, Value> {
    let mut counts = [0_u32; TASK_STATES.len()];
    for subtask in subtasks {
        if let Some(index) = TASK_STATES.iter().position(|state| *state == subtask.state) {
            counts[index] += 1;
        }
    }
    let pairs = TASK_STATES.iter().zip(counts);
    pairs
        .map(|(state, count)| ((*state).to_owned(), json!(count)))
        .collect()
}

impl Subtask {
    /// When it was deployed; -1: it was not.
    #[must_use]
    pub fn start(&self) -> i64 {
        match self.entered[2] {
            0 => -1,
            deployed => deployed,
        }
    }

    /// The host of its endpoint.
    #[must_use]
    pub fn host(&self) -> &str {
        self.endpoint
            .rsplit_once(':')
            .map_or(&self.endpoint, |(host, _)| host)
    }

    /// How long it was in each of the first five states.
    #[must_use]
    pub fn durations(&self, now: i64) -> [i64; 5] {
        let mut durations = [0; 5];
        for (index, duration) in durations.iter_mut().enumerate() {
            let begin = self.entered[index];
            let end = self.entered[index + 1..]
                .iter()
                .copied()
                .find(|entered| *entered > 0);
            if begin > 0 {
                *duration = (end.unwrap_or(now) - begin).max(0);
            }
        }
        durations
    }
}

impl Io {
    fn plus(self, other: &Self) -> Self {
        fn sum<T: std::ops::Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            }
        }
        Self {
            read_bytes: sum(self.read_bytes, other.read_bytes),
            write_bytes: sum(self.write_bytes, other.write_bytes),
            read_records: sum(self.read_records, other.read_records),
            write_records: sum(self.write_records, other.write_records),
            busy: sum(self.busy, other.busy),
            idle: sum(self.idle, other.idle),
            backpressured: sum(self.backpressured, other.backpressured),
        }
    }

    /// As Flink writes it: what is not known is 0 and not complete.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "milliseconds, whole as Flink has them"
    )]
    pub fn json(&self) -> Value {
        let milliseconds = |value: Option<f64>| value.unwrap_or(0.0) as i64;
        json!({
            "read-bytes": self.read_bytes.unwrap_or(0), "read-bytes-complete": self.read_bytes.is_some(),
            "write-bytes": self.write_bytes.unwrap_or(0), "write-bytes-complete": self.write_bytes.is_some(),
            "read-records": self.read_records.unwrap_or(0), "read-records-complete": self.read_records.is_some(),
            "write-records": self.write_records.unwrap_or(0), "write-records-complete": self.write_records.is_some(),
            "accumulated-backpressured-time": milliseconds(self.backpressured),
            "accumulated-idle-time": milliseconds(self.idle),
            "accumulated-busy-time": self.busy.unwrap_or(0.0),
        })
    }
}

fn job_state(summary: &Summary, feed: &Feed) -> &'static str {
    let object = feed.object.as_ref().ok();
    let ran = object
        .and_then(|object| object.status.as_ref())
        .is_some_and(|status| status.last_tick_time.is_some());
    match summary.state {
        State::Ready | State::Draining => "RUNNING",
        State::Progressing if !ran => "CREATED",
        State::Progressing | State::Failing => "RESTARTING",
        // Not FAILED, which is for good: it goes on when a person has acted.
        State::Stalled | State::Unreadable => "FAILING",
        State::Suspended => "SUSPENDED",
        State::Deleting => "CANCELLING",
        State::Unknown => "INITIALIZING",
    }
}

/// An id as Flink's are: 32 hexadecimal digits, always the same.
fn vertex_id(job: &str, kind: Kind) -> String {
    let digest = Sha256::digest(format!("{job} {kind:?}"));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn vertices(job: &str, feed: &Feed, seen: Option<&Observation>, summary: &Summary) -> Vec<Vertex> {
    let object = feed.object.as_ref().ok();
    let source = object.map_or("quotes", |object| match object.spec.source.fmp {
        Some(_) => "FMP quotes",
        None => "HTTP quotes",
    });
    let windows = object
        .map(|object| object.spec.processing.windows.join(", "))
        .unwrap_or_default();
    let queue = format!("{}.{}.ticks", feed.key.namespace, feed.key.name);
    let make = |kind: Kind, name: String, description: String| Vertex {
        id: vertex_id(job, kind),
        kind,
        name,
        description,
        subtasks: match kind {
            Kind::Source => vec![source_task(feed, seen, summary)],
            _ => partition_tasks(kind, feed, seen, summary),
        },
    };
    vec![
        make(
            Kind::Source,
            format!("Source: {source}"),
            format!("Source: {source}<br/>+- producer<br/>"),
        ),
        make(
            Kind::Partitions,
            "Partitions".to_owned(),
            format!("Queues {}<br/>", escaped(&queue)),
        ),
        make(
            Kind::Windows,
            format!("Windows: {windows}"),
            format!("Event-time windows: {}<br/>", escaped(&windows)),
        ),
        make(
            Kind::Sink,
            "Sink: PostgreSQL".to_owned(),
            "Sink: PostgreSQL, one transaction a commit<br/>".to_owned(),
        ),
    ]
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
