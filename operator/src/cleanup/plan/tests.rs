use pretty_assertions::assert_eq;
use rstest::rstest;

use super::*;
use crate::broker::Publishing;

fn name() -> FeedName {
    FeedName::new("markets", "tech").unwrap()
}

fn topology() -> Topology {
    Topology::new(&name(), None, Publishing::default(), String::new().into())
}

fn found(queues: &[(String, Option<i64>)]) -> BTreeMap<String, Queue> {
    let queue = |(name, messages): &(String, Option<i64>)| {
        let queue = serde_json::from_value(serde_json::json!({
            "name": name, "durable": true, "messages_ready": messages, "messages_unacknowledged": 0,
        }));
        (name.clone(), queue.unwrap())
    };
    queues.iter().map(queue).collect()
}

/// Two generations, the first of two queues; and dead letters.
fn queues(first: Option<i64>, second: Option<i64>, dead: Option<i64>) -> Queues {
    let name = name();
    let found = found(&[
        (name.queue(1, 0), first),
        (name.queue(1, 1), Some(0)),
        (name.queue(2, 0), second),
        (name.dead_letter_queue(), dead),
    ]);
    Queues::new(&found, &topology())
}

#[test]
fn a_generation_that_holds_messages_is_kept_whole() {
    let name = name();
    let found = found(&[
        (name.queue(1, 0), Some(0)),
        (name.queue(1, 1), Some(0)),
        (name.queue(2, 0), Some(3)),
        (name.queue(2, 1), Some(0)),
        (name.queue(3, 0), Some(0)),
        (name.queue(3, 1), None),
        (name.dead_letter_queue(), Some(0)),
    ]);
    let queues = Queues::new(&found, &topology());
    let kept: Vec<_> = queues.kept(&found, &topology()).into_iter().collect();
    let expected =
        [(2, 0), (2, 1), (3, 0), (3, 1)].map(|(generation, partition)| name.queue(generation, partition));
    assert_eq!(kept, expected);
}

#[test]
fn only_what_processors_consume_is_waited_for() {
    let queues = queues(Some(5), Some(7), Some(3));
    assert_eq!(queues.consumed(Some(1)), Some(5));
    assert_eq!(queues.consumed(None), Some(12));
    let uncounted = self::queues(None, Some(7), Some(0));
    assert_eq!(uncounted.consumed(Some(1)), None);
}

const ANSWERS: Server = Server::Answers;
const DONE: Server = Server::Done;

fn gone(until: Option<i64>) -> Server {
    Server::Lost {
        why: "no route".to_owned(),
        until: until.map(|second| Timestamp::from_second(second).unwrap()),
    }
}

/// The plan as lines of what, name, action.
fn lines(
    retain: bool,
    stage: Stage,
    queues: Option<&Queues>,
    broker: &Server,
    database: &Server,
) -> Vec<String> {
    let name = name();
    let plan = plan(&Facts {
        name: &name,
        retain,
        stage,
        queues,
        broker,
        database,
    });
    plan.into_iter()
        .filter(|entry| entry.what != "Objects")
        .map(|entry| {
            format!(
                "{} {:?}",
                entry.name.trim_start_matches("markets.tech."),
                entry.action
            )
        })
        .collect()
}

