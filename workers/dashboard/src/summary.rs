//! What is said of a feed at a glance. Pure: it follows from the object and the time alone.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use operator::{
    api::{
        StockFeed,
        status::{ConditionType, StockFeedStatus, reason},
    },
    labels,
};
use serde::Serialize;

use crate::feeds::{Feed, seconds_between};

/// The stages, in the order in which data flows: what is wrong with one is why the next ones are not well.
const STAGES: [ConditionType; 5] = [
    ConditionType::SourceReady,
    ConditionType::BrokerReady,
    ConditionType::SchemaReady,
    ConditionType::ProducerReady,
    ConditionType::ProcessorReady,
];
/// Reasons by which a stage says that something else is under way.
const UNDER_WAY: [&str; 5] = [
    reason::PENDING,
    reason::PROGRESSING,
    reason::WAITING,
    reason::ROLLING_OUT,
    reason::REPARTITIONING,
];

/// A feed at a glance.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub id: String,
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub created_at: Option<Timestamp>,
    pub state: State,
    pub message: String,
    pub cause: Option<Cause>,
    pub symbols: Option<usize>,
    pub interval: Option<String>,
    pub partition_count: Option<i32>,
    pub processor_count: Option<Processors>,
    pub backlog: Option<i64>,
    pub arrival_per_second: Option<f64>,
    pub ticks_per_second: Option<f64>,
    pub watermark: Option<Timestamp>,
    pub watermark_lag_seconds: Option<f64>,
    pub last_tick_time: Option<Timestamp>,
    pub last_tick_age_seconds: Option<f64>,
    pub quota: Option<Quota>,
    pub market: Option<Market>,
    pub quarantined: Option<i64>,
    pub missing_messages: Option<i64>,
    pub suspended: bool,
    pub paused: bool,
    pub observed: bool,
}

/// How a feed is, as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum State {
    Ready,
    Progressing,
    Failing,
    Stalled,
    Draining,
    Suspended,
    Deleting,
    Unknown,
    Unreadable,
}

/// The first stage that does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    pub condition: String,
    pub reason: String,
    pub message: String,
    pub since: Timestamp,
    pub needs_person: bool,
}

/// Processors: those that are ready, and those that there are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Processors {
    pub ready: i32,
    pub wanted: i32,
}

/// What may be asked of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    pub sufficient: Option<bool>,
    pub message: Option<String>,
    pub calls_per_day: Option<i64>,
    pub projected_calls_per_day: i64,
    pub used_today: Option<i64>,
    pub minimum_interval: String,
    pub effective_interval: Option<String>,
    pub exhausted_at: Option<Timestamp>,
    pub feeds: Option<i32>,
}

/// Whether the exchange is polled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Market {
    pub hours: String,
    pub open: bool,
    pub next_open: Option<Timestamp>,
}

/// Sums over feeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    pub feeds: usize,
    pub ready: usize,
    pub not_ready: usize,
    pub suspended: usize,
    pub stalled: usize,
    pub backlog: i64,
    pub quarantined: i64,
    pub missing_messages: i64,
}

impl Totals {
    /// Of these feeds.
    #[must_use]
    pub fn of(summaries: &[Summary]) -> Self {
        let mut totals = Self {
            feeds: summaries.len(),
            ..Self::default()
        };
        for summary in summaries {
            match summary.state {
                State::Ready => totals.ready += 1,
                State::Suspended => totals.suspended += 1,
                State::Stalled => {
                    totals.stalled += 1;
                    totals.not_ready += 1;
                }
                _ => totals.not_ready += 1,
            }
            totals.backlog += summary.backlog.unwrap_or(0);
            totals.quarantined += summary.quarantined.unwrap_or(0);
            totals.missing_messages += summary.missing_messages.unwrap_or(0);
        }
        totals
    }
}

