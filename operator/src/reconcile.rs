//! One reconciliation: five steps, each in its own module.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{Api, Resource as _, ResourceExt as _, core::DeserializeGuard, runtime::controller::Action};
use snafu::{ResultExt, Snafu};
use strum::{EnumDiscriminants, IntoStaticStr};
use traces::Place;
use tracing::{Instrument as _, Span, error, field::Empty, info, trace_span, warn};

use crate::{
    announce,
    api::{
        StockFeed,
        status::{ConditionType, StockFeedStatus, reason},
    },
    apply::{self, Changes, apply},
    broker,
    build::{Applied, Resources, build},
    cleanup::{self, Progress, cleanup},
    clock,
    context::{Context, Moment},
    dereference::{self, Freshness, dereference},
    events::Reason,
    generations::{Decision, Facts, decide},
    labels::{self, Component, LAST_VALID_SPEC},
    leader::NotLeading,
    lifecycle,
    metrics::Outcome,
    release, scaling, source,
    status::{self, chain, of_failure, of_pause, over_applied, status_of},
    update_status::{self, is_news, update_status},
    validate::{ValidatedFeed, validate},
};

/// How soon a feed is looked at again whose queues are drained, for another number of partitions or a suspension.
const REPARTITION_PERIOD: Duration = Duration::from_secs(3);
/// How soon the next step follows where a status had to say it first.
const NEXT_STEP: Duration = Duration::from_millis(50);

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

/// A span for a step of a reconciliation; nothing where no traces are sent.
macro_rules! step {
    ($name:literal) => {
        trace_span!(target: traces::TARGET, $name)
    };
}

/// Whether somebody wants something else of a feed than when it was last looked at.
fn wants_something_else(guard: &DeserializeGuard<StockFeed>) -> bool {
    let meta = guard.meta();
    let status = guard.0.as_ref().ok().and_then(|feed| feed.status.as_ref());
    let observed = status.and_then(|status| status.observed_generation);
    meta.deletion_timestamp.is_some() || observed != meta.generation
}

