//! What of a feed's pods keeps it from being Ready: what the conditions can only count.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{ResourceExt as _, api::ListParams};
use operator::{
    api::{
        StockFeed,
        status::{ConditionType, reason},
    },
    labels::{self, Component},
};

use crate::{
    cluster::Cluster,
    explain::{Explanation, Finding},
};

/// Puts what is wrong with a worker's pods behind the cause that it is the reason for. Who may not list pods gets the rest.
pub async fn look(cluster: &Cluster, feed: &StockFeed, explanation: &mut Explanation) {
    let name = feed.name_any();
    for component in [Component::Producer, Component::Processor] {
        let stage = match component {
            Component::Producer => ConditionType::ProducerReady,
            Component::Processor => ConditionType::ProcessorReady,
        };
        let Some(place) = explanation.causes.iter().position(|cause| {
            cause.kind == stage.name()
                && [reason::PROGRESSING, reason::PROGRESS_DEADLINE_EXCEEDED].contains(&cause.reason.as_str())
        }) else {
            continue;
        };
        let selected = ListParams::default().labels(&labels::selector_text(&name, component));
        let listed = cluster.api::<Pod>(cluster.namespace()).list(&selected).await;
        let found: Vec<_> = match listed {
            Ok(pods) => pods.items.iter().filter_map(trouble).collect(),
            Err(kube::Error::Api(answer)) => {
                vec![note(&format!("pods cannot be listed: {}", answer.message))]
            }
            Err(_) => vec![note("pods cannot be listed: the API server does not answer")],
        };
        explanation.causes.splice(place + 1..place + 1, found);
    }
}

fn note(message: &str) -> Finding {
    Finding {
        kind: "Pods".to_owned(),
        reason: "NotListed".to_owned(),
        message: message.to_owned(),
        since: None,
        because: None,
        remedy: None,
    }
}

/// What keeps a pod from running, if anything does.
fn trouble(pod: &Pod) -> Option<Finding> {
    let status = pod.status.as_ref()?;
    let finding = |reason: &str, message: &str| Finding {
        kind: format!("Pod {}", pod.name_any()),
        reason: reason.to_owned(),
        message: message.to_owned(),
        since: None,
        because: None,
        remedy: Some(remedy(reason, pod)),
    };
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        return Some(finding(
            condition.reason.as_deref().unwrap_or("Unschedulable"),
            condition.message.as_deref().unwrap_or_default(),
        ));
    }
    status
        .container_statuses
        .iter()
        .flatten()
        .find_map(of_container)
        .map(|(reason, message)| finding(&reason, &message))
}

/// Why a container does not run, or ended.
fn of_container(status: &ContainerStatus) -> Option<(String, String)> {
    let ended = status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    if let Some(ended) = ended.filter(|ended| ended.reason.as_deref() == Some("OOMKilled")) {
        return Some((
            "OOMKilled".to_owned(),
            format!("container {} ended with {}", status.name, ended.exit_code),
        ));
    }
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone()?;
    // These are the way of every pod.
    let usual = ["ContainerCreating", "PodInitializing"];
    (!usual.contains(&reason.as_str())).then(|| (reason, waiting.message.clone().unwrap_or_default()))
}

fn remedy(reason: &str, pod: &Pod) -> String {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    match reason {
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" => {
            "Correct the image in spec.template, or give imagePullSecrets there; without it the operator's own images are used.".to_owned()
        }
        "Unschedulable" => {
            "Give the cluster room, or lower spec.template's resources, nodeSelector and topology constraints.".to_owned()
        }
        "OOMKilled" => "Raise resources.limits.memory in spec.template.".to_owned(),
        "CrashLoopBackOff" | "RunContainerError" => {
            format!("See why it ended: kubectl logs -n {namespace} {name} --previous")
        }
        _ => format!("kubectl describe pod -n {namespace} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::runs(json!({"containerStatuses": [container(&json!({"running": {}}))]}), None)]
    #[case::starts(json!({"containerStatuses": [container(&json!({"waiting": {"reason": "ContainerCreating"}}))]}), None)]
    #[case::no_image(json!({"containerStatuses": [container(&json!({"waiting": {"reason": "ImagePullBackOff"}}))]}), Some("ImagePullBackOff"))]
    #[case::no_room(json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}), Some("Unschedulable"))]
    #[case::too_big(json!({"containerStatuses": [killed()]}), Some("OOMKilled"))]
    fn what_keeps_a_pod_from_running_is_named(#[case] status: Value, #[case] expected: Option<&str>) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap();
        assert_eq!(trouble(&pod).map(|found| found.reason).as_deref(), expected);
    }

    fn container(state: &Value) -> Value {
        json!({"name": "producer", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state})
    }

    fn killed() -> Value {
        let mut container = container(&json!({"running": {}}));
        container["lastState"] = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        container
    }
}
