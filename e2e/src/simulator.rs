//! A simulator of a test's own, from the image that the chart runs.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Secret, Service},
};
use kube::api::PostParams;
use serde::Deserialize;
use serde_json::json;

use crate::{RELEASE, SYSTEM, cluster::Cluster, forward::Forward, workload};

/// Name of its Deployment, Service and Secret.
const NAME: &str = "simulator";

/// A running simulator, and a way to its control endpoint.
#[derive(Debug)]
pub struct Simulator {
    control: Forward,
    client: reqwest::Client,
}

/// How far a replay is.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Whether every symbol has been served to the end.
    pub exhausted: bool,
    /// Of a replay by step: each symbol's place.
    #[serde(default)]
    pub progress: BTreeMap<String, Progress>,
}

/// A symbol's place in a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Progress {
    /// Different quotes served.
    pub served: usize,
    /// Quotes there are.
    pub total: usize,
}

impl Simulator {
    /// Starts one in a namespace, with these arguments, and waits until it answers there as [`base_url`] says.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(
        cluster: &Cluster,
        namespace: &str,
        api_key: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let chart = cluster
            .api::<Deployment>(SYSTEM)
            .get(&format!("{RELEASE}-simulator"))
            .await;
        let chart = chart.context("the chart was installed without its simulator")?;
        let containers = chart
            .spec
            .and_then(|spec| spec.template.spec)
            .map(|pod| pod.containers)
            .unwrap_or_default();
        let image = containers
            .into_iter()
            .next()
            .and_then(|container| container.image);
        let image = image.context("the chart's simulator has no image")?;

        let labels = json!({"app.kubernetes.io/name": NAME});
        let mut all = vec!["--api-key-file=/etc/simulator/apiKey"];
        all.extend(arguments);
        let secret: Secret =
            serde_json::from_value(json!({"metadata": {"name": NAME}, "stringData": {"apiKey": api_key}}))?;
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": NAME},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 8090}]},
        }))?;
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": NAME},
            "spec": {
                "selector": {"matchLabels": labels},
                "strategy": {"type": "Recreate"},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "automountServiceAccountToken": false,
                        "terminationGracePeriodSeconds": 1,
                        "securityContext": {
                            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "containers": [{
                            "name": NAME,
                            "image": image,
                            "args": all,
                            "readinessProbe": {"httpGet": {"path": "/health", "port": 8090}, "periodSeconds": 1},
                            "securityContext": {
                                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                            },
                            "volumeMounts": [{"name": "key", "mountPath": "/etc/simulator", "readOnly": true}],
                        }],
                        "volumes": [{"name": "key", "secret": {"secretName": NAME, "defaultMode": 0o440}}],
                    },
                },
            },
        }))?;
        let parameters = PostParams::default();
        cluster
            .api::<Secret>(namespace)
            .create(&parameters, &secret)
            .await?;
        cluster
            .api::<Service>(namespace)
            .create(&parameters, &service)
            .await?;
        cluster
            .api::<Deployment>(namespace)
            .create(&parameters, &deployment)
            .await?;
        workload::await_available(cluster, namespace, NAME, Duration::from_secs(60)).await?;
        Ok(Self {
            control: Forward::open(
                cluster,
                namespace,
                &format!("app.kubernetes.io/name={NAME}"),
                8091,
            )
            .await?,
            client: reqwest::Client::new(),
        })
    }

    /// How far it is.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn report(&self) -> Result<Report> {
        let url = format!("{}/control/state", self.control.url());
        let response = self
            .client
            .get(url)
            .send()
            .await
            .context("the simulator does not answer")?;
        response
            .error_for_status()?
            .json()
            .await
            .context("the simulator answered something else")
    }
}

/// Its address, as a feed's `baseUrl`.
#[must_use]
pub fn base_url(namespace: &str) -> String {
    format!("http://{NAME}.{namespace}.svc:8090/stable")
}
