use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

/// A feed with these conditions beside those that are as they should be: type, status, reason, message.
pub(crate) fn feed(conditions: &[(&str, &str, &str, &str)]) -> StockFeed {
    let mut all: Vec<(&str, &str, &str, &str)> = vec![
        ("Ready", "True", "Ready", "every stage is ready"),
        ("Reconciling", "False", "Settled", ""),
        ("Stalled", "False", "Settled", ""),
        ("SourceReady", "True", "Answering", ""),
        ("BrokerReady", "True", "AsDeclared", ""),
        ("SchemaReady", "True", "AsDeclared", ""),
        ("ProducerReady", "True", "Available", ""),
        ("ProcessorReady", "True", "Available", ""),
        ("QuotaSufficient", "True", "WithinPlan", ""),
        ("DataComplete", "True", "NoGaps", ""),
        ("Suspended", "False", "NotSuspended", ""),
    ];
    for condition in conditions {
        let place = all.iter_mut().find(|one| one.0 == condition.0).unwrap();
        *place = *condition;
    }
    let conditions: Vec<Value> = all
        .iter()
        .map(|(kind, status, reason, message)| {
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                   "observedGeneration": 1, "lastTransitionTime": "2026-11-27T12:00:00Z"})
        })
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "stockfeed.dev/v1alpha1", "kind": "StockFeed",
        "metadata": {"name": "tech", "namespace": "markets", "generation": 1},
        "spec": {"symbols": ["AAPL"], "source": {"fmp": {"apiKeySecretRef": {"name": "fmp"}}}},
        "status": {"observedGeneration": 1, "conditions": conditions},
    }))
    .unwrap()
}

type Conditions<'a> = &'a [(&'a str, &'a str, &'a str, &'a str)];

#[rstest]
#[case::nothing(&[], &[], &[])]
#[case::missing_secret(
    &[("Ready", "False", "SecretNotFound", "SourceReady: …"),
      ("SourceReady", "False", "SecretNotFound", "Secret markets/fmp does not exist"),
      ("ProducerReady", "False", "WaitingForPrerequisites", "the producer waits")],
    &["SourceReady"], &[("ProducerReady", "SourceReady")],
)]
#[case::broker_away(
    &[("Ready", "False", "Unreachable", "BrokerReady: …"),
      ("BrokerReady", "False", "Unreachable", "connection refused"),
      ("ProducerReady", "False", "NotConnected", "no connection"),
      ("ProcessorReady", "False", "NoConsumer", "queue 0 has none")],
    &["BrokerReady"], &[("ProducerReady", "BrokerReady"), ("ProcessorReady", "BrokerReady")],
)]
#[case::producer_does_not_start(
    &[("Ready", "False", "ProgressDeadlineExceeded", "…"),
      ("SourceReady", "Unknown", "ProducerUnreachable", "no answer"),
      ("ProducerReady", "False", "ProgressDeadlineExceeded", "0 of 1 available")],
    &["ProducerReady"], &[("SourceReady", "ProducerReady")],
)]
#[case::source_refuses(
    &[("Ready", "False", "InvalidKey", "…"),
      ("SourceReady", "False", "InvalidKey", "refused"),
      ("ProducerReady", "False", "Progressing", "0 of 1 available")],
    &["SourceReady"], &[("ProducerReady", "SourceReady")],
)]
#[case::database_away_and_calls_not_counted(
    &[("Ready", "False", "Unreachable", "…"),
      ("SchemaReady", "False", "Unreachable", "connection refused"),
      ("SourceReady", "False", "CallsNotCounted", "…"),
      ("ProcessorReady", "False", "NotProgressing", "…")],
    &["SchemaReady"], &[("SourceReady", "SchemaReady"), ("ProcessorReady", "SchemaReady")],
)]
#[case::a_person_comes_first(
    &[("Ready", "False", "Unreachable", "…"),
      ("BrokerReady", "False", "Unreachable", "connection refused"),
      ("SchemaReady", "False", "AuthenticationFailed", "refused")],
    &["SchemaReady", "BrokerReady"], &[],
)]
#[case::the_whole_spec(
    &[("Ready", "False", "InvalidSpec", "spec.interval …")],
    &["Ready"], &[],
)]
#[case::the_whole_spec_before_a_stage_that_needs_a_person(
    &[("Ready", "False", "InvalidSpec", "spec.interval …"),
      ("BrokerReady", "False", "AuthenticationFailed", "refused")],
    &["Ready", "BrokerReady"], &[],
)]
#[case::suspended_sources_are_no_trouble(
    &[("Ready", "True", "Suspended", "suspended, as asked"),
      ("SourceReady", "Unknown", "Suspended", "not polled"),
      ("Suspended", "True", "Drained", "")],
    &[], &[],
)]
fn root_causes_come_first_and_the_rest_follows_from_them(
    #[case] conditions: Conditions<'_>,
    #[case] causes: &[&str],
    #[case] effects: &[(&str, &str)],
) {
    let explanation = explain(&feed(conditions));
    let kinds: Vec<_> = explanation
        .causes
        .iter()
        .map(|cause| cause.kind.as_str())
        .collect();
    assert_eq!(kinds, causes);
    let followed: Vec<_> = explanation
        .effects
        .iter()
        .map(|effect| (effect.kind.as_str(), effect.because.as_deref().unwrap()))
        .collect();
    assert_eq!(followed, effects);
    assert!(explanation.causes.iter().all(|cause| cause.remedy.is_some()));
}

#[test]
fn a_feed_without_a_status_leads_to_the_operator() {
    let mut unseen = feed(&[]);
    unseen.status = None;
    let explanation = explain(&unseen);
    assert_eq!(explanation.ready, "Unknown");
    assert_eq!(explanation.causes[0].reason, "NotSeen");
}

#[test]
fn what_informs_is_a_note_and_no_cause() {
    let mut informed = feed(&[
        ("DataComplete", "False", "MessagesMissing", "2 messages"),
        ("QuotaSufficient", "False", "PlanExceeded", "250 calls a day"),
        ("Stalled", "True", "RolledBack", "no data flowed on image x"),
    ]);
    informed.metadata.generation = Some(2);
    let status = informed.status.as_mut().unwrap();
    status.quarantined = Some(3);
    let explanation = explain(&informed);
    let kinds: Vec<_> = explanation.notes.iter().map(|note| note.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "Generation",
            "QuotaSufficient",
            "DataComplete",
            "Stalled",
            "Quarantine"
        ]
    );
    assert!(explanation.causes.is_empty());
    assert_eq!(explanation.headline, "markets/tech is Ready.");
}

#[test]
fn the_text_begins_with_the_cause_and_says_what_to_do() {
    let explanation = explain(&feed(&[
        ("Ready", "False", "SecretNotFound", "…"),
        (
            "SourceReady",
            "False",
            "SecretNotFound",
            "Secret markets/fmp does not exist",
        ),
        (
            "ProducerReady",
            "False",
            "WaitingForPrerequisites",
            "the producer waits",
        ),
    ]));
    let text = render(&explanation, "2026-11-27T12:05:00Z".parse().unwrap());
    assert_eq!(
        text,
        "markets/tech is not Ready because of SourceReady: SecretNotFound.

Root cause
  SourceReady: SecretNotFound, for 5m
    Secret markets/fmp does not exist
    → Create the Secret with the API key in namespace markets: kubectl create secret generic SECRET -n markets --from-file=apiKey=FILE. spec.source says how it is called.

What follows from it
  ProducerReady: WaitingForPrerequisites, for 5m
    the producer waits
    because of SourceReady
"
    );
}
