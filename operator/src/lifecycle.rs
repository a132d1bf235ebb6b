//! How a feed's life goes on beyond a single reconciliation: its suspension, how its data flows, and which images its workers
//! have. The deciding is done in `suspension`, `flow` and `release`; here it is given what was seen, and its outcome is
//! announced.

use std::time::Instant;

use kube::ResourceExt as _;
use tracing::info;

use crate::{
    api::{
        StockFeed,
        status::{ConditionType, StockFeedStatus, reason},
    },
    build::{Applied, Resources},
    clock,
    context::Context,
    dashboards::Said,
    events::Reason,
    flow::Flow,
    generations::Generations,
    labels::RETRY_ROLLOUT,
    release::{
        self, Decision,
        evidence::{Look, Seeing, SourceSays, rolled},
    },
    source::Judged,
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
    /// Which images the workers have from now on.
    pub release: Decision,
    /// Whether a look soon may tell that data flows on new images. Later than the deadline it is only waited for something else.
    pub in_time: bool,
    /// Whether the feed's dashboards are as they should be; `None` where there is no Superset.
    pub dashboards: Option<Said>,
}

impl Lifecycle {
    /// Whether it is worth to look again soon: a count is waited for, and nothing will tell that it is there.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.suspended.reason == reason::DRAINING || (self.release.under_way && self.in_time)
    }
}

/// Takes in what was seen of a feed.
pub fn observe(
    ctx: &Context,
    feed: &StockFeed,
    validated: &ValidatedFeed,
    applied: &Resources<Applied>,
    judged: &Judged,
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
        release: release(ctx, feed, validated, applied, judged),
        in_time: is_in_time(ctx, feed),
        dashboards: ctx
            .dashboards
            .as_ref()
            .map(|dashboards| dashboards.want(feed, validated, applied)),
    }
}

fn release(
    ctx: &Context,
    feed: &StockFeed,
    validated: &ValidatedFeed,
    applied: &Resources<Applied>,
    judged: &Judged,
) -> Decision {
    let uid = feed.metadata.uid.as_deref().unwrap_or_default();
    let previous = feed.status.as_ref().and_then(|status| status.release.as_ref());
    let (broker, database) = (&applied.broker, &applied.database);
    let (processor, producer) = (&validated.images.processor, &validated.images.producer);
    let consumed = validated.generations.as_ref().map(Generations::first);
    let look = Look {
        expected: broker.verdict.is_true() && database.verdict.is_true() && !validated.suspend,
        processor: (
            processor,
            rolled(
                applied.processor.observed.as_ref(),
                &validated.processor,
                processor,
            ),
        ),
        producer: (
            producer,
            rolled(applied.producer.observed.as_ref(), &validated.producer, producer),
        ),
        producer_is_good: previous.is_some_and(|release| release.producer.good.as_ref() == Some(producer)),
        progress: database.progress.as_ref(),
        queues: consumed.and_then(|queues| broker.found.as_ref()?.get(&queues.generation)),
        read_at: broker.read_at,
        source: SourceSays::new(judged),
    };
    let Seeing {
        processor,
        producer,
        undisturbed,
    } = ctx.releases.observe(uid, &look, Instant::now());
    let deadline = ctx.defaults.rollout_deadline;
    let ready = feed
        .status
        .as_ref()
        .and_then(|status| find(status, ConditionType::Ready));
    release::decide(&release::Facts {
        wanted: &validated.wanted_images,
        previous,
        running_processor: validated.processor.image.as_deref(),
        running_producer: validated.producer.image.as_deref(),
        was_ready: ready.is_some_and(|ready| ready.status == "True"),
        held: (!database.verdict.is_true()).then(|| {
            let why = &database.verdict.message;
            format!("the schema comes first: {why}")
        }),
        processor,
        producer,
        overdue: !is_in_time(ctx, feed) && undisturbed >= deadline,
        suspended: validated.suspend,
        retry: feed.annotations().get(RETRY_ROLLOUT).map(String::as_str),
        now: clock::now(),
    })
}

/// Whether the time is not up yet that data has to flow on new images.
fn is_in_time(ctx: &Context, feed: &StockFeed) -> bool {
    let release = feed.status.as_ref().and_then(|status| status.release.as_ref());
    release.is_none_or(|release| {
        let since = clock::now().duration_since(release.since.0);
        since.as_secs_f64() < ctx.defaults.rollout_deadline.as_secs_f64()
    })
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
    announce_release(ctx, feed, next).await;
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

async fn announce_release(ctx: &Context, feed: &StockFeed, next: &StockFeedStatus) {
    let before = feed.status.as_ref().and_then(|status| status.release.as_ref());
    let (Some(before), Some(now)) = (before, next.release.as_ref()) else {
        return;
    };
    if let Some((reason, note)) = release::news(before, now) {
        info!(detail = note, "The workers' images change");
        ctx.events.publish(feed, reason, &note).await;
    }
}
