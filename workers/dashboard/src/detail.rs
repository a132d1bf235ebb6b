//! One feed, whole: its object, and what was observed of it. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use operator::{
    api::{
        StockFeed,
        status::{QueueGenerationStatus, ReleaseStatus, reason},
    },
    labels::Component,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    feeds::{Feed, seconds_between},
    observe::{
        Freshness, Observation,
        pods::{Exit, PodSeen},
        processor::{Shares, Totals},
        producer,
        rates::{ProducerRates, Rates},
    },
    percentile::Percentiles,
    summary::{Summary, is_bad, summary},
};

/// The answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    #[serde(flatten)]
    pub summary: Summary,
    pub observation: Option<Freshness>,
    pub generation: Option<i64>,
    pub observed_generation: Option<i64>,
    pub spec: Option<Value>,
    pub conditions: Vec<ConditionView>,
    pub queues: Vec<QueueGenerationStatus>,
    pub release: Option<Value>,
    pub producer: Option<ProducerView>,
    pub processors: Vec<ProcessorView>,
    pub partitions: Vec<PartitionView>,
    pub latency: Latency,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionView {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
    pub since: Timestamp,
    pub bad: bool,
    pub needs_person: bool,
}

/// The producer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProducerView {
    pub pod: String,
    pub ready: bool,
    pub started_at: Option<Timestamp>,
    pub restarts: i32,
    pub last_exit: Option<Exit>,
    pub broker: Option<producer::Broker>,
    pub source: Option<producer::Source>,
    pub spool: Option<producer::Spool>,
    pub rates: Option<ProducerRates>,
    pub request_seconds: Option<Percentiles>,
}

/// A processor.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessorView {
    pub pod: String,
    pub node: Option<String>,
    pub address: Option<String>,
    pub phase: String,
    pub ready: bool,
    pub started_at: Option<Timestamp>,
    pub restarts: i32,
    pub last_exit: Option<Exit>,
    pub answers: bool,
    pub version: Option<String>,
    pub broker_connected: Option<bool>,
    pub database_ok: Option<bool>,
    pub queues: Option<usize>,
    pub consuming: Option<usize>,
    pub partitions: Vec<String>,
    pub time: Option<Shares>,
    pub rates: Option<Rates>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionView {
    pub id: String,
    pub generation: u32,
    pub partition: u16,
    pub processor: Option<String>,
    pub claimed_at: Option<Timestamp>,
    pub checkpoint: Option<i64>,
    pub watermark: Option<Timestamp>,
    pub watermark_lag_seconds: Option<f64>,
    pub last_event_time: Option<Timestamp>,
    pub waiting_for_missing: bool,
    pub queue: Option<QueueView>,
    pub prefetch: Option<u16>,
    pub time: Option<Shares>,
    pub rates: Option<Rates>,
    pub totals: Option<Totals>,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueView {
    pub ready: u32,
    pub consumers: u32,
    pub age_seconds: f64,
}

/// How long things take, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    pub from_event: Percentiles,
    pub from_publish: Percentiles,
    pub commit: Percentiles,
}

/// The summary, with what is measured of a feed that is observed.
#[must_use]
pub fn measured(feed: &Feed, observation: Option<&Observation>, now: Timestamp) -> Summary {
    let mut summary = summary(feed, now);
    let Some(observation) = observation else {
        return summary;
    };
    summary.observed = true;
    let rates = Rates::sum(
        observation
            .processors
            .values()
            .flat_map(|seen| seen.rates.values()),
    );
    summary.ticks_per_second = rates.map(|rates| rates.ticks_per_second);
    if let Some(watermark) = observation.watermark() {
        summary.watermark = Some(watermark);
        summary.watermark_lag_seconds = Some(seconds_between(watermark, now));
    }
    let partitions = observation.partitions();
    let last = partitions
        .values()
        .filter_map(|(_, partition)| partition.last_event_time)
        .max();
    if let Some(last) = last.filter(|last| summary.last_tick_time.is_none_or(|known| known < *last)) {
        summary.last_tick_time = Some(last);
        summary.last_tick_age_seconds = Some(seconds_between(last, now));
    }
    summary
}

