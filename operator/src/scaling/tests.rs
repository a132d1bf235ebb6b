use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;

use super::{history::Look, processors::Answer, stall::Stall, *};
use crate::broker::Counts;

/// What a pod says of one partition: since when it owns it, what it committed, its time idle and at work.
pub(super) type Said = (u16, &'static str, u64, f64, f64);

/// What a pod answers.
pub(super) fn answer(pod: &str, partitions: &[Said]) -> Answer {
    let of = |(partition, claimed, messages, idle, busy): &Said| {
        let said = json!({
            "claimed_at": claimed, "totals": {"messages": messages},
            "spent": {"idle_seconds": idle, "busy_seconds": busy, "backpressured_seconds": 0.0},
        });
        (format!("1.{partition}"), said)
    };
    let partitions: serde_json::Map<_, _> = partitions.iter().map(of).collect();
    serde_json::from_value(json!({
        "feed": "markets/tech", "instance": pod, "broker_connected": true, "database_ok": true, "partitions": partitions,
    }))
    .unwrap()
}

/// A look at one generation of queues, each with its messages and what was ever published to it.
pub(super) fn look_at(at: Instant, queues: &[(u64, Option<u64>)], pods: &[(&str, Option<&[Said]>)]) -> Look {
    let counts = queues.iter().map(|(messages, published)| Counts {
        messages: *messages,
        published: *published,
        consumer: None,
    });
    Look {
        at,
        generation: 1,
        queues: (0..).zip(counts).collect(),
        pods: pods
            .iter()
            .map(|(pod, said)| ((*pod).to_owned(), said.map(|said| answer(pod, said))))
            .collect(),
        healthy: true,
    }
}

fn limits() -> Limits {
    Limits {
        min: 1,
        max: Some(8),
        catch_up: Duration::from_secs(60),
        stabilization: Duration::from_secs(300),
        dry_run: false,
    }
}

/// Messages that wait, that arrive and are committed a second, what one processor can do, and its share of time at work.
fn measured(backlog: u64, arrival: f64, committed: f64, able: Option<f64>, busy: f64) -> Measured {
    Measured {
        backlog,
        load: Some(Load {
            arrival,
            committed,
            per_replica: able,
            busy,
        }),
        ..Measured::default()
    }
}

fn facts<'a>(limits: &'a Limits, current: u16, measured: &'a Measured) -> Facts<'a> {
    Facts {
        limits,
        partitions: 8,
        current,
        pods: Pods::Available(current),
        repartitioning: false,
        measured: Some(measured),
        all_answered: true,
    }
}

fn calm(seconds: u64) -> Calm {
    Calm {
        lower_for: Duration::from_secs(seconds),
        changed: None,
    }
}

fn outcome(decision: &Decision) -> (u16, Reason) {
    (decision.wanted, decision.reason)
}

const RESTLESS: Calm = Calm {
    lower_for: Duration::ZERO,
    changed: None,
};

#[rstest]
#[case::nothing_to_do(1, measured(0, 0.0, 0.0, None, 0.0), (1, Reason::Steady))]
#[case::keeps_up(1, measured(90, 50.0, 50.0, Some(100.0), 0.5), (1, Reason::Steady))]
// One that is busy all the time and yet keeps up takes more when more comes.
#[case::busy_and_keeps_up(1, measured(90, 100.0, 100.0, Some(100.0), 1.0), (1, Reason::Steady))]
#[case::catches_up_alone(1, measured(3_000, 40.0, 100.0, Some(100.0), 1.0), (1, Reason::Steady))]
#[case::one_more(1, measured(6_000, 40.0, 100.0, Some(100.0), 1.0), (2, Reason::CatchingUp))]
#[case::at_most_twice_as_many(1, measured(100_000, 40.0, 100.0, Some(100.0), 1.0), (2, Reason::CatchingUp))]
#[case::and_twice_again(2, measured(100_000, 40.0, 200.0, Some(100.0), 1.0), (4, Reason::CatchingUp))]
#[case::as_many_as_needed(4, measured(30_000, 40.0, 400.0, Some(100.0), 1.0), (6, Reason::CatchingUp))]
// 300 a second arrive: three would be at work all the time, and fall behind with the next unevenness.
#[case::more_arrive(2, measured(5_000, 300.0, 200.0, Some(100.0), 1.0), (4, Reason::CatchingUp))]
#[case::at_the_most(8, measured(100_000, 900.0, 800.0, Some(100.0), 1.0), (8, Reason::AtMaximum))]
// Three would do in time, once what waits is worked off.
#[case::not_before_it_has_caught_up(4, measured(9_000, 40.0, 400.0, Some(100.0), 1.0), (4, Reason::Steady))]
#[case::fewer_would_do(4, measured(10, 50.0, 50.0, Some(100.0), 0.12), (4, Reason::Stabilizing))]
#[case::just_begun(1, measured(5_000, 100.0, 0.0, None, 0.0), (1, Reason::Measuring))]
// A count is of a moment: there is always something on its way.
#[case::too_little_to_be_measured(4, measured(3, 2.0, 2.0, None, 0.01), (4, Reason::Stabilizing))]
#[case::nothing_was_due_yet(1, measured(3, 2.0, 0.0, Some(100.0), 0.01), (1, Reason::Steady))]
#[case::the_database_is_stuck(1, measured(5_000, 100.0, 0.0, Some(100.0), 1.0), (1, Reason::NothingCommitted))]
fn what_is_measured_is_weighed(
    #[case] current: u16,
    #[case] measured: Measured,
    #[case] expected: (u16, Reason),
) {
    let limits = limits();
    let decision = decide(&facts(&limits, current, &measured), RESTLESS);
    assert_eq!(outcome(&decision), expected, "{}", decision.message);
}

#[rstest]
#[case::not_for_long_enough(299, None, (4, Reason::Stabilizing))]
#[case::one_less(300, None, (3, Reason::LessWork))]
#[case::one_at_a_time(10_000, None, (3, Reason::LessWork))]
#[case::the_last_change_is_too_near(10_000, Some(299), (4, Reason::Stabilizing))]
#[case::the_last_change_is_long_ago(10_000, Some(300), (3, Reason::LessWork))]
fn one_is_taken_away_when_that_has_been_right_for_a_while(
    #[case] lower_for: u64,
    #[case] changed: Option<u64>,
    #[case] expected: (u16, Reason),
) {
    let (limits, measured) = (limits(), measured(0, 10.0, 10.0, Some(100.0), 0.02));
    let calm = Calm {
        lower_for: Duration::from_secs(lower_for),
        changed: changed.map(Duration::from_secs),
    };
    let decision = decide(&facts(&limits, 4, &measured), calm);
    assert_eq!(outcome(&decision), expected, "{}", decision.message);
}

type Change = fn(&mut Facts<'_>);

#[rstest]
#[case::nothing_is_under_way(|_: &mut Facts<'_>| {}, (3, Reason::LessWork))]
#[case::partitions_change(|facts: &mut Facts<'_>| facts.repartitioning = true, (4, Reason::Repartitioning))]
#[case::a_rollout(|facts: &mut Facts<'_>| facts.pods = Pods::RollingOut, (4, Reason::RollingOut))]
// A cluster that is full: those that do not run are no reason to keep them.
#[case::some_do_not_run(|facts: &mut Facts<'_>| facts.pods = Pods::Available(2), (3, Reason::LessWork))]
#[case::not_counted(|facts: &mut Facts<'_>| facts.measured = None, (4, Reason::BacklogUnknown))]
#[case::suspended(|facts: &mut Facts<'_>| facts.pods = Pods::None, (4, Reason::Stopped))]
fn none_is_taken_away_while_something_is_under_way(#[case] change: Change, #[case] expected: (u16, Reason)) {
    let (limits, measured) = (limits(), measured(0, 10.0, 10.0, Some(100.0), 0.02));
    let mut facts = facts(&limits, 4, &measured);
    change(&mut facts);
    assert_eq!(outcome(&decide(&facts, calm(10_000))), expected);
}

#[rstest]
#[case::all_run(|_: &mut Facts<'_>| {}, (4, Reason::CatchingUp))]
#[case::old_queues_are_drained_quicker(|facts: &mut Facts<'_>| facts.repartitioning = true, (4, Reason::CatchingUp))]
#[case::no_more_than_partitions(|facts: &mut Facts<'_>| facts.partitions = 3, (3, Reason::CatchingUp))]
#[case::the_last_ones_do_not_run_yet(|facts: &mut Facts<'_>| facts.pods = Pods::Available(1), (2, Reason::WaitingForPods))]
#[case::a_rollout(|facts: &mut Facts<'_>| facts.pods = Pods::RollingOut, (2, Reason::RollingOut))]
fn more_are_made_when_the_last_ones_run(#[case] change: Change, #[case] expected: (u16, Reason)) {
    let (limits, measured) = (limits(), measured(100_000, 10.0, 200.0, Some(100.0), 1.0));
    let mut facts = facts(&limits, 2, &measured);
    change(&mut facts);
    assert_eq!(outcome(&decide(&facts, RESTLESS)), expected);
}

#[rstest]
#[case::nobody_was_measured(Pods::Available(2), true, Reason::Measuring)]
#[case::one_is_silent(Pods::Available(2), false, Reason::ProcessorSilent)]
#[case::one_has_not_begun(Pods::Available(1), false, Reason::WaitingForPods)]
#[case::a_rollout(Pods::RollingOut, false, Reason::RollingOut)]
fn what_is_unknown_changes_nothing(#[case] pods: Pods, #[case] all_answered: bool, #[case] expected: Reason) {
    let limits = limits();
    let measured = Measured {
        backlog: 1_000_000,
        ..Measured::default()
    };
    let facts = Facts {
        pods,
        all_answered,
        ..facts(&limits, 2, &measured)
    };
    assert_eq!(is_lower(&facts), None);
    assert_eq!(outcome(&decide(&facts, calm(10_000))), (2, expected));
}

#[test]
fn a_stalled_consumer_is_not_scaled() {
    let limits = limits();
    let stalled = Measured {
        stall: Some(Stall {
            pod: "tech-processor-1".to_owned(),
            partition: "1.3".to_owned(),
            messages: 1_432,
            since: Duration::from_secs(75),
        }),
        ..measured(100_000, 500.0, 100.0, Some(100.0), 0.05)
    };
    let decision = decide(&facts(&limits, 2, &stalled), RESTLESS);
    assert_eq!(outcome(&decision), (2, Reason::ConsumerStalled));
    assert_eq!(
        decision.message,
        "1,432 messages of partition 1.3 wait, and tech-processor-1 was idle and committed none of them for 75 s"
    );
}

#[test]
fn a_burst_takes_it_from_one_to_the_most_and_back() {
    let limits = Limits {
        max: Some(4),
        ..limits()
    };
    let mut numbers = vec![1];
    let step = |current: u16, backlog: u64, calm: Calm| {
        let committed = if backlog > 0 {
            100.0 * f64::from(current)
        } else {
            0.0
        };
        let busy = if backlog > 0 { 1.0 } else { 0.0 };
        decide(
            &facts(
                &limits,
                current,
                &measured(backlog, 0.0, committed, Some(100.0), busy),
            ),
            calm,
        )
        .wanted
    };
    for (backlog, lower_for) in [
        (50_000, 0),
        (45_000, 0),
        (40_000, 0),
        (9_000, 20),
        (0, 200),
        (0, 300),
        (0, 600),
        (0, 900),
        (0, 1_200),
    ] {
        numbers.push(step(numbers[numbers.len() - 1], backlog, calm(lower_for)));
    }
    assert_eq!(numbers, [1, 2, 4, 4, 4, 4, 3, 2, 1, 1]);
}

#[rstest]
#[case::steady(
    1,
    measured(0, 12.34, 12.3, Some(1_432.0), 0.01),
    0,
    "nothing waits, 12/s arrive, one processor can commit 1,400/s"
)]
#[case::more(
    1,
    measured(100_000, 40.0, 100.0, Some(100.0), 1.0),
    0,
    "100,000 messages wait, 40/s arrive, one processor can commit 100/s: 2 for now, 18 are needed to catch up within 60 s"
)]
#[case::enough(
    4,
    measured(30_000, 40.0, 400.0, Some(100.0), 1.0),
    0,
    "30,000 messages wait, 40/s arrive, one processor can commit 100/s: 6 catch up within 60 s"
)]
#[case::most(
    8,
    measured(100_000, 40.0, 800.0, Some(100.0), 1.0),
    0,
    "100,000 messages wait, 40/s arrive, one processor can commit 100/s: 18 are needed to catch up within 60 s, 8 is the most (replicas.max)"
)]
#[case::less(
    4,
    measured(1, 0.5, 0.5, Some(100.0), 0.0),
    300,
    "1 message waits, 0.5/s arrive, one processor can commit 100/s: 1 would do, and have for 300 s; one at a time is taken away"
)]
fn the_sentence_has_the_numbers(
    #[case] current: u16,
    #[case] measured: Measured,
    #[case] lower_for: u64,
    #[case] expected: &str,
) {
    let limits = limits();
    assert_eq!(
        decide(&facts(&limits, current, &measured), calm(lower_for)).message,
        expected
    );
}

