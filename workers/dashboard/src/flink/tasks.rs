//! What is observed of pods and partitions as the subtasks of a job's vertices.

use jiff::Timestamp;
use operator::labels::Component;

use super::{
    job::{Io, Kind, Subtask, SubtaskRates, UNASSIGNED},
    task_managers,
};
use crate::{
    detail::producer_pod,
    feeds::Feed,
    observe::{Observation, pods::PodSeen, processor::Partition, rates::Rates},
    summary::{State, Summary},
};

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
pub(super) fn source_task(feed: &Feed, seen: Option<&Observation>, summary: &Summary) -> Subtask {
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

pub(super) fn partition_tasks(
    kind: Kind,
    feed: &Feed,
    seen: Option<&Observation>,
    summary: &Summary,
) -> Vec<Subtask> {
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
