//! What a status says. Pure: the same facts give the same status, and time is an argument.

use std::{borrow::Cow, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schedule::sentence;
use strum::IntoEnumIterator as _;

use crate::{
    api::status::{ConditionType, DeletionEntry, Quota, ReleaseState, Scaling, StockFeedStatus, reason},
    build::{Applied, Resources, WorkloadState},
    connection::Problem,
    flow::Flow,
    generations::{self, Generations},
    labels::Component,
    lifecycle::Lifecycle,
    scaling,
    source::Judged,
    validate::ValidatedFeed,
};

/// The longest message of a condition. Kubernetes allows 32 KiB; a person reads a few lines.
const MAX_MESSAGE: usize = 1_000;

/// True, False or Unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// It could not be found out.
    Unknown,
}

/// What is to be said about one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is so.
    pub truth: Truth,
    /// Why, as one word.
    pub reason: Cow<'static, str>,
    /// Why, for people.
    pub message: String,
}

impl Verdict {
    /// It is so.
    pub fn yes(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Truth::True, reason, message)
    }

    /// It is not so.
    pub fn no(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Truth::False, reason, message)
    }

    /// It could not be found out.
    pub fn unknown(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Truth::Unknown, reason, message)
    }

    /// It is not so, because a Secret is not as it should be.
    #[must_use]
    pub fn of_problem(problem: &Problem) -> Self {
        let reason = match problem {
            Problem::NotConfigured => reason::NOT_CONFIGURED,
            Problem::SecretNotFound { .. } => reason::SECRET_NOT_FOUND,
            Problem::KeyNotFound { .. } => reason::KEY_NOT_FOUND,
            Problem::Invalid { .. } => reason::SECRET_INVALID,
        };
        Self::no(reason, problem.to_string())
    }

    /// Whether it is so.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.truth == Truth::True
    }

    fn new(truth: Truth, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let message = message.into().chars().take(MAX_MESSAGE).collect();
        Self {
            truth,
            reason: reason.into(),
            message,
        }
    }
}

/// An error with everything that caused it, in one line.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = words_of(error);
    let mut next = error.source();
    while let Some(cause) = next {
        let words = words_of(cause);
        // Some libraries repeat their cause in their own words.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = match kubernetes_words(cause) {
            Some(_) => None,
            None => cause.source(),
        };
    }
    text
}