/// All that is known of a feed.
#[must_use]
pub fn detail(feed: &Feed, observation: Option<&Observation>, now: Timestamp) -> Detail {
    let object = feed.object.as_deref().ok();
    let status = object.and_then(|object| object.status.as_ref());
    let nothing = Observation::default();
    let seen = observation.unwrap_or(&nothing);
    let lately = seen.lately();
    Detail {
        summary: measured(feed, observation, now),
        observation: observation.map(|observation| observation.freshness(now)),
        generation: object.and_then(|object| object.metadata.generation),
        observed_generation: status.and_then(|status| status.observed_generation),
        spec: object.map(spec),
        conditions: conditions(status),
        queues: status.map(|status| status.queues.clone()).unwrap_or_default(),
        release: status.and_then(|status| status.release.as_ref()).map(release),
        producer: producer(seen),
        processors: seen
            .pods
            .iter()
            .filter(|pod| pod.component == Component::Processor)
            .map(|pod| processor(seen, pod))
            .collect(),
        partitions: partitions(
            status.map(|status| status.queues.as_slice()).unwrap_or_default(),
            seen,
            now,
        ),
        latency: Latency {
            from_event: lately.from_event.percentiles(),
            from_publish: lately.from_publish.percentiles(),
            commit: lately.commit.percentiles(),
        },
    }
}

fn conditions(status: Option<&operator::api::status::StockFeedStatus>) -> Vec<ConditionView> {
    let conditions = status
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let view = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| ConditionView {
        kind: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: condition.last_transition_time.0,
        bad: is_bad(condition),
        needs_person: is_bad(condition) && reason::needs_a_person(&condition.reason),
    };
    conditions.iter().map(view).collect()
}

/// What is shown of a spec. Names of Secrets are left out: nobody needs them to find a cause.
fn spec(feed: &StockFeed) -> Value {
    let spec = &feed.spec;
    let source = match (&spec.source.fmp, &spec.source.http) {
        (Some(fmp), _) => json!({"kind": "fmp", "url": fmp.base_url, "plan": fmp.plan.name()}),
        (None, Some(http)) => json!({"kind": "http", "url": without_query(&http.url), "plan": null}),
        (None, None) => Value::Null,
    };
    json!({
        "symbols": spec.symbols,
        "source": source,
        "interval": spec.interval,
        "marketHours": spec.market_hours,
        "duplicates": spec.duplicates,
        "partitions": spec.processing.partitions,
        "replicas": {"min": spec.processing.replicas.min, "max": spec.processing.replicas.max.unwrap_or(spec.processing.partitions)},
        "windows": spec.processing.windows,
        "outOfOrderness": spec.processing.out_of_orderness,
        "allowedLateness": spec.processing.allowed_lateness,
        "retention": spec.storage.retention,
        "deletionPolicy": spec.deletion_policy,
        "suspend": spec.suspend,
    })
}

/// A query may hold what somebody should have put into a Secret.
#[must_use]
pub fn without_query(url: &str) -> &str {
    url.split_once('?').map_or(url, |(url, _)| url)
}

fn release(release: &ReleaseStatus) -> Value {
    let worker = |worker: &operator::api::status::WorkerRelease| {
        let failed = worker
            .failed
            .as_ref()
            .map(|failed| format!("{}: {}", failed.image, failed.why));
        json!({"image": worker.image, "good": worker.good, "failed": failed})
    };
    json!({
        "state": release.state,
        "since": release.since.0,
        "message": release.message,
        "producer": worker(&release.producer),
        "processor": worker(&release.processor),
    })
}

/// The newest of the producer's pods.
#[must_use]
pub fn producer_pod(observation: &Observation) -> Option<&PodSeen> {
    let mut pods = observation.pods.iter();
    pods.rfind(|pod| pod.component == Component::Producer)
}

