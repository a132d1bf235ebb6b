use pretty_assertions::assert_eq;
use rstest::rstest;

use super::{
    super::tests::{Said, look_at},
    *,
};

const CLAIMED: &str = "2026-11-20T21:00:00Z";
const CLAIMED_LATER: &str = "2026-11-20T21:10:00Z";

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

/// Looks at one partition every 20 seconds, at which pod `a` says this; says at which it was taken for stuck.
fn stuck_at(messages: u64, said: impl Fn(u64) -> Vec<Said>, change: impl Fn(u64, &mut Look)) -> Vec<u64> {
    let start = Instant::now();
    let mut stalls = Stalls::default();
    let mut stuck = Vec::new();
    for second in (0..=120).step_by(20) {
        let mut look = look_at(
            after(start, second),
            &[(messages, None)],
            &[("a", Some(&said(second)))],
        );
        change(second, &mut look);
        if let Some(stall) = stalls.observe(&look).stall {
            assert_eq!(
                (stall.pod.as_str(), stall.partition.as_str(), stall.messages),
                ("a", "1.0", messages)
            );
            assert_eq!(stall.since, Duration::from_secs(second));
            stuck.push(second);
        }
    }
    stuck
}

fn idle(second: u64) -> Vec<Said> {
    vec![(0, CLAIMED, 500, second as f64, 0.0)]
}

fn nothing(_: u64, _: &mut Look) {}

#[test]
fn a_consumer_that_is_idle_while_messages_wait_is_stuck_after_a_minute() {
    assert_eq!(stuck_at(10, idle, nothing), [60, 80, 100, 120]);
}

#[test]
fn nothing_is_stuck_where_nothing_waits() {
    assert!(stuck_at(0, idle, nothing).is_empty());
}

type Says = fn(u64) -> Vec<Said>;

#[rstest]
#[case::commits(|second| vec![(0, CLAIMED, 500 + second, second as f64, 0.0)])]
// Of every twenty seconds three, as one does that waits for the database.
#[case::at_work(|second| vec![(0, CLAIMED, 500, second as f64 * 0.85, second as f64 * 0.15)])]
#[case::claims_it_again_and_again(|second| vec![(0, if second % 40 == 0 { CLAIMED } else { CLAIMED_LATER }, 500, second as f64, 0.0)])]
fn a_consumer_that_works_is_not_stuck(#[case] said: Says) {
    assert!(stuck_at(10, said, nothing).is_empty());
}

type Change = fn(u64, &mut Look);

#[rstest]
#[case::broker_or_database_or_a_rollout(|_: u64, look: &mut Look| look.healthy = false)]
#[case::its_database(|_: u64, look: &mut Look| the_answer(look).database_ok = false)]
#[case::its_broker(|_: u64, look: &mut Look| the_answer(look).broker_connected = false)]
#[case::it_is_silent(|_: u64, look: &mut Look| { look.pods.insert("a".to_owned(), None); })]
#[case::another_pod_is_given_the_messages(|_: u64, look: &mut Look| consumer(look, "gone 0198"))]
fn trouble_elsewhere_is_no_stall(#[case] change: Change) {
    assert!(stuck_at(10, idle, change).is_empty());
}

#[test]
fn trouble_that_is_over_begins_it_anew() {
    let trouble = |second, look: &mut Look| look.healthy = second != 40;
    let start = Instant::now();
    let mut stalls = Stalls::default();
    let mut stuck = Vec::new();
    for second in (0..=140).step_by(20) {
        let mut look = look_at(after(start, second), &[(9, None)], &[("a", Some(&idle(second)))]);
        trouble(second, &mut look);
        stuck.extend(stalls.observe(&look).stall.map(|_| second));
    }
    assert_eq!(stuck, [120, 140]);
}

#[test]
fn one_that_was_never_given_anything_is_stuck_as_well() {
    let named = |_, look: &mut Look| consumer(look, "a 0198");
    assert_eq!(stuck_at(10, |_| Vec::new(), named), [60, 80, 100, 120]);
    // Where the broker names nobody, nobody can be told.
    assert!(stuck_at(10, |_| Vec::new(), nothing).is_empty());
}

#[test]
fn the_one_that_the_broker_names_counts_and_else_the_last_to_claim() {
    let start = Instant::now();
    let earlier: &[Said] = &[(0, CLAIMED, 5, 1.0, 0.0)];
    let later: &[Said] = &[(0, CLAIMED_LATER, 5, 1.0, 0.0)];
    let mut look = look_at(start, &[(1, None)], &[("a", Some(earlier)), ("b", Some(later))]);
    let who = |look: &Look| {
        let counts = look.queues[&0].clone();
        holder(look, "1.0", counts.consumer.as_deref()).map(|(pod, _)| pod.to_owned())
    };
    assert_eq!(who(&look).as_deref(), Some("b"));
    consumer(&mut look, "a 0198");
    assert_eq!(who(&look).as_deref(), Some("a"));
}

#[test]
fn messages_of_a_partition_that_nobody_works_at_are_suspect_from_the_second_look_on() {
    let start = Instant::now();
    let mut stalls = Stalls::default();
    let mut observe = |second: u64| {
        // The first partition rests, the second is worked at.
        let said: [Said; 2] = [
            (0, CLAIMED, 5, second as f64, 0.0),
            (1, CLAIMED, second, 0.0, second as f64),
        ];
        let look = look_at(
            after(start, second),
            &[(10, None), (10, None)],
            &[("a", Some(&said))],
        );
        stalls.observe(&look).suspects
    };
    assert_eq!(observe(0), BTreeSet::new());
    assert_eq!(observe(10), BTreeSet::from([0]));
}

#[test]
fn restarts_come_at_distances_that_double() {
    let start = Instant::now();
    let mut stalls = Stalls::default();
    let seconds = (0..=8_000).step_by(10);
    let restarts: Vec<u64> = seconds
        .filter(|second| stalls.may_restart(after(start, *second)))
        .collect();
    assert_eq!(restarts, [0, 120, 360, 840, 1_800, 3_720, 7_560]);
    let much_later = after(start, 8_000) + FORGIVEN;
    assert!(stalls.may_restart(much_later));
    assert!(!stalls.may_restart(much_later + Duration::from_secs(110)));
    assert!(stalls.may_restart(much_later + Duration::from_secs(120)));
}

fn the_answer(look: &mut Look) -> &mut Answer {
    look.pods.get_mut("a").unwrap().as_mut().unwrap()
}

fn consumer(look: &mut Look, tag: &str) {
    look.queues.get_mut(&0).unwrap().consumer = Some(tag.to_owned());
}
