//! Whether a feed that is to be suspended is at rest, and the proof of it. Pure.
//!
//! The proof is in what the broker counts. A message leaves a queue when it is acknowledged, which is after the batch it is in
//! was committed. So when no producer is left that could publish, and all queues are empty with nothing unacknowledged, then
//! everything that was published is in the database. Counts are some seconds old: two of them have to say so that are newer
//! than the producer's end ([`crate::drain`]).
//!
//! Dead letters count as well: they are in the database when they are in quarantine.

use std::collections::BTreeMap;

use crate::{
    api::status::{ConditionType, StockFeedStatus, reason},
    build::WorkloadState,
    generations::{Found, grouped},
    rollout::Rollout,
    status::{Verdict, find},
};

/// What is known of a feed that is to be suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// No pod of the producer is left, and none can come.
    pub ended: bool,
    /// Messages in all partition queues of all generations, ready and unacknowledged; `None` when unknown.
    pub messages: Option<i64>,
    /// Messages in the dead-letter queue; `None` when unknown.
    pub dead_letters: Option<i64>,
}

impl Facts {
    /// Collects them. `producer` is what was applied, `pods` what was seen before that.
    #[must_use]
    pub fn new(
        producer: &WorkloadState,
        pods: &Rollout,
        found: Option<&BTreeMap<u32, Found>>,
        dead_letters: Option<i64>,
    ) -> Self {
        let messages = found.and_then(|found| found.values().map(|queues| queues.messages).sum());
        Self {
            ended: has_ended(producer, pods),
            messages,
            dead_letters,
        }
    }

    /// Whether everything was counted and there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == Some(0) && self.dead_letters == Some(0)
    }
}

/// Whether no producer is left, and none can come: its Deployment asks for none, was looked at since, and has none. A Deployment's
/// counts leave out pods that are on their way out, and such a pod publishes what is in its spool: pods are looked at
/// themselves.
fn has_ended(producer: &WorkloadState, pods: &Rollout) -> bool {
    let asks_for_none = producer.observed.as_ref().is_none_or(|deployment| {
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let status = deployment.status.clone().unwrap_or_default();
        wanted == Some(0)
            && status.observed_generation >= deployment.metadata.generation
            && status.replicas.unwrap_or(0) == 0
    });
    asks_for_none && pods.settled && pods.pods == 0
}

/// Whether the status says already that this suspension is drained. What was proven stays so while nothing is published: a
/// restart of the operator does not make it begin anew.
#[must_use]
pub fn is_proven(previous: Option<&StockFeedStatus>, generation: i64) -> bool {
    let said = previous.and_then(|status| find(status, ConditionType::Suspended));
    said.is_some_and(|said| {
        said.status == "True"
            && said.reason == reason::DRAINED
            && said.observed_generation == Some(generation)
    })
}

/// What condition Suspended says. `counted_twice` says that two counts after the producer's end found nothing.
#[must_use]
pub fn judge(suspend: bool, facts: Facts, counted_twice: bool) -> Verdict {
    if !suspend {
        return Verdict::no(reason::NOT_SUSPENDED, "");
    }
    if facts.ended && facts.is_empty() && counted_twice {
        return Verdict::yes(
            reason::DRAINED,
            "nothing is polled, every queue is empty with nothing unacknowledged, and so everything that was published is committed",
        );
    }
    let left = left(facts);
    let message = match facts.ended {
        true => left,
        false => format!("the producer has still to end; {left}"),
    };
    Verdict::no(reason::DRAINING, message)
}

/// For people: what is left in the queues.
fn left(facts: Facts) -> String {
    let (Some(messages), Some(letters)) = (facts.messages, facts.dead_letters) else {
        return "the broker has not said yet what is left in the queues".to_owned();
    };
    let some = |count: i64, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{} {many}", grouped(count))),
    };
    let parts: Vec<_> = [
        some(
            messages,
            "message is queued or unacknowledged",
            "messages are queued or unacknowledged",
        ),
        some(
            letters,
            "dead letter is not in quarantine yet",
            "dead letters are not in quarantine yet",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    match parts.is_empty() {
        true => "the queues are empty, and it is made sure that this is no old count".to_owned(),
        false => parts.join(", "),
    }
}

#[cfg(test)]
mod tests;
