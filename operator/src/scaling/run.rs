//! Looks at a feed's queues and processors, and does what is decided. What is decided is written to the status first, and the
//! Deployment follows in the next reconciliation.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Preconditions},
};
use tracing::{info, warn};

use super::{
    Decision, Facts, History, Pods, Reason, catch_up, decide, describe,
    history::Look,
    is_lower,
    processors::{self, Answer},
    rounded,
    stall::Stall,
};
use crate::{
    api::{StockFeed, status::Scaling},
    broker::Counts,
    build::{Applied, Resources},
    clock,
    context::Context,
    events,
    generations::Generations,
    labels::{self, Component},
    metrics::ProcessorChange,
    status::{chain, whole_seconds},
    validate::ValidatedFeed,
};

/// How soon a feed is looked at again while its processors have work, are more than the least, or one may be stuck.
const PERIOD: Duration = Duration::from_secs(10);
/// How soon after a decision that changes the number.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What is remembered of all feeds, by UID. Losing it in a restart only means to measure, and to wait, once more.
#[derive(Debug, Default)]
pub struct Scalings {
    feeds: Mutex<HashMap<String, History>>,
}

impl Scalings {
    /// The feed is gone.
    pub fn forget(&self, uid: &str) {
        self.with(|feeds| feeds.remove(uid));
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut HashMap<String, History>) -> T) -> T {
        use_it(&mut self.feeds.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn of<T>(&self, uid: &str, use_it: impl FnOnce(&mut History) -> T) -> T {
        self.with(|feeds| use_it(feeds.entry(uid.to_owned()).or_default()))
    }
}

/// What came of a look.
#[derive(Debug)]
pub struct Scaled {
    /// For the status.
    pub status: Scaling,
    /// The number changes: from this one to the one of the status.
    from: Option<u16>,
    restart: Option<Stall>,
    again: Option<Duration>,
}

impl Scaled {
    /// When to look again, if nothing else is the matter before.
    #[must_use]
    pub fn next_look(&self, otherwise: Duration) -> Duration {
        self.again.map_or(otherwise, |again| again.min(otherwise))
    }
}

/// Looks at a feed, and decides.
pub async fn look(
    ctx: &Context,
    feed: &StockFeed,
    validated: &ValidatedFeed,
    resources: &Resources<Applied>,
) -> Scaled {
    let uid = feed.uid().unwrap_or_default();
    let queues = queues(validated, resources);
    let waiting = queues.iter().flatten().any(|(_, counts)| counts.messages > 0);
    let waits = ctx.scalings.of(&uid, |history| history.wait(waiting));
    // Where the number is fixed and nothing waits nobody is asked anything.
    let asked = validated.limits.max.is_some() || waits;
    let answers = match asked && queues.is_some() {
        true => {
            let feed = validated.name.to_string();
            let port = Component::Processor.port();
            let requests = &ctx.metrics.requests;
            processors::ask(&ctx.http, requests, &feed, &validated.processor.addresses, port).await
        }
        false => BTreeMap::new(),
    };
    let seen = Seen {
        queues,
        answers,
        now: Instant::now(),
        time: clock::now(),
    };
    let previous = feed.status.as_ref().and_then(|status| status.scaling.as_ref());
    let about = About {
        previous,
        feed: validated,
        resources,
        time: seen.time,
    };
    ctx.scalings.of(&uid, |history| judge(history, &about, seen))
}

/// What was read.
struct Seen {
    /// What is counted of the queues that are consumed; `None`: not all of them were.
    queues: Option<BTreeMap<u16, Counts>>,
    /// What each pod answered.
    answers: BTreeMap<String, Option<Answer>>,
    now: Instant,
    time: Timestamp,
}

/// What it is about.
struct About<'a> {
    previous: Option<&'a Scaling>,
    feed: &'a ValidatedFeed,
    resources: &'a Resources<Applied>,
    time: Timestamp,
}