fn words_of(error: &(dyn std::error::Error + 'static)) -> String {
    kubernetes_words(error).map_or_else(|| error.to_string(), str::to_owned)
}

/// The API server's own words. The library shows its whole answer beside them.
fn kubernetes_words<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a str> {
    let boxed = error.downcast_ref::<Box<kube::Error>>().map(Box::as_ref);
    match boxed.or_else(|| error.downcast_ref::<kube::Error>()) {
        Some(kube::Error::Api(status)) if !status.message.is_empty() => Some(&status.message),
        _ => None,
    }
}

/// The status of a feed whose resources were applied. `generations` are its queues from now on.
#[must_use]
pub fn status_of(
    feed: &ValidatedFeed,
    applied: &Resources<Applied>,
    generations: Option<&Generations>,
    judged: &Judged,
    lifecycle: &Lifecycle,
    previous: Option<&StockFeedStatus>,
    now: Timestamp,
) -> StockFeedStatus {
    let source = &judged.verdict;
    let broker = applied.broker.verdict.clone();
    let schema = applied.database.verdict.clone();
    let producer = linked(of_workload(&applied.producer, Component::Producer), judged);
    let runs = of_workload(&applied.processor, Component::Processor);
    let runs = scaling::while_it_scales(runs, &applied.processor, feed, previous);
    let processor = flowing(runs, lifecycle.flow);
    let quota = match feed.quota.sufficient {
        true => Verdict::yes(reason::WITHIN_PLAN, &feed.quota.message),
        false => Verdict::no(reason::PLAN_EXCEEDED, &feed.quota.message),
    };
    let suspended = lifecycle.suspended.clone();
    // In the order of causes: what comes first explains what comes later.
    let mut stages = vec![
        (ConditionType::BrokerReady, &broker),
        (ConditionType::SchemaReady, &schema),
        (ConditionType::SourceReady, source),
        (ConditionType::ProducerReady, &producer),
        (ConditionType::ProcessorReady, &processor),
    ];
    if feed.suspend {
        // A suspended feed is as it was asked to be, whatever its source does.
        stages.retain(|(stage, _)| *stage != ConditionType::SourceReady);
    }
    let (ready, reconciling, stalled) = summary(&stages, feed.suspend);
    let found = applied.broker.found.as_ref();
    let reconciling = generations
        .and_then(|queues| generations::progress(queues, feed.partitions, found, &feed.producer))
        .map_or(reconciling, |message| {
            Verdict::yes(reason::REPARTITIONING, message)
        });
    let release = &lifecycle.release;
    let (reconciling, stalled) = match release.release.state {
        // What is put in the way of a rollout is said by its stage.
        ReleaseState::Progressing if release.under_way && !stalled.is_true() => (
            Verdict::yes(reason::ROLLING_OUT, &release.release.message),
            stalled,
        ),
        // The feed works, and has not the images that it should have: that needs a person.
        ReleaseState::RolledBack if !stalled.is_true() => (
            reconciling,
            Verdict::yes(reason::ROLLED_BACK, &release.release.message),
        ),
        _ => (reconciling, stalled),
    };
    let reconciling = match suspended.reason == reason::DRAINING && !reconciling.is_true() {
        true => Verdict::yes(reason::DRAINING, &suspended.message),
        false => reconciling,
    };
    let progress = applied.database.progress.as_ref();
    let complete = completeness(progress);

    let verdicts = |kind: ConditionType| {
        let verdict = match kind {
            ConditionType::Ready => ready.clone(),
            ConditionType::Reconciling => reconciling.clone(),
            ConditionType::Stalled => stalled.clone(),
            ConditionType::SourceReady => source.clone(),
            ConditionType::BrokerReady => broker.clone(),
            ConditionType::SchemaReady => schema.clone(),
            ConditionType::ProducerReady => producer.clone(),
            ConditionType::ProcessorReady => processor.clone(),
            ConditionType::QuotaSufficient => quota.clone(),
            ConditionType::DataComplete => complete.clone(),
            ConditionType::Suspended => suspended.clone(),
            ConditionType::DashboardsReady => {
                return lifecycle.dashboards.as_ref().map(|said| said.verdict.clone());
            }
        };
        Some(verdict)
    };
    let conditions = ConditionType::iter()
        .filter_map(|kind| Some(condition(kind, verdicts(kind)?, feed.generation, previous, now)))
        .collect();

    let time = |time: contract::event_time::EventTime| whole_seconds(time.to_timestamp());
    let newest = feed.generations.as_ref().map(Generations::last);
    let known = |figure: fn(&StockFeedStatus) -> Option<i64>| previous.and_then(figure);
    StockFeedStatus {
        observed_generation: Some(feed.generation),
        conditions,
        symbols: i32::try_from(feed.symbols.len()).ok(),
        partitions: newest
            .map(|queues| i32::from(queues.partitions))
            .or_else(|| previous.and_then(|previous| previous.partitions)),
        replicas: Some(replicas(&applied.processor)),
        // Decided beside this.
        scaling: previous.and_then(|previous| previous.scaling.clone()),
        backlog: applied.broker.backlog,
        watermark: progress.and_then(|progress| progress.watermark).map(time),
        last_tick_time: progress.and_then(|progress| progress.last_tick_time).map(time),
        quota: Some(quota_of(feed, judged)),
        next_open: judged
            .calls
            .as_ref()
            .and_then(|calls| calls.market.next_open)
            .map(whole_seconds),
        // Kept while the database cannot be asked: an Event is due when there are more.
        missing_messages: progress
            .map(|progress| progress.gaps)
            .or_else(|| known(|previous| previous.missing_messages)),
        quarantined: progress
            .map(|progress| progress.quarantined)
            .or_else(|| known(|previous| previous.quarantined)),
        queues: generations.map(Generations::to_status).unwrap_or_default(),
        // Set once and kept: they tell a first creation from a repair.
        queue_generation: newest
            .map(|queues| queues.generation.cast_signed())
            .filter(|_| broker.is_true())
            .or_else(|| previous.and_then(|previous| previous.queue_generation)),
        schema_version: applied
            .database
            .version
            .or_else(|| previous.and_then(|previous| previous.schema_version)),
        release: Some(lifecycle.release.release.clone()),
        dashboards: lifecycle.dashboards.as_ref().and_then(|said| said.status.clone()),
        deletion_plan: Vec::new(),
    }
}

/// What is asked and allowed, by the spec, and what is made of it, by the producer.
fn quota_of(feed: &ValidatedFeed, judged: &Judged) -> Quota {
    let asked = feed.quota().clone();
    let Some(calls) = &judged.calls else {
        return asked;
    };
    let interval = match calls.effective_interval_seconds {
        Some(seconds) => sentence::compound(Duration::try_from_secs_f64(seconds).unwrap_or_default()),
        None if calls.market.next_open.is_some() => "closed".to_owned(),
        None => "used up".to_owned(),
    };
    Quota {
        used_today: i64::try_from(calls.used_today).ok(),
        effective_interval: Some(interval),
        exhausted_at: calls.exhausted_at.map(whole_seconds),
        ..asked
    }
}

/// The status of a feed that cannot be reconciled as it is: what was known stays, the summary says what is wrong.
#[must_use]
pub fn of_failure(
    reason: &'static str,
    message: &str,
    generation: i64,
    previous: Option<&StockFeedStatus>,
    now: Timestamp,
) -> StockFeedStatus {
    let trouble = |reason: &'static str| Verdict::yes(reason, message);
    let settled = || Verdict::no(reason::SETTLED, "");
    let (reconciling, stalled) = match reason::needs_a_person(reason) {
        true => (settled(), trouble(reason)),
        false => (trouble(reason), settled()),
    };
    let ready = Verdict::no(reason, message);
    over_previous([ready, reconciling, stalled], generation, previous, now)
}

/// The status of a feed that goes on by its last valid spec: its stages as they are, the summary says what is wrong.
#[must_use]
pub fn over_applied(
    applied: StockFeedStatus,
    reason: &'static str,
    message: &str,
    previous: Option<&StockFeedStatus>,
    now: Timestamp,
) -> StockFeedStatus {
    let generation = applied.observed_generation.unwrap_or_default();
    let summary = [
        (ConditionType::Ready, Verdict::no(reason, message)),
        (ConditionType::Reconciling, Verdict::no(reason::SETTLED, "")),
        (ConditionType::Stalled, Verdict::yes(reason, message)),
    ];
    let mut status = applied;
    for (kind, verdict) in summary {
        let said = condition(kind, verdict, generation, previous, now);
        if let Some(place) = status
            .conditions
            .iter_mut()
            .find(|condition| condition.type_ == kind.name())
        {
            *place = said;
        }
    }
    status
}

/// The status of a feed that is left as it is, as its annotation asks.
#[must_use]
pub fn of_pause(generation: i64, previous: Option<&StockFeedStatus>, now: Timestamp) -> StockFeedStatus {
    let message = "paused by an annotation: nothing is compared or healed";
    let settled = || Verdict::no(reason::PAUSED, message);
    let ready = Verdict::unknown(reason::PAUSED, message);
    over_previous([ready, settled(), settled()], generation, previous, now)
}

/// The status of a feed that is being deleted: what is waited for, and what goes and stays.
#[must_use]
pub fn of_deletion(
    message: &str,
    plan: Vec<DeletionEntry>,
    generation: i64,
    previous: Option<&StockFeedStatus>,
    now: Timestamp,
) -> StockFeedStatus {
    let ready = Verdict::no(reason::DELETING, message);
    let reconciling = Verdict::yes(reason::DELETING, message);
    let stalled = Verdict::no(reason::SETTLED, "");
    StockFeedStatus {
        deletion_plan: plan,
        ..over_previous([ready, reconciling, stalled], generation, previous, now)
    }
}

/// Whether the data is complete, as far as it is known. It informs, and has no part in Ready: what is lost is lost, and the
/// feed works.
fn completeness(progress: Option<&schema::Progress>) -> Verdict {
    let Some(progress) = progress else {
        return Verdict::unknown(reason::PENDING, "the database could not be asked");
    };
    match progress.gaps_recent {
        0 => Verdict::yes(reason::NO_GAPS, "every message that was published has arrived"),
        recent => Verdict::no(
            reason::MESSAGES_MISSING,
            format!(
                "{recent} messages were published and never arrived, {} since the feed began; table gaps lists them",
                progress.gaps
            ),
        ),
    }
}

/// Whether two statuses differ at most in the figures that change quickly, those in words included.
#[must_use]
pub fn same_but_figures(one: &StockFeedStatus, other: &StockFeedStatus) -> bool {
    let without = |status: &StockFeedStatus| {
        let mut without = StockFeedStatus {
            backlog: None,
            watermark: None,
            last_tick_time: None,
            quarantined: None,
            scaling: status.scaling.as_ref().map(Scaling::without_figures),
            quota: status.quota.clone().map(|quota| Quota {
                used_today: None,
                exhausted_at: None,
                ..quota
            }),
            ..status.clone()
        };
        for condition in &mut without.conditions {
            if [reason::REPARTITIONING, reason::DRAINING].contains(&condition.reason.as_str()) {
                condition.message.clear();
            }
        }
        without
    };
    without(one) == without(other)
}

/// The previous status with conditions of ours only, in our order: what is compared with the next one.
#[must_use]
pub fn ours(previous: &StockFeedStatus) -> StockFeedStatus {
    let conditions = ConditionType::iter()
        .filter_map(|kind| find(previous, kind).cloned())
        .collect();
    StockFeedStatus {
        conditions,
        ..previous.clone()
    }
}

/// A condition of a status.
#[must_use]
pub fn find(status: &StockFeedStatus, kind: ConditionType) -> Option<&Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind.name())
}

