//! Metrics, in the grammar that all of Flink's metric endpoints share: without `get` their names, with it their values, and with
//! aggregation over subtasks, jobs or task managers.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, job};
use crate::{
    api::App,
    flink::{
        checkpoints,
        job::{Job, Subtask},
        jobs,
    },
    percentile::sorted,
};

/// The metrics of one thing, by name.
pub type Values = BTreeMap<String, f64>;
/// What is aggregated where nothing is asked for.
const AGGREGATIONS: [&str; 5] = ["min", "max", "avg", "sum", "skew"];
/// Milliseconds in a second.
const MILLISECONDS: f64 = 1000.0;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    get: Option<String>,
    agg: Option<String>,
    subtasks: Option<String>,
}

fn parts(text: Option<&String>) -> Option<Vec<&str>> {
    text.map(|text| {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect()
    })
}

/// Names, or values as text. A name that is not known is left out, as Flink does.
pub fn plain(values: &Values, asked: &Asked) -> Value {
    match parts(asked.get.as_ref()) {
        None => values.keys().map(|name| json!({"id": name})).collect(),
        Some(names) => names
            .into_iter()
            .filter_map(|name| Some(json!({"id": name, "value": text(*values.get(name)?)})))
            .collect(),
    }
}

/// Whole numbers have no fraction, as in Flink.
fn text(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    value.to_string()
}