/// What follows from a feed's object. What is measured is left out: see `observe`.
#[must_use]
pub fn summary(feed: &Feed, now: Timestamp) -> Summary {
    let unreadable = Summary {
        id: feed.id(),
        uid: feed.uid.clone(),
        namespace: feed.key.namespace.clone(),
        name: feed.key.name.clone(),
        created_at: feed.created_at,
        state: State::Unreadable,
        message: String::new(),
        cause: None,
        symbols: None,
        interval: None,
        partition_count: None,
        processor_count: None,
        backlog: None,
        arrival_per_second: None,
        ticks_per_second: None,
        watermark: None,
        watermark_lag_seconds: None,
        last_tick_time: None,
        last_tick_age_seconds: None,
        quota: None,
        market: None,
        quarantined: None,
        missing_messages: None,
        suspended: false,
        paused: false,
        observed: false,
    };
    let object = match &feed.object {
        Ok(object) => object,
        Err(error) => {
            return Summary {
                message: error.clone(),
                ..unreadable
            };
        }
    };
    let nothing = StockFeedStatus::default();
    let status = object.status.as_ref().unwrap_or(&nothing);
    let cause = cause(status);
    let state = state(object, status, cause.as_ref());
    let time = |time: &Option<Time>| time.as_ref().map(|time| time.0);
    let watermark = time(&status.watermark);
    let last_tick_time = time(&status.last_tick_time);
    Summary {
        message: message(state, status, cause.as_ref()),
        state,
        cause,
        symbols: Some(object.spec.symbols.len()),
        interval: Some(object.spec.interval.clone()),
        partition_count: status.partitions.or(Some(object.spec.processing.partitions)),
        processor_count: status.replicas.as_deref().and_then(processors),
        backlog: status.backlog,
        arrival_per_second: status
            .scaling
            .as_ref()
            .and_then(|scaling| scaling.arrival_per_second),
        watermark,
        watermark_lag_seconds: watermark.map(|watermark| seconds_between(watermark, now)),
        last_tick_time,
        last_tick_age_seconds: last_tick_time.map(|last| seconds_between(last, now)),
        quota: quota(status),
        market: Some(Market {
            hours: format!("{:?}", object.spec.market_hours),
            open: status.next_open.is_none(),
            next_open: time(&status.next_open),
        }),
        quarantined: status.quarantined,
        missing_messages: status.missing_messages,
        suspended: object.spec.suspend,
        paused: object
            .metadata
            .annotations
            .as_ref()
            .is_some_and(labels::is_paused),
        ..unreadable
    }
}

/// The first stage that does not work; one that waits for another only if there is no other.
#[must_use]
pub fn cause(status: &StockFeedStatus) -> Option<Cause> {
    let failing: Vec<&Condition> = STAGES
        .into_iter()
        .filter_map(|stage| find(status, stage))
        .filter(|condition| condition.status == "False")
        .collect();
    let itself = |condition: &&&Condition| !UNDER_WAY.contains(&condition.reason.as_str());
    let first = failing.iter().find(itself).or_else(|| failing.first()).copied();
    // A spec that cannot be used stops everything before there are stages.
    let summary = || {
        let ready = find(status, ConditionType::Ready)?;
        (ready.status == "False" && reason::needs_a_person(&ready.reason)).then_some(ready)
    };
    first.or_else(summary).map(|condition| Cause {
        condition: condition.type_.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: condition.last_transition_time.0,
        needs_person: reason::needs_a_person(&condition.reason),
    })
}

fn state(object: &StockFeed, status: &StockFeedStatus, cause: Option<&Cause>) -> State {
    let is = |kind| find(status, kind).is_some_and(|condition| condition.status == "True");
    if object.metadata.deletion_timestamp.is_some() {
        return State::Deleting;
    }
    if object.spec.suspend {
        return match is(ConditionType::Suspended) {
            true => State::Suspended,
            false => State::Draining,
        };
    }
    let Some(ready) = find(status, ConditionType::Ready) else {
        return State::Unknown;
    };
    match (ready.status.as_str(), cause) {
        ("True", _) => State::Ready,
        (_, Some(cause)) if cause.needs_person => State::Stalled,
        _ if is(ConditionType::Stalled) => State::Stalled,
        (_, Some(cause)) if !UNDER_WAY.contains(&cause.reason.as_str()) => State::Failing,
        _ => State::Progressing,
    }
}

fn message(state: State, status: &StockFeedStatus, cause: Option<&Cause>) -> String {
    let of = |kind| find(status, kind).map(|condition| condition.message.clone());
    let said = match state {
        State::Suspended | State::Draining => of(ConditionType::Suspended),
        State::Failing | State::Stalled => cause.map(|cause| cause.message.clone()),
        _ => None,
    };
    said.or_else(|| of(ConditionType::Ready))
        .unwrap_or_else(|| "the operator has said nothing of it yet".to_owned())
}

fn quota(status: &StockFeedStatus) -> Option<Quota> {
    let quota = status.quota.as_ref()?;
    let sufficient = find(status, ConditionType::QuotaSufficient);
    Some(Quota {
        sufficient: sufficient.and_then(|condition| match condition.status.as_str() {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        }),
        message: sufficient.map(|condition| condition.message.clone()),
        calls_per_day: quota.calls_per_day,
        projected_calls_per_day: quota.projected_calls_per_day,
        used_today: quota.used_today,
        minimum_interval: quota.minimum_interval.clone(),
        effective_interval: quota.effective_interval.clone(),
        exhausted_at: quota.exhausted_at.as_ref().map(|time| time.0),
        feeds: quota.feeds,
    })
}

