//! Keeps `/readyz` true: whether feeds can be listed at all.

use std::{sync::Arc, time::Duration};

use kube::{api::ListParams, core::DeserializeGuard};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{api::StockFeed, context::Context, controller::scoped, status::chain};

/// How often the API server is asked whether all is well.
const PROBE_PERIOD: Duration = Duration::from_secs(5);

/// Waits until the custom resource is installed. Returns false when the operator shall end instead.
pub(crate) async fn wait_for_definition(
    ctx: &Context,
    namespaces: &[String],
    token: &CancellationToken,
) -> bool {
    let mut told = false;
    while !look(ctx, namespaces).await {
        if !told {
            warn!(
                problem = ctx.readiness.problem(),
                "Waiting for the custom resource StockFeed"
            );
            told = true;
        }
        tokio::select! {
            () = token.cancelled() => return false,
            () = tokio::time::sleep(PROBE_PERIOD / 2) => {}
        }
    }
    true
}

/// Keeps `/readyz` true, of a leader and of one that stands by.
pub async fn probe(ctx: Arc<Context>, namespaces: Vec<String>, token: CancellationToken) {
    loop {
        look(&ctx, &namespaces).await;
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(PROBE_PERIOD) => {}
        }
    }
}

/// Whether feeds can be listed, which needs everything: an API server, the custom resource, and the right to.
async fn look(ctx: &Context, namespaces: &[String]) -> bool {
    let api = scoped::<DeserializeGuard<StockFeed>>(&ctx.client, namespaces.first());
    let one = ListParams::default().limit(1);
    match api.list(&one).await {
        Ok(_) => {
            ctx.readiness.set_reachable(true);
            ctx.readiness.set_installed(true);
            true
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            ctx.readiness.set_reachable(true);
            ctx.readiness.set_installed(false);
            false
        }
        Err(error) => {
            tracing::debug!(error = %chain(&error), "Could not list feeds");
            ctx.readiness.set_reachable(false);
            false
        }
    }
}
