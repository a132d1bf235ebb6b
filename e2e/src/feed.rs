//! Feeds, as users write and read them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use contract::names::FeedName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{RELEASE, SYSTEM, cluster::Cluster, wait};

/// The chart's simulator, as a feed's `baseUrl`.
#[must_use]
pub fn chart_simulator() -> String {
    format!("http://{RELEASE}-simulator.{SYSTEM}.svc:8090/stable")
}

/// A valid spec with one symbol, from the chart's simulator; everything of it goes with the feed.
#[must_use]
pub fn spec() -> Value {
    json!({
        "symbols": ["AAPL"],
        "source": {"fmp": {
            "apiKeySecretRef": {"name": "fmp"},
            "baseUrl": chart_simulator(),
            "plan": "Ultimate",
            "delay": "1s",
        }},
        "interval": "1s",
        "processing": {"partitions": 2, "windows": ["1m", "1d"]},
        "deletionPolicy": "Delete",
    })
}

/// The whole resource.
#[must_use]
pub fn manifest(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "stockfeed.dev/v1alpha1",
        "kind": "StockFeed",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

/// The feeds of a namespace.
#[must_use]
pub fn api(cluster: &Cluster, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("stockfeed.dev", "v1alpha1", "StockFeed");
    let resource = ApiResource::from_gvk_with_plural(&kind, "stockfeeds");
    Api::namespaced_with(cluster.client.clone(), namespace, &resource)
}

/// One feed in the cluster.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Its names, in Kubernetes and elsewhere.
    pub name: FeedName,
    api: Api<DynamicObject>,
}

impl Feed {
    /// A feed that is there, or will be.
    ///
    /// # Errors
    /// When the name is none.
    pub fn new(cluster: &Cluster, namespace: &str, name: &str) -> Result<Self> {
        Ok(Self {
            name: FeedName::new(namespace, name)?,
            api: api(cluster, namespace),
        })
    }

    /// Applies a spec.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn apply(&self, spec: &Value) -> Result<()> {
        let manifest = manifest(self.name.namespace(), self.name.name(), spec);
        let parameters = PatchParams::apply("e2e").force();
        self.api
            .patch(self.name.name(), &parameters, &Patch::Apply(manifest))
            .await?;
        Ok(())
    }

    /// Asks for the deletion, and does not wait for it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete(&self) -> Result<()> {
        self.api
            .delete(self.name.name(), &DeleteParams::default())
            .await?;
        Ok(())
    }

    /// Puts a finalizer of the test's own on it, or takes it off again: so it can be looked at when the operator is done with it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn set_finalizer(&self, finalizer: Option<&str>) -> Result<()> {
        let object = self.get().await?;
        let mut all = object.finalizers().to_vec();
        all.retain(|one| !one.starts_with("e2e."));
        all.extend(finalizer.map(str::to_owned));
        let patch = json!({"metadata": {"finalizers": all, "resourceVersion": object.resource_version()}});
        self.api
            .patch(self.name.name(), &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Gives it an annotation.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn annotate(&self, key: &str, text: &str) -> Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {key: text}}}));
        self.api
            .patch_metadata(self.name.name(), &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// Waits until the resource is gone.
    ///
    /// # Errors
    /// When it is still there after that time.
    pub async fn await_gone(&self, within: Duration) -> Result<()> {
        wait::until(&format!("{} is gone", self.name), within, async || {
            let object = self.api.get_opt(self.name.name()).await?;
            let why = object
                .as_ref()
                .and_then(|object| condition(object, "Ready"))
                .map(|ready| ready.message);
            ensure!(object.is_none(), "it is still there: {}", why.unwrap_or_default());
            Ok(())
        })
        .await
    }

    /// The resource.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn get(&self) -> Result<DynamicObject> {
        Ok(self.api.get(self.name.name()).await?)
    }

    /// Waits until a condition has a status, about the newest spec.
    ///
    /// # Errors
    /// When it has not within that time; the error says what it has.
    pub async fn await_condition(&self, kind: &str, status: &str, within: Duration) -> Result<Condition> {
        wait::until(
            &format!("{}: {kind} is {status}", self.name),
            within,
            async || {
                let object = self.get().await?;
                let found = condition(&object, kind).context("the condition is not there yet")?;
                let explained = format!("{kind} is {}, {}: {}", found.status, found.reason, found.message);
                ensure!(found.status == status, "{explained}");
                ensure!(
                    found.observed_generation == object.metadata.generation,
                    "{explained}, of an older spec"
                );
                Ok(found)
            },
        )
        .await
    }

    /// Waits until everything works.
    ///
    /// # Errors
    /// When it does not within that time.
    pub async fn await_ready(&self, within: Duration) -> Result<()> {
        self.await_condition("Ready", "True", within).await.map(|_| ())
    }

    /// Selects the pods of a worker.
    #[must_use]
    pub fn selector(&self, component: &str) -> String {
        format!(
            "app.kubernetes.io/managed-by=stockfeed-operator,app.kubernetes.io/instance={},app.kubernetes.io/component={component}",
            self.name.name()
        )
    }
}

/// A condition of a feed.
#[must_use]
pub fn condition(feed: &DynamicObject, kind: &str) -> Option<Condition> {
    let conditions = feed.data.get("status")?.get("conditions")?;
    let conditions: Vec<Condition> = serde_json::from_value(conditions.clone()).ok()?;
    conditions.into_iter().find(|condition| condition.type_ == kind)
}
