use k8s_openapi::api::apps::v1::Deployment;
use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::{
    broker, database,
    validate::tests::{example, validated},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}

fn deployment(wanted: i32, available: i32) -> WorkloadState {
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"generation": 1},
        "spec": {"replicas": wanted, "selector": {}, "template": {}},
        "status": {
            "observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted,
            "availableReplicas": available, "readyReplicas": available,
        },
    }))
    .unwrap();
    WorkloadState {
        observed: Some(deployment),
        waiting: None,
    }
}

fn applied() -> Resources<Applied> {
    Resources {
        service_accounts: Vec::new(),
        secrets: Vec::new(),
        config_maps: Vec::new(),
        services: Vec::new(),
        broker: broker::Outcome {
            verdict: Verdict::yes(reason::AS_DECLARED, ""),
            backlog: Some(7),
            written: Vec::new(),
        },
        database: database::Outcome {
            verdict: Verdict::yes(reason::AS_DECLARED, ""),
            version: Some(1),
            progress: Some(schema::Progress {
                watermark: "2012-01-03T21:00:00.5Z".parse().ok(),
                last_tick_time: "2012-01-03T21:00:05Z".parse().ok(),
                ..schema::Progress::default()
            }),
            written: Vec::new(),
        },
        producer: deployment(1, 1),
        processor: deployment(2, 2),
    }
}

fn answering() -> Verdict {
    Verdict::yes(reason::ANSWERING, "")
}

fn status(
    applied: &Resources<Applied>,
    previous: Option<&StockFeedStatus>,
    now: Timestamp,
) -> StockFeedStatus {
    status_of(&validated(example()), applied, &answering(), previous, now)
}

fn truth(status: &StockFeedStatus, kind: ConditionType) -> (String, String) {
    let condition = find(status, kind).unwrap();
    (condition.status.clone(), condition.reason.clone())
}

fn word(pair: (&str, &str)) -> (String, String) {
    (pair.0.to_owned(), pair.1.to_owned())
}

#[test]
fn a_healthy_feed() {
    insta::assert_yaml_snapshot!(status(&applied(), None, at(0)));
}

#[test]
fn the_same_facts_give_an_equal_status_at_another_time() {
    let first = status(&applied(), None, at(0));
    assert_eq!(status(&applied(), Some(&first), at(100)), first);
}

#[test]
fn a_status_survives_the_api_server() {
    let first = status(
        &applied(),
        None,
        Timestamp::from_microsecond(1_780_000_000_123_456).unwrap(),
    );
    let stored = serde_json::to_value(&first).unwrap();
    assert_eq!(
        ours(&serde_json::from_value::<StockFeedStatus>(stored).unwrap()),
        first
    );
}

#[test]
fn a_transition_time_moves_only_when_the_truth_does() {
    let first = status(&applied(), None, at(0));
    let time = |status: &StockFeedStatus, kind| find(status, kind).unwrap().last_transition_time.clone();

    let mut waiting = applied();
    waiting.producer = deployment(1, 0);
    let second = status(&waiting, Some(&first), at(10));
    assert_eq!(time(&second, ConditionType::ProducerReady), Time(at(10)));
    assert_eq!(time(&second, ConditionType::Ready), Time(at(10)));
    assert_eq!(time(&second, ConditionType::ProcessorReady), Time(at(0)));

    // Another reason for the same truth.
    let mut refused = waiting;
    refused.broker.verdict = Verdict::no(reason::AUTHENTICATION_FAILED, "x");
    let third = status(&refused, Some(&second), at(20));
    assert_eq!(time(&third, ConditionType::Ready), Time(at(10)));
    assert_eq!(
        truth(&third, ConditionType::Ready),
        word(("False", reason::AUTHENTICATION_FAILED))
    );
    assert_eq!(time(&third, ConditionType::BrokerReady), Time(at(20)));
}

type Change = fn(&mut Resources<Applied>);

#[rstest]
#[case::broker_unreachable(|all: &mut Resources<Applied>| all.broker.verdict = Verdict::no(reason::UNREACHABLE, ""), reason::UNREACHABLE, false)]
#[case::broker_password(|all: &mut Resources<Applied>| all.broker.verdict = Verdict::no(reason::AUTHENTICATION_FAILED, ""), reason::AUTHENTICATION_FAILED, true)]
#[case::schema(|all: &mut Resources<Applied>| all.database.verdict = Verdict::no(reason::MIGRATION_FAILED, ""), reason::MIGRATION_FAILED, true)]
#[case::producer_starts(|all: &mut Resources<Applied>| all.producer = deployment(1, 0), reason::PROGRESSING, false)]
#[case::processor_lacks_one(|all: &mut Resources<Applied>| all.processor = deployment(2, 1), reason::PROGRESSING, false)]
#[case::producer_waits(|all: &mut Resources<Applied>| all.producer = WorkloadState { observed: None, waiting: Some("x".into()) }, reason::WAITING, false)]
#[case::the_cause_comes_first(|all: &mut Resources<Applied>| { all.processor = deployment(2, 0); all.broker.verdict = Verdict::no(reason::UNREACHABLE, ""); }, reason::UNREACHABLE, false)]
fn trouble_is_summed_up(#[case] change: Change, #[case] expected: &str, #[case] stalled: bool) {
    let mut all = applied();
    change(&mut all);
    let status = status(&all, None, at(0));
    assert_eq!(truth(&status, ConditionType::Ready), word(("False", expected)));
    let (kind, other) = match stalled {
        true => (ConditionType::Stalled, ConditionType::Reconciling),
        false => (ConditionType::Reconciling, ConditionType::Stalled),
    };
    assert_eq!(truth(&status, kind), word(("True", expected)));
    assert_eq!(truth(&status, other), word(("False", reason::SETTLED)));
}

