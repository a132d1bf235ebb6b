//! The shape of answers against what a real Flink 1.20.5 answered (`tests/flink-rest`, cut to two items a list): the same keys, and
//! values of the same type. What a null or an empty list stands for cannot be compared.

use std::{collections::BTreeSet, fs, path::PathBuf};

use axum::http::{Method, StatusCode};
use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::{Value, json};

use crate::testing::{ALICE, Stand, stand};

/// Objects whose keys are data: ids, names that users give, and metrics of theirs.
const FREE: [&str; 5] = [
    "user-config",
    "failureLabels",
    "extendedResources",
    "serialized-user-task-accumulators",
    "tasks",
];
/// Keys that are there only when there is something to say.
const OPTIONAL: [&str; 4] = ["inputs", "location", "endpoint", "taskManagerId"];

fn recorded(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/flink-rest")
        .join(name);
    serde_json::from_str(&fs::read_to_string(path.with_extension("json")).unwrap()).unwrap()
}

/// Every key, with the type of its value, of both; differences are what is in one only.
fn shape(value: &Value, at: &str, shape: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                // Those of a checkpoint are by vertex, those of a vertex by state.
                let by_state = value["RUNNING"].is_number() || value["running"].is_number();
                if FREE.contains(&name.as_str()) && !by_state {
                    shape_of(&format!("{at}.{name}"), value, shape);
                    continue;
                }
                self::shape(value, &format!("{at}.{name}"), shape);
            }
        }
        Value::Array(items) => {
            shape_of(at, value, shape);
            for item in items {
                self::shape(item, &format!("{at}[]"), shape);
            }
        }
        value => shape_of(at, value, shape),
    }
}

fn shape_of(at: &str, value: &Value, shape: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        // Flink's word for a percentile of nothing.
        Value::String(text) if text == "NaN" => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    shape.insert(format!("{at} {kind}"));
}

/// What is in one only, but for what is null or empty in one of them, and for what is optional.
fn differences(ours: &Value, theirs: &Value) -> Vec<String> {
    let [mut a, mut b] = [BTreeSet::new(), BTreeSet::new()];
    shape(ours, "", &mut a);
    shape(theirs, "", &mut b);
    let path = |line: &str| {
        line.rsplit_once(' ')
            .map_or(String::new(), |(path, _)| path.to_owned())
    };
    let open: BTreeSet<String> = a
        .iter()
        .chain(&b)
        .filter(|line| line.ends_with(" null"))
        .map(|line| path(line))
        .collect();
    let empty = |value: &BTreeSet<String>| -> BTreeSet<String> {
        let lists = value.iter().filter_map(|line| line.strip_suffix(" list"));
        lists
            .filter(|list| !value.iter().any(|line| line.starts_with(&format!("{list}[]"))))
            .map(str::to_owned)
            .collect()
    };
    let open: BTreeSet<String> = open.into_iter().chain(empty(&a)).chain(empty(&b)).collect();
    let excused = |line: &str| {
        let path = path(line);
        let below = |open: &String| {
            path == *open || path.starts_with(&format!("{open}.")) || path.starts_with(&format!("{open}[]"))
        };
        open.iter().any(below) || OPTIONAL.iter().any(|key| path.contains(&format!(".{key}")))
    };
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>, whose: &str| {
        let lines: Vec<_> = a
            .difference(b)
            .filter(|line| !excused(line))
            .map(|line| format!("{whose}: {line}"))
            .collect();
        lines
    };
    [only(&a, &b, "only ours"), only(&b, &a, "only Flink's")].concat()
}

/// Paths with the ids of the feed of the test.
async fn filled(stand: &Stand, path: &str) -> String {
    let id = stand.app.feeds.all()[0].id();
    let (_, job) = stand.get(&format!("/jobs/{id}")).await;
    let vertex = |index: usize| job["vertices"][index]["id"].as_str().unwrap().to_owned();
    let (_, checkpoints) = stand.get(&format!("/jobs/{id}/checkpoints")).await;
    path.replace("{job}", &id)
        .replace("{source}", &vertex(0))
        .replace("{vertex}", &vertex(1))
        .replace("{checkpoint}", &checkpoints["history"][0]["id"].to_string())
        .replace("{manager}", "markets:tech-processor-1")
}