/// What is counted of the queues that are consumed; `None` while it is not known of all of them.
fn queues(validated: &ValidatedFeed, resources: &Resources<Applied>) -> Option<BTreeMap<u16, Counts>> {
    let consumed = validated.generations.as_ref()?.first();
    let counts = resources.broker.counts.as_ref()?;
    (0..consumed.partitions)
        .map(|partition| {
            let counts = counts.get(&(consumed.generation, partition))?;
            Some((partition, counts.clone()))
        })
        .collect()
}

/// What a look says. Without IO: what was read is an argument.
fn judge(history: &mut History, about: &About<'_>, seen: Seen) -> Scaled {
    let About { feed, resources, .. } = *about;
    let Seen {
        queues, answers, now, ..
    } = seen;
    let limits = &feed.limits;
    let consumed = feed.generations.as_ref().map(Generations::first);
    let pods = about.pods();
    let all_run = matches!(pods, Pods::Available(available) if available >= feed.replicas);
    let healthy = all_run && resources.broker.verdict.is_true() && resources.database.verdict.is_true();
    let counted = queues.is_some();
    let all_answered = answers.values().all(Option::is_some);
    let autoscaled = limits.max.is_some();
    let measured = match (queues, consumed) {
        (Some(queues), Some(consumed)) if autoscaled || !answers.is_empty() => history.observe(Look {
            at: now,
            generation: consumed.generation,
            queues,
            pods: answers,
            healthy,
        }),
        _ => None,
    };
    let stall = measured.as_ref().and_then(|measured| measured.stall.clone());
    let restart = stall.clone().filter(|_| history.may_restart(now));
    let (status, from) = match () {
        () if !autoscaled => (about.fixed(stall.as_ref()), None),
        // Too soon after the last look to say anything else.
        () if counted && measured.is_none() => (about.again(), None),
        () => {
            let facts = Facts {
                limits,
                partitions: consumed.map_or(feed.partitions, |queues| queues.partitions),
                current: feed.replicas,
                pods,
                repartitioning: feed.generations.as_ref().is_none_or(|all| all.count() > 1),
                measured: measured.as_ref(),
                all_answered,
            };
            let decision = decide(&facts, history.calm(is_lower(&facts), now));
            let changes = decision.wanted != facts.current && !limits.dry_run;
            if changes {
                history.changed(now);
            }
            (about.decided(&facts, decision), changes.then_some(facts.current))
        }
    };
    let at_rest = status.backlog == Some(0)
        && status.arrival_per_second == Some(0.0)
        && status.wanted == i32::from(limits.min);
    let suspect = measured.as_ref().is_some_and(|measured| measured.suspect);
    let again = match from {
        Some(_) => Some(AT_ONCE),
        None if suspect || autoscaled && !at_rest => Some(PERIOD),
        None => None,
    };
    Scaled {
        status,
        from,
        restart,
        again,
    }
}

