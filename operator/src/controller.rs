//! The controller: watches feeds and their children, and reconciles what changes.

use std::{
    fmt::Debug,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use futures::{Stream, StreamExt as _, TryStreamExt as _, future, stream};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        Controller, PredicateConfig, WatchStreamExt as _,
        controller::{self, Action},
        reflector::ObjectRef,
        watcher,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    api::StockFeed,
    children::{Cache, Keep, Packed},
    context::Context,
    dashboards::{self, Dashboards},
    labels::MANAGED_SELECTOR,
    probe::wait_for_definition,
    reconcile::{Error, reconcile},
    scope::Scope,
    status::chain,
};

/// Runs until the token is cancelled: waits for the custom resource, then watches feeds and their children.
pub async fn run(ctx: Arc<Context>, scope: Scope, token: CancellationToken) {
    if wait_for_definition(&ctx, &scope.namespaces, &token).await {
        ctx.readiness.set_running(true);
        // What waits for its turn need not be waited for.
        let turns = Arc::clone(&ctx);
        let ended = token.clone();
        let closing = tokio::spawn(async move {
            ended.cancelled().await;
            turns.turns.close();
        });
        let controllers: Vec<_> = match scope.namespaces.as_slice() {
            [] => vec![watch(&ctx, &scope, None, &token)],
            some => some
                .iter()
                .map(|namespace| watch(&ctx, &scope, Some(namespace), &token))
                .collect(),
        };
        // After the watches were begun: what is there no more can only be told from what was listed.
        let dashboards = dashboards::run::run(&ctx, &scope, &token);
        future::join(future::join_all(controllers), dashboards).await;
        closing.abort();
        ctx.readiness.set_running(false);
    }
}

/// Watches one namespace, or all.
fn watch(
    ctx: &Arc<Context>,
    scope: &Scope,
    namespace: Option<&String>,
    token: &CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let client = &ctx.client;
    let children = &ctx.children;
    let (feeds, writer) = children.feeds.join();
    let feed_changes = watcher(
        scoped::<DeserializeGuard<StockFeed>>(client, namespace),
        scope.feeds(),
    )
    .default_backoff()
    // Who manages which field takes as much memory as the fields.
    .modify(|feed| feed.meta_mut().managed_fields = None)
    .reflect(writer)
    .touched_objects()
    .predicate_filter(wakes, PredicateConfig::default())
    .inspect_ok({
        let ctx = Arc::clone(ctx);
        move |_| ctx.turns.changed()
    });
    let controller = Controller::for_stream(feed_changes, feeds)
        .owns_stream(own(client, namespace, &children.deployments, Keep::Name))
        .owns_stream(own(client, namespace, &children.config_maps, Keep::Name))
        .owns_stream(own(client, namespace, &children.services, Keep::Name))
        .owns_stream(own(client, namespace, &children.service_accounts, Keep::Name))
        .owns_stream(own(client, namespace, &children.network_policies, Keep::Name))
        .owns_stream(own(client, namespace, &children.disruption_budgets, Keep::Name))
        // Pods belong to ReplicaSets, so that they wake no feed; what they bring about shows in their Deployment.
        .owns_stream(own(client, namespace, &children.pods, Keep::Labels))
        .reconcile_on(dashboard_changes(ctx, namespace))
        // As many as there are: whose turn it is says `Context::turns`, which is fair. The controller's own limit picks out of a hash set
        // in its order, so that while more feeds wait than can be served the same ones are served again and again.
        .with_config(controller::Config::default().concurrency(0))
        .graceful_shutdown_on(token.clone().cancelled_owned());
    let results = controller.run(reconcile, error_policy, Arc::clone(ctx));
    results.for_each(|result| async {
        match result {
            // Logged where it happened.
            Ok(_) | Err(controller::Error::ReconcilerFailed(..)) => {}
            // The object is gone: its last reconciliation was its deletion.
            Err(controller::Error::ObjectNotFound(_)) => {}
            Err(error) => warn!(error = %chain(&error), "A watch failed and is started again"),
        }
    })
}

/// Feeds of whose dashboards something else is to be said.
fn dashboard_changes(
    ctx: &Context,
    namespace: Option<&String>,
) -> impl Stream<Item = ObjectRef<DeserializeGuard<StockFeed>>> + Send + use<> {
    let namespace = namespace.cloned();
    let changes = ctx.dashboards.as_ref().map(Dashboards::changes);
    stream::unfold(changes, |changes| async {
        let mut changes = changes?;
        loop {
            match changes.recv().await {
                Ok(name) => return Some((name, Some(changes))),
                // Those that were missed are looked at with the next resync.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    })
    .filter(move |name| {
        future::ready(
            namespace
                .as_ref()
                .is_none_or(|namespace| namespace == name.namespace()),
        )
    })
    .map(|name| ObjectRef::new(name.name()).within(name.namespace()))
}

/// Watches what we have made of one kind, keeps what is there, and gives what changes.
fn own<K>(
    client: &Client,
    namespace: Option<&String>,
    cache: &Cache<Packed<K>>,
    keep: Keep,
) -> impl Stream<Item = Result<Packed<K>, watcher::Error>> + Send + use<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (_, writer) = cache.join();
    let config = watcher::Config::default().labels(MANAGED_SELECTOR);
    watcher(scoped::<K>(client, namespace), config)
        .default_backoff()
        .map_ok(move |event| Packed::event(event, keep))
        .reflect(writer)
        .touched_objects()
}

/// What of a feed wakes its reconciliation: everything but its status, which only we write.
fn wakes(guard: &DeserializeGuard<StockFeed>) -> Option<u64> {
    let meta = guard.meta();
    let mut hasher = DefaultHasher::new();
    meta.uid.hash(&mut hasher);
    meta.generation.hash(&mut hasher);
    meta.labels.hash(&mut hasher);
    meta.annotations.hash(&mut hasher);
    meta.finalizers.hash(&mut hasher);
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    Some(hasher.finish())
}

/// The objects of a namespace, or of all.
pub(crate) fn scoped<K>(client: &Client, namespace: Option<&String>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Errors are all worth another attempt: the API server did not answer, or refused what it may accept later.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
fn error_policy(guard: Arc<DeserializeGuard<StockFeed>>, _: &Error, ctx: Arc<Context>) -> Action {
    Action::requeue(ctx.backoff.next(&guard.uid().unwrap_or_default()))
}