/// Ready, Reconciling and Stalled, from the stages.
fn summary(stages: &[(ConditionType, &Verdict)], suspended: bool) -> (Verdict, Verdict, Verdict) {
    let with = |truth: Truth| stages.iter().find(|(_, verdict)| verdict.truth == truth);
    // What is known to be wrong explains more than what could not be found out.
    let cause = with(Truth::False).or_else(|| with(Truth::Unknown));
    let Some((stage, verdict)) = cause else {
        let ready = match suspended {
            true => Verdict::yes(reason::SUSPENDED, "suspended, as asked"),
            false => Verdict::yes(reason::READY, "every stage is ready"),
        };
        let settled = || Verdict::no(reason::SETTLED, "");
        return (ready, settled(), settled());
    };
    let explain = |stage: ConditionType, verdict: &Verdict| format!("{}: {}", stage.name(), verdict.message);
    let ready = Verdict::no(verdict.reason.clone(), explain(*stage, verdict));
    let stuck = stages
        .iter()
        .find(|(_, verdict)| verdict.truth == Truth::False && reason::needs_a_person(&verdict.reason));
    match stuck {
        Some((stage, verdict)) => (
            ready,
            Verdict::no(reason::SETTLED, ""),
            Verdict::yes(verdict.reason.clone(), explain(*stage, verdict)),
        ),
        None => {
            let under_way = Verdict::yes(verdict.reason.clone(), explain(*stage, verdict));
            (ready, under_way, Verdict::no(reason::SETTLED, ""))
        }
    }
}