fn producer(observation: &Observation) -> Option<ProducerView> {
    let pod = producer_pod(observation)?;
    let said = observation.producer.as_ref().filter(|said| said.pod == pod.name);
    Some(ProducerView {
        pod: pod.name.clone(),
        ready: pod.ready,
        started_at: pod.started_at,
        restarts: pod.restarts,
        last_exit: pod.last_exit.clone(),
        broker: said.map(|said| said.ready.broker.clone()),
        source: said.map(|said| said.ready.source.clone()),
        spool: said.map(|said| said.ready.spool.clone()),
        rates: said.and_then(|said| said.rates),
        request_seconds: said.map(|_| observation.lately().requests.percentiles()),
    })
}

fn processor(observation: &Observation, pod: &PodSeen) -> ProcessorView {
    let seen = observation.processors.get(&pod.name);
    let silent = observation
        .problems
        .contains_key(&format!("processor {}", pod.name));
    let state = seen.map(|seen| &seen.state);
    ProcessorView {
        pod: pod.name.clone(),
        node: pod.node.clone(),
        address: pod.address.map(|address| address.to_string()),
        phase: pod.phase.clone(),
        ready: pod.ready,
        started_at: pod.started_at,
        restarts: pod.restarts,
        last_exit: pod.last_exit.clone(),
        answers: seen.is_some() && !silent,
        version: state.map(|state| state.version.clone()),
        broker_connected: state.map(|state| state.broker_connected),
        database_ok: state.map(|state| state.database_ok),
        queues: state.map(|state| state.queues),
        consuming: state.map(|state| state.consuming),
        partitions: state
            .map(|state| state.partitions.keys().cloned().collect())
            .unwrap_or_default(),
        time: seen.and_then(|seen| seen.time()),
        rates: seen.and_then(|seen| Rates::sum(seen.rates.values())),
    }
}

/// Those that the status names, and those that somebody owns.
fn partitions(
    queues: &[QueueGenerationStatus],
    observation: &Observation,
    now: Timestamp,
) -> Vec<PartitionView> {
    let mut views: BTreeMap<(u32, u16), PartitionView> = BTreeMap::new();
    for queue in queues {
        let generation = u32::try_from(queue.generation).unwrap_or_default();
        for partition in 0..u16::try_from(queue.partitions).unwrap_or_default() {
            views.insert((generation, partition), unowned(generation, partition));
        }
    }
    for ((generation, number), (pod, partition)) in observation.partitions() {
        let id = format!("{generation}.{number}");
        let rates = observation
            .processors
            .get(pod)
            .and_then(|seen| seen.rates.get(&id).copied());
        let view = PartitionView {
            processor: Some(pod.to_owned()),
            claimed_at: Some(partition.claimed_at),
            checkpoint: Some(partition.checkpoint),
            watermark: partition.watermark,
            watermark_lag_seconds: partition
                .watermark
                .map(|watermark| seconds_between(watermark, now)),
            last_event_time: partition.last_event_time,
            waiting_for_missing: partition.waiting_for_missing,
            queue: partition.queue.map(|queue| QueueView {
                ready: queue.ready,
                consumers: queue.consumers,
                age_seconds: seconds_between(queue.at, now).max(0.0),
            }),
            prefetch: Some(partition.prefetch),
            time: Some(partition.time),
            rates,
            totals: Some(partition.totals),
            ..unowned(generation, number)
        };
        views.insert((generation, number), view);
    }
    views.into_values().collect()
}

fn unowned(generation: u32, partition: u16) -> PartitionView {
    PartitionView {
        id: format!("{generation}.{partition}"),
        generation,
        partition,
        processor: None,
        claimed_at: None,
        checkpoint: None,
        watermark: None,
        watermark_lag_seconds: None,
        last_event_time: None,
        waiting_for_missing: false,
        queue: None,
        prefetch: None,
        time: None,
        rates: None,
        totals: None,
    }
}
