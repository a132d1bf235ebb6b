//! Why a feed is not Ready. Pure: it follows from the object alone.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use operator::api::{
    StockFeed,
    status::{ConditionType, StockFeedStatus, reason},
};
use serde::Serialize;

use crate::{remedy, text};

/// The stages, in the order in which data passes what they need.
const STAGES: [ConditionType; 5] = [
    ConditionType::BrokerReady,
    ConditionType::SchemaReady,
    ConditionType::SourceReady,
    ConditionType::ProducerReady,
    ConditionType::ProcessorReady,
];

/// What is about the feed as a whole, and not about a stage.
const WHOLE: [&str; 5] = [
    reason::INVALID_SPEC,
    reason::APPLY_FAILED,
    reason::NAME_TAKEN,
    reason::DELETING,
    reason::PAUSED,
];

/// Why a feed is not Ready, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The feed's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it is Ready: True, False or Unknown.
    pub ready: String,
    /// What is to be said first.
    pub headline: String,
    /// What is wrong by itself; what needs a person first.
    pub causes: Vec<Finding>,
    /// What is wrong because something else is.
    pub effects: Vec<Finding>,
    /// What does not make it unready, and is worth to know.
    pub notes: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The condition's type, or where else it was found.
    pub kind: String,
    /// Why, as a word.
    pub reason: String,
    /// Why, in words.
    pub message: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What it follows from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Explains a feed.
