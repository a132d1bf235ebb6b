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

mod queues;
mod trouble;

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
