use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;

fn list(pairs: &[(u32, u16)]) -> Option<Generations> {
    Generations::new(pairs.iter().map(|(generation, partitions)| QueueGeneration {
        generation: *generation,
        partitions: *partitions,
    }))
}

fn pairs(generations: &Generations) -> Vec<(u32, u16)> {
    generations
        .all()
        .map(|one| (one.generation, one.partitions))
        .collect()
}

/// Generations in the broker, each as (generation, partitions, messages).
fn broker(queues: &[(u32, u16, Option<i64>)]) -> BTreeMap<u32, Found> {
    let found = |(generation, partitions, messages): &(u32, u16, Option<i64>)| {
        let found = Found {
            partitions: *partitions,
            messages: *messages,
            ..Found::default()
        };
        (*generation, found)
    };
    queues.iter().map(found).collect()
}

fn on(generation: u32) -> Rollout {
    Rollout {
        generations: [generation].into(),
        settled: true,
        ..Rollout::default()
    }
}

type Queues = &'static [(u32, u16, Option<i64>)];
type List = &'static [(u32, u16)];

#[rstest]
#[case::the_newest(&[(1, false)], &[(1, 4)])]
#[case::the_newest_differs(&[(1, true)], &[(1, 4), (2, 4)])]
#[case::it_is_drained_already(&[(1, true), (2, false)], &[(1, 4), (2, 4)])]
#[case::both_differ(&[(1, true), (2, true)], &[(1, 4), (2, 4), (3, 4)])]
fn queues_that_somebody_made_otherwise_are_drained_and_left(
    #[case] queues: &[(u32, bool)],
    #[case] expected: List,
) {
    let found = queues.iter().map(|(generation, differs)| {
        let found = Found {
            partitions: 4,
            messages: Some(7),
            differs: *differs,
            ..Found::default()
        };
        (*generation, found)
    });
    let found: BTreeMap<_, _> = found.collect();
    let listed: Vec<_> = found.keys().map(|generation| (*generation, 4)).collect();
    let (producer, processors) = (on(1), on(1));
    let decision = decide(Facts {
        wanted: 4,
        listed: list(&listed).as_ref(),
        found: &found,
        drained: &BTreeSet::new(),
        producer: &producer,
        processors: &processors,
    });
    assert_eq!(pairs(&decision.generations), expected);
}

