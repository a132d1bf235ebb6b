//! In which state a feed is, and since when: for the figures over all feeds. Pure.

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelValue;
use strum::EnumIter;

use crate::{
    api::{
        StockFeed,
        status::{ConditionType, reason},
    },
    status::find,
};

/// The state of a feed, as its status tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelValue, EnumIter)]
pub enum State {
    /// Not looked at yet.
    New,
    /// Everything works.
    Ready,
    /// It is on its way, or waits for something that may come by itself.
    Progressing,
    /// It waits for a person.
    Stalled,
    /// It rests, as it was asked to.
    Suspended,
    /// It is left as it is, as somebody asked.
    Paused,
    /// It is being deleted.
    Deleting,
    /// It cannot be read: it comes from another version of the definition.
    Unreadable,
}

/// The state of a feed, and since when it has been in it, as far as that is known.
#[must_use]
pub fn state_of(feed: &StockFeed) -> (State, Option<Timestamp>) {
    let meta = &feed.metadata;
    if let Some(deleted) = &meta.deletion_timestamp {
        return (State::Deleting, Some(deleted.0));
    }
    let status = feed.status.as_ref();
    let Some(ready) = status.and_then(|status| find(status, ConditionType::Ready)) else {
        return (State::New, meta.creation_timestamp.as_ref().map(|time| time.0));
    };
    let stalled = status
        .and_then(|status| find(status, ConditionType::Stalled))
        .filter(|stalled| stalled.status == "True");
    let state = match (ready.status.as_str(), ready.reason.as_str()) {
        (_, reason::PAUSED) => State::Paused,
        ("True", reason::SUSPENDED) => State::Suspended,
        ("True", _) => State::Ready,
        _ if stalled.is_some() => State::Stalled,
        _ => State::Progressing,
    };
    // It was not ready before it stalled.
    let since = stalled.filter(|_| state == State::Stalled).unwrap_or(ready);
    (state, Some(since.last_transition_time.0))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const MADE: &str = "2026-11-25T09:00:00Z";
    const READY: &str = "2026-11-25T10:00:00Z";
    const STALLED: &str = "2026-11-25T11:00:00Z";
    const DELETED: &str = "2026-11-25T12:00:00Z";

    fn conditions(ready: (&str, &str), stalled: &str) -> Value {
        let condition = |kind: &str, status: &str, reason: &str, since: &str| json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": since});
        json!({"conditions": [
            condition("Ready", ready.0, ready.1, READY),
            condition("Stalled", stalled, "AnyReason", STALLED),
        ]})
    }

    #[rstest]
    #[case::not_looked_at(Value::Null, State::New, MADE)]
    #[case::ready(conditions(("True", "Ready"), "False"), State::Ready, READY)]
    #[case::suspended(conditions(("True", "Suspended"), "False"), State::Suspended, READY)]
    #[case::paused(conditions(("Unknown", "Paused"), "False"), State::Paused, READY)]
    #[case::on_its_way(conditions(("False", "Progressing"), "False"), State::Progressing, READY)]
    #[case::needs_a_person(conditions(("False", "InvalidSpec"), "True"), State::Stalled, STALLED)]
    fn a_state_follows_from_the_conditions(
        #[case] status: Value,
        #[case] expected: State,
        #[case] since: &str,
    ) {
        let mut feed = json!({
            "apiVersion": "stockfeed.dev/v1alpha1", "kind": "StockFeed",
            "metadata": {"name": "tech", "namespace": "markets", "creationTimestamp": MADE},
            "spec": {"symbols": ["AAPL"], "source": {"fmp": {"apiKeySecretRef": {"name": "fmp"}}}},
        });
        if !status.is_null() {
            feed["status"] = status;
        }
        let read = |feed: &Value| serde_json::from_value::<StockFeed>(feed.clone()).unwrap();
        let expected = (expected, Some(since.parse().unwrap()));
        assert_eq!(state_of(&read(&feed)), expected);

        feed["metadata"]["deletionTimestamp"] = json!(DELETED);
        let deleting = (State::Deleting, Some(DELETED.parse().unwrap()));
        assert_eq!(state_of(&read(&feed)), deleting);
    }
}
