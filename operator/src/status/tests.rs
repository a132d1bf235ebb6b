use std::{collections::BTreeMap, time::Instant};

use k8s_openapi::api::apps::v1::Deployment;
use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::{
    api::status::{ReleaseStatus, WorkerRelease},
    broker,
    dashboards::Said,
    database,
    generations::Found,
    release::Decision,
    rollout::Rollout,
    validate::tests::{example, validated},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}

pub(crate) fn deployment(wanted: i32, available: i32) -> WorkloadState {
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

fn of_queues(partitions: u16, messages: i64) -> Found {
    Found {
        partitions,
        messages: Some(messages),
        bound: true,
        consumers: Some(2),
        ..Found::default()
    }
}

pub(crate) fn applied() -> Resources<Applied> {
    Resources {
        service_accounts: Vec::new(),
        secrets: Vec::new(),
        config_maps: Vec::new(),
        services: Vec::new(),
        network_policies: crate::build::Optional {
            wanted: Vec::new(),
            unwanted: Vec::new(),
        },
        disruption_budgets: Vec::new(),
        broker: broker::Outcome {
            verdict: Verdict::yes(reason::AS_DECLARED, ""),
            backlog: Some(7),
            dead_letters: Some(0),
            found: Some(BTreeMap::from([(1, of_queues(2, 7))])),
            counts: None,
            read_at: Instant::now(),
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
    status_of_feed(&validated(example()), applied, &answering(), previous, now)
}

/// The queues stay as they are.
fn status_of_feed(
    feed: &ValidatedFeed,
    applied: &Resources<Applied>,
    source: &Verdict,
    previous: Option<&StockFeedStatus>,
    now: Timestamp,
) -> StockFeedStatus {
    status_with(feed, applied, source, &lifecycle(), previous, now)
}

fn release(state: ReleaseState, under_way: bool) -> Decision {
    let worker = |image: &str| WorkerRelease {
        image: image.to_owned(),
        good: Some(image.to_owned()),
        failed: None,
    };
    Decision {
        release: ReleaseStatus {
            state,
            since: Time(at(0)),
            message: "why".to_owned(),
            processor: worker("stockfeed/processor:1"),
            producer: worker("stockfeed/producer:1"),
            retried: None,
        },
        under_way,
    }
}

#[test]
fn a_rollout_is_reconciling_and_a_roll_back_waits_for_a_person_and_the_feed_is_ready() {
    let of = |state, under_way| {
        let lifecycle = Lifecycle {
            release: release(state, under_way),
            ..lifecycle()
        };
        let feed = validated(example());
        status_with(&feed, &applied(), &answering(), &lifecycle, None, at(0))
    };
    let rolling = of(ReleaseState::Progressing, true);
    let first = of(ReleaseState::Progressing, false);
    let back = of(ReleaseState::RolledBack, false);
    for status in [&rolling, &first, &back] {
        assert_eq!(truth(status, ConditionType::Ready), word(("True", reason::READY)));
    }
    let said = |status: &StockFeedStatus| {
        (
            truth(status, ConditionType::Reconciling),
            truth(status, ConditionType::Stalled),
        )
    };
    let settled = || word(("False", reason::SETTLED));
    assert_eq!(said(&rolling), (word(("True", reason::ROLLING_OUT)), settled()));
    assert_eq!(said(&first), (settled(), settled()));
    assert_eq!(said(&back), (settled(), word(("True", reason::ROLLED_BACK))));
}

fn lifecycle() -> Lifecycle {
    Lifecycle {
        suspended: Verdict::no(reason::NOT_SUSPENDED, ""),
        release: release(ReleaseState::Good, false),
        in_time: true,
        dashboards: Some(Said {
            verdict: Verdict::yes(reason::IMPORTED, ""),
            status: None,
        }),
        flow: Flow::default(),
    }
}

fn status_with(
    feed: &ValidatedFeed,
    applied: &Resources<Applied>,
    source: &Verdict,
    lifecycle: &Lifecycle,
    previous: Option<&StockFeedStatus>,
    now: Timestamp,
) -> StockFeedStatus {
    let (judged, queues) = (source.clone().into(), feed.generations.as_ref());
    status_of(feed, applied, queues, &judged, lifecycle, previous, now)
}

/// With what the producer says of its connection, and how data flows.
fn status_flowing(connected: bool, flow: Flow) -> StockFeedStatus {
    let feed = validated(example());
    let judged = Judged {
        link: serde_json::from_value(json!({"connected": connected, "message": "refused"})).unwrap(),
        ..answering().into()
    };
    let generations = feed.generations.as_ref();
    let lifecycle = Lifecycle { flow, ..lifecycle() };
    status_of(&feed, &applied(), generations, &judged, &lifecycle, None, at(0))
}

#[test]
fn a_producer_without_a_connection_is_not_ready() {
    let status = status_flowing(false, Flow::default());
    assert_eq!(
        truth(&status, ConditionType::ProducerReady),
        word(("False", "NotConnected"))
    );
    assert_eq!(
        truth(&status, ConditionType::Ready),
        word(("False", "NotConnected"))
    );
    let producer = find(&status, ConditionType::ProducerReady).unwrap();
    assert!(producer.message.contains("refused"), "{}", producer.message);
}

#[rstest]
#[case::for_a_moment(5, None, "True", "Available")]
#[case::no_consumer(30, None, "False", "NoConsumer")]
#[case::nothing_is_committed(0, Some(90), "False", "NotProgressing")]
#[case::a_batch_takes_long(0, Some(20), "True", "Available")]
fn processors_that_run_are_ready_when_data_flows(
    #[case] unattended: u64,
    #[case] stuck: Option<u64>,
    #[case] expected: &str,
    #[case] reason: &str,
) {
    let flow = Flow {
        unattended: (unattended > 0).then_some(Duration::from_secs(unattended)),
        stuck: stuck.map(Duration::from_secs),
    };
    let status = status_flowing(true, flow);
    assert_eq!(
        truth(&status, ConditionType::ProcessorReady),
        word((expected, reason))
    );
}

#[test]
fn a_feed_that_goes_on_by_its_last_valid_spec_tells_both() {
    let stages = status(&applied(), None, at(0));
    let message = "spec.symbols names AAPL twice; the last valid spec goes on running";
    let status = over_applied(stages, reason::INVALID_SPEC, message, None, at(0));
    assert_eq!(
        truth(&status, ConditionType::Ready),
        word(("False", "InvalidSpec"))
    );
    assert_eq!(
        truth(&status, ConditionType::Reconciling),
        word(("False", "Settled"))
    );
    assert_eq!(
        truth(&status, ConditionType::Stalled),
        word(("True", "InvalidSpec"))
    );
    assert_eq!(
        truth(&status, ConditionType::ProcessorReady),
        word(("True", "Available"))
    );
}

#[test]
fn a_paused_feed_says_nothing_of_what_is_not_looked_at() {
    let running = status(&applied(), None, at(0));
    let paused = of_pause(4, Some(&running), at(10));
    assert_eq!(truth(&paused, ConditionType::Ready), word(("Unknown", "Paused")));
    assert_eq!(
        truth(&paused, ConditionType::Reconciling),
        word(("False", "Paused"))
    );
    assert_eq!(
        find(&paused, ConditionType::ProcessorReady),
        find(&running, ConditionType::ProcessorReady)
    );
    assert_eq!(of_pause(4, Some(&paused), at(20)), paused);
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
    let crashing = status_of_feed(&feed, &all, &source, None, at(0));
    assert_eq!(
        truth(&crashing, ConditionType::Ready),
        word(("False", reason::PROGRESSING))
    );
    let silent = status_of_feed(&feed, &applied(), &source, None, at(0));
    assert_eq!(
        truth(&silent, ConditionType::Ready),
        word(("False", reason::PRODUCER_UNREACHABLE))
    );
}

#[test]
fn a_refused_key_waits_for_a_person() {
    let source = Verdict::no("InvalidKey", "the source refuses the API key");
    let status = status_of_feed(&validated(example()), &applied(), &source, None, at(0));
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
    let of = |suspended: Verdict| {
        let lifecycle = Lifecycle {
            suspended,
            ..lifecycle()
        };
        status_with(&feed, &all, &source, &lifecycle, None, at(0))
    };
    let draining = of(Verdict::no(reason::DRAINING, "7 messages"));
    let drained = of(Verdict::yes(reason::DRAINED, ""));
    for status in [&draining, &drained] {
        let ready = truth(status, ConditionType::Ready);
        assert_eq!(ready, word(("True", reason::SUSPENDED)));
    }
    let reconciling = find(&draining, ConditionType::Reconciling).unwrap();
    assert_eq!(
        (reconciling.reason.as_str(), reconciling.message.as_str()),
        (reason::DRAINING, "7 messages")
    );
    assert_eq!(
        truth(&drained, ConditionType::Reconciling),
        word(("False", reason::SETTLED))
    );
    let fewer = of(Verdict::no(reason::DRAINING, "6 messages"));
    assert!(same_but_figures(&draining, &fewer));
    all.processor = deployment(2, 0);
    let broken = status_of_feed(&feed, &all, &source, None, at(0));
    assert_eq!(
        truth(&broken, ConditionType::Ready),
        word(("False", reason::PROGRESSING))
    );
}

#[test]
fn an_exceeded_plan_is_said_and_stops_nothing() {
    let mut value = example();
    value["spec"]["source"]["fmp"]["plan"] = json!("Basic");
    let status = status_of_feed(&validated(value), &applied(), &answering(), None, at(0));
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

fn changing() -> (ValidatedFeed, Generations) {
    let mut value = example();
    value["spec"]["processing"]["partitions"] = json!(8);
    value["status"]["queues"] =
        json!([{"generation": 1, "partitions": 2}, {"generation": 2, "partitions": 8}]);
    let feed = validated(value);
    let generations = feed.generations.clone().unwrap();
    (feed, generations)
}

#[test]
fn a_change_of_the_partitions_is_reconciling_with_numbers_and_ready_all_the_same() {
    let (mut feed, _) = changing();
    let mut all = applied();
    let mut at_messages = |messages: Option<i64>, producer: Option<u32>| {
        all.broker.found =
            messages.map(|messages| BTreeMap::from([(1, of_queues(2, messages)), (2, of_queues(8, 5))]));
        feed.producer = Rollout {
            generations: producer.into_iter().collect(),
            settled: true,
            ..Rollout::default()
        };
        let status = status_of_feed(&feed, &all, &answering(), None, at(0));
        assert_eq!(
            truth(&status, ConditionType::Ready),
            word(("True", reason::READY))
        );
        assert_eq!(
            truth(&status, ConditionType::Reconciling),
            word(("True", reason::REPARTITIONING))
        );
        assert_eq!(
            (status.queue_generation, status.partitions, status.queues.len()),
            (Some(2), Some(8), 2)
        );
        find(&status, ConditionType::Reconciling).unwrap().message.clone()
    };
    assert_eq!(
        at_messages(Some(1_432), Some(2)),
        "from 2 to 8 partitions: generation 1 has 1,432 messages left"
    );
    assert_eq!(
        at_messages(Some(0), Some(1)),
        "from 2 to 8 partitions: generation 1 is empty; the producer has still to move to generation 2"
    );
    assert_eq!(
        at_messages(Some(0), Some(2)),
        "from 2 to 8 partitions: generation 1 is empty, and it is made sure that it stays so"
    );
    assert_eq!(
        at_messages(None, Some(2)),
        "from 2 to 8 partitions: generation 1 is being counted"
    );
}

#[test]
fn how_many_messages_an_old_generation_has_left_is_a_quick_figure() {
    let (feed, _) = changing();
    let mut all = applied();
    let first = status_of_feed(&feed, &all, &answering(), None, at(0));
    all.broker.found = Some(BTreeMap::from([(1, of_queues(2, 99))]));
    let second = status_of_feed(&feed, &all, &answering(), Some(&first), at(3));
    assert!(second != first && same_but_figures(&first, &second));
}

#[test]
fn the_next_list_of_queues_is_said_before_anything_is_published_to_it() {
    let mut value = example();
    value["spec"]["processing"]["partitions"] = json!(8);
    let feed = validated(value);
    let (_, next) = changing();
    let judged = answering().into();
    let status = status_of(&feed, &applied(), Some(&next), &judged, &lifecycle(), None, at(0));
    assert_eq!(status.queues.len(), 2);
    assert_eq!((status.queue_generation, status.partitions), (Some(1), Some(2)));
}

#[test]
fn missing_messages_are_said_and_are_no_part_of_ready() {
    let mut all = applied();
    let complete = status(&all, None, at(0));
    assert_eq!(
        truth(&complete, ConditionType::DataComplete),
        word(("True", reason::NO_GAPS))
    );
    let progress = all.database.progress.as_mut().unwrap();
    (progress.gaps, progress.gaps_recent, progress.quarantined) = (14, 12, 3);
    let lacking = status(&all, Some(&complete), at(1));
    assert_eq!(
        truth(&lacking, ConditionType::DataComplete),
        word(("False", reason::MESSAGES_MISSING))
    );
    assert_eq!(
        truth(&lacking, ConditionType::Ready),
        word(("True", reason::READY))
    );
    assert!(
        find(&lacking, ConditionType::DataComplete)
            .unwrap()
            .message
            .starts_with("12 messages")
    );
    assert_eq!(
        (lacking.missing_messages, lacking.quarantined),
        (Some(14), Some(3))
    );

    // What was known is kept while the database cannot be asked: the same number afterwards is no news.
    all.database.progress = None;
    let silent = status(&all, Some(&lacking), at(2));
    assert_eq!(
        truth(&silent, ConditionType::DataComplete),
        word(("Unknown", reason::PENDING))
    );
    assert_eq!(silent.missing_messages, Some(14));
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
