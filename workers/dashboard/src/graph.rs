//! The way of a tick: source, producer, queues, processors, database, with rates and backpressure. Pure.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::detail::{Detail, without_query};

/// From so much on, backpressure is worth a look.
const WORTH_A_LOOK: f64 = 0.5;

/// The answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Graph {
    pub at: Option<Timestamp>,
    pub age_seconds: Option<f64>,
    pub stale: bool,
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    pub id: String,
    pub kind: &'static str,
    pub layer: u8,
    pub title: String,
    pub status: &'static str,
    pub detail: Option<String>,
    pub figures: Map<String, Value>,
}

/// From a step to the next.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    pub id: String,
    pub from: String,
    pub to: String,
    pub messages_per_second: Option<f64>,
    pub ticks_per_second: Option<f64>,
    pub backpressure: Option<f64>,
    pub level: Option<&'static str>,
}

/// Flink's words for it.
#[must_use]
pub fn level(ratio: f64) -> &'static str {
    match ratio {
        ratio if ratio <= 0.1 => "ok",
        ratio if ratio <= 0.5 => "low",
        _ => "high",
    }
}

/// What follows from all that is known of a feed.
#[must_use]
pub fn graph(detail: &Detail) -> Graph {
    let mut nodes = vec![source(detail), producer(detail)];
    let mut edges = Vec::new();
    let rates = detail.producer.as_ref().and_then(|producer| producer.rates);
    let ticks = rates.and_then(|rates| rates.ticks_per_second);
    edges.push(edge("source", "producer", None, ticks, None));
    // The producer waits for the broker when its spool is full: how full it is, is how near that is.
    let spool = detail
        .producer
        .as_ref()
        .and_then(|producer| producer.spool.as_ref());
    let held_up = spool.and_then(|spool| if spool.full { Some(1.0) } else { None });
    for partition in &detail.partitions {
        let id = format!("queue:{}", partition.id);
        let is_owned = partition.processor.is_some();
        nodes.push(Node {
            id: id.clone(),
            kind: "queue",
            layer: 2,
            title: format!("partition {}", partition.partition),
            status: match (is_owned, partition.waiting_for_missing) {
                _ if detail.observation.is_none() => "unknown",
                (true, false) => "ok",
                (true, true) => "warning",
                // Nobody who answers owns it: with messages in it that is an error, which the conditions tell.
                (false, _) => "idle",
            },
            detail: partition
                .waiting_for_missing
                .then(|| "a missing message holds the watermark back".to_owned()),
            figures: figures(&[
                (
                    "ready",
                    partition.queue.as_ref().map(|queue| f64::from(queue.ready)),
                ),
                (
                    "consumers",
                    partition.queue.as_ref().map(|queue| f64::from(queue.consumers)),
                ),
                ("watermarkLagSeconds", partition.watermark_lag_seconds),
            ]),
        });
        edges.push(edge("producer", &id, None, None, held_up));
        if let Some(pod) = &partition.processor {
            edges.push(edge(
                &id,
                &format!("processor:{pod}"),
                partition.rates.map(|rates| rates.messages_per_second),
                partition.rates.map(|rates| rates.ticks_per_second),
                partition.time.map(|time| time.backpressured),
            ));
        }
    }
    for processor in &detail.processors {
        let id = format!("processor:{}", processor.pod);
        let time = processor.time;
        let backpressured = time.map(|time| time.backpressured);
        let works = processor.broker_connected != Some(false) && processor.database_ok != Some(false);
        let (status, said) = match backpressured {
            _ if !processor.ready && processor.phase != "Running" => ("error", Some(processor.phase.clone())),
            _ if !processor.answers => ("unknown", Some("does not answer".to_owned())),
            _ if processor.broker_connected == Some(false) => {
                ("error", Some("not connected to the broker".to_owned()))
            }
            _ if processor.database_ok == Some(false) => {
                ("error", Some("cannot use the database".to_owned()))
            }
            Some(ratio) if ratio > WORTH_A_LOOK && works => {
                ("warning", Some(format!("backpressured {:.0} %", ratio * 100.0)))
            }
            _ if processor.partitions.is_empty() => ("idle", Some("owns no partition".to_owned())),
            _ => ("ok", None),
        };
        let owned =
            |partition: &&crate::detail::PartitionView| partition.processor.as_ref() == Some(&processor.pod);
        let lag = detail
            .partitions
            .iter()
            .filter(owned)
            .filter_map(|partition| partition.watermark_lag_seconds);
        nodes.push(Node {
            id: id.clone(),
            kind: "processor",
            layer: 3,
            title: processor.pod.clone(),
            status,
            detail: said,
            figures: figures(&[
                ("busy", time.map(|time| time.busy)),
                ("idle", time.map(|time| time.idle)),
                ("backpressured", backpressured),
                ("watermarkLagSeconds", lag.reduce(f64::max)),
            ]),
        });
        edges.push(edge(
            &id,
            "database",
            None,
            processor.rates.map(|rates| rates.ticks_per_second),
            backpressured,
        ));
    }
    nodes.push(database(detail));
    Graph {
        at: detail.observation.as_ref().map(|seen| seen.at),
        age_seconds: detail.observation.as_ref().map(|seen| seen.age_seconds),
        stale: detail.observation.as_ref().is_none_or(|seen| seen.stale),
        nodes,
        edges,
    }
}