#[rstest]
#[case::config("/config", "config")]
#[case::overview("/overview", "overview")]
#[case::jobs("/jobs", "jobs")]
#[case::jobs_overview("/jobs/overview", "jobs_overview")]
#[case::job("/jobs/{job}", "job_running")]
#[case::status("/jobs/{job}/status", "job_running_status")]
#[case::plan("/jobs/{job}/plan", "job_running_plan")]
#[case::job_config("/jobs/{job}/config", "job_running_config")]
#[case::job_accumulators("/jobs/{job}/accumulators", "job_running_accumulators")]
#[case::exceptions("/jobs/{job}/exceptions?maxExceptions=10", "job_state_restarting_exceptions")]
#[case::job_metrics("/jobs/{job}/metrics", "job_running_metrics")]
#[case::job_metrics_get(
    "/jobs/{job}/metrics?get=numberOfFailedCheckpoints,uptime",
    "job_running_metrics_get"
)]
#[case::jobs_metrics("/jobs/metrics", "jobs_metrics")]
#[case::jobs_metrics_get("/jobs/metrics?get=uptime", "jobs_metrics_get")]
#[case::vertex("/jobs/{job}/vertices/{vertex}", "job_running_v1")]
#[case::times("/jobs/{job}/vertices/{vertex}/subtasktimes", "job_running_v1_subtasktimes")]
#[case::vertex_managers("/jobs/{job}/vertices/{vertex}/taskmanagers", "job_running_v1_taskmanagers")]
#[case::accumulators("/jobs/{job}/vertices/{vertex}/accumulators", "job_running_v0_accumulators")]
#[case::subtask_accumulators(
    "/jobs/{job}/vertices/{vertex}/subtasks/accumulators",
    "job_running_v0_subtasks_accumulators"
)]
#[case::backpressure("/jobs/{job}/vertices/{vertex}/backpressure", "job_running_v1_backpressure")]
#[case::watermarks("/jobs/{job}/vertices/{vertex}/watermarks", "job_running_v1_watermarks")]
#[case::vertex_metrics("/jobs/{job}/vertices/{vertex}/metrics", "job_running_v1_metrics")]
#[case::vertex_metrics_get(
    "/jobs/{job}/vertices/{vertex}/metrics?get=0.busyTimeMsPerSecond",
    "job_running_v1_metrics_get"
)]
#[case::together(
    "/jobs/{job}/vertices/{vertex}/subtasks/metrics",
    "job_running_v1_subtasks_metrics"
)]
#[case::together_get(
    "/jobs/{job}/vertices/{vertex}/subtasks/metrics?get=busyTimeMsPerSecond",
    "job_running_v1_subtasks_metrics_get"
)]
#[case::as_the_page_asks(
    "/jobs/{job}/vertices/{vertex}/subtasks/metrics?get=backPressuredTimeMsPerSecond,busyTimeMsPerSecond,numRecordsInPerSecond",
    "job_running_v1_subtasks_metrics_get_ui"
)]
#[case::skew(
    "/jobs/{job}/vertices/{vertex}/subtasks/metrics?get=numRecordsIn&agg=min,max,avg,sum,skew",
    "job_running_v1_subtasks_metrics_get_agg_skew"
)]
#[case::subtask("/jobs/{job}/vertices/{vertex}/subtasks/0", "job_running_v1_subtask0")]
#[case::attempt(
    "/jobs/{job}/vertices/{vertex}/subtasks/0/attempts/1",
    "job_running_v1_subtask0"
)]
#[case::subtask_metrics(
    "/jobs/{job}/vertices/{vertex}/subtasks/0/metrics",
    "job_running_v1_subtask0_metrics"
)]
#[case::checkpoints("/jobs/{job}/checkpoints", "job_running_checkpoints")]
#[case::checkpoints_config("/jobs/{job}/checkpoints/config", "job_running_checkpoints_config")]
#[case::checkpoint(
    "/jobs/{job}/checkpoints/details/{checkpoint}",
    "job_running_checkpoint_details"
)]
#[case::checkpoint_subtasks(
    "/jobs/{job}/checkpoints/details/{checkpoint}/subtasks/{vertex}",
    "job_running_checkpoint_details_subtasks_v1"
)]
#[case::of_the_job("/jobs/{job}/jobmanager/config", "job_running_jobmanager_config")]
#[case::managers("/taskmanagers", "taskmanagers")]
#[case::manager("/taskmanagers/{manager}", "taskmanager")]
#[case::manager_logs("/taskmanagers/{manager}/logs", "taskmanager_logs")]
#[case::manager_metrics("/taskmanagers/{manager}/metrics", "taskmanager_metrics")]
#[case::manager_metrics_get(
    "/taskmanagers/{manager}/metrics?get=Status.Container.Memory.Limit",
    "taskmanager_metrics_get"
)]
#[case::managers_metrics("/taskmanagers/metrics", "taskmanagers_metrics")]
#[case::managers_metrics_get(
    "/taskmanagers/metrics?get=Status.Container.Memory.Limit",
    "taskmanagers_metrics_get"
)]
#[case::manager_config("/jobmanager/config", "jobmanager_config")]
#[case::environment("/jobmanager/environment", "jobmanager_environment")]
#[case::job_manager_logs("/jobmanager/logs", "jobmanager_logs")]
#[case::job_manager_metrics("/jobmanager/metrics", "jobmanager_metrics")]
#[case::job_manager_metrics_get("/jobmanager/metrics?get=numRunningJobs", "jobmanager_metrics_get")]
#[tokio::test]
async fn answers_have_flinks_shape(#[case] path: &str, #[case] name: &str) {
    let stand = stand(false).await;
    let path = filled(&stand, path).await;
    let (status, ours) = stand.get(&path).await;
    assert_eq!(status, StatusCode::OK, "{ours:#}");
    assert_eq!(
        differences(&ours, &recorded(name)),
        Vec::<String>::new(),
        "{ours:#}"
    );
    let (_, prefixed) = stand.get(&format!("/v1{path}")).await;
    assert_eq!(
        differences(&prefixed, &ours),
        Vec::<String>::new(),
        "/v1 is the same"
    );
}

