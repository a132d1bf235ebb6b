//! Pods and Deployments.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStatus, Pod},
};
use kube::{Api, ResourceExt as _, api::ListParams};

use crate::{RELEASE, cluster::Cluster, wait};

/// Selects the pods of a part of the installation: `operator`, `rabbitmq`, `postgresql` or `simulator`.
#[must_use]
pub fn system_selector(component: &str) -> String {
    format!(
        "app.kubernetes.io/name=stockfeed,app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
    )
}

/// A pod of the selector that runs and is not on its way out; a ready one if there is one.
///
/// # Errors
/// When there is none.
pub async fn running_pod(pods: &Api<Pod>, selector: &str) -> Result<Pod> {
    let list = pods.list(&ListParams::default().labels(selector)).await?;
    let mut running: Vec<Pod> = list
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter(|pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running"))
        .collect();
    running.sort_by_key(|pod| !is_ready(pod));
    running
        .into_iter()
        .next()
        .with_context(|| format!("no pod of {selector} runs"))
}

/// Waits until a pod of the selector is ready.
///
/// # Errors
/// When none is within that time.
pub async fn await_ready_pod(
    cluster: &Cluster,
    namespace: &str,
    selector: &str,
    within: Duration,
) -> Result<Pod> {
    let pods = cluster.api::<Pod>(namespace);
    let component = selector.rsplit('=').next().unwrap_or(selector);
    wait::until(
        &format!("a pod of {namespace}/{component} is ready"),
        within,
        async || {
            let pod = running_pod(&pods, selector).await?;
            ensure!(is_ready(&pod), "pod {} is not ready", pod.name_any());
            Ok(pod)
        },
    )
    .await
}

/// Whether a pod's condition Ready is True.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The status of a pod's first container.
#[must_use]
pub fn first_container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// Waits until a Deployment has all its replicas, and no others.
///
/// # Errors
/// When it has not within that time.
pub async fn await_available(cluster: &Cluster, namespace: &str, name: &str, within: Duration) -> Result<()> {
    let deployments = cluster.api::<Deployment>(namespace);
    wait::until(
        &format!("Deployment {namespace}/{name} is available"),
        within,
        async || {
            let deployment = deployments.get(name).await?;
            let wanted = deployment
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(1);
            let Some(status) = &deployment.status else {
                bail!("it has no status yet")
            };
            ensure!(
                status.observed_generation == deployment.metadata.generation,
                "it was not looked at yet"
            );
            let (available, all) = (
                status.available_replicas.unwrap_or(0),
                status.replicas.unwrap_or(0),
            );
            ensure!(
                available == wanted && all == wanted,
                "{available} of {wanted} are available"
            );
            Ok(())
        },
    )
    .await
}