#[rstest]
#[case::a_new_feed(4, &[], &[], &[], &[(1, 4)])]
#[case::at_rest(4, &[(1, 4)], &[(1, 4, Some(7))], &[], &[(1, 4)])]
#[case::at_rest_and_empty(4, &[(1, 4)], &[(1, 4, Some(0))], &[1], &[(1, 4)])]
#[case::more(8, &[(1, 4)], &[(1, 4, Some(7))], &[], &[(1, 4), (2, 8)])]
#[case::fewer(2, &[(1, 4)], &[(1, 4, Some(7))], &[], &[(1, 4), (2, 2)])]
#[case::more_of_an_empty_one(8, &[(1, 4)], &[(1, 4, Some(0))], &[1], &[(1, 4), (2, 8)])]
#[case::draining(8, &[(1, 4), (2, 8)], &[(1, 4, Some(7)), (2, 8, Some(9))], &[], &[(1, 4), (2, 8)])]
#[case::drained(8, &[(1, 4), (2, 8)], &[(1, 4, Some(0)), (2, 8, Some(9))], &[1], &[(2, 8)])]
#[case::empty_and_not_sure_to_stay_so(8, &[(1, 4), (2, 8)], &[(1, 4, Some(0)), (2, 8, Some(9))], &[], &[(1, 4), (2, 8)])]
#[case::a_change_during_a_change(2, &[(1, 4), (2, 8)], &[(1, 4, Some(7)), (2, 8, Some(9))], &[], &[(1, 4), (2, 8), (3, 2)])]
#[case::back_again(4, &[(1, 4), (2, 8)], &[(1, 4, Some(7)), (2, 8, Some(0))], &[], &[(1, 4), (2, 8), (3, 4)])]
#[case::the_middle_waits_for_the_oldest(2, &[(1, 4), (2, 8), (3, 2)], &[(1, 4, Some(7)), (2, 8, Some(0)), (3, 2, Some(0))], &[2], &[(1, 4), (2, 8), (3, 2)])]
#[case::two_drained_at_once(2, &[(1, 4), (2, 8), (3, 2)], &[(1, 4, Some(0)), (2, 8, Some(0)), (3, 2, Some(0))], &[1, 2, 3], &[(3, 2)])]
#[case::drained_and_changed(2, &[(1, 4), (2, 8)], &[(1, 4, Some(0)), (2, 8, Some(1))], &[1], &[(2, 8), (3, 2)])]
#[case::not_made_yet(8, &[(1, 4), (2, 8)], &[(1, 4, Some(7))], &[], &[(1, 4), (2, 8)])]
#[case::queues_that_somebody_removed(4, &[(1, 4)], &[], &[], &[(1, 4)])]
#[case::a_lost_status(4, &[], &[(3, 4, Some(7))], &[], &[(3, 4)])]
#[case::a_lost_status_while_draining(8, &[], &[(1, 4, Some(7)), (2, 8, Some(9))], &[], &[(1, 4), (2, 8)])]
#[case::a_lost_status_not_counted(8, &[], &[(1, 4, None), (2, 8, None)], &[], &[(1, 4), (2, 8)])]
#[case::recreated_with_others(2, &[], &[(1, 4, Some(7))], &[], &[(1, 4), (2, 2)])]
#[case::half_made_when_the_status_was_lost(8, &[], &[(1, 4, Some(7)), (2, 3, Some(0))], &[], &[(1, 4), (2, 3), (3, 8)])]
#[case::an_old_status(8, &[(1, 4)], &[(1, 4, Some(7)), (2, 8, Some(0))], &[], &[(1, 4), (2, 8)])]
#[case::on_its_way_out(8, &[(2, 8)], &[(1, 4, Some(0)), (2, 8, Some(9))], &[1], &[(2, 8)])]
#[case::on_its_way_out_not_counted(8, &[(2, 8)], &[(1, 4, None), (2, 8, Some(9))], &[], &[(2, 8)])]
#[case::messages_came_in_all_the_same(8, &[(2, 8)], &[(1, 4, Some(3)), (2, 8, Some(9))], &[], &[(1, 4), (2, 8)])]
fn the_next_list(
    #[case] wanted: u16,
    #[case] listed: List,
    #[case] found: Queues,
    #[case] drained: &[u32],
    #[case] expected: List,
) {
    let decision = decide(Facts {
        wanted,
        listed: list(listed).as_ref(),
        found: &broker(found),
        drained: &drained.iter().copied().collect(),
        producer: &Rollout::default(),
        processors: &on(9),
    });
    assert_eq!(pairs(&decision.generations), expected);
}

#[rstest]
#[case::everything_is_lost_but_a_pod(&[], &[], 5, &[(6, 4)])]
#[case::an_old_status_and_no_queues(&[(1, 4)], &[], 5, &[(1, 4), (6, 4)])]
#[case::a_lost_status_and_queues(&[], &[(4, 2, Some(1)), (5, 4, Some(1))], 5, &[(4, 2), (5, 4)])]
#[case::at_rest(&[(5, 4)], &[(5, 4, Some(1))], 5, &[(5, 4)])]
fn what_is_published_to_never_goes_back(
    #[case] listed: List,
    #[case] found: Queues,
    #[case] published: u32,
    #[case] expected: List,
) {
    let decision = decide(Facts {
        wanted: 4,
        listed: list(listed).as_ref(),
        found: &broker(found),
        drained: &BTreeSet::new(),
        producer: &on(published),
        processors: &on(published),
    });
    assert_eq!(pairs(&decision.generations), expected);
    let up_to_date = |list: Generations| list.up_to_date(&on(published));
    assert!(
        up_to_date(decision.generations).is_some(),
        "it is believed the next time"
    );
    assert_eq!(list(&[(1, 4)]).and_then(up_to_date), None);
}

#[test]
fn queues_are_removed_when_they_are_drained_and_no_processor_consumes_them() {
    let removable = |drained: &[u32], processors: Rollout| {
        let decision = decide(Facts {
            wanted: 8,
            listed: list(&[(3, 8)]).as_ref(),
            found: &broker(&[(1, 4, Some(0)), (2, 2, None), (3, 8, Some(5))]),
            drained: &drained.iter().copied().collect(),
            producer: &on(3),
            processors: &processors,
        });
        assert!(decision.unfinished);
        decision.removable
    };
    assert_eq!(removable(&[1, 3], on(3)), [1]);
    assert_eq!(removable(&[1, 2], on(2)), [1]);
    assert_eq!(removable(&[], on(3)), [] as [u32; 0]);
    assert_eq!(removable(&[1], on(1)), [] as [u32; 0]);
    let rolling = Rollout {
        settled: false,
        ..on(3)
    };
    assert_eq!(removable(&[1], rolling), [] as [u32; 0]);
}

