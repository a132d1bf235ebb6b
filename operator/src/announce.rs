//! Tells what happened to a feed: Events, metrics and log lines, each when it is news.

use tracing::{info, warn};

use crate::{
    api::{
        StockFeed,
        status::{ConditionType, StockFeedStatus},
    },
    context::Context,
    events::Reason,
    metrics::Heal,
    status,
};

/// Everything that follows from comparing two statuses.
pub(crate) async fn changes(ctx: &Context, feed: &StockFeed, next: &StockFeedStatus) {
    queues(ctx, feed, next).await;
    gaps(ctx, feed, next).await;
    quota(ctx, feed, next).await;
}

/// Events of a change of the partitions: when it begins, and when processors go on with the new queues.
async fn queues(ctx: &Context, feed: &StockFeed, next: &StockFeedStatus) {
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
async fn gaps(ctx: &Context, feed: &StockFeed, next: &StockFeedStatus) {
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
async fn quota(ctx: &Context, feed: &StockFeed, next: &StockFeedStatus) {
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

/// Events and metrics of what was healed outside the cluster. What is written before everything was there once is not a repair.
pub(crate) async fn healed(
    ctx: &Context,
    feed: &StockFeed,
    broker: &crate::broker::Outcome,
    database: &crate::database::Outcome,
    rotated: bool,
) {
    let previous = feed.status.as_ref();
    let had_queues = previous.is_some_and(|status| status.queue_generation.is_some());
    let had_schema = previous.is_some_and(|status| status.schema_version.is_some());
    let sides = [
        (had_queues, Reason::BrokerHealed, &broker.written),
        (had_schema, Reason::DatabaseHealed, &database.written),
    ];
    for (was_there, reason, written) in sides {
        // That a server has not got a new password yet is nobody's doing.
        let is_rotation = |kind: &Heal| rotated && matches!(kind, Heal::BrokerUser | Heal::RolePassword);
        let written: Vec<_> = written.iter().filter(|(kind, _)| !is_rotation(kind)).collect();
        if !was_there || written.is_empty() {
            continue;
        }
        let differences: Vec<_> = written
            .iter()
            .map(|(_, difference)| difference.as_str())
            .collect();
        for (kind, _) in &written {
            ctx.metrics.healed(*kind);
        }
        let note = differences.join("; ");
        info!(differences = note, "Healed what was not as declared");
        ctx.events.publish(feed, reason, &note).await;
    }
}

/// An Event of new passwords.
pub(crate) async fn rotated(ctx: &Context, feed: &StockFeed) {
    let note =
        "the broker user and the database roles have new passwords; workers are replaced one after the other";
    info!(detail = note, "Renewed the feed's passwords");
    ctx.events.publish(feed, Reason::CredentialsRotated, note).await;
}

/// Events and metrics of healed Kubernetes objects.
pub(crate) async fn healed_objects(ctx: &Context, feed: &StockFeed, healed: &[String]) {
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

/// One line when the summary changes, none otherwise.
pub(crate) fn log_change(previous: Option<&StockFeedStatus>, next: &StockFeedStatus) {
    let kind = ConditionType::Ready;
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
