//! What is wrong, unknown, refused or asked for: which condition says it, and which does not.

use pretty_assertions::assert_eq;

use super::*;

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
