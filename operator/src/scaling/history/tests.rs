use pretty_assertions::assert_eq;
use rstest::rstest;

use super::{
    super::tests::{Said, look_at},
    *,
};

const CLAIMED: &str = "2026-11-20T21:00:00Z";
const CLAIMED_LATER: &str = "2026-11-20T21:00:20Z";

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// What two looks, ten seconds apart, say.
fn of_two(first: Look, second: Look) -> Measured {
    let mut history = History::default();
    history.observe(first).unwrap();
    history.observe(second).unwrap()
}

#[test]
fn rates_are_differences_of_two_looks() {
    let start = Instant::now();
    let first = look_at(
        start,
        &[(100, Some(1_000)), (100, Some(2_000))],
        &[
            ("a", Some(&[(0, CLAIMED, 900, 50.0, 10.0)])),
            ("b", Some(&[(1, CLAIMED, 1_900, 50.0, 10.0)])),
        ],
    );
    let second = look_at(
        start + seconds(10),
        &[(150, Some(1_300)), (50, Some(2_050))],
        &[
            ("a", Some(&[(0, CLAIMED, 1_150, 55.0, 15.0)])),
            ("b", Some(&[(1, CLAIMED, 2_000, 57.5, 12.5)])),
        ],
    );
    let measured = of_two(first, second);
    assert_eq!(measured.backlog, 200);
    let load = measured.load.unwrap();
    assert_eq!((load.arrival, load.committed), (35.0, 35.0));
    // Half of one and a quarter of the other did it.
    assert_eq!(load.per_replica, Some(35.0 / 0.75));
    assert_eq!(load.busy, 0.375);
}

#[test]
fn partitions_of_one_processor_share_its_time() {
    let start = Instant::now();
    let pod = |messages, busy: f64| -> [Said; 2] {
        [
            (0, CLAIMED, messages, 10.0, busy),
            (1, CLAIMED, 0, 10.0 + busy, 0.0),
        ]
    };
    let (before, after) = (pod(0, 0.0), pod(100, 10.0));
    let first = look_at(start, &[(0, Some(0)), (0, None)], &[("a", Some(&before))]);
    let second = look_at(
        start + seconds(10),
        &[(0, Some(100)), (0, None)],
        &[("a", Some(&after))],
    );
    let load = of_two(first, second).load.unwrap();
    assert_eq!(load.busy, 0.5);
    assert_eq!(load.per_replica, Some(20.0), "10 a second in half of its time");
}

#[rstest]
#[case::goes_on(CLAIMED, 5.0)]
#[case::was_claimed_in_between(CLAIMED_LATER, 15.0)]
fn sums_count_from_the_claim(#[case] claimed: &'static str, #[case] committed: f64) {
    let start = Instant::now();
    let (before, after) = ([(0, CLAIMED, 100, 0.0, 9.0)], [(0, claimed, 150, 0.0, 9.0)]);
    let first = look_at(start, &[(0, Some(0))], &[("a", Some(&before))]);
    let second = look_at(start + seconds(10), &[(0, Some(0))], &[("a", Some(&after))]);
    assert_eq!(of_two(first, second).load.unwrap().committed, committed);
}

#[rstest]
#[case::by_the_brokers_count(Some(1_000), Some(1_500), 50.0)]
#[case::a_queue_that_nothing_came_into(None, Some(500), 60.0)]
// 500 wait more, and 100 were committed.
#[case::the_broker_does_not_count(None, None, 60.0)]
#[case::the_broker_counts_anew(Some(1_000), Some(10), 60.0)]
fn what_arrives(#[case] before: Option<u64>, #[case] after: Option<u64>, #[case] arrival: f64) {
    let start = Instant::now();
    let pod = |messages| [(0, CLAIMED, messages, 0.0, 1.0)];
    let first = look_at(start, &[(0, before)], &[("a", Some(&pod(0)))]);
    let second = look_at(start + seconds(10), &[(500, after)], &[("a", Some(&pod(100)))]);
    assert_eq!(of_two(first, second).load.unwrap().arrival, arrival);
}

