//! The installed operator, with other options for as long as a test runs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{RELEASE, SYSTEM, cluster::Cluster, say, workload};

/// How long a new form of the operator may take to be there.
const ROLLED: Duration = Duration::from_secs(120);

/// The operator's options, as its Deployment gives them.
#[derive(Clone, Debug)]
pub struct Options {
    arguments: Vec<String>,
}

impl Options {
    /// As they are now.
    ///
    /// # Errors
    /// When the operator is not installed.
    pub async fn read(cluster: &Cluster) -> Result<Self> {
        let deployment = cluster.api::<Deployment>(SYSTEM).get(&name()).await?;
        let pod = deployment.spec.and_then(|spec| spec.template.spec);
        let container = pod.and_then(|pod| pod.containers.into_iter().next());
        let arguments = container.and_then(|container| container.args);
        Ok(Self {
            arguments: arguments.context("the operator has no arguments")?,
        })
    }

    /// The value of an option.
    ///
    /// # Errors
    /// When the option is not given.
    pub fn value(&self, option: &str) -> Result<&str> {
        let prefix = format!("--{option}=");
        let mut values = self
            .arguments
            .iter()
            .filter_map(|argument| argument.strip_prefix(&prefix));
        values
            .next()
            .with_context(|| format!("the operator has no option --{option}"))
    }

    /// The same with another value of an option.
    #[must_use]
    pub fn with(&self, option: &str, value: &str) -> Self {
        let prefix = format!("--{option}=");
        let mut arguments = self.arguments.clone();
        arguments.retain(|argument| !argument.starts_with(&prefix));
        arguments.push(format!("{prefix}{value}"));
        Self { arguments }
    }

    /// Gives them to the operator, and waits until no operator with others is left.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn apply(&self, cluster: &Cluster) -> Result<()> {
        let patch = json!({"spec": {"template": {"spec": {
            "containers": [{"name": "operator", "args": self.arguments}],
        }}}});
        cluster
            .api::<Deployment>(SYSTEM)
            .patch(&name(), &PatchParams::default(), &Patch::Strategic(patch))
            .await?;
        workload::await_available(cluster, SYSTEM, &name(), ROLLED).await
    }
}

/// Runs a test while the operator has these options beside its own, and gives it its own back whatever comes of the test.
///
/// # Errors
/// Those of the test.
pub async fn with_options(
    cluster: &Cluster,
    options: &[(&str, &str)],
    test: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let own = Options::read(cluster).await?;
    let other = options
        .iter()
        .fold(own.clone(), |all, (option, value)| all.with(option, value));
    say(format!("the operator gets {options:?}"));
    let result = match other.apply(cluster).await {
        Ok(()) => test().await,
        Err(error) => Err(error),
    };
    say("the operator gets its own options back");
    let restored = own.apply(cluster).await;
    result?;
    ensure!(restored.is_ok(), "the operator did not come back: {restored:?}");
    Ok(())
}

fn name() -> String {
    format!("{RELEASE}-operator")
}