fn of_workload(state: &WorkloadState, component: Component) -> Verdict {
    let name = component.name();
    let Some(deployment) = &state.observed else {
        let waiting = state.waiting.as_deref().unwrap_or("it is being made");
        return Verdict::no(reason::WAITING, format!("the {name} waits: {waiting}"));
    };
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let current = status.observed_generation >= deployment.metadata.generation;
    let all = status.replicas.unwrap_or(0);
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    if !current {
        return Verdict::no(
            reason::PROGRESSING,
            format!("a change of the {name} is being rolled out"),
        );
    }
    if wanted == 0 && all == 0 {
        return Verdict::yes(reason::SUSPENDED, format!("the {name} is scaled to 0, as asked"));
    }
    if available >= wanted && updated == wanted && all == wanted && wanted > 0 {
        return Verdict::yes(reason::AVAILABLE, format!("{available} of {wanted} available"));
    }
    let late = status.conditions.iter().flatten().any(|condition| {
        condition.type_ == "Progressing" && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    });
    let reason = match late {
        true => reason::PROGRESS_DEADLINE_EXCEEDED,
        false => reason::PROGRESSING,
    };
    Verdict::no(
        reason,
        format!("{available} of {wanted} available, {updated} up to date"),
    )
}

/// A producer that runs is ready when it is connected to the broker. One that does not answer is its source's condition to tell.
fn linked(running: Verdict, judged: &Judged) -> Verdict {
    match &judged.link {
        Some(link) if running.is_true() && !link.connected => {
            let why = link.message.as_deref().unwrap_or("it says no more");
            Verdict::no(
                reason::NOT_CONNECTED,
                format!("the producer is not connected to the broker: {why}"),
            )
        }
        _ => running,
    }
}

