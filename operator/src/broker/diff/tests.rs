use std::collections::BTreeMap;

use contract::{config::QueueGeneration, names::FeedName};
use rstest::rstest;
use serde_json::json;

use super::{
    super::topology::{Binding, Exchange, Publishing, Queue, User},
    *,
};
use crate::generations::{Found, Generations};

fn wanted() -> Topology {
    topology(&[(1, 2)], 1)
}

/// Generations with their partitions, the first of which that is published to, which is settled.
fn topology(generations: &[(u32, u16)], from: u32) -> Topology {
    let feed = FeedName::new("markets", "tech").unwrap();
    let all = generations
        .iter()
        .map(|(generation, partitions)| QueueGeneration {
            generation: *generation,
            partitions: *partitions,
        });
    let settled = true;
    let publishing = Publishing { from, settled };
    Topology::new(&feed, Generations::new(all).as_ref(), publishing, "secret".into())
}

/// A broker where everything is as wanted.
fn perfect() -> Observed {
    as_wanted(&wanted())
}

fn as_wanted(wanted: &Topology) -> Observed {
    let queue = |queue: &QueueSpec| Queue {
        name: queue.name.clone(),
        durable: true,
        arguments: queue.arguments.clone(),
        messages_ready: Some(3),
        messages_unacknowledged: Some(4),
        consumers: Some(1),
        messages: None,
        message_stats: None,
        single_active_consumer_tag: None,
    };
    let binding = |queue: &QueueSpec| {
        queue.binding.as_ref().map(|key| Binding {
            destination: queue.name.clone(),
            destination_type: "queue".to_owned(),
            routing_key: key.clone(),
            properties_key: key.replace('#', "%23"),
        })
    };
    Observed {
        exchange: Some(Exchange {
            kind: "topic".to_owned(),
            durable: true,
        }),
        queues: wanted
            .queues()
            .map(|spec| (spec.name.clone(), queue(spec)))
            .collect(),
        bindings: wanted.queues().filter_map(binding).collect(),
        user: Some(User {
            password_hash: password::hash(&wanted.password),
            hashing_algorithm: password::ALGORITHM.to_owned(),
        }),
        permissions: Some(wanted.permissions()),
    }
}

fn words(plan: &Plan) -> Vec<String> {
    let actions = plan.actions.iter().map(|action| action.describe().1);
    let conflicts = plan.conflicts.iter().map(ToString::to_string);
    actions.chain(conflicts).collect()
}

#[test]
fn nothing_is_written_when_all_is_as_wanted() {
    assert_eq!(diff(&wanted(), &perfect()), Plan::default());
}

#[test]
fn an_empty_broker_gets_everything_with_the_dead_letters_before_what_names_them() {
    let plan = diff(&wanted(), &Observed::default());
    assert_eq!(
        words(&plan),
        [
            "the exchange was missing",
            "queue markets.tech.dead was missing",
            "queue markets.tech.ticks.1.0 was missing",
            "queue markets.tech.ticks.1.1 was missing",
            "the binding 1-0.# of queue markets.tech.ticks.1.0 was missing",
            "the binding 1-1.# of queue markets.tech.ticks.1.1 was missing",
            "the user was missing or had another password",
            "the user's permissions were missing or different",
        ]
    );
}

type Change = fn(&mut Observed);

