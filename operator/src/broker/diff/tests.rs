use contract::{config::QueueGeneration, names::FeedName};
use rstest::rstest;
use serde_json::json;

use super::{
    super::topology::{Binding, Exchange, Queue, User},
    *,
};

fn wanted() -> Topology {
    let feed = FeedName::new("markets", "tech").unwrap();
    let queues = QueueGeneration {
        generation: 1,
        partitions: 2,
    };
    Topology::new(&feed, queues, "secret".into())
}

/// A broker where everything is as wanted.
fn perfect() -> Observed {
    let wanted = wanted();
    let queue = |queue: &QueueSpec| Queue {
        name: queue.name.clone(),
        durable: true,
        arguments: queue.arguments.clone(),
        messages_ready: Some(3),
        messages_unacknowledged: Some(4),
    };
    let binding = |queue: &QueueSpec| {
        queue.binding.as_ref().map(|key| Binding {
            destination: queue.name.clone(),
            destination_type: "queue".to_owned(),
            routing_key: key.clone(),
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
            "the binding 0.# of queue markets.tech.ticks.1.0 was missing",
            "the binding 1.# of queue markets.tech.ticks.1.1 was missing",
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
#[case::binding(|broker: &mut Observed| drop(broker.bindings.pop()), "the binding 1.# of queue")]
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
        summary.contains("1 queues of an earlier feed of this name hold 7 messages"),
        "{summary}"
    );
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
