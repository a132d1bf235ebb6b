//! A feed as Flink would see it: a job of four vertices, of which the last three have a subtask for each partition.
//!
//! A partition is one task that consumes, folds and commits. Where Flink has three vertices in a row, this task's time is told so:
//! what it does itself belongs to the partitions and the windows, and the time in which the database holds it up to the sink.

use std::sync::Arc;

use jiff::Timestamp;
use operator::labels::Component;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    detail::{measured, producer_pod},
    feeds::Feed,
    flink::task_managers,
    observe::{Observation, pods::PodSeen, processor::Partition, rates::Rates},
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

fn milliseconds(time: Option<Timestamp>) -> i64 {
    time.map_or(0, Timestamp::as_millisecond)
}

/// When a pod's task entered its states. A later one is never before an earlier one.
fn entered(pod: Option<&PodSeen>, running: Option<Timestamp>) -> [i64; 5] {
    let Some(pod) = pod else {
        return [0, 0, 0, 0, milliseconds(running)];
    };
    let mut entered = [
        milliseconds(pod.created_at),
        milliseconds(pod.created_at),
        milliseconds(pod.scheduled_at),
        milliseconds(pod.started_at),
        milliseconds(running),
    ];
    let mut latest = 0;
    for time in &mut entered {
        if *time > 0 {
            *time = latest.max(*time);
            latest = *time;
        }
    }
    entered
}

fn place(feed: &Feed, pod: Option<&PodSeen>) -> (String, String) {
    let endpoint = pod.and_then(|pod| Some(format!("{}:{}", pod.address?, pod.component.port())));
    let manager = pod.map(|pod| task_managers::id(&feed.key.namespace, &pod.name));
    let unassigned = || UNASSIGNED.to_owned();
    (
        endpoint.unwrap_or_else(unassigned),
        manager.unwrap_or_else(unassigned),
    )
}

/// What is said of a task before anything was observed.
fn state_by_summary(summary: &Summary) -> &'static str {
    match summary.state {
        State::Ready | State::Draining => "RUNNING",
        State::Suspended => "FINISHED",
        State::Deleting => "CANCELING",
        _ => "SCHEDULED",
    }
}

fn state_of_pod(pod: Option<&PodSeen>, summary: &Summary) -> &'static str {
    match pod {
        None if summary.suspended => "FINISHED",
        None => "SCHEDULED",
        Some(pod) if pod.ready => "RUNNING",
        Some(pod) if pod.started_at.is_some() => "INITIALIZING",
        Some(pod) if pod.waiting.is_some() && pod.restarts > 0 => "FAILED",
        Some(_) => "DEPLOYING",
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters are whole and not negative"
)]
fn source_task(feed: &Feed, seen: Option<&Observation>, summary: &Summary) -> Subtask {
    let pod = seen.and_then(producer_pod);
    let said = seen
        .and_then(|seen| seen.producer.as_ref())
        .filter(|said| pod.is_some_and(|pod| pod.name == said.pod));
    let (endpoint, task_manager) = place(feed, pod);
    let rates = said.and_then(|said| said.rates);
    Subtask {
        index: 0,
        partition: None,
        state: match seen {
            None => state_by_summary(summary),
            Some(_) => state_of_pod(pod, summary),
        },
        attempt: pod.map_or(0, |pod| pod.restarts),
        endpoint,
        task_manager,
        entered: entered(pod, pod.and_then(|pod| pod.ready_at)),
        io: Io {
            read_bytes: Some(0),
            read_records: Some(0),
            write_records: said.and_then(|said| said.figures.ticks).map(|ticks| ticks as u64),
            ..Io::default()
        },
        time: None,
        rates: SubtaskRates {
            records_in: None,
            records_out: rates.and_then(|rates| rates.ticks_per_second),
            bytes_in: None,
        },
        watermark: said.and_then(|said| said.ready.source.bound),
        pending: None,
        counters: None,
    }
}

fn partition_tasks(kind: Kind, feed: &Feed, seen: Option<&Observation>, summary: &Summary) -> Vec<Subtask> {
    let object = feed.object.as_ref().ok();
    let status = object.and_then(|object| object.status.as_ref());
    let owned = seen.map(Observation::partitions).unwrap_or_default();
    let mut ids: Vec<(u32, u16)> = status
        .iter()
        .flat_map(|status| &status.queues)
        .flat_map(|queue| {
            let generation = u32::try_from(queue.generation).unwrap_or_default();
            (0..u16::try_from(queue.partitions).unwrap_or_default())
                .map(move |partition| (generation, partition))
        })
        .chain(owned.keys().copied())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        let wanted = summary
            .partition_count
            .and_then(|partitions| u16::try_from(partitions).ok());
        ids = (0..wanted.unwrap_or(1)).map(|partition| (1, partition)).collect();
    }
    let task = |(index, id): (usize, (u32, u16))| {
        let name = format!("{}.{}", id.0, id.1);
        let found = owned.get(&id).copied();
        partition_task(kind, feed, seen, summary, index, name, found)
    };
    ids.into_iter().enumerate().map(task).collect()
}

