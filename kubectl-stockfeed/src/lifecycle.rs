//! Suspend and resume, drain, restart, pause.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use operator::{
    api::{
        StockFeed,
        status::{ConditionType, reason},
    },
    labels::{self, Component},
};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::{cluster::Cluster, explain::find};

/// How often a feed is looked at while it is waited for.
const LOOK: Duration = Duration::from_secs(1);

/// Stops polling, or begins again.
///
/// # Errors
/// When the feed is not there, or the change is refused.
pub async fn suspend(cluster: &Cluster, name: &str, suspend: bool) -> Result<String> {
    let feed = cluster
        .change(name, &json!({"spec": {"suspend": suspend}}))
        .await?;
    let mut text = match suspend {
        true => format!(
            "{} is being suspended. `kubectl stockfeed drain {name} -n {}` waits until everything is stored.\n",
            shown(&feed),
            cluster.namespace()
        ),
        false => format!("{} is being resumed.\n", shown(&feed)),
    };
    text.push_str(&while_paused(&feed));
    Ok(text)
}

/// Suspends a feed and waits until it is proven that everything is committed.
///
/// # Errors
/// When that is not so in time, or cannot become so.
pub async fn drain(cluster: &Cluster, name: &str, timeout: Duration) -> Result<String> {
    let began = Instant::now();
    let mut feed = cluster.change(name, &json!({"spec": {"suspend": true}})).await?;
    let mut said = String::new();
    loop {
        let progress = progress(&feed);
        let sentence = match progress {
            Progress::Drained => {
                let seconds = began.elapsed().as_secs();
                return Ok(format!(
                    "{} is drained: nothing is queued or unacknowledged, everything is committed ({seconds} s).\n",
                    shown(&feed)
                ));
            }
            Progress::Never(why) => bail!("{} does not drain: {why}", shown(&feed)),
            Progress::Waiting(sentence) => sentence,
        };
        if sentence != said {
            eprintln!("{:>4} s  {sentence}", began.elapsed().as_secs());
            said = sentence;
        }
        if began.elapsed() >= timeout {
            bail!(
                "{} is not drained after {} s: {said}. It stays suspended and goes on; `kubectl stockfeed explain {name} -n {}` says what is in its way",
                shown(&feed),
                timeout.as_secs(),
                cluster.namespace()
            );
        }
        sleep(LOOK.min(timeout.saturating_sub(began.elapsed()))).await;
        feed = cluster.feed(name).await?;
    }
}

/// How far a feed is that is to be drained.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Drained,
    Waiting(String),
    Never(String),
}

fn progress(feed: &StockFeed) -> Progress {
    if !feed.spec.suspend {
        return Progress::Never("somebody resumed it".to_owned());
    }
    if labels::is_paused(feed.annotations()) {
        return Progress::Never("it is paused; unpause it first".to_owned());
    }
    let generation = feed.metadata.generation;
    let suspended = feed
        .status
        .as_ref()
        .and_then(|status| find(status, ConditionType::Suspended))
        // What was said of an earlier spec may be of an earlier suspension.
        .filter(|condition| condition.observed_generation == generation);
    let Some(suspended) = suspended else {
        return Progress::Waiting("waiting for the operator".to_owned());
    };
    match is_drained(suspended) {
        true => Progress::Drained,
        false => {
            let backlog = feed.status.as_ref().and_then(|status| status.backlog);
            let backlog = backlog.map(|backlog| format!(" (backlog {backlog})"));
            Progress::Waiting(format!("{}{}", suspended.message, backlog.unwrap_or_default()))
        }
    }
}

fn is_drained(suspended: &Condition) -> bool {
    suspended.status == "True" && suspended.reason == reason::DRAINED
}

/// Replaces the pods of workers.
///
/// # Errors
/// When the feed is not there, or the change is refused.
pub async fn restart(
    cluster: &Cluster,
    name: &str,
    components: &[Component],
    now: Timestamp,
) -> Result<String> {
    let annotations: Map<String, Value> = components
        .iter()
        .map(|component| (component.restart_annotation().to_owned(), json!(now.to_string())))
        .collect();
    let feed = cluster
        .change(name, &json!({"metadata": {"annotations": annotations}}))
        .await?;
    let mut text = String::new();
    for component in components {
        let object = component.object_name(name);
        let namespace = cluster.namespace();
        text.push_str(&format!(
            "{object} is being restarted; `kubectl rollout status deployment/{object} -n {namespace}` waits for it.\n"
        ));
    }
    text.push_str(&while_paused(&feed));
    Ok(text)
}

/// Leaves a feed as it is, or looks after it again.
///
/// # Errors
/// When the feed is not there, or the change is refused.
pub async fn pause(cluster: &Cluster, name: &str, pause: bool) -> Result<String> {
    let value = if pause { json!("true") } else { Value::Null };
    let patch = json!({"metadata": {"annotations": {labels::PAUSED: value}}});
    let feed = cluster.change(name, &patch).await?;
    Ok(match pause {
        true => format!(
            "{} is paused: it runs on as it is, and nothing is compared, healed or changed. A deletion still goes on.\n",
            shown(&feed)
        ),
        false => format!("{} is looked after again.\n", shown(&feed)),
    })
}

fn shown(feed: &StockFeed) -> String {
    format!("{}/{}", feed.namespace().unwrap_or_default(), feed.name_any())
}

/// A change that waits until the feed is looked after again.
fn while_paused(feed: &StockFeed) -> String {
    match labels::is_paused(feed.annotations()) {
        true => format!(
            "It is paused: this is done when it is unpaused (kubectl stockfeed unpause {} -n {}).\n",
            feed.name_any(),
            feed.namespace().unwrap_or_default()
        ),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;
    use crate::explain::tests::feed;

    fn waiting(text: &str) -> Progress {
        Progress::Waiting(text.to_owned())
    }

    #[rstest]
    #[case::drained(("True", "Drained", ""), 1, Progress::Drained)]
    #[case::draining(("False", "Draining", "12 messages are left"), 1, waiting("12 messages are left (backlog 12)"))]
    #[case::of_an_earlier_spec(("True", "Drained", ""), 2, waiting("waiting for the operator"))]
    #[case::not_begun(("False", "NotSuspended", ""), 2, waiting("waiting for the operator"))]
    fn a_drain_ends_only_with_proof_of_this_suspension(
        #[case] (status, reason, message): (&str, &str, &str),
        #[case] generation: i64,
        #[case] expected: Progress,
    ) {
        let mut feed = feed(&[("Suspended", status, reason, message)]);
        feed.spec.suspend = true;
        feed.metadata.generation = Some(generation);
        feed.status.as_mut().unwrap().backlog = Some(12);
        assert_eq!(progress(&feed), expected);
    }

    #[test]
    fn a_drain_that_cannot_end_says_so() {
        let mut feed = feed(&[]);
        assert!(matches!(progress(&feed), Progress::Never(why) if why.contains("resumed")));
        feed.spec.suspend = true;
        feed.annotations_mut()
            .insert(labels::PAUSED.to_owned(), "true".to_owned());
        assert!(matches!(progress(&feed), Progress::Never(why) if why.contains("unpause")));
        assert!(while_paused(&feed).contains("kubectl stockfeed unpause tech -n markets"));
    }
}
