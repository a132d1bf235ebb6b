//! What went wrong with a feed, the root cause first. Pure.

use jiff::Timestamp;
use serde::Serialize;

use crate::{detail::Detail, observe::Observation};

/// The stages, in the order in which data flows; what is none of them comes after.
const ORDER: [&str; 8] = [
    "SourceReady",
    "BrokerReady",
    "SchemaReady",
    "ProducerReady",
    "ProcessorReady",
    "QuotaSufficient",
    "DataComplete",
    "DashboardsReady",
];

/// An error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedError {
    pub kind: &'static str,
    pub at: Option<Timestamp>,
    pub component: String,
    pub cause: String,
    pub message: String,
    pub active: bool,
    pub count: Option<u64>,
    pub needs_person: bool,
}

/// All of them: the cause, other bad conditions, pods, and what workers tell, newest first.
#[must_use]
pub fn errors(detail: &Detail, observation: Option<&Observation>) -> Vec<FeedError> {
    let mut errors = conditions(detail);
    if let Some(observation) = observation {
        errors.extend(pods(observation));
        errors.extend(producer(observation));
        errors.extend(processors(observation));
    }
    errors
}

fn conditions(detail: &Detail) -> Vec<FeedError> {
    let cause = detail
        .summary
        .cause
        .as_ref()
        .map(|cause| cause.condition.as_str());
    // Ready says again what another one says, unless it is the cause itself.
    let tells = |kind: &str| !["Ready", "Stalled"].contains(&kind) || cause == Some(kind);
    let mut bad: Vec<_> = detail
        .conditions
        .iter()
        .filter(|condition| condition.bad && tells(&condition.kind))
        .collect();
    let place = |kind: &str| {
        ORDER
            .iter()
            .position(|known| *known == kind)
            .unwrap_or(ORDER.len())
    };
    bad.sort_by_key(|condition| (cause != Some(condition.kind.as_str()), place(&condition.kind)));
    let error = |condition: &crate::detail::ConditionView| FeedError {
        kind: "condition",
        at: Some(condition.since),
        component: condition.kind.clone(),
        cause: condition.reason.clone(),
        message: condition.message.clone(),
        active: true,
        count: None,
        needs_person: condition.needs_person,
    };
    bad.into_iter().map(error).collect()
}

/// Pods that cannot start or have ended.
fn pods(observation: &Observation) -> Vec<FeedError> {
    let mut errors = Vec::new();
    for pod in &observation.pods {
        let starting = ["ContainerCreating", "PodInitializing"];
        if let Some(waiting) = pod
            .waiting
            .as_ref()
            .filter(|waiting| !starting.contains(&waiting.reason.as_str()))
        {
            errors.push(FeedError {
                kind: "restart",
                at: pod.created_at,
                component: pod.name.clone(),
                cause: waiting.reason.clone(),
                message: waiting.message.clone().unwrap_or_default(),
                active: true,
                count: u64::try_from(pod.restarts).ok(),
                needs_person: waiting.reason.contains("Image"),
            });
        }
        if let Some(exit) = &pod.last_exit {
            let message = exit.message.clone().filter(|message| !message.is_empty());
            errors.push(FeedError {
                kind: "restart",
                at: exit.at,
                component: pod.name.clone(),
                cause: exit.reason.clone().unwrap_or_else(|| "Error".to_owned()),
                message: message.unwrap_or_else(|| format!("exit code {}", exit.exit_code)),
                active: !pod.ready,
                count: u64::try_from(pod.restarts).ok(),
                needs_person: false,
            });
        }
    }
    newest_first(errors)
}

fn producer(observation: &Observation) -> Vec<FeedError> {
    let Some(said) = &observation.producer else {
        return Vec::new();
    };
    let source = said.ready.source.problem.as_ref().map(|problem| FeedError {
        kind: "producer",
        at: said.ready.source.last_attempt,
        component: "source".to_owned(),
        cause: problem.reason.clone(),
        message: problem.message.clone(),
        active: true,
        count: Some(said.ready.source.consecutive_failures),
        needs_person: operator::api::status::reason::needs_a_person(&problem.reason),
    });
    let broker = said.ready.broker.message.as_ref().map(|message| FeedError {
        kind: "producer",
        at: Some(said.at),
        component: "broker".to_owned(),
        cause: said.ready.broker.reason.clone(),
        message: message.clone(),
        active: true,
        count: None,
        needs_person: operator::api::status::reason::needs_a_person(&said.ready.broker.reason),
    });
    source.into_iter().chain(broker).collect()
}

fn processors(observation: &Observation) -> Vec<FeedError> {
    let of = |(pod, seen): (&String, &crate::observe::processor::ProcessorSeen)| {
        let pod = pod.clone();
        let error = move |failure: &crate::observe::processor::Failure| FeedError {
            kind: "processor",
            at: Some(failure.at),
            component: format!("{pod} {}", failure.scope),
            cause: failure.cause.clone(),
            message: failure.message.clone(),
            active: false,
            count: None,
            needs_person: false,
        };
        seen.state.errors.iter().map(error).collect::<Vec<_>>()
    };
    newest_first(observation.processors.iter().flat_map(of).collect())
}

fn newest_first(mut errors: Vec<FeedError>) -> Vec<FeedError> {
    errors.sort_by_key(|error| std::cmp::Reverse(error.at));
    errors
}