/// `ready/wanted`.
fn processors(text: &str) -> Option<Processors> {
    let (ready, wanted) = text.split_once('/')?;
    Some(Processors {
        ready: ready.parse().ok()?,
        wanted: wanted.parse().ok()?,
    })
}

/// A condition of a status.
#[must_use]
pub fn find(status: &StockFeedStatus, kind: ConditionType) -> Option<&Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind.name())
}

/// Whether a condition says that something is wrong.
#[must_use]
pub fn is_bad(condition: &Condition) -> bool {
    let [stalled, reconciling, suspended] = [
        ConditionType::Stalled,
        ConditionType::Reconciling,
        ConditionType::Suspended,
    ]
    .map(ConditionType::name);
    match condition.type_.as_str() {
        kind if kind == stalled => condition.status == "True",
        kind if kind == reconciling || kind == suspended => false,
        // As it was asked to be.
        _ if condition.reason == reason::NOT_ENABLED => false,
        _ => condition.status == "False",
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::feeds::tests::{feeds, guard};

    fn now() -> Timestamp {
        "2026-11-27T14:30:00Z".parse().unwrap()
    }

    fn condition((kind, status, reason): (&str, &str, &str)) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": format!("{kind} says {reason}"),
               "lastTransitionTime": "2026-11-27T14:00:00Z"})
    }

    fn of(conditions: &[(&str, &str, &str)]) -> Summary {
        let conditions: Vec<_> = conditions.iter().copied().map(condition).collect();
        let feeds = feeds(vec![guard("markets", "tech", &json!({"conditions": conditions}))]);
        summary(&feeds.all()[0], now())
    }

    #[rstest]
    #[case::nothing_said(&[], State::Unknown, None)]
    #[case::ready(&[("Ready", "True", "Ready")], State::Ready, None)]
    #[case::the_root_comes_first(&[("Ready", "False", "Failed"), ("SourceReady", "True", "Answering"),
        ("BrokerReady", "False", "Unreachable"), ("ProcessorReady", "False", "NoConsumer")], State::Failing, Some("BrokerReady"))]
    #[case::who_waits_is_not_the_root(&[("Ready", "False", "Failed"), ("SourceReady", "False", "Pending"),
        ("SchemaReady", "False", "DatabaseNotFound")], State::Stalled, Some("SchemaReady"))]
    #[case::under_way(&[("Ready", "False", "Progressing"), ("ProducerReady", "False", "Progressing")], State::Progressing, Some("ProducerReady"))]
    #[case::a_spec_that_cannot_be_used(&[("Ready", "False", "InvalidSpec")], State::Stalled, Some("Ready"))]
    fn the_state_and_its_cause(
        #[case] conditions: &[(&str, &str, &str)],
        #[case] state: State,
        #[case] cause: Option<&str>,
    ) {
        let summary = of(conditions);
        assert_eq!(summary.state, state, "{summary:?}");
        assert_eq!(
            summary.cause.as_ref().map(|cause| cause.condition.as_str()),
            cause
        );
        if state == State::Stalled || state == State::Failing {
            assert_eq!(
                summary.message,
                summary.cause.unwrap().message,
                "the page says the root"
            );
        }
    }

    #[test]
    fn figures_are_those_of_the_status_or_null() {
        let status = json!({"replicas": "1/2", "backlog": 12, "watermark": "2026-11-27T14:29:54Z",
            "conditions": [condition(("Ready", "True", "Ready"))], "nextOpen": "2026-11-30T14:30:00Z"});
        let feeds = feeds(vec![guard("markets", "tech", &status)]);
        let summary = summary(&feeds.all()[0], now());
        assert_eq!(summary.processor_count, Some(Processors { ready: 1, wanted: 2 }));
        assert_eq!(
            (summary.backlog, summary.watermark_lag_seconds),
            (Some(12), Some(6.0))
        );
        assert!(!summary.market.unwrap().open);
        assert_eq!(
            (summary.quota, summary.quarantined, summary.last_tick_time),
            (None, None, None)
        );
    }

    #[test]
    fn a_suspended_feed_is_at_rest_only_when_the_operator_says_so() {
        let mut guard = guard(
            "markets",
            "tech",
            &json!({"conditions": [condition(("Suspended", "False", "Draining"))]}),
        );
        guard.0.as_mut().unwrap().spec.suspend = true;
        let feeds = feeds(vec![guard]);
        assert_eq!(summary(&feeds.all()[0], now()).state, State::Draining);
    }

    #[test]
    fn totals_count_each_feed_once() {
        let summaries = [
            of(&[("Ready", "True", "Ready")]),
            of(&[("Ready", "False", "InvalidSpec")]),
            of(&[]),
        ];
        let totals = Totals::of(&summaries);
        assert_eq!(
            (totals.feeds, totals.ready, totals.not_ready, totals.stalled),
            (3, 1, 2, 1)
        );
    }
}