/// Names, or what is made of the values of several things.
pub fn aggregated(all: &[Values], asked: &Asked) -> Value {
    let Some(names) = parts(asked.get.as_ref()) else {
        let names: BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
        return names.into_iter().map(|name| json!({"id": name})).collect();
    };
    let wanted = parts(asked.agg.as_ref()).unwrap_or_else(|| AGGREGATIONS.to_vec());
    let of = |name: &str| {
        let values = sorted(all.iter().filter_map(|values| values.get(name).copied()));
        (!values.is_empty()).then(|| aggregate(name, &values, &wanted))
    };
    names.into_iter().filter_map(of).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a number of subtasks")]
fn aggregate(name: &str, sorted: &[f64], wanted: &[&str]) -> Value {
    let sum: f64 = sorted.iter().sum();
    let count = sorted.len() as f64;
    let average = sum / count;
    let value = |aggregation: &str| match aggregation {
        "min" => sorted.first().copied(),
        "max" => sorted.last().copied(),
        "avg" => Some(average),
        "sum" => Some(sum),
        "skew" => Some(skew(sorted, average)),
        _ => None,
    };
    let mut answer = Map::from_iter([("id".to_owned(), json!(name))]);
    answer.extend(
        wanted
            .iter()
            .filter_map(|aggregation| Some(((*aggregation).to_owned(), json!(value(aggregation)?)))),
    );
    Value::Object(answer)
}

/// As Flink has it: the mean distance from the average, in per cent of the most that it could be.
#[expect(clippy::cast_precision_loss, reason = "a number of subtasks")]
fn skew(values: &[f64], average: f64) -> f64 {
    if values.len() < 2 || average == 0.0 {
        return 0.0;
    }
    let count = values.len() as f64;
    let distance = values.iter().map(|value| (value - average).abs()).sum::<f64>() / count;
    let most = 2.0 * average * (count - 1.0) / count;
    (distance / most * 100.0).clamp(0.0, 100.0)
}

/// What is known of a subtask.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats in Flink")]
pub fn of_subtask(subtask: &Subtask) -> Values {
    let io = &subtask.io;
    let whole = |value: Option<u64>| value.map(|value| value as f64);
    let time = |index: usize| subtask.time.map(|time| time[index] * MILLISECONDS);
    let counter = |of: fn(&crate::observe::processor::Totals) -> u64| {
        subtask.counters.as_ref().map(|totals| of(totals) as f64)
    };
    let known = [
        ("numRecordsIn", whole(io.read_records)),
        ("numRecordsOut", whole(io.write_records)),
        ("numBytesIn", whole(io.read_bytes)),
        ("numBytesOut", whole(io.write_bytes)),
        ("numRecordsInPerSecond", subtask.rates.records_in),
        ("numRecordsOutPerSecond", subtask.rates.records_out),
        ("numBytesInPerSecond", subtask.rates.bytes_in),
        ("busyTimeMsPerSecond", time(0)),
        ("idleTimeMsPerSecond", time(1)),
        ("backPressuredTimeMsPerSecond", time(2)),
        ("accumulateBusyTimeMs", io.busy),
        ("accumulateIdleTimeMs", io.idle),
        ("accumulateBackPressuredTimeMs", io.backpressured),
        (
            "isBackPressured",
            subtask.time.map(|[_, _, held]| f64::from(held > 0.1)),
        ),
        (
            "currentInputWatermark",
            subtask
                .watermark
                .map(|watermark| watermark.as_millisecond() as f64),
        ),
        ("pendingRecords", subtask.pending.map(f64::from)),
        ("numLateRecordsDropped", counter(|totals| totals.late)),
        ("numRecordsQuarantined", counter(|totals| totals.quarantined)),
        ("numDuplicatesDropped", counter(|totals| totals.duplicates)),
    ];
    let known = known
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    known.collect()
}

/// What is known of a job.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats in Flink")]
pub fn of_job(job: &Job) -> Values {
    let running = job.state == "RUNNING";
    let since = job
        .feed
        .object
        .as_ref()
        .ok()
        .and_then(|object| {
            crate::summary::find(
                object.status.as_ref()?,
                operator::api::status::ConditionType::Ready,
            )
        })
        .map(|ready| (job.now - ready.last_transition_time.0.as_millisecond()) as f64);
    let (completed, failed) = checkpoints::totals(job);
    let last = checkpoints::all(job).into_iter().next();
    let known = [
        ("uptime", since.filter(|_| running)),
        ("runningTime", since.filter(|_| running).or(Some(0.0))),
        ("downtime", since.filter(|_| !running).or(Some(0.0))),
        (
            "restartingTime",
            since.filter(|_| job.state == "RESTARTING").or(Some(0.0)),
        ),
        (
            "failingTime",
            since.filter(|_| job.state == "FAILING").or(Some(0.0)),
        ),
        (
            "numRestarts",
            job.observation.as_ref().map(|_| job.restarts() as f64),
        ),
        (
            "fullRestarts",
            job.observation.as_ref().map(|_| job.restarts() as f64),
        ),
        ("numberOfCompletedCheckpoints", completed),
        ("numberOfFailedCheckpoints", failed),
        (
            "totalNumberOfCheckpoints",
            completed.map(|completed| completed + failed.unwrap_or(0.0)),
        ),
        ("numberOfInProgressCheckpoints", completed.map(|_| 0.0)),
        (
            "lastCheckpointDuration",
            last.as_ref().map(|last| last.duration() as f64),
        ),
        ("lastCheckpointSize", last.as_ref().map(|last| last.bytes as f64)),
        (
            "lastCheckpointFullSize",
            last.as_ref().map(|last| last.bytes as f64),
        ),
        (
            "lastCompletedCheckpointId",
            last.as_ref().map(|last| last.id as f64),
        ),
    ];
    let known = known
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    known.collect()
}

/// `/jobs/metrics`
pub async fn jobs_together(State(app): State<App>, Query(asked): Query<Asked>) -> Json<Value> {
    let all: Vec<_> = jobs::all(&app).iter().map(of_job).collect();
    Json(aggregated(&all, &asked))
}

/// `/jobs/{job}/metrics`
pub async fn one_job(State(app): State<App>, Path(id): Path<String>, Query(asked): Query<Asked>) -> Answer {
    let job = job(&app, &id).await?;
    Ok(Json(plain(&of_job(&job), &asked)))
}

/// The subtasks of a vertex, those that were asked for.
async fn subtasks(
    app: &App,
    job_id: &str,
    vertex: &str,
    asked: &Asked,
) -> Result<Vec<Subtask>, super::Failure> {
    let job = job(app, job_id).await?;
    let vertex = job
        .vertex(vertex)
        .ok_or_else(|| super::not_found(format!("JobVertex {vertex} not found")))?;
    let wanted = |index: usize| {
        let ranges = parts(asked.subtasks.as_ref());
        ranges.is_none_or(|ranges| ranges.iter().any(|range| in_range(range, index)))
    };
    let all = vertex.subtasks.iter().filter(|subtask| wanted(subtask.index));
    Ok(all.cloned().collect())
}

/// `3` or `0-3`.
fn in_range(range: &str, index: usize) -> bool {
    let number = |text: &str| text.parse::<usize>().ok();
    match range.split_once('-') {
        Some((first, last)) => number(first)
            .zip(number(last))
            .is_some_and(|(first, last)| (first..=last).contains(&index)),
        None => number(range) == Some(index),
    }
}

/// `/jobs/{job}/vertices/{vertex}/metrics`: names begin with the subtask's number.
pub async fn vertex(
    State(app): State<App>,
    Path((job, vertex)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Answer {
    let subtasks = subtasks(&app, &job, &vertex, &asked).await?;
    let values: Values = subtasks
        .iter()
        .flat_map(|subtask| {
            let index = subtask.index;
            of_subtask(subtask)
                .into_iter()
                .map(move |(name, value)| (format!("{index}.{name}"), value))
        })
        .collect();
    Ok(Json(plain(&values, &asked)))
}

/// `/jobs/{job}/vertices/{vertex}/subtasks/metrics`
pub async fn vertex_together(
    State(app): State<App>,
    Path((job, vertex)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Answer {
    let subtasks = subtasks(&app, &job, &vertex, &asked).await?;
    let all: Vec<_> = subtasks.iter().map(of_subtask).collect();
    Ok(Json(aggregated(&all, &asked)))
}

/// `/jobs/{job}/vertices/{vertex}/subtasks/{subtask}/metrics`
pub async fn subtask(
    State(app): State<App>,
    Path((job, vertex, index)): Path<(String, String, usize)>,
    Query(asked): Query<Asked>,
) -> Answer {
    let subtasks = subtasks(&app, &job, &vertex, &Asked::default()).await?;
    let found = subtasks.iter().find(|subtask| subtask.index == index);
    let found = found.ok_or_else(|| super::not_found(format!("Subtask {index} not found")))?;
    Ok(Json(plain(&of_subtask(found), &asked)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(get: Option<&str>, agg: Option<&str>) -> Asked {
        Asked {
            get: get.map(str::to_owned),
            agg: agg.map(str::to_owned),
            subtasks: None,
        }
    }

    #[test]
    fn without_get_there_are_names_and_with_it_values_as_text() {
        let values = Values::from([("a".to_owned(), 2.0), ("b".to_owned(), 0.25)]);
        assert_eq!(
            plain(&values, &asked(None, None)),
            json!([{"id": "a"}, {"id": "b"}])
        );
        let got = plain(&values, &asked(Some("b,c,a"), None));
        assert_eq!(
            got,
            json!([{"id": "b", "value": "0.25"}, {"id": "a", "value": "2"}])
        );
    }

    #[test]
    fn only_what_is_asked_for_is_aggregated() {
        let all = [1.0, 3.0].map(|value| Values::from([("a".to_owned(), value)]));
        let got = aggregated(&all, &asked(Some("a"), Some("max,skew")));
        assert_eq!(got, json!([{"id": "a", "max": 3.0, "skew": 50.0}]));
        let got = aggregated(&all, &asked(Some("a"), None));
        assert_eq!(
            got,
            json!([{"id": "a", "min": 1.0, "max": 3.0, "avg": 2.0, "sum": 4.0, "skew": 50.0}])
        );
    }

    #[test]
    fn subtasks_are_named_by_number_or_range() {
        assert!(in_range("0-3", 3) && !in_range("0-3", 4) && in_range("2", 2) && !in_range("x", 2));
    }
}
