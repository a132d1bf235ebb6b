//! How a feed's life goes on beyond a single reconciliation: its suspension, and how its data flows. The deciding is
//! done in `suspension` and `flow`; here it is
//! given what was seen, and its outcome is announced.

use std::time::Instant;

use crate::{
    api::{
        StockFeed,
        status::{ConditionType, StockFeedStatus, reason},
    },
    build::{Applied, Resources},
    context::Context,
    events::Reason,
    flow::Flow,
    generations::Generations,
    status::{Verdict, find},
    suspension,
    validate::ValidatedFeed,
};

/// What a status says of it.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    /// Whether the feed is suspended and drained.
    pub suspended: Verdict,
    /// How data flows through the queues that are consumed.
    pub flow: Flow,
}

impl Lifecycle {
    /// Whether it is worth to look again soon: a count is waited for, and nothing will tell that it is there.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.suspended.reason == reason::DRAINING
    }
}

/// Takes in what was seen of a feed.
pub fn observe(
    ctx: &Context,
    feed: &StockFeed,
    validated: &ValidatedFeed,
    applied: &Resources<Applied>,
) -> Lifecycle {
    let uid = feed.metadata.uid.as_deref().unwrap_or_default();
    let broker = &applied.broker;
    let facts = suspension::Facts::new(
        &applied.producer,
        &validated.producer,
        broker.found.as_ref(),
        broker.dead_letters,
    );
    let ended = validated.suspend && facts.ended;
    let counted = ctx
        .drains
        .observe_feed(uid, ended, facts.is_empty(), broker.read_at);
    let known = suspension::is_proven(feed.status.as_ref(), validated.generation);
    Lifecycle {
        suspended: suspension::judge(validated.suspend, facts, counted || known),
        flow: flow(ctx, uid, validated, applied),
    }
}

fn flow(ctx: &Context, uid: &str, validated: &ValidatedFeed, applied: &Resources<Applied>) -> Flow {
    let consumed = validated.generations.as_ref().map(Generations::first);
    let found = applied.broker.found.as_ref();
    let queues = consumed.and_then(|queues| found?.get(&queues.generation));
    let progress = applied.database.progress.as_ref();
    ctx.flows.observe(uid, queues, progress, Instant::now())
}

/// Events of what has changed.
pub async fn announce(ctx: &Context, feed: &StockFeed, next: &StockFeedStatus) {
    let drained = |status: &StockFeedStatus| {
        find(status, ConditionType::Suspended).is_some_and(|said| said.reason == reason::DRAINED)
    };
    let before = feed.status.as_ref().is_some_and(drained);
    match (before, drained(next)) {
        (false, true) => {
            let note = "suspended: every queue is empty, and everything that was published is committed";
            ctx.events.publish(feed, Reason::Drained, note).await;
        }
        (true, false) if !feed.spec.suspend => {
            let note = "resumed: the producer polls again";
            ctx.events.publish(feed, Reason::Resumed, note).await;
        }
        _ => {}
    }
}