/// Reconciles one feed, and counts and logs how it went.
#[tracing::instrument(skip_all, fields(feed.namespace = guard.namespace(), feed.name = guard.name_any(), trace_id = Empty))]
pub(crate) async fn reconcile(
    guard: Arc<DeserializeGuard<StockFeed>>,
    ctx: Arc<Context>,
) -> Result<Action, Error> {
    // Feeds that wait longest come first, and each namespace that is watched has a controller of its own: together they do no more than one.
    let waits = Instant::now();
    let (namespace, name) = (guard.namespace().unwrap_or_default(), guard.name_any());
    // As the watch has it at that moment.
    let is_changed = || {
        let latest = ctx.children.feeds.get(&namespace, &name);
        latest.as_ref().is_none_or(|latest| wants_something_else(latest))
    };
    let Some(_turn) = ctx.turns.take(is_changed).await else {
        // The operator ends.
        return Ok(Action::await_change());
    };
    let began = Instant::now();
    ctx.backoff
        .waited(&guard.uid().unwrap_or_default(), began - waits);
    let span = trace_span!(
        target: traces::TARGET, "reconcile",
        feed.namespace = guard.namespace(), feed.name = guard.name_any(), outcome = Empty,
    );
    if let Some(place) = Place::of(&span) {
        // So that a line of the log leads to the trace.
        Span::current().record("trace_id", format!("{:032x}", place.trace));
    }
    let result = match &guard.0 {
        // Each of its steps asks whether this operator still leads.
        Ok(feed) => match ctx
            .leadership
            // Apart: feeds that wait for their turn, and that may be all there are, take little memory so.
            .guard(Box::pin(attempt(&ctx, feed)))
            .instrument(span.clone())
            .await
        {
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
    span.record("outcome", tracing::field::debug(outcome));
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
    // Before everything was listed once, what is there would be taken for missing.
    if !ctx.children.ready().await {
        return Ok((
            Outcome::NotReady,
            Action::requeue(ctx.backoff.next(&uid(watched))),
        ));
    }
    // The watch runs a little behind our own writes; a stale status would make conditions flip twice.
    let namespace = watched.namespace().unwrap_or_default();
    let api = Api::<StockFeed>::namespaced(ctx.client.clone(), &namespace);
    let Some(feed) = api.get_opt(&watched.name_any()).await.context(ReadFeedSnafu)? else {
        return Ok((Outcome::Deleted, Action::await_change()));
    };
    if feed.metadata.deletion_timestamp.is_some() {
        if let (Some(dashboards), Ok(name)) = (&ctx.dashboards, crate::validate::feed_name(&feed)) {
            // They go at once and by themselves: a deletion never waits for Superset.
            dashboards.forget(&name);
        }
        let cleaned = cleanup(ctx, &feed).instrument(step!("cleanup")).await;
        return Ok(match cleaned.context(CleanupSnafu)? {
            Progress::Done => {
                ctx.flows.forget(&uid(&feed));
                ctx.releases.forget(&uid(&feed));
                (Outcome::Deleted, Action::await_change())
            }
            Progress::Waiting(action) => (Outcome::Deleting, action),
        });
    }
    if labels::is_paused(feed.annotations()) {
        return pause(ctx, &feed).await;
    }
    keep(ctx, &feed).await
}

/// Leaves a feed as it is.
async fn pause(ctx: &Context, feed: &StockFeed) -> Result<(Outcome, Action), Error> {
    let next = of_pause(generation(feed), feed.status.as_ref(), clock::now());
    let before = feed
        .status
        .as_ref()
        .and_then(|status| status::find(status, ConditionType::Ready));
    if before.is_none_or(|ready| ready.reason != reason::PAUSED) {
        let note = format!(
            "annotation {} asks that the feed is left as it is",
            labels::PAUSED
        );
        info!(detail = note, "The feed is paused");
        ctx.events.publish(feed, Reason::Paused, &note).await;
    }
    update_status(ctx, feed, &next).await.context(UpdateStatusSnafu)?;
    if let (Some(dashboards), Ok(name)) = (&ctx.dashboards, crate::validate::feed_name(feed)) {
        // Left as they are as well.
        dashboards.forget(&name);
    }
    ctx.flows.forget(&uid(feed));
    ctx.scalings.forget(&uid(feed));
    ctx.releases.forget(&uid(feed));
    Ok((Outcome::Paused, Action::await_change()))
}

/// Keeps a feed as declared.
async fn keep(ctx: &Context, feed: &StockFeed) -> Result<(Outcome, Action), Error> {
    let fresh = freshness(ctx, feed);
    // Step 1, and step 2 in it.
    let Some((validated, invalid)) = usable(ctx, feed, fresh).instrument(step!("dereference")).await? else {
        return Ok((Outcome::Invalid, Action::await_change()));
    };
    cleanup::hold(ctx, feed).await.context(CleanupSnafu)?;
    let prepared = step!("build").in_scope(|| build(&validated));
    let mut changes = Changes::default();
    let applied = apply(ctx, feed, prepared, &mut changes)
        .instrument(step!("apply"))
        .await;
    announce::healed_objects(ctx, feed, &changes.healed).await;
    let resources = match applied {
        Ok(resources) => resources,
        Err(error) => {
            report(ctx, feed, error.reason(), &chain(&error)).await?;
            return Err(error).context(ApplySnafu);
        }
    };
    let own = [
        &validated.broker_secret,
        &validated.writer_secret,
        &validated.reader_secret,
    ];
    let rotated = own.iter().any(|secret| secret.credential.renewed);
    announce::healed(ctx, feed, &resources.broker, &resources.database, rotated).await;
    if rotated {
        announce::rotated(ctx, feed).await;
    }
    let judged = source::judge(&ctx.http, &ctx.metrics.requests, &validated, &resources.producer)
        .instrument(step!("ask_producer"))
        .await;
    let decision = decide_queues(ctx, feed, &validated, &resources, fresh);
    let unfinished = decision.as_ref().is_some_and(|decision| decision.unfinished);
    let generations = decision
        .as_ref()
        .map(|decision| &decision.generations)
        // While the broker cannot be asked the queues are as they were.
        .or(validated.generations.as_ref());
    let lifecycle = lifecycle::observe(ctx, feed, &validated, &resources, &judged);
    let scaled = scaling::look(ctx, feed, &validated, &resources).await;
    let mut next = status_of(
        &validated,
        &resources,
        generations,
        &judged,
        &lifecycle,
        feed.status.as_ref(),
        clock::now(),
    );
    next.scaling = Some(scaled.status.clone());
    if let Some(message) = &invalid {
        next = over_applied(
            next,
            reason::INVALID_SPEC,
            message,
            feed.status.as_ref(),
            clock::now(),
        );
    }
    update_status(ctx, feed, &next)
        .instrument(step!("update_status"))
        .await
        .context(UpdateStatusSnafu)?;
    announce::changes(ctx, feed, &next).await;
    lifecycle::announce(ctx, feed, &next).await;
    scaling::act(ctx, feed, &validated, &scaled).await;
    if let Some(decision) = decision.as_ref().filter(|_| fresh == Freshness::Exact) {
        remove_queues(ctx, &validated, &resources, decision).await;
    }

    let uid = uid(feed);
    match unfinished {
        true => ctx.memory.mark(&uid, Moment::Unfinished),
        false => ctx.memory.unmark(&uid, Moment::Unfinished),
    }
    if changes.written > 0 {
        // Something begins anew: look again soon, as on the first day.
        ctx.backoff.reset(&uid);
    }
    announce::log_change(feed.status.as_ref(), &next);
    let outcome = match (&invalid, is_ready(&next)) {
        (Some(_), _) => Outcome::Invalid,
        (None, true) => Outcome::Ready,
        (None, false) => Outcome::NotReady,
    };
    let wait = if has_next_step(feed.status.as_ref(), &next) {
        NEXT_STEP
    } else if outcome == Outcome::NotReady {
        ctx.backoff.next(&uid)
    } else {
        ctx.backoff.reset(&uid);
        let soon = unfinished || lifecycle.is_under_way();
        if soon {
            REPARTITION_PERIOD
        } else {
            ctx.backoff.steady()
        }
    };
    Ok((
        outcome,
        Action::requeue(lifecycle.flow.next_look(scaled.next_look(wait))),
    ))
}

/// How workers have to be looked at: exactly while something changes that cannot be taken back.
fn freshness(ctx: &Context, feed: &StockFeed) -> Freshness {
    let status = feed.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation);
    let one = status.is_some_and(|status| status.queues.len() == 1);
    let finished = ctx.memory.since(&uid(feed), Moment::Unfinished).is_none();
    let release = status.and_then(|status| status.release.as_ref());
    // So is that all pods have a new image, and that the producer of a suspended feed has ended.
    let proves = feed.spec.suspend || release.is_some_and(release::is_rolling);
    match one && finished && !proves && observed == feed.metadata.generation {
        true => Freshness::Watched,
        false => Freshness::Exact,
    }
}

/// The feed as it can be built, and what is wrong with its spec when that is the last one that was valid; `None` when there is
/// none.
async fn usable(
    ctx: &Context,
    feed: &StockFeed,
    fresh: Freshness,
) -> Result<Option<(ValidatedFeed, Option<String>)>, Error> {
    let references = dereference(ctx, feed, fresh).await.context(DereferenceSnafu)?;
    let error = match validate(&ctx.defaults, feed, references) {
        Ok(validated) => return Ok(Some((validated, None))),
        Err(error) => error,
    };
    let mut message = chain(&error);
    let before = match last_valid(ctx, feed) {
        Some(before) => {
            let references = dereference(ctx, &before, fresh).await.context(DereferenceSnafu)?;
            validate(&ctx.defaults, &before, references).ok()
        }
        None => None,
    };
    if before.is_some() {
        message.push_str("; the last valid spec goes on running");
    }
    if is_news(feed, &message) {
        ctx.events.publish(feed, Reason::InvalidSpec, &message).await;
    }
    let Some(before) = before else {
        report(ctx, feed, reason::INVALID_SPEC, &message).await?;
        return Ok(None);
    };
    Ok(Some((before, Some(message))))
}

/// The feed with the spec that its workers run by.
fn last_valid(ctx: &Context, feed: &StockFeed) -> Option<StockFeed> {
    let namespace = feed.namespace().unwrap_or_default();
    let name = Component::Processor.object_name(&feed.name_any());
    let map = ctx.children.config_maps.unpacked(&namespace, &name)?;
    let owned = map
        .owner_references()
        .iter()
        .any(|owner| Some(&owner.uid) == feed.metadata.uid.as_ref());
    let text = map.annotations().get(LAST_VALID_SPEC).filter(|_| owned)?;
    let spec = serde_json::from_str(text).ok()?;
    Some(StockFeed { spec, ..feed.clone() })
}

/// Whether the status says something that is done in the next reconciliation only.
fn has_next_step(previous: Option<&StockFeedStatus>, next: &StockFeedStatus) -> bool {
    let facts = |status: &StockFeedStatus| {
        (
            status.queues.clone(),
            status.queue_generation,
            status.schema_version,
            status
                .release
                .as_ref()
                .map(|release| (release.processor.image.clone(), release.producer.image.clone())),
        )
    };
    previous.map(facts) != Some(facts(next))
}

fn uid(feed: &StockFeed) -> String {
    feed.uid().unwrap_or_default()
}

fn generation(feed: &StockFeed) -> i64 {
    feed.metadata.generation.unwrap_or_default()
}

fn is_ready(status: &StockFeedStatus) -> bool {
    status::find(status, ConditionType::Ready).is_some_and(|ready| ready.status == "True")
}

/// Which queues the feed has from now on; `None` when the broker could not be asked. What follows is written to the status
/// first and done in the next reconciliation, so that it is never done without being known.
fn decide_queues(
    ctx: &Context,
    feed: &StockFeed,
    validated: &ValidatedFeed,
    resources: &Resources<Applied>,
    fresh: Freshness,
) -> Option<Decision> {
    let found = resources.broker.found.as_ref()?;
    let drained = match fresh {
        Freshness::Exact => {
            let read_at = resources.broker.read_at;
            ctx.drains
                .observe(&uid(feed), found, &validated.producer, read_at)
        }
        // Nothing is drained that way: there is one generation, or it is not known yet that there are more.
        Freshness::Watched => BTreeSet::new(),
    };
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
        match broker::remove(&ctx.brokers, connection, &validated.name, *generation, partitions).await {
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

/// Says on the feed what keeps it from being reconciled.
async fn report(ctx: &Context, feed: &StockFeed, reason: &'static str, message: &str) -> Result<(), Error> {
    let status = of_failure(
        reason,
        message,
        generation(feed),
        feed.status.as_ref(),
        clock::now(),
    );
    update_status(ctx, feed, &status).await.context(UpdateStatusSnafu)
}