fn partition_task(
    kind: Kind,
    feed: &Feed,
    seen: Option<&Observation>,
    summary: &Summary,
    index: usize,
    name: String,
    found: Option<(&str, &Partition)>,
) -> Subtask {
    let pods = seen.map(|seen| seen.pods.as_slice()).unwrap_or_default();
    let owner = found.and_then(|(pod, _)| pods.iter().find(|seen| seen.name == pod));
    let partition = found.map(|(_, partition)| partition);
    let any = pods.iter().find(|pod| pod.component == Component::Processor);
    let (endpoint, task_manager) = place(feed, owner);
    let rates = found.and_then(|(pod, _)| seen?.processors.get(pod)?.rates.get(&name).copied());
    Subtask {
        index,
        state: match (seen, found) {
            (None, _) => state_by_summary(summary),
            (Some(_), Some(_)) => "RUNNING",
            // A pod that is ready and owns it not waits for the broker to choose it.
            (Some(_), None) => match state_of_pod(any, summary) {
                "RUNNING" => "SCHEDULED",
                state => state,
            },
        },
        partition: Some(name),
        attempt: owner.map_or(0, |pod| pod.restarts),
        endpoint,
        task_manager,
        entered: entered(owner, partition.map(|partition| partition.claimed_at)),
        io: io(kind, partition),
        time: partition.map(|partition| {
            let time = partition.time;
            match kind {
                Kind::Sink => [time.backpressured, 1.0 - time.backpressured, 0.0],
                _ => [time.busy, time.idle, time.backpressured],
            }
        }),
        rates: subtask_rates(kind, rates),
        watermark: partition.and_then(|partition| partition.watermark),
        pending: partition
            .filter(|_| kind == Kind::Partitions)
            .and_then(|partition| partition.queue)
            .map(|queue| queue.ready),
        counters: partition.map(|partition| partition.totals),
    }
}

fn io(kind: Kind, partition: Option<&Partition>) -> Io {
    let Some(partition) = partition else {
        return Io::default();
    };
    let totals = partition.totals;
    let spent = partition.spent.map(|spent| {
        let [busy, idle, held] = [
            spent.busy_seconds,
            spent.idle_seconds,
            spent.backpressured_seconds,
        ]
        .map(|seconds| seconds * 1000.0);
        match kind {
            Kind::Sink => [held, busy + idle, 0.0],
            _ => [busy, idle, held],
        }
    });
    let (read_records, write_records, read_bytes, write_bytes) = match kind {
        Kind::Source => (None, None, None, None),
        Kind::Partitions => (
            totals.messages,
            totals.ticks,
            Some(totals.bytes),
            Some(totals.bytes),
        )
            .some(),
        Kind::Windows => (totals.ticks, totals.ticks, Some(totals.bytes), None).some(),
        Kind::Sink => (totals.ticks, 0, None, Some(0)).some(),
    };
    Io {
        read_bytes,
        write_bytes,
        read_records,
        write_records,
        busy: spent.map(|[busy, _, _]| busy),
        idle: spent.map(|[_, idle, _]| idle),
        backpressured: spent.map(|[_, _, held]| held),
    }
}

/// Records are always known.
trait Known {
    fn some(self) -> (Option<u64>, Option<u64>, Option<u64>, Option<u64>);
}

impl Known for (u64, u64, Option<u64>, Option<u64>) {
    fn some(self) -> (Option<u64>, Option<u64>, Option<u64>, Option<u64>) {
        (Some(self.0), Some(self.1), self.2, self.3)
    }
}

fn subtask_rates(kind: Kind, rates: Option<Rates>) -> SubtaskRates {
    let messages = rates.map(|rates| rates.messages_per_second);
    let ticks = rates.map(|rates| rates.ticks_per_second);
    let bytes = rates.map(|rates| rates.bytes_per_second);
    match kind {
        Kind::Source => SubtaskRates::default(),
        Kind::Partitions => SubtaskRates {
            records_in: messages,
            records_out: ticks,
            bytes_in: bytes,
        },
        Kind::Windows => SubtaskRates {
            records_in: ticks,
            records_out: ticks,
            bytes_in: bytes,
        },
        Kind::Sink => SubtaskRates {
            records_in: ticks,
            records_out: Some(0.0),
            bytes_in: None,
        },
    }
}