#[rstest]
#[case::exchange(|broker: &mut Observed| broker.exchange = None, "the exchange was missing")]
#[case::exchange_type(|broker: &mut Observed| broker.exchange.as_mut().unwrap().kind = "direct".into(), "not a durable topic exchange")]
#[case::exchange_transient(|broker: &mut Observed| broker.exchange.as_mut().unwrap().durable = false, "not a durable topic exchange")]
#[case::queue(|broker: &mut Observed| drop(broker.queues.remove("markets.tech.ticks.1.1")), "queue markets.tech.ticks.1.1 was missing")]
#[case::dead_letters(|broker: &mut Observed| drop(broker.queues.remove("markets.tech.dead")), "queue markets.tech.dead was missing")]
#[case::argument(|broker: &mut Observed| drop(argument(broker).insert("x-delivery-limit".into(), json!(5))), "ticks.1.0 exists with another x-delivery-limit")]
#[case::extra_argument(|broker: &mut Observed| drop(argument(broker).insert("x-max-length".into(), json!(5))), "ticks.1.0 exists with another x-max-length")]
#[case::missing_argument(|broker: &mut Observed| drop(argument(broker).remove("x-single-active-consumer")), "another x-single-active-consumer")]
#[case::binding(|broker: &mut Observed| drop(broker.bindings.pop()), "the binding 1-1.# of queue")]
#[case::binding_of_another_key(|broker: &mut Observed| broker.bindings[0].routing_key = "1-0.AAPL".into(), "the binding 1-0.# of queue")]
#[case::user(|broker: &mut Observed| broker.user = None, "the user was missing")]
#[case::password(|broker: &mut Observed| broker.user.as_mut().unwrap().password_hash = password::hash(&"other".into()), "another password")]
#[case::permissions(|broker: &mut Observed| broker.permissions.as_mut().unwrap().write = ".*".into(), "permissions")]
fn one_difference_is_one_write_or_one_conflict(#[case] change: Change, #[case] expected: &str) {
    let mut broker = perfect();
    change(&mut broker);
    let words = words(&diff(&wanted(), &broker));
    assert!(words.len() == 1 && words[0].contains(expected), "{words:?}");
}

fn argument(broker: &mut Observed) -> &mut serde_json::Map<String, serde_json::Value> {
    &mut broker.queues.get_mut("markets.tech.ticks.1.0").unwrap().arguments
}

#[test]
fn a_conflict_names_its_queue_and_reason() {
    let mut broker = perfect();
    argument(&mut broker).remove("x-queue-type");
    let plan = diff(&wanted(), &broker);
    assert_eq!(plan.conflicts[0].reason(), reason::QUEUE_ARGUMENTS_DIFFER);
    assert!(plan.conflicts[0].to_string().contains("markets.tech.ticks.1.0"));
}

#[test]
fn an_older_queue_with_other_arguments_is_drained_as_it_is() {
    let wanted = topology(&[(1, 2), (2, 2)], 1);
    let mut broker = as_wanted(&wanted);
    argument(&mut broker).remove("x-queue-type");
    assert_eq!(diff(&wanted, &broker), Plan::default());
    assert!(broker.generations(&wanted)[&1].differs && !broker.generations(&wanted)[&2].differs);
}

#[test]
fn dead_letters_with_other_arguments_have_their_own_reason() {
    let mut broker = perfect();
    let dead = broker.queues.get_mut("markets.tech.dead").unwrap();
    dead.arguments.remove("x-queue-type");
    let plan = diff(&wanted(), &broker);
    assert_eq!(plan.conflicts[0].reason(), reason::DEAD_LETTER_QUEUE_DIFFERS);
}

#[test]
fn the_backlog_counts_what_consumers_hold_and_not_the_dead_letters() {
    let mut broker = perfect();
    assert_eq!(broker.backlog(&wanted()), Some(14));
    let queue = broker.queues.get_mut("markets.tech.ticks.1.0").unwrap();
    queue.messages_ready = None;
    assert_eq!(broker.backlog(&wanted()), None);
}

#[test]
fn queues_of_an_earlier_feed_are_mentioned() {
    let mut broker = perfect();
    let mut stray = broker.queues["markets.tech.ticks.1.0"].clone();
    stray.name = "markets.tech.ticks.1.7".to_owned();
    broker.queues.insert(stray.name.clone(), stray);
    let summary = wanted().summary(&broker);
    assert!(
        summary.contains("1 queues of earlier generations hold 7 messages"),
        "{summary}"
    );
}

