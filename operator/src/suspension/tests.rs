use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use rstest::rstest;
use serde_json::json;

use super::*;

fn facts(ended: bool, messages: Option<i64>, dead_letters: Option<i64>) -> Facts {
    Facts {
        ended,
        messages,
        dead_letters,
    }
}

#[rstest]
#[case::not_asked(
    false,
    facts(true, Some(0), Some(0)),
    true,
    "False",
    reason::NOT_SUSPENDED,
    ""
)]
#[case::proven(
    true,
    facts(true, Some(0), Some(0)),
    true,
    "True",
    reason::DRAINED,
    "everything that was published is committed"
)]
#[case::counted_once(
    true,
    facts(true, Some(0), Some(0)),
    false,
    "False",
    reason::DRAINING,
    "no old count"
)]
#[case::the_producer_lives(
    true,
    facts(false, Some(0), Some(0)),
    false,
    "False",
    reason::DRAINING,
    "the producer has still to end"
)]
#[case::both(
    true,
    facts(false, Some(1_432), Some(0)),
    false,
    "False",
    reason::DRAINING,
    "the producer has still to end; 1,432 messages are queued or unacknowledged"
)]
#[case::one_message(
    true,
    facts(true, Some(1), Some(0)),
    false,
    "False",
    reason::DRAINING,
    "1 message is queued or unacknowledged"
)]
#[case::a_dead_letter(
    true,
    facts(true, Some(0), Some(1)),
    false,
    "False",
    reason::DRAINING,
    "1 dead letter is not in quarantine yet"
)]
#[case::messages_came_in_after_the_proof(
    true,
    facts(true, Some(3), Some(0)),
    true,
    "False",
    reason::DRAINING,
    "3 messages"
)]
#[case::not_counted(
    true,
    facts(true, None, Some(0)),
    true,
    "False",
    reason::DRAINING,
    "has not said yet"
)]
#[case::dead_letters_not_counted(
    true,
    facts(true, Some(0), None),
    true,
    "False",
    reason::DRAINING,
    "has not said yet"
)]
fn what_the_condition_says(
    #[case] suspend: bool,
    #[case] facts: Facts,
    #[case] counted_twice: bool,
    #[case] truth: &str,
    #[case] reason: &str,
    #[case] words: &str,
) {
    let verdict = judge(suspend, facts, counted_twice);
    assert_eq!(
        (format!("{:?}", verdict.truth).as_str(), verdict.reason.as_ref()),
        (truth, reason)
    );
    assert!(verdict.message.contains(words), "{}", verdict.message);
}

fn deployment(wanted: i32, generation: i64, observed: i64, replicas: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"generation": generation},
        "spec": {"replicas": wanted, "selector": {}, "template": {}},
        "status": {"observedGeneration": observed, "replicas": replicas, "updatedReplicas": replicas},
    }))
    .unwrap()
}

#[rstest]
#[case::never_made(None, 0, true)]
#[case::an_orphan(None, 1, false)]
#[case::scaled_down(Some(deployment(0, 2, 2, 0)), 0, true)]
#[case::on_its_way_out(Some(deployment(0, 2, 2, 0)), 1, false)]
#[case::not_looked_at(Some(deployment(0, 2, 1, 0)), 0, false)]
#[case::crashed_and_coming_back(Some(deployment(1, 1, 1, 0)), 0, false)]
#[case::counted(Some(deployment(0, 2, 2, 1)), 0, false)]
fn a_producer_has_ended_when_none_is_left_and_none_can_come(
    #[case] observed: Option<Deployment>,
    #[case] pods: usize,
    #[case] ended: bool,
) {
    let living = vec![Pod::default(); pods];
    let rollout = Rollout::new(observed.as_ref(), &living);
    let state = WorkloadState {
        observed,
        waiting: None,
    };
    assert_eq!(Facts::new(&state, &rollout, None, None).ended, ended);
}

#[test]
fn all_generations_are_counted_and_one_that_is_not_counted_makes_it_unknown() {
    let state = WorkloadState {
        observed: None,
        waiting: None,
    };
    let of = |messages: Option<i64>| Found {
        messages,
        ..Found::default()
    };
    let messages =
        |found: &BTreeMap<u32, Found>| Facts::new(&state, &Rollout::default(), Some(found), Some(0)).messages;
    assert_eq!(
        messages(&BTreeMap::from([(1, of(Some(2))), (2, of(Some(3)))])),
        Some(5)
    );
    assert_eq!(messages(&BTreeMap::from([(1, of(Some(0))), (2, of(None))])), None);
}

#[rstest]
#[case::said("True", reason::DRAINED, 3, true)]
#[case::of_an_earlier_suspension("True", reason::DRAINED, 2, false)]
#[case::draining("False", reason::DRAINING, 3, false)]
#[case::by_an_earlier_release("True", reason::SUSPENDED, 3, false)]
fn what_was_proven_is_known_after_a_restart(
    #[case] truth: &str,
    #[case] reason: &str,
    #[case] generation: i64,
    #[case] proven: bool,
) {
    let status: StockFeedStatus = serde_json::from_value(json!({"conditions": [{
        "type": "Suspended", "status": truth, "reason": reason, "message": "",
        "observedGeneration": generation, "lastTransitionTime": "2026-11-28T00:00:00Z",
    }]}))
    .unwrap();
    assert_eq!(is_proven(Some(&status), 3), proven);
}