#[rstest]
#[case::no_job(
    "/jobs/00000000000000000000000000000000",
    StatusCode::NOT_FOUND,
    "error_job_404"
)]
#[case::no_id("/jobs/zzz", StatusCode::BAD_REQUEST, "error_job_badid")]
#[case::no_path("/jobs/{job}/nothing", StatusCode::NOT_FOUND, "error_path_404")]
#[case::no_path_below_v1("/v1/nothing", StatusCode::NOT_FOUND, "error_path_404")]
#[case::no_vertex(
    "/jobs/{job}/vertices/00000000000000000000000000000000",
    StatusCode::NOT_FOUND,
    "error_vertex_404"
)]
#[case::no_checkpoint(
    "/jobs/{job}/checkpoints/details/1",
    StatusCode::NOT_FOUND,
    "error_checkpoint_404"
)]
#[case::no_manager("/taskmanagers/nobody", StatusCode::NOT_FOUND, "error_tm_404")]
#[case::no_jars("/jars", StatusCode::NOT_FOUND, "error_path_404")]
#[tokio::test]
async fn errors_have_flinks_shape(#[case] path: &str, #[case] expected: StatusCode, #[case] name: &str) {
    let stand = stand(false).await;
    let path = filled(&stand, path).await;
    let (status, ours) = stand.get(&path).await;
    assert_eq!(status, expected, "{ours}");
    assert_eq!(
        differences(&ours, &recorded(name)),
        Vec::<String>::new(),
        "{ours:#}"
    );
}

/// Whatever Flink's page asks has an answer, but for what is switched off in `/config`.
#[tokio::test]
async fn everything_that_flinks_page_asks_is_answered() {
    let stand = stand(false).await;
    let asked: Vec<String> = serde_json::from_value(recorded("_ui-reads")).unwrap();
    for request in asked {
        let path = request.strip_prefix("GET ").unwrap();
        if path.starts_with("/jars") {
            continue;
        }
        let path = path
            .replace("{jobid}", "{job}")
            .replace("{vertexid}", "{vertex}")
            .replace("{checkpointid}", "{checkpoint}")
            .replace("{tmid}", "{manager}")
            .replace('…', "numRecordsIn");
        let path = filled(&stand, &path).await;
        let (status, answer) = stand.get(&path).await;
        assert_eq!(status, StatusCode::OK, "{request} {answer}");
    }
}

#[tokio::test]
async fn values_are_those_of_the_feed() {
    let stand = stand(false).await;
    let path = filled(&stand, "/jobs/{job}/vertices/{vertex}/backpressure").await;
    let (_, backpressure) = stand.get(&path).await;
    assert_eq!(backpressure["backpressure-level"], "high");
    assert_eq!(
        backpressure["subtasks"][1],
        json!({"subtask": 1, "backpressureLevel": "high", "backpressure-level": "high", "ratio": 0.6, "idleRatio": 0.3, "busyRatio": 0.1})
    );
    let path = filled(&stand, "/jobs/{job}/vertices/{vertex}/watermarks").await;
    let (_, watermarks) = stand.get(&path).await;
    assert_eq!(
        watermarks[0],
        json!({"id": "0.currentInputWatermark", "value": "1795789794000"})
    );
    let path = filled(&stand, "/jobs/{job}/vertices/{source}/watermarks").await;
    assert_eq!(stand.get(&path).await.1, json!([]), "a source has no input");
    let path = filled(&stand, "/jobs/{job}/checkpoints").await;
    let (_, checkpoints) = stand.get(&path).await;
    assert_eq!(checkpoints["counts"]["completed"], 21);
    let ids: BTreeSet<_> = checkpoints["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 3, "numbers of different partitions are different");
    let (_, config) = stand.get("/config").await;
    assert_eq!(config["features"]["web-submit"], false);
    let (_, overview) = stand.get("/overview").await;
    assert_eq!(
        (
            overview["taskmanagers"].as_i64(),
            overview["jobs-running"].as_i64()
        ),
        (Some(1), Some(1))
    );
}

#[tokio::test]
async fn a_checkpoint_by_flinks_paths_can_be_followed() {
    let stand = stand(true).await;
    let path = filled(&stand, "/jobs/{job}/checkpoints").await;
    let bearer = format!("Bearer {ALICE}");
    let headers = [("x-stockfeed-request", "1"), ("authorization", bearer.as_str())];
    let (status, triggered, _) = stand.send(Method::POST, &path, &headers).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(
        differences(&triggered, &recorded("op_checkpoint_trigger")),
        Vec::<String>::new()
    );
    let (_, done) = stand
        .get(&format!("{path}/{}", triggered["request-id"].as_str().unwrap()))
        .await;
    assert_eq!(
        (
            done["status"]["id"].as_str(),
            done["operation"]["checkpointId"].as_i64()
        ),
        (Some("COMPLETED"), Some(17))
    );
}