/// Processors that run are ready when every queue has a consumer and what waits is committed.
fn flowing(running: Verdict, flow: Flow) -> Verdict {
    if running.is_true() && flow.is_unattended() {
        return Verdict::no(
            reason::NO_CONSUMER,
            "the processors run, and a queue has no consumer",
        );
    }
    if running.is_true() && flow.is_stuck() {
        return Verdict::no(
            reason::NOT_PROGRESSING,
            "the processors run and messages wait, and nothing is committed",
        );
    }
    running
}

fn replicas(processor: &WorkloadState) -> String {
    let deployment = processor.observed.as_ref();
    let wanted = deployment
        .and_then(|deployment| deployment.spec.as_ref())
        .and_then(|spec| spec.replicas);
    let ready = deployment
        .and_then(|deployment| deployment.status.as_ref())
        .and_then(|status| status.ready_replicas);
    format!("{}/{}", ready.unwrap_or(0), wanted.unwrap_or(0))
}

fn over_previous(
    summary: [Verdict; 3],
    generation: i64,
    previous: Option<&StockFeedStatus>,
    now: Timestamp,
) -> StockFeedStatus {
    let [ready, reconciling, stalled] = summary;
    let verdict = |kind: ConditionType| match kind {
        ConditionType::Ready => Some(ready.clone()),
        ConditionType::Reconciling => Some(reconciling.clone()),
        ConditionType::Stalled => Some(stalled.clone()),
        _ => None,
    };
    let of_kind = |kind: ConditionType| {
        let known = previous.and_then(|previous| find(previous, kind)).cloned();
        match (verdict(kind), known) {
            (Some(verdict), _) => Some(condition(kind, verdict, generation, previous, now)),
            (None, Some(known)) => Some(known),
            // Where there is no Superset, nothing is waited for.
            (None, None) if kind == ConditionType::DashboardsReady => None,
            (None, None) => {
                let pending = Verdict::unknown(reason::PENDING, "not looked at yet");
                Some(condition(kind, pending, generation, previous, now))
            }
        }
    };
    StockFeedStatus {
        observed_generation: Some(generation),
        conditions: ConditionType::iter().filter_map(of_kind).collect(),
        ..previous.cloned().unwrap_or_default()
    }
}

/// A condition. The time of the last transition moves only when the truth does.
fn condition(
    kind: ConditionType,
    verdict: Verdict,
    generation: i64,
    previous: Option<&StockFeedStatus>,
    now: Timestamp,
) -> Condition {
    let status = match verdict.truth {
        Truth::True => "True",
        Truth::False => "False",
        Truth::Unknown => "Unknown",
    };
    let since = previous
        .and_then(|previous| find(previous, kind))
        .filter(|before| before.status == status)
        .map(|before| before.last_transition_time.clone());
    Condition {
        type_: kind.name().to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.into_owned(),
        message: verdict.message,
        observed_generation: Some(generation),
        last_transition_time: since.unwrap_or_else(|| whole_seconds(now)),
    }
}

/// Kubernetes keeps whole seconds; a finer time would differ from what is read back.
pub(crate) fn whole_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

#[cfg(test)]
pub(crate) mod tests;
