use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{
    super::tests::{Said, answer},
    *,
};
use crate::{
    status::{self, tests::deployment},
    validate::tests::{example, validated},
};

const CLAIMED: &str = "2026-11-20T21:00:00Z";

/// A feed of two partitions whose processors may be one or two.
fn feed(replicas: Value, scaling: Option<&Scaling>) -> ValidatedFeed {
    let mut value = example();
    value["spec"]["processing"]["replicas"] = replicas;
    value["status"]["scaling"] = json!(scaling);
    let mut feed = validated(value);
    feed.processor.settled = true;
    feed
}

fn autoscaled() -> Value {
    json!({"min": 1, "max": 2, "scaleDownStabilizationSeconds": 30})
}

fn applied(replicas: u16) -> Resources<Applied> {
    Resources {
        processor: deployment(replicas.into(), replicas.into()),
        ..status::tests::applied()
    }
}

/// Reconciliations of one feed, one after another.
struct Story {
    start: Instant,
    replicas: Value,
    history: History,
    status: Option<Scaling>,
}

impl Story {
    fn new(replicas: Value) -> Self {
        Self {
            start: Instant::now(),
            replicas,
            history: History::default(),
            status: None,
        }
    }

    /// So many messages wait in the first queue, and each pod says this.
    fn look(&mut self, second: u64, messages: u64, pods: &[(&str, &[Said])]) -> Scaled {
        let feed = feed(self.replicas.clone(), self.status.as_ref());
        let resources = applied(feed.replicas);
        let counts = |messages| Counts {
            messages,
            published: Some(messages),
            consumer: None,
        };
        let time = Timestamp::from_second(1_780_000_000).unwrap() + Duration::from_secs(second);
        let seen = Seen {
            queues: Some(BTreeMap::from([(0, counts(messages)), (1, counts(0))])),
            answers: pods
                .iter()
                .map(|(pod, said)| ((*pod).to_owned(), Some(answer(pod, said))))
                .collect(),
            now: self.start + Duration::from_secs(second),
            time,
        };
        let about = About {
            previous: self.status.as_ref(),
            feed: &feed,
            resources: &resources,
            time,
        };
        let scaled = judge(&mut self.history, &about, seen);
        self.status = Some(scaled.status.clone());
        scaled
    }

    fn said(&self) -> (i32, &str) {
        let status = self.status.as_ref().unwrap();
        (status.wanted, status.reason.as_str())
    }
}

#[test]
fn a_burst_is_followed_by_one_more_and_later_by_one_less() {
    let mut story = Story::new(autoscaled());
    let a = |messages, idle, busy| -> [Said; 1] { [(0, CLAIMED, messages, idle, busy)] };
    let begun = story.look(0, 0, &[("a", &a(0, 0.0, 0.0))]);
    assert_eq!(story.said(), (1, "Measuring"));
    assert_eq!((begun.from, begun.again), (None, Some(PERIOD)));
    let burst = story.look(10, 20_000, &[("a", &a(1_000, 0.0, 10.0))]);
    assert_eq!(story.said(), (2, "CatchingUp"));
    assert_eq!((burst.from, burst.again), (Some(1), Some(AT_ONCE)));
    assert_eq!(burst.status.backlog, Some(20_000));
    assert_eq!(burst.status.per_replica_per_second, Some(100.0));
    // At once after that nothing is known that was not before.
    let soon = story.look(11, 20_000, &[("a", &a(1_100, 0.0, 11.0))]);
    assert_eq!(story.said(), (2, "CatchingUp"));
    assert_eq!(soon.status.decided_at, burst.status.decided_at);
    assert_eq!((soon.from, soon.status.replicas), (None, 2));

    let b: &[Said] = &[];
    for second in [20, 30, 40, 50] {
        story.look(
            second,
            0,
            &[
                ("a", &a(21_000, f64::from(u32::try_from(second).unwrap()), 20.0)),
                ("b", b),
            ],
        );
    }
    assert_eq!(story.said(), (2, "Stabilizing"));
    let less = story.look(60, 0, &[("a", &a(21_000, 60.0, 20.0)), ("b", b)]);
    assert_eq!(story.said(), (1, "LessWork"));
    assert_eq!(less.from, Some(2));
    assert_ne!(less.status.decided_at, burst.status.decided_at);
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut replicas = autoscaled();
    replicas["dryRun"] = json!(true);
    let mut story = Story::new(replicas);
    story.look(0, 0, &[("a", &[(0, CLAIMED, 0, 0.0, 0.0)])]);
    let burst = story.look(10, 20_000, &[("a", &[(0, CLAIMED, 1_000, 0.0, 10.0)])]);
    assert_eq!(story.said(), (2, "CatchingUp"));
    assert_eq!(burst.from, None);
    let next = story.look(20, 20_000, &[("a", &[(0, CLAIMED, 2_000, 0.0, 20.0)])]);
    assert_eq!((next.status.replicas, next.status.wanted), (1, 2));
    assert!(next.status.dry_run && next.status.message.starts_with("dry run, from 1 to 2"));
}

#[test]
fn the_same_look_says_the_same() {
    let mut story = Story::new(autoscaled());
    let rests: &[Said] = &[];
    story.look(0, 0, &[("a", rests)]);
    let first = story.look(10, 0, &[("a", rests)]);
    let second = story.look(20, 0, &[("a", rests)]);
    assert_eq!(first.status, second.status);
    assert_eq!(second.again, None, "nothing is to be seen soon");
}

#[test]
fn a_fixed_number_stays_and_a_stalled_consumer_is_restarted() {
    let mut story = Story::new(json!({"min": 1}));
    let fixed = story.look(0, 5, &[]);
    assert_eq!(story.said(), (1, "Fixed"));
    assert_eq!((fixed.again, fixed.status.backlog), (None, None));
    assert_eq!(
        fixed.status.selector,
        "app.kubernetes.io/component=processor,app.kubernetes.io/instance=tech,app.kubernetes.io/name=stockfeed"
    );
    let mut restarts = Vec::new();
    for second in (30..=180).step_by(30) {
        let idle = f64::from(u32::try_from(second).unwrap());
        let scaled = story.look(second, 5, &[("a", &[(0, CLAIMED, 7, idle, 0.0)])]);
        assert_eq!(
            scaled.again,
            (second > 30).then_some(PERIOD),
            "the first look is no suspicion"
        );
        restarts.extend(scaled.restart.map(|stall| (second, stall.pod)));
    }
    // Three looks without work after the first one; the next restart has to wait.
    assert_eq!(restarts, [(120, "a".to_owned())]);
    assert_eq!(story.said(), (1, "ConsumerStalled"));
}