fn source(detail: &Detail) -> Node {
    let url = detail
        .spec
        .as_ref()
        .and_then(|spec| spec["source"]["url"].as_str());
    let host = url.and_then(|url| {
        let rest = without_query(url).split_once("://")?.1;
        rest.split('/').next().map(str::to_owned)
    });
    let (status, said) = of_condition(detail, "SourceReady");
    let rates = detail.producer.as_ref().and_then(|producer| producer.rates);
    let seconds = detail
        .producer
        .as_ref()
        .and_then(|producer| producer.request_seconds);
    Node {
        id: "source".to_owned(),
        kind: "source",
        layer: 0,
        title: host.unwrap_or_else(|| "source".to_owned()),
        status,
        detail: said,
        figures: figures(&[
            (
                "requestsPerSecond",
                rates.and_then(|rates| rates.requests_per_second),
            ),
            ("requestSecondsP95", seconds.and_then(|seconds| seconds.p95)),
        ]),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of messages, to be shown")]
fn producer(detail: &Detail) -> Node {
    let producer = detail.producer.as_ref();
    let broker = producer.and_then(|producer| producer.broker.as_ref());
    let spool = producer.and_then(|producer| producer.spool.as_ref());
    let (status, said) = match broker {
        Some(broker) if !broker.connected => (
            "error",
            broker.message.clone().or_else(|| Some(broker.reason.clone())),
        ),
        _ if spool.is_some_and(|spool| spool.full) => ("error", Some("the spool is full".to_owned())),
        _ => of_condition(detail, "ProducerReady"),
    };
    let rates = producer.and_then(|producer| producer.rates);
    Node {
        id: "producer".to_owned(),
        kind: "producer",
        layer: 1,
        title: producer.map_or_else(|| "producer".to_owned(), |producer| producer.pod.clone()),
        status,
        detail: said,
        figures: figures(&[
            (
                "messagesPerSecond",
                rates.and_then(|rates| rates.messages_per_second),
            ),
            ("spoolMessages", spool.map(|spool| spool.messages as f64)),
        ]),
    }
}

fn database(detail: &Detail) -> Node {
    let broken = detail
        .processors
        .iter()
        .any(|processor| processor.database_ok == Some(false));
    let (status, said) = match broken {
        true => ("error", Some("a processor cannot use it".to_owned())),
        false => of_condition(detail, "SchemaReady"),
    };
    let name = contract::names::FeedName::new(&detail.summary.namespace, &detail.summary.name);
    Node {
        id: "database".to_owned(),
        kind: "database",
        layer: 4,
        title: name.map_or_else(
            |_| "schema".to_owned(),
            |name| format!("schema {}", name.schema()),
        ),
        status,
        detail: said,
        figures: figures(&[("commitSecondsP95", detail.latency.commit.p95)]),
    }
}

fn of_condition(detail: &Detail, kind: &str) -> (&'static str, Option<String>) {
    let Some(condition) = detail.conditions.iter().find(|condition| condition.kind == kind) else {
        return ("unknown", None);
    };
    let said = Some(condition.reason.clone());
    match condition.status.as_str() {
        "True" => ("ok", said),
        "False" => (
            "error",
            Some(format!("{}: {}", condition.reason, condition.message)),
        ),
        _ => ("unknown", said),
    }
}

fn figures(pairs: &[(&str, Option<f64>)]) -> Map<String, Value> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect()
}

fn edge(from: &str, to: &str, messages: Option<f64>, ticks: Option<f64>, backpressure: Option<f64>) -> Edge {
    Edge {
        id: format!("{from}>{to}"),
        from: from.to_owned(),
        to: to.to_owned(),
        messages_per_second: messages,
        ticks_per_second: ticks,
        backpressure,
        level: backpressure.map(level),
    }
}
