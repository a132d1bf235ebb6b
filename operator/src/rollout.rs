//! Which generations of queues the pods of a worker may use. Pure.
//!
//! Every pod carries the generation in an annotation. A Deployment's counts leave out pods that are on their way out, and
//! such a pod may publish until it is gone: pods are looked at themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::ResourceExt as _;

use crate::{
    generations::is_number,
    labels::{CONFIG_HASH, QUEUE_GENERATION},
};

/// Which generations of queues the pods of a worker may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Those of its living pods and of its Deployment. 0: of a pod that does not say, which may be any.
    pub generations: BTreeSet<u32>,
    /// The configurations that its living pods and its Deployment were made with, by their hashes; empty: of one that does not say.
    pub hashes: BTreeSet<String>,
    /// No new pod of an earlier Deployment can appear any more.
    pub settled: bool,
    /// Its living pods, those on their way out included.
    pub pods: usize,
    /// How many pods the Deployment asks for; `None` when there is no Deployment.
    pub replicas: Option<u16>,
    /// Its pods that have an address and are not on their way out, by name.
    pub addresses: BTreeMap<String, Address>,
    /// Whether pods are on their way out.
    pub leaving: bool,
    /// The image of its Deployment.
    pub image: Option<String>,
    /// What keeps one of its pods from running, in the kubelet's word.
    pub trouble: Option<String>,
}

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its address.
    pub ip: IpAddr,
    /// The pod, and no later one of its name.
    pub uid: String,
}

impl Address {
    /// Of a pod that can be asked: it has an address, and nobody asked it to end.
    fn of(pod: &Pod) -> Option<(String, Self)> {
        let ip = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        let there = pod.metadata.deletion_timestamp.is_none();
        there.then(|| {
            let uid = pod.uid().unwrap_or_default();
            (pod.name_any(), Self { ip, uid })
        })
    }
}

impl Rollout {
    /// What the Deployment and the living pods say.
    #[must_use]
    pub fn new<'a>(deployment: Option<&Deployment>, living: impl IntoIterator<Item = &'a Pod>) -> Self {
        let living: Vec<_> = living.into_iter().collect();
        let template = deployment
            .and_then(|deployment| deployment.spec.as_ref())
            .map(|spec| {
                spec.template
                    .metadata
                    .as_ref()
                    .and_then(|meta| meta.annotations.as_ref())
            });
        let of_template =
            template.map(|annotations| generation(annotations.and_then(|all| all.get(QUEUE_GENERATION))));
        let of_pods = living
            .iter()
            .map(|pod| generation(pod.annotations().get(QUEUE_GENERATION)));
        let hash = |text: Option<&String>| text.cloned().unwrap_or_default();
        let hash_of_template =
            template.map(|annotations| hash(annotations.and_then(|all| all.get(CONFIG_HASH))));
        let hashes_of_pods = living.iter().map(|pod| hash(pod.annotations().get(CONFIG_HASH)));
        Self {
            hashes: hash_of_template.into_iter().chain(hashes_of_pods).collect(),
            generations: of_template.into_iter().chain(of_pods).collect(),
            settled: deployment.is_none_or(is_settled),
            pods: living.len(),
            replicas: deployment
                .and_then(|deployment| deployment.spec.as_ref()?.replicas)
                .and_then(|replicas| u16::try_from(replicas).ok()),
            addresses: living.iter().copied().filter_map(Address::of).collect(),
            leaving: living.iter().any(|pod| pod.metadata.deletion_timestamp.is_some()),
            image: deployment.and_then(image),
            trouble: living.iter().find_map(|pod| trouble(pod)),
        }
    }

    /// The oldest generation that a pod may use; `None` when there is neither a pod nor a Deployment.
    #[must_use]
    pub fn oldest(&self) -> Option<u32> {
        self.generations.first().copied()
    }

    /// The newest generation that a pod may use; `None` when there is neither a pod nor a Deployment.
    #[must_use]
    pub fn newest(&self) -> Option<u32> {
        self.generations.last().copied()
    }

    /// Whether all pods there are were made with this configuration, and all that come will be.
    #[must_use]
    pub fn all_of(&self, hash: &str) -> bool {
        self.settled && self.hashes.iter().all(|of_pod| of_pod == hash)
    }

    /// Whether no pod uses this generation or an older one, and none ever will.
    #[must_use]
    pub fn has_left(&self, generation: u32) -> bool {
        self.settled && self.oldest().is_none_or(|oldest| oldest > generation)
    }
}

/// Whether the Deployment's newest form is the only one that pods are made of. Whether those pods are available does not
/// matter: a producer whose source is down has left its old queues as well.
fn is_settled(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) == status.replicas.unwrap_or(0)
}

/// The image of a Deployment's first container.
#[must_use]
pub fn image(deployment: &Deployment) -> Option<String> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.first()?.image.clone()
}

/// What keeps a pod's container from running: it cannot be pulled, or ends again and again.
fn trouble(pod: &Pod) -> Option<String> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let waiting = containers
        .iter()
        .find_map(|container| container.state.as_ref()?.waiting.as_ref());
    let reason = waiting?.reason.as_deref()?;
    // Not a trouble, only a beginning.
    let begins = ["ContainerCreating", "PodInitializing"].contains(&reason);
    (!begins).then(|| format!("pod {}: {reason}", pod.name_any()))
}

fn generation(annotation: Option<&String>) -> u32 {
    annotation
        .and_then(|text| text.parse().ok())
        .filter(|generation| is_number(*generation))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn deployment(generation: u32, metadata: i64, observed: i64, replicas: i32, updated: i32) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"generation": metadata},
            "spec": {"selector": {}, "template": {"metadata": {"annotations": {QUEUE_GENERATION: generation.to_string()}}}},
            "status": {"observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated},
        }))
        .unwrap()
    }

    fn pod(annotations: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap()
    }

    fn pods(generations: &[u32]) -> Vec<Pod> {
        let of = |generation: &u32| pod(&json!({QUEUE_GENERATION: generation.to_string()}));
        generations.iter().map(of).collect()
    }

    #[rstest]
    #[case::nothing_there(None, &[], true)]
    #[case::moved(Some(deployment(2, 5, 5, 1, 1)), &[2], true)]
    #[case::suspended(Some(deployment(2, 5, 5, 0, 0)), &[], true)]
    #[case::suspended_and_ending(Some(deployment(2, 5, 5, 0, 0)), &[1], false)]
    #[case::an_old_pod_lives(Some(deployment(2, 5, 5, 1, 1)), &[1, 2], false)]
    #[case::not_looked_at(Some(deployment(2, 5, 4, 1, 1)), &[2], false)]
    #[case::an_old_replica(Some(deployment(2, 5, 5, 2, 1)), &[2], false)]
    #[case::not_changed_yet(Some(deployment(1, 4, 4, 1, 1)), &[1], false)]
    #[case::only_an_orphan(None, &[1], false)]
    fn a_generation_is_left_when_nothing_can_use_it(
        #[case] deployment: Option<Deployment>,
        #[case] living: &[u32],
        #[case] left: bool,
    ) {
        let rollout = Rollout::new(deployment.as_ref(), &pods(living));
        assert_eq!(rollout.has_left(1), left, "{rollout:?}");
    }

    #[test]
    fn a_pod_that_does_not_say_may_use_any() {
        let rollout = Rollout::new(Some(&deployment(2, 1, 1, 1, 1)), &[pod(&json!({}))]);
        assert_eq!(rollout.oldest(), Some(0));
        assert!(!rollout.has_left(1) && rollout.settled);
    }
}