#[test]
fn another_generation_is_made_beside_the_first_and_is_no_repair() {
    let two = topology(&[(1, 2), (2, 1)], 1);
    let plan = diff(&two, &perfect());
    assert_eq!(
        words(&plan),
        [
            "queue markets.tech.ticks.2.0 was missing",
            "the binding 2-0.# of queue markets.tech.ticks.2.0 was missing",
        ]
    );
    let repairs = |made| {
        plan.actions
            .iter()
            .filter(|action| action.is_repair(&two, made))
            .count()
    };
    assert_eq!((repairs(1), repairs(2)), (0, 2));
}

#[test]
fn a_generation_that_nothing_publishes_to_is_sealed_whether_it_is_listed_or_not() {
    let both = as_wanted(&topology(&[(1, 2), (2, 1)], 1));
    for later in [topology(&[(1, 2), (2, 1)], 2), topology(&[(2, 1)], 2)] {
        let plan = diff(&later, &both);
        let unbound: Vec<_> = plan
            .actions
            .iter()
            .map(|action| match action {
                Action::Unbind {
                    queue,
                    properties_key,
                } => (queue.as_str(), properties_key.as_str()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            unbound,
            [
                ("markets.tech.ticks.1.0", "1-0.%23"),
                ("markets.tech.ticks.1.1", "1-1.%23")
            ]
        );
        assert!(plan.actions.iter().all(|action| !action.is_repair(&later, 9)));
    }
    let sealed = as_wanted(&topology(&[(1, 2), (2, 1)], 2));
    assert_eq!(diff(&topology(&[(1, 2), (2, 1)], 2), &sealed), Plan::default());
}

#[test]
fn bindings_stay_as_they_are_while_it_is_not_sure_who_publishes() {
    let generations: Vec<_> = [(1, 2), (2, 1)].into_iter().collect();
    let mut unsure = topology(&generations, 2);
    unsure.sealed_below = 0;
    for from in [1, 2] {
        assert_eq!(
            diff(&unsure, &as_wanted(&topology(&generations, from))),
            Plan::default()
        );
    }
}

#[test]
fn generations_are_found_by_the_names_of_their_queues() {
    let mut broker = as_wanted(&topology(&[(1, 2), (3, 1)], 3));
    for other in [
        "markets.tech.ticks.01.0",
        "markets.tech.ticks.1.64",
        "markets.tech.ticks.0.0",
        "markets.tech.ticks.x.0",
        "markets.tech.ticks.4294967295.0",
    ] {
        let mut queue = broker.queues["markets.tech.ticks.1.0"].clone();
        queue.name = other.to_owned();
        broker.queues.insert(queue.name.clone(), queue);
    }
    let found = |partitions, messages, bound| Found {
        partitions,
        messages,
        bound,
        consumers: Some(1),
        differs: false,
    };
    let expected = BTreeMap::from([(1, found(2, Some(14), false)), (3, found(1, Some(7), true))]);
    assert_eq!(broker.generations(&wanted()), expected);

    // Of a generation that is being removed the lowest go first; one queue that was not counted leaves all uncounted.
    broker.queues.remove("markets.tech.ticks.1.0");
    assert_eq!(broker.generations(&wanted())[&1], found(2, Some(7), false));
    broker
        .queues
        .get_mut("markets.tech.ticks.1.1")
        .unwrap()
        .messages_ready = None;
    assert_eq!(broker.generations(&wanted())[&1], found(2, None, false));
}

#[test]
fn messages_on_their_way_to_the_dead_letters_count() {
    let mut broker = perfect();
    broker.queues.get_mut("markets.tech.ticks.1.0").unwrap().messages = Some(9);
    assert_eq!(broker.backlog(&wanted()), Some(9 + 7));
}

#[test]
fn the_shape_of_the_topology() {
    let wanted = wanted();
    insta::assert_yaml_snapshot!(
        wanted
            .queues()
            .map(|queue| json!({"name": queue.name, "arguments": queue.arguments, "binding": queue.binding}))
            .collect::<Vec<_>>()
    );
}
