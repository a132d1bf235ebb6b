//! What is said while the number of partitions changes.

use pretty_assertions::assert_eq;

use super::*;

fn changing() -> (ValidatedFeed, Generations) {
    let mut value = example();
    value["spec"]["processing"]["partitions"] = json!(8);
    value["status"]["queues"] =
        json!([{"generation": 1, "partitions": 2}, {"generation": 2, "partitions": 8}]);
    let feed = validated(value);
    let generations = feed.generations.clone().unwrap();
    (feed, generations)
}

#[test]
fn a_change_of_the_partitions_is_reconciling_with_numbers_and_ready_all_the_same() {
    let (mut feed, _) = changing();
    let mut all = applied();
    let mut at_messages = |messages: Option<i64>, producer: Option<u32>| {
        all.broker.found =
            messages.map(|messages| BTreeMap::from([(1, of_queues(2, messages)), (2, of_queues(8, 5))]));
        feed.producer = Rollout {
            generations: producer.into_iter().collect(),
            settled: true,
            ..Rollout::default()
        };
        let status = status_of_feed(&feed, &all, &answering(), None, at(0));
        assert_eq!(
            truth(&status, ConditionType::Ready),
            word(("True", reason::READY))
        );
        assert_eq!(
            truth(&status, ConditionType::Reconciling),
            word(("True", reason::REPARTITIONING))
        );
        assert_eq!(
            (status.queue_generation, status.partitions, status.queues.len()),
            (Some(2), Some(8), 2)
        );
        find(&status, ConditionType::Reconciling).unwrap().message.clone()
    };
    assert_eq!(
        at_messages(Some(1_432), Some(2)),
        "from 2 to 8 partitions: generation 1 has 1,432 messages left"
    );
    assert_eq!(
        at_messages(Some(0), Some(1)),
        "from 2 to 8 partitions: generation 1 is empty; the producer has still to move to generation 2"
    );
    assert_eq!(
        at_messages(Some(0), Some(2)),
        "from 2 to 8 partitions: generation 1 is empty, and it is made sure that it stays so"
    );
    assert_eq!(
        at_messages(None, Some(2)),
        "from 2 to 8 partitions: generation 1 is being counted"
    );
}

#[test]
fn how_many_messages_an_old_generation_has_left_is_a_quick_figure() {
    let (feed, _) = changing();
    let mut all = applied();
    let first = status_of_feed(&feed, &all, &answering(), None, at(0));
    all.broker.found = Some(BTreeMap::from([(1, of_queues(2, 99))]));
    let second = status_of_feed(&feed, &all, &answering(), Some(&first), at(3));
    assert!(second != first && same_but_figures(&first, &second));
}

#[test]
fn the_next_list_of_queues_is_said_before_anything_is_published_to_it() {
    let mut value = example();
    value["spec"]["processing"]["partitions"] = json!(8);
    let feed = validated(value);
    let (_, next) = changing();
    let judged = answering().into();
    let status = status_of(&feed, &applied(), Some(&next), &judged, &lifecycle(), None, at(0));
    assert_eq!(status.queues.len(), 2);
    assert_eq!((status.queue_generation, status.partitions), (Some(1), Some(2)));
}