#[test]
fn a_dry_run_says_what_would_be_done() {
    let limits = Limits {
        dry_run: true,
        ..limits()
    };
    let measured = measured(6_000, 40.0, 100.0, Some(100.0), 1.0);
    let decision = decide(&facts(&limits, 1, &measured), RESTLESS);
    assert_eq!(decision.wanted, 2);
    assert!(
        decision
            .message
            .starts_with("dry run, from 1 to 2: 6,000 messages wait"),
        "{}",
        decision.message
    );
}

#[rstest]
#[case::three_do(3, Some(100))]
#[case::one_does_not(1, None)]
fn in_what_time_it_is_worked_off(#[case] replicas: u16, #[case] expected: Option<u64>) {
    let measured = measured(10_000, 200.0, 100.0, Some(100.0), 1.0);
    let time = catch_up(&measured, replicas);
    assert_eq!(time.map(|time| time.as_secs()), expected);
}

#[rstest]
#[case(0.0, 0.0)]
#[case(0.01, 0.0)]
#[case(0.123, 0.12)]
#[case(0.97, 0.97)]
#[case(1.26, 1.3)]
#[case(99.6, 100.0)]
#[case(1_432.0, 1_400.0)]
fn rates_have_two_digits(#[case] number: f64, #[case] expected: f64) {
    assert!((rounded(number) - expected).abs() < 1e-9, "{}", rounded(number));
}
