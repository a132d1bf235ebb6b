//! Where a server of the cluster can be reached from outside of it: the pods behind its Service.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context as _, Result, anyhow, bail};
use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{Api, ResourceExt as _, api::ListParams};

use crate::cluster::Cluster;

/// The pods behind a Service, and the port of theirs that it leads to.
pub struct Backend {
    pods: Api<Pod>,
    selector: String,
    port: IntOrString,
    service: String,
}

impl Backend {
    /// A pod that is ready, and the port.
    ///
    /// # Errors
    /// When none runs, or pods cannot be listed.
    pub async fn pod(&self) -> Result<(String, u16)> {
        let selected = ListParams::default().labels(&self.selector);
        let pods = self.pods.list(&selected).await.map_err(plain)?.items;
        let pod = pods
            .iter()
            .find(|pod| is_ready(pod))
            .or_else(|| pods.iter().find(|pod| is_running(pod)))
            .with_context(|| format!("no pod of Service {} runs", self.service))?;
        let port = target(&self.port, pod)
            .with_context(|| format!("a pod of Service {} has no port {:?}", self.service, self.port))?;
        Ok((pod.name_any(), port))
    }

    /// The pods' API.
    #[must_use]
    pub fn pods(&self) -> &Api<Pod> {
        &self.pods
    }
}

/// The pods behind a host, as pods of a namespace know it. `None`: it is not in the cluster, and is reached as it is.
///
/// # Errors
/// When it is a Service that cannot be read, or leads to no pods.
pub async fn to_host(cluster: &Cluster, namespace: &str, host: &str, port: u16) -> Result<Option<Backend>> {
    let Some(place) = service_of(host, namespace) else {
        return Ok(None);
    };
    let services = cluster.api::<Service>(&place.namespace);
    match services.get_opt(&place.name).await.map_err(plain)? {
        Some(service) => behind(cluster, &place.namespace, &service, port),
        None if place.surely => bail!("there is no Service {}/{}", place.namespace, place.name),
        None => Ok(None),
    }
}

/// The pods behind a Service that is there.
///
/// # Errors
/// When it is not there, or leads to no pods.
pub async fn to_service(cluster: &Cluster, namespace: &str, name: &str, port: u16) -> Result<Backend> {
    let found = cluster.api::<Service>(namespace).get_opt(name).await;
    let service = found.map_err(plain)?.with_context(|| {
        format!("there is no Service {namespace}/{name}: the feed has not come so far yet")
    })?;
    behind(cluster, namespace, &service, port)?
        .with_context(|| format!("Service {namespace}/{name} leads out of the cluster"))
}

fn behind(cluster: &Cluster, namespace: &str, service: &Service, port: u16) -> Result<Option<Backend>> {
    let name = format!("{namespace}/{}", service.name_any());
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Ok(None);
    }
    let Some(selector) = spec.selector.filter(|selector| !selector.is_empty()) else {
        bail!("Service {name} selects no pods: what is behind it has to be reached in another way");
    };
    let port = spec
        .ports
        .iter()
        .flatten()
        .find(|one| one.port == i32::from(port))
        .map(|one| one.target_port.clone().unwrap_or(IntOrString::Int(one.port)))
        .with_context(|| format!("Service {name} has no port {port}"))?;
    Ok(Some(Backend {
        pods: cluster.api(namespace),
        selector: selector_text(&selector),
        port,
        service: name,
    }))
}

/// A Service that a host may be the name of.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    namespace: String,
    name: String,
    /// Whether it can be nothing else.
    surely: bool,
}

/// Reads `name`, `name.namespace`, `name.namespace.svc` and `name.namespace.svc.DOMAIN`.
fn service_of(host: &str, namespace: &str) -> Option<Place> {
    if host.parse::<IpAddr>().is_ok() || host.starts_with('[') {
        return None;
    }
    let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let (name, namespace, surely) = match labels.as_slice() {
        [name] => (*name, namespace, false),
        [name, namespace] => (*name, *namespace, false),
        [name, namespace, "svc", ..] => (*name, *namespace, true),
        _ => return None,
    };
    Some(Place {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        surely,
    })
}

fn selector_text(selector: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

fn target(port: &IntOrString, pod: &Pod) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .flat_map(|container| container.ports.iter().flatten())
            .find(|port| port.name.as_ref() == Some(name))
            .and_then(|port| u16::try_from(port.container_port).ok()),
    }
}

fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    is_running(pod)
        && conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// An error as a sentence; kube shows the whole answer.
pub fn plain(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(answer) => anyhow!("{}", answer.message),
        other => anyhow::Error::new(other).context("the API server does not answer"),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("pg", Some(("markets", "pg", false)))]
    #[case("pg.db", Some(("db", "pg", false)))]
    #[case("pg.db.svc", Some(("db", "pg", true)))]
    #[case("pg.db.svc.cluster.local.", Some(("db", "pg", true)))]
    #[case("pg.example.com", None)]
    #[case("10.0.0.7", None)]
    #[case("[fd00::7]", None)]
    fn a_host_may_be_a_service(#[case] host: &str, #[case] expected: Option<(&str, &str, bool)>) {
        let expected = expected.map(|(namespace, name, surely)| Place {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            surely,
        });
        assert_eq!(service_of(host, "markets"), expected);
    }

    #[test]
    fn a_named_port_is_looked_up_in_the_pod() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "a"}, {"name": "b", "ports": [{"name": "http", "containerPort": 8001}]},
        ]}}))
        .unwrap();
        assert_eq!(target(&IntOrString::String("http".to_owned()), &pod), Some(8001));
        assert_eq!(target(&IntOrString::String("other".to_owned()), &pod), None);
        assert_eq!(target(&IntOrString::Int(5432), &pod), Some(5432));
    }

    #[rstest]
    #[case::ready("Running", "True", false, true)]
    #[case::not_ready("Running", "False", false, false)]
    #[case::ended("Succeeded", "True", false, false)]
    #[case::ending("Running", "True", true, false)]
    fn only_what_runs_is_ready(
        #[case] phase: &str,
        #[case] ready: &str,
        #[case] ending: bool,
        #[case] expected: bool,
    ) {
        let mut pod: Pod = serde_json::from_value(json!({"metadata": {}, "status": {
            "phase": phase, "conditions": [{"type": "Ready", "status": ready}],
        }}))
        .unwrap();
        if ending {
            pod.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-27T12:00:00Z")).unwrap();
        }
        assert_eq!(is_ready(&pod), expected);
    }
}
