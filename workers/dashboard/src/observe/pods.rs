//! A feed's pods, as the API server has them: where they are, since when, and how they ended.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use operator::labels::Component;
use serde::Serialize;

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSeen {
    pub name: String,
    pub component: Component,
    pub address: Option<IpAddr>,
    pub node: Option<String>,
    pub phase: String,
    pub ready: bool,
    pub ending: bool,
    pub created_at: Option<Timestamp>,
    pub scheduled_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub ready_at: Option<Timestamp>,
    pub restarts: i32,
    pub last_exit: Option<Exit>,
    pub waiting: Option<Waiting>,
    pub image: Option<String>,
    pub cpu_limit: Option<String>,
    pub cpu_request: Option<String>,
    pub memory_limit: Option<u64>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    pub reason: Option<String>,
    pub exit_code: i32,
    pub at: Option<Timestamp>,
    pub message: Option<String>,
}

/// Why a container does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: Option<String>,
}

impl PodSeen {
    /// From the object; `None` for a pod that is no worker's.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        let component = match pod.labels().get("app.kubernetes.io/component")?.as_str() {
            "producer" => Component::Producer,
            "processor" => Component::Processor,
            _ => return None,
        };
        let status = pod.status.clone().unwrap_or_default();
        let spec = pod.spec.as_ref();
        let container = spec.and_then(|spec| {
            spec.containers
                .iter()
                .find(|container| container.name == component.name())
        });
        let of_container = |container: &&ContainerStatus| container.name == component.name();
        let seen = status
            .container_statuses
            .as_ref()
            .and_then(|all| all.iter().find(of_container));
        let state = seen.and_then(|seen| seen.state.as_ref());
        let when = |kind: &str| {
            let conditions = status.conditions.as_ref()?;
            let found = conditions
                .iter()
                .find(|condition| condition.type_ == kind && condition.status == "True")?;
            found.last_transition_time.as_ref().map(|time| time.0)
        };
        let ended = |state: &k8s_openapi::api::core::v1::ContainerState| {
            let ended = state.terminated.as_ref()?;
            Some(Exit {
                reason: ended.reason.clone(),
                exit_code: ended.exit_code,
                at: ended.finished_at.as_ref().map(|time| time.0),
                message: ended.message.clone(),
            })
        };
        let resources = container.and_then(|container| container.resources.as_ref());
        let limit = |kind: &str| Some(resources?.limits.as_ref()?.get(kind)?.0.clone());
        let request = |kind: &str| Some(resources?.requests.as_ref()?.get(kind)?.0.clone());
        Some(Self {
            name: pod.name_any(),
            component,
            address: status.pod_ip.as_ref().and_then(|ip| ip.parse().ok()),
            node: spec.and_then(|spec| spec.node_name.clone()),
            phase: status.phase.clone().unwrap_or_else(|| "Unknown".to_owned()),
            ready: when("Ready").is_some(),
            ending: pod.metadata.deletion_timestamp.is_some(),
            created_at: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            scheduled_at: when("PodScheduled"),
            started_at: state
                .and_then(|state| state.running.as_ref()?.started_at.as_ref())
                .map(|time| time.0),
            ready_at: when("Ready"),
            restarts: seen.map_or(0, |seen| seen.restart_count),
            last_exit: state
                .and_then(ended)
                .or_else(|| seen.and_then(|seen| seen.last_state.as_ref()).and_then(ended)),
            waiting: state
                .and_then(|state| state.waiting.as_ref())
                .map(|waiting| Waiting {
                    reason: waiting.reason.clone().unwrap_or_default(),
                    message: waiting.message.clone(),
                }),
            image: container.and_then(|container| container.image.clone()),
            cpu_limit: limit("cpu"),
            cpu_request: request("cpu"),
            memory_limit: limit("memory").as_deref().and_then(bytes),
        })
    }
}

/// A quantity of memory.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let (digits, unit) = UNITS
        .into_iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|digits| (digits, unit)))
        .unwrap_or((text, 1));
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// A quantity of CPU, in cores.
#[must_use]
pub fn cores(text: &str) -> Option<f64> {
    match text.strip_suffix('m') {
        Some(thousandths) => Some(thousandths.parse::<f64>().ok()? / 1000.0),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_was_killed_tells_why() {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "tech-processor-1", "labels": {"app.kubernetes.io/component": "processor"}},
            "spec": {"nodeName": "node-1", "containers": [{"name": "processor", "image": "p:1", "resources": {"limits": {"memory": "256Mi"}}}]},
            "status": {"phase": "Running", "podIP": "10.0.0.7",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-27T14:00:05Z"}],
                "containerStatuses": [{"name": "processor", "ready": true, "restartCount": 2, "image": "p:1", "imageID": "",
                    "state": {"running": {"startedAt": "2026-11-27T14:00:00Z"}},
                    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-11-27T13:59:58Z"}}}]},
        }))
        .unwrap();
        let seen = PodSeen::of(&pod).unwrap();
        assert_eq!(
            (seen.restarts, seen.ready, seen.memory_limit),
            (2, true, Some(256 << 20))
        );
        let exit = seen.last_exit.unwrap();
        assert_eq!((exit.reason.as_deref(), exit.exit_code), (Some("OOMKilled"), 137));
    }

    #[rstest]
    #[case("256Mi", Some(268_435_456))]
    #[case("1G", Some(1_000_000_000))]
    #[case("77", Some(77))]
    #[case("a lot", None)]
    fn memory(#[case] text: &str, #[case] expected: Option<u64>) {
        assert_eq!(bytes(text), expected);
    }

    #[rstest]
    #[case("250m", Some(0.25))]
    #[case("2", Some(2.0))]
    #[case("", None)]
    fn cpu(#[case] text: &str, #[case] expected: Option<f64>) {
        assert_eq!(cores(text), expected);
    }
}
