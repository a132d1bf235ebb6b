//! The finalizer: a feed is not gone before what it has outside the cluster is.

use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use snafu::ResultExt as _;

use super::{Error, KubernetesSnafu};
use crate::{
    api::{FINALIZER, StockFeed},
    context::Context,
    labels,
};

/// Puts our finalizer on a feed, before anything is made that would outlive it.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn hold(ctx: &Context, feed: &StockFeed) -> Result<(), Error> {
    let mut finalizers = feed.finalizers().to_vec();
    if finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(());
    }
    finalizers.push(FINALIZER.to_owned());
    set(ctx, feed, finalizers).await
}

/// Removes the finalizer: Kubernetes takes the rest away through its owner. The feed is read once more, because its status was
/// written meanwhile.
pub(super) async fn release(ctx: &Context, feed: &StockFeed) -> Result<(), Error> {
    let action = "read the feed once more";
    let api = Api::<StockFeed>::namespaced(ctx.client.clone(), &feed.namespace().unwrap_or_default());
    let found = api
        .get_opt(&feed.name_any())
        .await
        .context(KubernetesSnafu { action })?;
    if let Some(found) = found.filter(|found| found.uid() == feed.uid()) {
        let mut finalizers = found.finalizers().to_vec();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        set(ctx, &found, finalizers).await?;
    }
    let uid = feed.uid().unwrap_or_default();
    ctx.memory.forget(&uid);
    ctx.drains.forget(&uid);
    ctx.scalings.forget(&uid);
    ctx.backoff.reset(&uid);
    Ok(())
}

/// Replaces the list, unless somebody changed the object meanwhile.
async fn set(ctx: &Context, feed: &StockFeed, finalizers: Vec<String>) -> Result<(), Error> {
    let namespace = feed.namespace().unwrap_or_default();
    let api = Api::<StockFeed>::namespaced(ctx.client.clone(), &namespace);
    let patch = json!({
        "metadata": {"finalizers": finalizers, "resourceVersion": feed.resource_version()},
    });
    let parameters = PatchParams {
        field_manager: Some(labels::MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api
        .patch(&feed.name_any(), &parameters, &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(source).context(KubernetesSnafu {
            action: "change the feed's finalizers",
        }),
    }
}