#[test]
fn what_is_known_to_be_wrong_comes_before_what_is_unknown() {
    let source = Verdict::unknown(reason::PRODUCER_UNREACHABLE, "no answer");
    let mut all = applied();
    all.producer = deployment(1, 0);
    let feed = validated(example());
    let crashing = status_of(&feed, &all, &source, None, at(0));
    assert_eq!(
        truth(&crashing, ConditionType::Ready),
        word(("False", reason::PROGRESSING))
    );
    let silent = status_of(&feed, &applied(), &source, None, at(0));
    assert_eq!(
        truth(&silent, ConditionType::Ready),
        word(("False", reason::PRODUCER_UNREACHABLE))
    );
}

#[test]
fn a_refused_key_waits_for_a_person() {
    let source = Verdict::no("InvalidKey", "the source refuses the API key");
    let status = status_of(&validated(example()), &applied(), &source, None, at(0));
    assert_eq!(
        truth(&status, ConditionType::Stalled),
        word(("True", "InvalidKey"))
    );
    assert_eq!(
        find(&status, ConditionType::Ready).unwrap().message,
        "SourceReady: the source refuses the API key"
    );
}

#[test]
fn a_suspended_feed_is_as_it_was_asked_to_be() {
    let mut value = example();
    value["spec"]["suspend"] = json!(true);
    let mut all = applied();
    all.producer = deployment(0, 0);
    let source = Verdict::unknown(reason::SUSPENDED, "");
    let feed = validated(value);
    let suspended = status_of(&feed, &all, &source, None, at(0));
    for kind in [ConditionType::Ready, ConditionType::Suspended] {
        assert_eq!(truth(&suspended, kind), word(("True", reason::SUSPENDED)));
    }
    all.processor = deployment(2, 0);
    let broken = status_of(&feed, &all, &source, None, at(0));
    assert_eq!(
        truth(&broken, ConditionType::Ready),
        word(("False", reason::PROGRESSING))
    );
}

#[test]
fn an_exceeded_plan_is_said_and_stops_nothing() {
    let mut value = example();
    value["spec"]["source"]["fmp"]["plan"] = json!("Basic");
    let status = status_of(&validated(value), &applied(), &answering(), None, at(0));
    assert_eq!(
        truth(&status, ConditionType::QuotaSufficient),
        word(("False", reason::PLAN_EXCEEDED))
    );
    assert_eq!(
        truth(&status, ConditionType::Ready),
        word(("True", reason::READY))
    );
}

#[test]
fn a_rollout_in_progress_is_not_ready_and_a_late_one_is_stalled() {
    let mut state = deployment(2, 2);
    let observed = state.observed.as_mut().unwrap();
    observed.metadata.generation = Some(2);
    assert_eq!(
        of_workload(&state, Component::Processor).reason,
        reason::PROGRESSING
    );

    let mut late = deployment(2, 1);
    let status = late.observed.as_mut().unwrap().status.as_mut().unwrap();
    status.conditions = serde_json::from_value(json!([
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    ]))
    .unwrap();
    let verdict = of_workload(&late, Component::Processor);
    assert_eq!(verdict.reason, reason::PROGRESS_DEADLINE_EXCEEDED);
    assert!(reason::needs_a_person(&verdict.reason));
}

#[test]
fn a_failure_keeps_what_was_known_and_is_unknown_at_first_sight() {
    let known = status(&applied(), None, at(0));
    let failed = of_failure(reason::INVALID_SPEC, "spec.x is wrong", 2, Some(&known), at(5));
    assert_eq!(failed.observed_generation, Some(2));
    assert_eq!(failed.backlog, known.backlog);
    assert_eq!(
        truth(&failed, ConditionType::Stalled),
        word(("True", reason::INVALID_SPEC))
    );
    assert_eq!(
        truth(&failed, ConditionType::BrokerReady),
        word(("True", reason::AS_DECLARED))
    );
    let first = of_failure(reason::APPLY_FAILED, "x", 1, None, at(5));
    assert_eq!(
        truth(&first, ConditionType::BrokerReady),
        word(("Unknown", reason::PENDING))
    );
    assert_eq!(
        truth(&first, ConditionType::Reconciling),
        word(("True", reason::APPLY_FAILED))
    );
}

#[test]
fn figures_alone_are_told_from_other_changes() {
    let first = status(&applied(), None, at(0));
    let mut moved = applied();
    moved.broker.backlog = Some(100);
    let second = status(&moved, Some(&first), at(1));
    assert!(second != first && same_but_figures(&first, &second));
    moved.processor = deployment(2, 1);
    assert!(!same_but_figures(&first, &status(&moved, Some(&first), at(1))));
}

#[test]
fn what_was_once_made_is_remembered_through_trouble() {
    let first = status(&applied(), None, at(0));
    let mut gone = applied();
    gone.broker.verdict = Verdict::no(reason::UNREACHABLE, "");
    gone.database.version = None;
    let second = status(&gone, Some(&first), at(1));
    assert_eq!(
        (second.queue_generation, second.schema_version),
        (Some(1), Some(1))
    );
    let never = status(&gone, None, at(1));
    assert_eq!((never.queue_generation, never.schema_version), (None, None));
}

#[test]
fn the_api_servers_words_are_shown_and_not_its_whole_answer() {
    let answer =
        kube::core::Status::failure("Service \"x\" is invalid: spec.ports", "Invalid").with_code(422);
    let error = crate::apply::Error::Kubernetes {
        verb: "apply",
        kind: "Service".to_owned(),
        name: "x".to_owned(),
        source: Box::new(kube::Error::Api(answer.boxed())),
    };
    assert_eq!(
        chain(&error),
        "failed to apply Service x: Service \"x\" is invalid: spec.ports"
    );
}