#[test]
fn a_ninth_generation_waits() {
    let eight: Vec<_> = (1..=8).map(|generation| (generation, 4)).collect();
    let counted: Vec<_> = eight.iter().map(|(one, two)| (*one, *two, Some(1))).collect();
    let decide_with = |drained: &[u32]| {
        decide(Facts {
            wanted: 2,
            listed: list(&eight).as_ref(),
            found: &broker(&counted),
            drained: &drained.iter().copied().collect(),
            producer: &on(8),
            processors: &on(1),
        })
        .generations
    };
    assert_eq!(pairs(&decide_with(&[])), eight);
    let waiting = progress(&decide_with(&[]), 2, Some(&broker(&counted)), &on(8)).unwrap();
    assert_eq!(
        waiting,
        "from 4 to 4 partitions: generation 1 has 1 message left, 7 more generations come after it; 2 partitions come when it is drained"
    );
    assert_eq!(
        decide_with(&[1]).last(),
        QueueGeneration {
            generation: 9,
            partitions: 2
        }
    );
}

#[rstest]
#[case::nothing(json!({}), &[])]
#[case::an_earlier_release(json!({"queueGeneration": 1, "partitions": 4}), &[(1, 4)])]
#[case::not_complete_in_an_earlier_release(json!({"partitions": 4}), &[])]
#[case::several(json!({"queues": [{"generation": 2, "partitions": 4}, {"generation": 3, "partitions": 8}], "queueGeneration": 3, "partitions": 8}), &[(2, 4), (3, 8)])]
#[case::not_in_order(json!({"queues": [{"generation": 3, "partitions": 4}, {"generation": 2, "partitions": 8}]}), &[])]
#[case::twice(json!({"queues": [{"generation": 3, "partitions": 4}, {"generation": 3, "partitions": 8}]}), &[])]
#[case::no_partition(json!({"queues": [{"generation": 3, "partitions": 0}]}), &[])]
#[case::too_many_partitions(json!({"queues": [{"generation": 3, "partitions": 65}]}), &[])]
#[case::no_number(json!({"queues": [{"generation": 0, "partitions": 4}]}), &[])]
#[case::negative(json!({"queues": [{"generation": -1, "partitions": 4}]}), &[])]
fn a_status_is_believed_when_it_can_be(#[case] status: serde_json::Value, #[case] expected: List) {
    let status: StockFeedStatus = serde_json::from_value(status).unwrap();
    let found = Generations::of_status(&status);
    assert_eq!(found.as_ref().map(pairs).unwrap_or_default(), expected);
    if let (Some(found), false) = (&found, status.queues.is_empty()) {
        assert_eq!(found.to_status(), status.queues);
    }
}

#[test]
fn numbers_have_commas() {
    let texts: Vec<_> = [0, 999, 1_000, 1_432, 1_234_567, -1_000].map(grouped).into();
    assert_eq!(texts, ["0", "999", "1,000", "1,432", "1,234,567", "-1,000"]);
}

/// A broker, producer and processors that do as they are told, some time later.
#[derive(Clone, Debug, Default)]
struct World {
    status: Option<Generations>,
    /// Messages by generation, with the partitions.
    queues: BTreeMap<u32, (u16, i64)>,
    /// What the producer publishes to, and what the processors consume.
    producer: u32,
    processors: u32,
    /// Generations whose messages were processed, in order.
    processed: Vec<u32>,
}

/// What happens between two decisions.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Spec(u16),
    Publish(i64),
    Process(i64),
    LoseStatus,
    Reconcile,
}