#[test]
fn looks_that_are_too_close_say_nothing() {
    let start = Instant::now();
    let mut history = History::default();
    let look = |second| look_at(start + seconds(second), &[(7, None)], &[]);
    assert!(history.observe(look(0)).is_some());
    assert!(history.observe(look(4)).is_none());
    assert!(history.observe(look(5)).is_some());
}

#[test]
fn rates_are_over_half_a_minute() {
    let start = Instant::now();
    let mut history = History::default();
    let mut committed = Vec::new();
    // A poll's worth in the first ten seconds, and nothing after that.
    for (second, messages) in [(0, 0), (10, 300), (20, 300), (30, 300), (40, 300), (50, 300)] {
        let pod = [(0, CLAIMED, messages, 0.0, 1.0)];
        let look = look_at(start + seconds(second), &[(0, Some(0))], &[("a", Some(&pod))]);
        committed.extend(
            history
                .observe(look)
                .unwrap()
                .load
                .map(|load| load.committed.round()),
        );
    }
    assert_eq!(committed, [30.0, 15.0, 10.0, 0.0, 0.0]);
}

#[test]
fn another_processor_begins_a_new_measurement() {
    let start = Instant::now();
    let mut history = History::default();
    let pod = |messages, busy| [(0, CLAIMED, messages, 0.0, busy)];
    let mut observe = |second, pods: &[(&str, Option<&[Said]>)]| {
        history
            .observe(look_at(start + seconds(second), &[(0, Some(0))], pods))
            .unwrap()
            .load
    };
    assert_eq!(observe(0, &[("a", Some(&pod(0, 0.0)))]), None);
    assert!(observe(10, &[("a", Some(&pod(100, 5.0)))]).is_some());
    assert_eq!(
        observe(20, &[("a", Some(&pod(200, 10.0))), ("b", Some(&[]))]),
        None
    );
    assert_eq!(
        observe(30, &[("a", Some(&pod(300, 15.0))), ("b", None)]),
        None,
        "a silent one"
    );
    let load = observe(40, &[("a", Some(&pod(300, 15.0))), ("b", Some(&[]))]).unwrap();
    assert_eq!(load.committed, 5.0);
}

#[test]
fn what_a_processor_can_do_is_remembered_while_it_rests() {
    let start = Instant::now();
    let mut history = History::default();
    let mut last = None;
    for second in 0..10 {
        // At work for the first ten seconds only.
        let (messages, idle, busy) = if second == 0 {
            (0, 0.0, 0.0)
        } else {
            (1_000, 10.0 * (second as f64 - 1.0), 10.0)
        };
        let pod = [(0, CLAIMED, messages, idle, busy)];
        last = history
            .observe(look_at(
                start + seconds(10 * second),
                &[(0, Some(0))],
                &[("a", Some(&pod))],
            ))
            .unwrap()
            .load;
    }
    let load = last.unwrap();
    assert_eq!((load.committed, load.busy), (0.0, 0.0));
    assert_eq!(load.per_replica.map(f64::round), Some(100.0));
}

#[test]
fn calm_is_broken_by_work_and_not_by_what_is_unknown() {
    let start = Instant::now();
    let mut history = History::default();
    let mut lower_for = |lower, second| history.calm(lower, start + seconds(second)).lower_for.as_secs();
    assert_eq!(lower_for(Some(true), 0), 0);
    assert_eq!(lower_for(Some(true), 10), 10);
    assert_eq!(lower_for(None, 20), 20);
    assert_eq!(lower_for(Some(true), 30), 30);
    assert_eq!(lower_for(Some(false), 40), 0);
    assert_eq!(lower_for(None, 50), 0);
    assert_eq!(lower_for(Some(true), 60), 0);
    assert_eq!(lower_for(Some(true), 65), 5);
}

#[test]
fn the_time_since_the_last_change_is_known() {
    let start = Instant::now();
    let mut history = History::default();
    assert_eq!(history.calm(None, start).changed, None);
    history.changed(start);
    assert_eq!(history.calm(None, start + seconds(7)).changed, Some(seconds(7)));
}

#[test]
fn processors_of_a_fixed_number_are_asked_when_messages_go_on_waiting() {
    let mut history = History::default();
    let asked: Vec<bool> = [false, true, true, true, false, true]
        .map(|waiting| history.wait(waiting))
        .into();
    assert_eq!(asked, [false, false, true, true, false, false]);
}
