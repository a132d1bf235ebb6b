//! What the broker counts of a partition's queue.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use super::topology::{Observed, Queue, Topology};

/// What the broker counts of a partition's queue. Some seconds old: see [`super::COUNT_LAG`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that wait, and messages that a consumer holds.
    pub messages: u64,
    /// Messages that ever came in, as far as the broker remembers.
    pub published: Option<u64>,
    /// The tag of the consumer that is given the messages.
    pub consumer: Option<String>,
}

/// What the management API counts of a queue. Missing until there was something to count.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct MessageStats {
    /// Messages that ever came in.
    pub publish: Option<u64>,
}

/// Statistics of a queue. Where there are none of those that were asked for the broker writes an empty list, as it was seen to do in the first
/// moments of a queue: one such queue must not make the answer about all of them unreadable.
pub(super) fn perhaps_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<MessageStats>, D::Error> {
    Ok(match Option::<Value>::deserialize(deserializer)? {
        Some(object @ Value::Object(_)) => Some(serde_json::from_value(object).map_err(D::Error::custom)?),
        _ => None,
    })
}

impl Observed {
    /// What is counted of each partition's queue, by generation and partition; `None` while one of them was not counted yet.
    #[must_use]
    pub fn counts(&self, topology: &Topology) -> Option<BTreeMap<(u32, u16), Counts>> {
        let of_partitions = self
            .queues
            .values()
            .filter_map(|queue| Some((topology.place(&queue.name)?, queue)));
        of_partitions
            .map(|(place, queue)| Some((place, counts(queue)?)))
            .collect()
    }
}

fn counts(queue: &Queue) -> Option<Counts> {
    let held = queue.messages_ready? + queue.messages_unacknowledged?;
    Some(Counts {
        messages: held.max(0).cast_unsigned(),
        published: queue.message_stats.as_ref().and_then(|stats| stats.publish),
        consumer: queue
            .single_active_consumer_tag
            .clone()
            .filter(|tag| !tag.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use contract::{config::QueueGeneration, names::FeedName};
    use serde_json::json;

    use super::*;
    use crate::{broker::Publishing, generations::Generations};

    fn observed(queues: serde_json::Value) -> (Observed, Topology) {
        let queues: Vec<Queue> = serde_json::from_value(queues).unwrap();
        let observed = Observed {
            queues: queues
                .into_iter()
                .map(|queue| (queue.name.clone(), queue))
                .collect(),
            ..Observed::default()
        };
        let one = Generations::one(QueueGeneration {
            generation: 1,
            partitions: 2,
        });
        let feed = FeedName::new("markets", "tech").unwrap();
        let topology = Topology::new(&feed, Some(&one), Publishing::default(), "x".into());
        (observed, topology)
    }

    #[test]
    fn partitions_are_counted_and_nothing_else() {
        let (observed, topology) = observed(json!([
            {"name": "markets.tech.ticks.1.0", "messages_ready": 3, "messages_unacknowledged": 4, "messages": 9,
             "message_stats": {"publish": 100, "publish_details": {"rate": 0.0}},
             "single_active_consumer_tag": "tech-processor-1 0198"},
            // As the broker tells of a queue to which nothing has happened yet.
            {"name": "markets.tech.ticks.1.1", "messages_ready": 0, "messages_unacknowledged": 0, "message_stats": []},
            {"name": "markets.tech.dead", "messages_ready": 5, "messages_unacknowledged": 0},
        ]));
        let counts = observed.counts(&topology).unwrap();
        let busy = Counts {
            messages: 7,
            published: Some(100),
            consumer: Some("tech-processor-1 0198".to_owned()),
        };
        assert_eq!(
            counts,
            BTreeMap::from([((1, 0), busy), ((1, 1), Counts::default())])
        );
    }

    #[test]
    fn a_queue_that_was_not_counted_makes_it_unknown() {
        let (observed, topology) = observed(json!([
            {"name": "markets.tech.ticks.1.0", "messages_ready": 3, "messages_unacknowledged": 4},
            {"name": "markets.tech.ticks.1.1"},
        ]));
        assert_eq!(observed.counts(&topology), None);
    }
}
