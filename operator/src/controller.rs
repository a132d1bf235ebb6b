//! The controller: one reconciliation is five steps, each in its own module.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::ListParams,
    core::DeserializeGuard,
    runtime::{
        Controller,
        controller::{self, Action},
        watcher,
    },
};
use snafu::{ResultExt, Snafu};
use strum::{EnumDiscriminants, IntoStaticStr};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    api::{
        StockFeed,
        status::{ConditionType, StockFeedStatus, reason},
    },
    apply::{self, Changes, apply},
    backoff::steady,
    broker,
    build::{Applied, Resources, build},
    cleanup::{self, Progress, cleanup},
    clock,
    context::Context,
    dereference::{self, dereference},
    events::Reason,
    generations::{Decision, Facts, decide},
    labels::MANAGED_SELECTOR,
    leader::NotLeading,
    lifecycle,
    metrics::{Heal, Outcome},
    source,
    status::{self, chain, of_failure, status_of},
    update_status::{self, is_news, update_status},
    validate::{ValidatedFeed, validate},
};

/// How many feeds are reconciled at once. Each holds a few requests and at most two database connections.
const CONCURRENCY: u16 = 16;
/// How soon a feed is looked at again whose queues are drained, for another number of partitions or a suspension.
const REPARTITION_PERIOD: Duration = Duration::from_secs(3);
/// How often the API server is asked whether all is well, for `/readyz`.
const PROBE_PERIOD: Duration = Duration::from_secs(5);

/// Why a reconciliation could not be completed. It is tried again.
#[derive(Debug, Snafu, EnumDiscriminants)]
#[strum_discriminants(
    name(ErrorKind),
    derive(IntoStaticStr),
    doc = "The variants of [`Error`], as words."
)]
pub enum Error {
    /// The feed itself could not be read.
    #[snafu(display("failed to read the feed"))]
    ReadFeed {
        /// Why.
        #[snafu(source(from(kube::Error, Box::new)))]
        source: Box<kube::Error>,
    },
    /// Step 1.
    #[snafu(display("failed to read what the feed refers to"))]
    Dereference {
        /// Why.
        source: dereference::Error,
    },
    /// Step 4.
    #[snafu(display("failed to apply the feed's objects"))]
    Apply {
        /// Why.
        source: apply::Error,
    },
    /// Step 5.
    #[snafu(display("failed to update the feed's status"))]
    UpdateStatus {
        /// Why.
        source: update_status::Error,
    },
    /// Another operator may work by now.
    #[snafu(display("the reconciliation was given up"))]
    Lead {
        /// Why.
        source: NotLeading,
    },
    /// Deletion, or what prepares it.
    #[snafu(display("failed to prepare or go on with the feed's deletion"))]
    Cleanup {
        /// Why.
        source: cleanup::Error,
    },
}

/// Runs until the token is cancelled: waits for the custom resource, then watches feeds and their children.
pub async fn run(ctx: Arc<Context>, namespaces: Vec<String>, token: CancellationToken) {
    if wait_for_definition(&ctx, &namespaces, &token).await {
        ctx.readiness.set_running(true);
        let controllers: Vec<_> = match namespaces.as_slice() {
            [] => vec![watch(Arc::clone(&ctx), None, token.clone())],
            some => some
                .iter()
                .map(|namespace| watch(Arc::clone(&ctx), Some(namespace), token.clone()))
                .collect(),
        };
        futures::future::join_all(controllers).await;
        ctx.readiness.set_running(false);
    }
}