impl World {
    fn decide(&mut self, wanted: u16) -> Decision {
        let found = self
            .queues
            .iter()
            .map(|(generation, (partitions, messages))| {
                let bound = *generation >= self.producer;
                let found = Found {
                    partitions: *partitions,
                    messages: Some(*messages),
                    bound,
                    ..Found::default()
                };
                (*generation, found)
            })
            .collect();
        // Nothing publishes to it, and it is empty.
        let drained = self
            .queues
            .iter()
            .filter(|(generation, (_, messages))| **generation < self.producer && *messages == 0)
            .map(|(generation, _)| *generation)
            .collect();
        let producer = match self.producer {
            0 => Rollout::default(),
            some => on(some),
        };
        decide(Facts {
            wanted,
            listed: self.status.as_ref(),
            found: &found,
            drained: &drained,
            producer: &producer,
            processors: &on(self.processors),
        })
    }

    /// What was decided before is done; then the next thing is decided and written down.
    fn reconcile(&mut self, wanted: u16) -> Decision {
        if let Some(generations) = &self.status {
            for one in generations.all() {
                self.queues.entry(one.generation).or_insert((one.partitions, 0));
            }
            self.producer = generations.last().generation;
            self.processors = generations.first().generation;
        }
        let decision = self.decide(wanted);
        for generation in &decision.removable {
            let (_, messages) = self.queues.remove(generation).unwrap();
            assert_eq!(messages, 0, "generation {generation} is removed with messages");
        }
        self.status = Some(decision.generations.clone());
        decision
    }

    fn happen(&mut self, happening: Happening, wanted: &mut u16) {
        match happening {
            Happening::Spec(partitions) => *wanted = partitions,
            Happening::Publish(messages) => {
                if let Some((_, held)) = self.queues.get_mut(&self.producer) {
                    *held += messages;
                }
            }
            Happening::Process(messages) => {
                if let Some((_, held)) = self.queues.get_mut(&self.processors) {
                    let taken = messages.min(*held);
                    *held -= taken;
                    if taken > 0 {
                        self.processed.push(self.processors);
                    }
                }
            }
            Happening::LoseStatus => self.status = None,
            Happening::Reconcile => {
                let before = self.status.clone();
                let decision = self.reconcile(*wanted);
                check(self, before.as_ref(), &decision, *wanted);
            }
        }
    }
}

fn check(world: &World, before: Option<&Generations>, decision: &Decision, wanted: u16) {
    let list = pairs(&decision.generations);
    let ascending = list.windows(2).all(|pair| pair[0].0 < pair[1].0);
    assert!(ascending, "{list:?}");
    for (generation, (partitions, messages)) in &world.queues {
        let kept = list.contains(&(*generation, *partitions));
        assert!(
            *messages == 0 || kept,
            "{generation} of {messages} messages is not in {list:?}"
        );
    }
    let last = decision.generations.last();
    assert!(
        last.partitions == wanted || list.len() == MAX_GENERATIONS,
        "{list:?}"
    );
    if let Some(before) = before {
        assert!(
            last.generation >= before.last().generation,
            "what is published to never goes back"
        );
    }
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        1 => (1..=MAX_PARTITIONS).prop_map(Happening::Spec),
        3 => (1_i64..50).prop_map(Happening::Publish),
        3 => (1_i64..100).prop_map(Happening::Process),
        1 => Just(Happening::LoseStatus),
        4 => Just(Happening::Reconcile),
    ]
}

proptest! {
    #[test]
    fn nothing_with_messages_is_dropped_order_is_kept_and_it_comes_to_an_end(
        happenings in proptest::collection::vec(any_happening(), 0..60),
        mut wanted in 1..=MAX_PARTITIONS,
    ) {
        let mut world = World::default();
        for happening in happenings {
            world.happen(happening, &mut wanted);
        }
        let in_order = world.processed.windows(2).all(|pair| pair[0] <= pair[1]);
        prop_assert!(in_order, "{:?}", world.processed);

        // Left alone, with everything processed, one generation is left, and nothing changes any more.
        for _ in 0..4 * MAX_GENERATIONS {
            world.happen(Happening::Process(i64::MAX), &mut wanted);
            world.happen(Happening::Reconcile, &mut wanted);
        }
        let last = world.status.clone().unwrap();
        prop_assert_eq!((last.count(), last.last().partitions), (1, wanted));
        let left: Vec<_> = world.queues.keys().copied().collect();
        prop_assert_eq!(left, [last.last().generation]);
        let decision = world.reconcile(wanted);
        prop_assert!(!decision.unfinished && decision.generations == last);
    }
}