impl About<'_> {
    /// How the processors' pods stand.
    fn pods(&self) -> Pods {
        let Some(deployment) = &self.resources.processor.observed else {
            return Pods::None;
        };
        if deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(0) {
            return Pods::None;
        }
        let status = deployment.status.clone().unwrap_or_default();
        let current = status.observed_generation >= deployment.metadata.generation;
        let updated = status.updated_replicas.unwrap_or(0) == status.replicas.unwrap_or(0);
        let pods = &self.feed.processor;
        if !current || !updated || !pods.settled || pods.leaving {
            return Pods::RollingOut;
        }
        Pods::Available(u16::try_from(status.available_replicas.unwrap_or(0)).unwrap_or(0))
    }

    /// What is the same whatever is decided.
    fn base(&self, wanted: u16) -> Scaling {
        let deployment = self.resources.processor.observed.as_ref();
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        let wanted = i32::from(wanted);
        let dry_run = self.feed.limits.dry_run;
        let same = self
            .previous
            .filter(|previous| previous.wanted == wanted && previous.dry_run == dry_run);
        Scaling {
            replicas: status.and_then(|status| status.replicas).unwrap_or(0),
            wanted,
            decided_at: same
                .and_then(|previous| previous.decided_at.clone())
                .or_else(|| Some(whole_seconds(self.time))),
            dry_run,
            selector: labels::selector_text(self.feed.name.name(), Component::Processor),
            ..Scaling::default()
        }
    }

    /// The number is not for the operator to decide.
    fn fixed(&self, stall: Option<&Stall>) -> Scaling {
        let (reason, message) = match stall {
            Some(stall) => (Reason::ConsumerStalled, describe(stall)),
            None => (
                Reason::Fixed,
                "replicas.min processors run: there is no replicas.max".to_owned(),
            ),
        };
        Scaling {
            reason: <&str>::from(reason).to_owned(),
            message,
            ..self.base(self.feed.replicas)
        }
    }

    /// As it was said last.
    fn again(&self) -> Scaling {
        let last = self.previous.cloned().unwrap_or_default();
        let limits = &self.feed.limits;
        let wanted = match limits.dry_run && last.dry_run {
            true => u16::try_from(last.wanted).unwrap_or(self.feed.replicas),
            false => self.feed.replicas,
        };
        let Scaling {
            replicas,
            wanted,
            decided_at,
            dry_run,
            selector,
            ..
        } = self.base(wanted);
        Scaling {
            replicas,
            wanted,
            decided_at,
            dry_run,
            selector,
            ..last
        }
    }

    /// What was decided, with its numbers.
    fn decided(&self, facts: &Facts<'_>, decision: Decision) -> Scaling {
        let load = facts.measured.and_then(|measured| measured.load);
        let time = facts
            .measured
            .and_then(|measured| catch_up(measured, facts.current));
        Scaling {
            reason: <&str>::from(decision.reason).to_owned(),
            message: decision.message,
            backlog: facts
                .measured
                .and_then(|measured| i64::try_from(measured.backlog).ok()),
            arrival_per_second: load.map(|load| rounded(load.arrival)),
            per_replica_per_second: load.and_then(|load| load.per_replica).map(rounded),
            // In twentieths, so that it does not change for nothing.
            busy_ratio: load.map(|load| (load.busy * 20.0).round() / 20.0),
            catch_up_seconds: time.and_then(|time| i64::try_from(time.as_secs()).ok()),
            ..self.base(decision.wanted)
        }
    }
}

/// Tells of what was decided, and restarts a consumer that is stuck.
pub async fn act(ctx: &Context, feed: &StockFeed, validated: &ValidatedFeed, scaled: &Scaled) {
    let Scaling { wanted, message, .. } = &scaled.status;
    if let Some(from) = scaled.from {
        let (reason, change) = match i32::from(from) < *wanted {
            true => (events::Reason::ScaledOut, ProcessorChange::Out),
            false => (events::Reason::ScaledIn, ProcessorChange::In),
        };
        ctx.metrics.processors_changed(change);
        let note = format!("from {from} to {wanted} processors: {message}");
        info!(detail = note, "The number of processors changes");
        ctx.events.publish(feed, reason, &note).await;
    }
    if let Some(stall) = &scaled.restart {
        restart(ctx, feed, validated, stall).await;
    }
}

/// Deletes the pod: its Deployment makes another one, and the broker gives its messages to whoever is there.
async fn restart(ctx: &Context, feed: &StockFeed, validated: &ValidatedFeed, stall: &Stall) {
    let Some(address) = validated.processor.addresses.get(&stall.pod) else {
        return;
    };
    let pods = Api::<Pod>::namespaced(ctx.client.clone(), validated.name.namespace());
    let this_one = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(address.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match pods.delete(&stall.pod, &this_one).await {
        Ok(_) => {
            ctx.metrics.processors_changed(ProcessorChange::Restart);
            let note = format!("{}: the pod is replaced", describe(stall));
            warn!(detail = note, "A consumer is stuck");
            ctx.events
                .publish(feed, events::Reason::ConsumerRestarted, &note)
                .await;
        }
        // Gone, or another one by now.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
        Err(error) => {
            warn!(error = %chain(&error), pod = stall.pod, "Could not replace a pod whose consumer is stuck");
        }
    }
}

#[cfg(test)]
mod tests;