/// Watches one namespace, or all.
fn watch(
    ctx: Arc<Context>,
    namespace: Option<&String>,
    token: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let children = watcher::Config::default().labels(MANAGED_SELECTOR);
    let client = &ctx.client;
    let controller = Controller::new(
        scoped::<DeserializeGuard<StockFeed>>(client, namespace),
        watcher::Config::default(),
    )
    .owns(scoped::<Deployment>(client, namespace), children.clone())
    .owns(scoped::<ConfigMap>(client, namespace), children.clone())
    .owns(scoped::<Service>(client, namespace), children.clone())
    .owns(scoped::<NetworkPolicy>(client, namespace), children.clone())
    .owns(scoped::<PodDisruptionBudget>(client, namespace), children.clone())
    .owns(scoped::<ServiceAccount>(client, namespace), children)
    .with_config(controller::Config::default().concurrency(CONCURRENCY))
    .graceful_shutdown_on(token.cancelled_owned());
    let results = controller.run(reconcile, error_policy, ctx);
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

fn scoped<K>(client: &Client, namespace: Option<&String>) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Reconciles one feed, and counts and logs how it went.
#[tracing::instrument(skip_all, fields(feed.namespace = guard.namespace(), feed.name = guard.name_any()))]
async fn reconcile(guard: Arc<DeserializeGuard<StockFeed>>, ctx: Arc<Context>) -> Result<Action, Error> {
    let began = Instant::now();
    let result = match &guard.0 {
        // Each of its steps asks whether this operator still leads.
        Ok(feed) => match ctx.leadership.guard(attempt(&ctx, feed)).await {
            Ok(result) => result,
            Err(not_leading) => Err(not_leading).context(LeadSnafu),
        },
        Err(invalid) => {
            // Admission keeps such objects out; one can only come from an older definition.
            error!(
                error = invalid.error,
                "A StockFeed cannot be read and is left alone"
            );
            Ok((Outcome::Invalid, Action::await_change()))
        }
    };
    let outcome = result.as_ref().map_or(Outcome::Failed, |(outcome, _)| *outcome);
    ctx.metrics.reconciled(outcome, began.elapsed());
    match result {
        Ok((_, action)) => Ok(action),
        Err(error) => {
            let category = <&str>::from(ErrorKind::from(&error));
            warn!(error = %chain(&error), error.category = category, "Could not reconcile a feed");
            Err(error)
        }
    }
}

async fn attempt(ctx: &Context, watched: &StockFeed) -> Result<(Outcome, Action), Error> {
    // The watch runs a little behind our own writes; a stale status would make conditions flip twice.
    let namespace = watched.namespace().unwrap_or_default();
    let api = Api::<StockFeed>::namespaced(ctx.client.clone(), &namespace);
    let Some(feed) = api.get_opt(&watched.name_any()).await.context(ReadFeedSnafu)? else {
        return Ok((Outcome::Deleted, Action::await_change()));
    };
    if feed.metadata.deletion_timestamp.is_some() {
        return Ok(match cleanup(ctx, &feed).await.context(CleanupSnafu)? {
            Progress::Done => (Outcome::Deleted, Action::await_change()),
            Progress::Waiting(action) => (Outcome::Deleting, action),
        });
    }
    keep(ctx, &feed).await
}

/// Keeps a feed as declared.
async fn keep(ctx: &Context, feed: &StockFeed) -> Result<(Outcome, Action), Error> {
    let references = dereference(&ctx.client, &ctx.defaults, feed)
        .await
        .context(DereferenceSnafu)?;
    let validated = match validate(&ctx.defaults, feed, references) {
        Ok(validated) => validated,
        Err(error) => {
            let message = chain(&error);
            if is_news(feed, &message) {
                ctx.events.publish(feed, Reason::InvalidSpec, &message).await;
            }
            report(ctx, feed, reason::INVALID_SPEC, &message).await?;
            return Ok((Outcome::Invalid, Action::await_change()));
        }
    };
    cleanup::hold(ctx, feed).await.context(CleanupSnafu)?;
    let prepared = build(&validated);
    let mut changes = Changes::default();
    let applied = apply(ctx, feed, prepared, &mut changes).await;
    announce_objects(ctx, feed, &changes.healed).await;
    let resources = match applied {
        Ok(resources) => resources,
        Err(error) => {
            report(ctx, feed, error.reason(), &chain(&error)).await?;
            return Err(error).context(ApplySnafu);
        }
    };
    announce(ctx, feed, &resources.broker, &resources.database).await;
    let source = source::judge(&ctx.http, &validated, &resources.producer).await;
    let decision = decide_queues(ctx, feed, &validated, &resources);
    let unfinished = decision.as_ref().is_some_and(|decision| decision.unfinished);
    let generations = decision
        .as_ref()
        .map(|decision| &decision.generations)
        // While the broker cannot be asked the queues are as they were.
        .or(validated.generations.as_ref());
    let lifecycle = lifecycle::observe(ctx, feed, &validated, &resources);
    let next = status_of(
        &validated,
        &resources,
        generations,
        &source,
        &lifecycle,
        feed.status.as_ref(),
        clock::now(),
    );
    update_status(ctx, feed, &next).await.context(UpdateStatusSnafu)?;
    announce_queues(ctx, feed, &next).await;
    lifecycle::announce(ctx, feed, &next).await;
    announce_gaps(ctx, feed, &next).await;
    announce_quota(ctx, feed, &next).await;
    if let Some(decision) = &decision {
        remove_queues(ctx, &validated, &resources, decision).await;
    }

    let uid = feed.uid().unwrap_or_default();
    if changes.written > 0 {
        // Something begins anew: look again soon, as on the first day.
        ctx.backoff.reset(&uid);
    }
    log_change(feed.status.as_ref(), &next);
    Ok(if is_ready(&next) {
        ctx.backoff.reset(&uid);
        let soon = unfinished || lifecycle.is_under_way();
        let wait = if soon { REPARTITION_PERIOD } else { steady() };
        (Outcome::Ready, Action::requeue(wait))
    } else {
        (Outcome::NotReady, Action::requeue(ctx.backoff.next(&uid)))
    })
}

/// Which queues the feed has from now on; `None` when the broker could not be asked. What follows is written to the status
/// first and done in the next reconciliation, so that it is never done without being known.
fn decide_queues(
    ctx: &Context,
    feed: &StockFeed,
    validated: &ValidatedFeed,
    resources: &Resources<Applied>,
) -> Option<Decision> {
    let found = resources.broker.found.as_ref()?;
    let uid = feed.uid().unwrap_or_default();
    let drained = ctx
        .drains
        .observe(&uid, found, &validated.producer, resources.broker.read_at);
    Some(decide(Facts {
        wanted: validated.partitions,
        listed: validated.generations.as_ref(),
        found,
        drained: &drained,
        producer: &validated.producer,
        processors: &validated.processor,
    }))
}

/// Removes the queues of generations that are drained and that no processor consumes any more. What fails is tried again
/// the next time: they are found for as long as they are there.
async fn remove_queues(
    ctx: &Context,
    validated: &ValidatedFeed,
    resources: &Resources<Applied>,
    decision: &Decision,
) {
    let (Ok(connection), Some(found)) = (&validated.broker, &resources.broker.found) else {
        return;
    };
    for generation in &decision.removable {
        let partitions = found.get(generation).map_or(0, |queues| queues.partitions);
        match broker::remove(&ctx.http, connection, &validated.name, *generation, partitions).await {
            Ok(()) => info!(
                generation,
                partitions, "Removed the queues of generation {generation}"
            ),
            Err(error) => {
                warn!(error = %chain(&error), generation, "Could not remove queues that are drained");
            }
        }
    }
}

/// Events of a change of the partitions: when it begins, and when processors go on with the new queues.
async fn announce_queues(ctx: &Context, feed: &StockFeed, next: &StockFeedStatus) {
    let before = feed.status.as_ref().map_or(&[][..], |status| &status.queues);
    let (Some(first), Some(last)) = (next.queues.first(), next.queues.last()) else {
        return;
    };
    let added = before.last() != Some(last);
    let (reason, note) = match (before.len(), next.queues.len()) {
        (_, 2..) if added => (
            Reason::RepartitionStarted,
            format!(
                "generation {} of queues with {} partitions is made; generation {} is drained first",
                last.generation, last.partitions, first.generation
            ),
        ),
        (2.., 1) => (
            Reason::RepartitionFinished,
            format!(
                "older queues are drained; processors go on with generation {} of {} partitions",
                last.generation, last.partitions
            ),
        ),
        _ => return,
    };
    info!(detail = note, "The feed's queues change");
    ctx.events.publish(feed, reason, &note).await;
}

/// An Event when more messages are missing than before.
async fn announce_gaps(ctx: &Context, feed: &StockFeed, next: &StockFeedStatus) {
    let before = feed.status.as_ref().and_then(|status| status.missing_messages);
    let (Some(before), Some(now)) = (before, next.missing_messages) else {
        return;
    };
    if now > before {
        let note = format!(
            "{} more messages were published and never arrived, {now} since the feed began; table gaps lists them",
            now - before
        );
        warn!(missing = now - before, "Messages are missing");
        ctx.events.publish(feed, Reason::GapDetected, &note).await;
    }
}

/// An Event when what is allowed does not suffice for what is asked, and when that changes: what happens now, and what would do.
async fn announce_quota(ctx: &Context, feed: &StockFeed, next: &StockFeedStatus) {
    let of = |status: &StockFeedStatus| {
        let condition = status::find(status, ConditionType::QuotaSufficient)?;
        Some((condition.status.clone(), condition.message.clone()))
    };
    let now = of(next);
    if let Some((status, message)) = &now
        && status == "False"
        && feed.status.as_ref().and_then(of) != now
    {
        ctx.events.publish(feed, Reason::QuotaInsufficient, message).await;
    }
}

/// Says on the feed what keeps it from being reconciled.
async fn report(ctx: &Context, feed: &StockFeed, reason: &'static str, message: &str) -> Result<(), Error> {
    let generation = feed.metadata.generation.unwrap_or_default();
    let status = of_failure(reason, message, generation, feed.status.as_ref(), clock::now());
    update_status(ctx, feed, &status).await.context(UpdateStatusSnafu)
}

/// Events and metrics of what was healed outside the cluster. What is written before everything was there once is not a repair.
async fn announce(
    ctx: &Context,
    feed: &StockFeed,
    broker: &crate::broker::Outcome,
    database: &crate::database::Outcome,
) {
    let previous = feed.status.as_ref();
    let had_queues = previous.is_some_and(|status| status.queue_generation.is_some());
    let had_schema = previous.is_some_and(|status| status.schema_version.is_some());
    let sides = [
        (had_queues, Reason::BrokerHealed, &broker.written),
        (had_schema, Reason::DatabaseHealed, &database.written),
    ];
    for (was_there, reason, written) in sides {
        if !was_there || written.is_empty() {
            continue;
        }
        let differences: Vec<_> = written
            .iter()
            .map(|(_, difference)| difference.as_str())
            .collect();
        for (kind, _) in written {
            ctx.metrics.healed(*kind);
        }
        let note = differences.join("; ");
        info!(differences = note, "Healed what was not as declared");
        ctx.events.publish(feed, reason, &note).await;
    }
}

/// Events and metrics of healed Kubernetes objects.
async fn announce_objects(ctx: &Context, feed: &StockFeed, healed: &[String]) {
    if healed.is_empty() {
        return;
    }
    for _ in healed {
        ctx.metrics.healed(Heal::Object);
    }
    let note = healed.join("; ");
    info!(differences = note, "Healed objects that were not as declared");
    ctx.events.publish(feed, Reason::ObjectHealed, &note).await;
}

fn is_ready(status: &StockFeedStatus) -> bool {
    status::find(status, crate::api::status::ConditionType::Ready).is_some_and(|ready| ready.status == "True")
}

/// One line when the summary changes, none otherwise.
fn log_change(previous: Option<&StockFeedStatus>, next: &StockFeedStatus) {
    let kind = crate::api::status::ConditionType::Ready;
    let summary = |status: &StockFeedStatus| {
        status::find(status, kind).map(|ready| (ready.status.clone(), ready.reason.clone()))
    };
    let now = summary(next);
    if previous.and_then(summary) == now {
        return;
    }
    if let Some(ready) = status::find(next, kind) {
        let (reason, message) = (&ready.reason, &ready.message);
        match ready.status.as_str() {
            "True" => info!(reason, "The feed is ready"),
            _ => info!(reason, detail = message, "The feed is not ready"),
        }
    }
}

/// Errors are all worth another attempt: the API server did not answer, or refused what it may accept later.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
fn error_policy(guard: Arc<DeserializeGuard<StockFeed>>, _: &Error, ctx: Arc<Context>) -> Action {
    Action::requeue(ctx.backoff.next(&guard.uid().unwrap_or_default()))
}

/// Waits until the custom resource is installed. Returns false when the operator shall end instead.
async fn wait_for_definition(ctx: &Context, namespaces: &[String], token: &CancellationToken) -> bool {
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