#[rstest]
#[case::retain_begins(true, Stage::Producer, ANSWERS, ANSWERS, &["tech-producer Remove", "tech-processor Waiting", "ticks Waiting", "ticks.1.* Waiting", "ticks.2.* Remove", "dead Remove", "markets.tech Waiting", "markets_tech Keep", "markets_tech_writer, markets_tech_reader Keep"])]
#[case::retain_drains(true, Stage::Draining, ANSWERS, ANSWERS, &["tech-processor Waiting", "ticks.1.* Waiting", "ticks.2.* Remove", "dead Remove", "markets.tech Waiting", "markets_tech Keep", "markets_tech_writer, markets_tech_reader Keep"])]
#[case::processors_end(true, Stage::Processors, ANSWERS, ANSWERS, &["tech-processor Remove", "ticks.1.* Waiting", "ticks.2.* Remove", "dead Remove", "markets.tech Waiting", "markets_tech Keep", "markets_tech_writer, markets_tech_reader Keep"])]
#[case::retain_is_over(true, Stage::Over, DONE, ANSWERS, &["ticks.1.* Keep", "markets_tech Keep", "markets_tech_writer, markets_tech_reader Keep"])]
#[case::delete_begins(false, Stage::Producer, ANSWERS, ANSWERS, &["tech-producer Remove", "tech-processor Remove", "ticks Waiting", "ticks.1.* Remove", "ticks.2.* Remove", "dead Remove", "markets.tech Waiting", "markets_tech Waiting", "markets_tech_writer, markets_tech_reader Waiting"])]
#[case::delete_waits_for_the_database(false, Stage::Servers, DONE, gone(Some(0)), &["markets_tech Waiting", "markets_tech_writer, markets_tech_reader Waiting"])]
#[case::delete_gives_the_database_up(false, Stage::Over, DONE, gone(None), &["markets_tech Orphan", "markets_tech_writer, markets_tech_reader Orphan"])]
#[case::delete_is_over(false, Stage::Over, DONE, DONE, &[])]
#[case::the_broker_is_away(true, Stage::Servers, gone(Some(0)), ANSWERS, &["ticks Waiting", "ticks.* Waiting", "dead Waiting", "markets.tech Waiting", "markets_tech Keep", "markets_tech_writer, markets_tech_reader Keep"])]
#[case::the_broker_is_given_up(true, Stage::Over, gone(None), ANSWERS, &["ticks Orphan", "ticks.* Orphan", "dead Orphan", "markets.tech Orphan", "markets_tech Keep", "markets_tech_writer, markets_tech_reader Keep"])]
fn what_goes_and_what_stays(
    #[case] retain: bool,
    #[case] stage: Stage,
    #[case] broker: Server,
    #[case] database: Server,
    #[case] expected: &[&str],
) {
    let queues = queues(Some(1_432), Some(0), Some(0));
    assert_eq!(lines(retain, stage, Some(&queues), &broker, &database), expected);
}

#[test]
fn what_was_not_counted_is_waited_for() {
    let lines = lines(true, Stage::Producer, None, &ANSWERS, &ANSWERS);
    assert!(lines.contains(&"ticks.* Waiting".to_owned()), "{lines:?}");
}

#[rstest]
#[case::kept(
    true,
    Stage::Over,
    DONE,
    Some(1_432),
    "holds 1,432 messages, deletionPolicy Retain: a StockFeed of the same name takes them up"
)]
#[case::one(
    true,
    Stage::Over,
    DONE,
    Some(1),
    "holds 1 message, deletionPolicy Retain: a StockFeed of the same name takes them up"
)]
#[case::not_counted(
    true,
    Stage::Over,
    DONE,
    None,
    "not counted yet, deletionPolicy Retain: a StockFeed of the same name takes them up"
)]
#[case::on_its_way(
    true,
    Stage::Draining,
    ANSWERS,
    Some(1_432),
    "holds 1,432 messages; what is left when the processors have ended is kept"
)]
#[case::dropped(
    false,
    Stage::Servers,
    ANSWERS,
    Some(1_432),
    "holds 1,432 messages, deletionPolicy Delete"
)]
#[case::empty(true, Stage::Draining, ANSWERS, Some(0), "empty")]
#[case::away(
    true,
    Stage::Servers,
    gone(Some(1_780_000_000)),
    Some(1),
    "waiting for the broker until 2026-05-28T20:26:40Z, then it is left behind: no route"
)]
fn why(
    #[case] retain: bool,
    #[case] stage: Stage,
    #[case] broker: Server,
    #[case] messages: Option<i64>,
    #[case] expected: &str,
) {
    let (name, queues) = (name(), queues(messages, Some(0), Some(0)));
    let plan = plan(&Facts {
        name: &name,
        retain,
        stage,
        queues: Some(&queues),
        broker: &broker,
        database: &ANSWERS,
    });
    let of_queues = plan.iter().find(|entry| entry.what == "Queues").unwrap();
    assert_eq!(of_queues.why, expected);
}

#[rstest]
#[case::never_seen(serde_json::json!(null), false, false)]
#[case::a_connection_that_never_was(serde_json::json!({"conditions": []}), false, false)]
#[case::queues_are_known(serde_json::json!({"queues": [{"generation": 1, "partitions": 2}]}), true, false)]
#[case::all(serde_json::json!({"queueGeneration": 1, "schemaVersion": 5}), true, true)]
fn what_a_feed_may_have_outside_the_cluster(
    #[case] status: serde_json::Value,
    #[case] broker: bool,
    #[case] database: bool,
) {
    let status: Option<StockFeedStatus> = serde_json::from_value(status).unwrap();
    assert_eq!(Used::of(status.as_ref()), Used { broker, database });
}

#[test]
fn a_feed_that_never_had_a_broker_has_nothing_to_wait_for_there() {
    let lines = lines(false, Stage::Over, None, &DONE, &DONE);
    assert_eq!(lines, [] as [&str; 0]);
}