#[must_use]
pub fn explain(feed: &StockFeed) -> Explanation {
    let (namespace, name) = (feed.namespace().unwrap_or_default(), feed.name_any());
    let status = feed.status.clone().unwrap_or_default();
    let finding = |kind: ConditionType, condition: &Condition| Finding {
        kind: kind.name().to_owned(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: Some(condition.last_transition_time.0),
        because: None,
        remedy: Some(remedy::for_feed(kind, &condition.reason, &namespace, &name)),
    };
    let Some(ready) = find(&status, ConditionType::Ready) else {
        return unseen(namespace, name);
    };
    let mut causes = Vec::new();
    let mut effects = Vec::new();
    if ready.status != "True" && WHOLE.contains(&ready.reason.as_str()) {
        causes.push(finding(ConditionType::Ready, ready));
    }
    for kind in STAGES {
        let Some(condition) = bad(&status, kind) else {
            continue;
        };
        match cause(&status, kind, &condition.reason) {
            Some(because) => effects.push(Finding {
                because: Some(because.name().to_owned()),
                remedy: None,
                ..finding(kind, condition)
            }),
            None => causes.push(finding(kind, condition)),
        }
    }
    if causes.is_empty() && ready.status != "True" {
        causes.push(finding(ConditionType::Ready, ready));
    }
    // Stable: of those that need a person, and of the others, the stage that comes first stays first. What is about the whole
    // feed was put in before all stages.
    causes.sort_by_key(|cause| {
        !(WHOLE.contains(&cause.reason.as_str()) || reason::needs_a_person(&cause.reason))
    });
    let notes = notes(feed, &status, &finding);
    let headline = headline(&namespace, &name, ready, &causes);
    Explanation {
        ready: ready.status.clone(),
        namespace,
        name,
        headline,
        causes,
        effects,
        notes,
    }
}

/// A feed that the operator has not looked at.
fn unseen(namespace: String, name: String) -> Explanation {
    let headline = format!("{namespace}/{name} was not looked at by the operator yet.");
    let cause = Finding {
        kind: "Operator".to_owned(),
        reason: "NotSeen".to_owned(),
        message: "the feed has no status".to_owned(),
        since: None,
        because: None,
        remedy: Some(
            "See whether the operator runs (kubectl get pods -A -l app.kubernetes.io/component=operator), watches this namespace (--watch-namespace) and the feed's labels (--label-selector).".to_owned(),
        ),
    };
    Explanation {
        ready: "Unknown".to_owned(),
        namespace,
        name,
        headline,
        causes: vec![cause],
        effects: Vec::new(),
        notes: Vec::new(),
    }
}

fn headline(namespace: &str, name: &str, ready: &Condition, causes: &[Finding]) -> String {
    match (ready.status.as_str(), causes.first()) {
        ("True", _) if ready.reason == reason::SUSPENDED => {
            format!("{namespace}/{name} is Ready, and suspended as asked.")
        }
        ("True", _) => format!("{namespace}/{name} is Ready."),
        (_, Some(cause)) if cause.kind != ConditionType::Ready.name() => {
            format!(
                "{namespace}/{name} is not Ready because of {}: {}.",
                cause.kind, cause.reason
            )
        }
        _ => format!("{namespace}/{name} is not Ready: {}.", ready.reason),
    }
}

/// A condition.
#[must_use]
pub fn find(status: &StockFeedStatus, kind: ConditionType) -> Option<&Condition> {
    operator::status::find(status, kind)
}

/// A stage's condition, when it is not as it should be.
fn bad(status: &StockFeedStatus, kind: ConditionType) -> Option<&Condition> {
    find(status, kind).filter(|condition| condition.status != "True" && condition.reason != reason::SUSPENDED)
}

/// What a stage's trouble follows from, when it follows from another stage's.
fn cause(status: &StockFeedStatus, kind: ConditionType, why: &str) -> Option<ConditionType> {
    use ConditionType::{BrokerReady, ProcessorReady, ProducerReady, SchemaReady, SourceReady};
    let upstream: &[ConditionType] = match (kind, why) {
        (SourceReady, reason::PRODUCER_UNREACHABLE | reason::PENDING) => &[ProducerReady],
        // A producer counts its calls in the database, before it makes them.
        (SourceReady, "CallsNotCounted") => &[SchemaReady],
        (ProducerReady, reason::WAITING | reason::PENDING) => &[BrokerReady, SchemaReady, SourceReady],
        (ProducerReady, reason::NOT_CONNECTED) => &[BrokerReady],
        // It is ready only while its source answers.
        (ProducerReady, reason::PROGRESSING | reason::PROGRESS_DEADLINE_EXCEEDED) => {
            &[BrokerReady, SchemaReady, SourceReady]
        }
        (ProcessorReady, reason::NO_CONSUMER) => &[BrokerReady, SchemaReady],
        (
            ProcessorReady,
            reason::WAITING
            | reason::PENDING
            | reason::NOT_PROGRESSING
            | reason::PROGRESSING
            | reason::PROGRESS_DEADLINE_EXCEEDED,
        ) => &[SchemaReady, BrokerReady],
        (BrokerReady | SchemaReady, reason::PENDING) => &[SchemaReady, BrokerReady],
        _ => &[],
    };
    let follows = |condition: &Condition| {
        [reason::PRODUCER_UNREACHABLE, reason::PENDING].contains(&condition.reason.as_str())
    };
    upstream
        .iter()
        .copied()
        .filter(|other| *other != kind)
        .find(|other| {
            bad(status, *other).is_some_and(|condition| {
                // What is only not known yet is no cause of what is known, nor of what is not known either.
                !follows(condition) || (kind == SourceReady && *other == ProducerReady)
            })
        })
}

fn notes(
    feed: &StockFeed,
    status: &StockFeedStatus,
    finding: &impl Fn(ConditionType, &Condition) -> Finding,
) -> Vec<Finding> {
    let mut notes = Vec::new();
    let note = |kind: &str, reason: &str, message: String| Finding {
        kind: kind.to_owned(),
        reason: reason.to_owned(),
        message,
        since: None,
        because: None,
        remedy: None,
    };
    let generation = feed.metadata.generation.unwrap_or_default();
    let observed = status.observed_generation.unwrap_or_default();
    if observed < generation {
        let message = format!(
            "the operator has seen change {observed} of the spec, not yet {generation}: all this is about the former"
        );
        notes.push(note("Generation", "Behind", message));
    }
    for kind in [
        ConditionType::QuotaSufficient,
        ConditionType::DataComplete,
        ConditionType::DashboardsReady,
    ] {
        let wrong =
            |condition: &&Condition| condition.status == "False" && condition.reason != reason::NOT_ENABLED;
        if let Some(condition) = find(status, kind).filter(wrong) {
            notes.push(finding(kind, condition));
        }
    }
    if let Some(condition) =
        find(status, ConditionType::Suspended).filter(|condition| condition.reason != reason::NOT_SUSPENDED)
    {
        notes.push(finding(ConditionType::Suspended, condition));
    }
    // Under way, or waiting for a person, while the feed works: other reasons of the two repeat a stage's.
    for (kind, reasons) in [
        (
            ConditionType::Reconciling,
            &[reason::REPARTITIONING, reason::ROLLING_OUT][..],
        ),
        (ConditionType::Stalled, &[reason::ROLLED_BACK]),
    ] {
        let said = find(status, kind).filter(|condition| reasons.contains(&condition.reason.as_str()));
        notes.extend(said.map(|condition| finding(kind, condition)));
    }
    if let Some(scaling) = &status.scaling
        && ["AtMaximum", "NothingCommitted", "ConsumerStalled"].contains(&scaling.reason.as_str())
    {
        notes.push(note("Scaling", &scaling.reason, scaling.message.clone()));
    }
    if let Some(count) = status.quarantined.filter(|count| *count > 0) {
        let message = format!("{count} entries could not be used since the feed began");
        let mut entry = note("Quarantine", "Quarantined", message);
        entry.remedy = Some(format!(
            "kubectl stockfeed quarantine list {} -n {}",
            feed.name_any(),
            feed.namespace().unwrap_or_default()
        ));
        notes.push(entry);
    }
    notes
}

/// As text.
#[must_use]
pub fn render(explanation: &Explanation, now: Timestamp) -> String {
    let mut text = format!("{}\n", explanation.headline);
    let mut part = |title: &str, findings: &[Finding]| {
        if findings.is_empty() {
            return;
        }
        text.push_str(&format!("\n{title}\n"));
        for finding in findings {
            let since = finding
                .since
                .map(|since| format!(", for {}", text::ago(Some(since), now)));
            text.push_str(&format!(
                "  {}: {}{}\n",
                finding.kind,
                finding.reason,
                since.unwrap_or_default()
            ));
            let mut line = |label: &str, words: &str| {
                if !words.is_empty() {
                    text.push_str(&format!("    {label}{words}\n"));
                }
            };
            line("", &finding.message);
            line("because of ", finding.because.as_deref().unwrap_or_default());
            line("→ ", finding.remedy.as_deref().unwrap_or_default());
        }
    };
    let title = match explanation.causes.len() {
        0 | 1 => "Root cause",
        _ => "Root causes",
    };
    part(title, &explanation.causes);
    part("What follows from it", &explanation.effects);
    part("Worth to know", &explanation.notes);
    text
}

#[cfg(test)]
pub(crate) mod tests;
