//! Which images a feed's workers have: the newest, once it is proven that data flows on them, else the last good ones. Pure.
//!
//! The operator's options name the images, or `spec.template`. When they change:
//!
//! 1. The schema is expanded first. A worker gets no new image before the schema has the version of this operator.
//! 2. The processors roll. They know what older producers publish.
//! 3. Data flows on them: what is committed moves on, or the queues are empty and consumers are attached ([`evidence`]).
//! 4. The producer rolls, and is judged in the same way.
//!
//! What does not come to that within `--rollout-deadline` is put back to the last good image, and not tried again until another one
//! was named, or annotation `stockfeed.dev/retry-rollout` gets another value. What is decided is written to the status first and done
//! in the next reconciliation.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::status::{FailedImage, ReleaseState, ReleaseStatus, WorkerRelease},
    context::Images,
    events::Reason,
    labels::Component,
    rollout::Rollout,
};

pub mod evidence;

use evidence::Evidence;

/// What is known when it is decided.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The images that are named.
    pub wanted: &'a Images,
    /// What the status says; `None`: nothing yet.
    pub previous: Option<&'a ReleaseStatus>,
    /// The image of the processors' Deployment; `None` when there is none.
    pub running_processor: Option<&'a str>,
    /// The image of the producer's Deployment; `None` when there is none.
    pub running_producer: Option<&'a str>,
    /// Whether the feed was ready with the images that it has.
    pub was_ready: bool,
    /// Why no worker may get a new image yet, if so.
    pub held: Option<String>,
    /// Whether data flows on the processors' image.
    pub processor: Evidence,
    /// Whether data flows on the producer's image.
    pub producer: Evidence,
    /// Whether it was waited for long enough since the last step.
    pub overdue: bool,
    /// Whether the feed is suspended: its producer is judged when it resumes.
    pub suspended: bool,
    /// The value of annotation `stockfeed.dev/retry-rollout`.
    pub retry: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// For the status.
    pub release: ReleaseStatus,
    /// Whether a worker is on its way from one image to another, and it will be known soon.
    pub under_way: bool,
}

/// What became of one worker.
enum Step {
    /// Nothing is to be done.
    Settled,
    /// Something is waited for.
    Waits(String),
    /// It gets another image.
    Moved,
    /// Data flows on its image.
    Proved,
    /// Its last good image was put back.
    PutBack,
}

/// The images that workers get now: those of the status, else those that run, else those that are named.
#[must_use]
pub fn images(
    wanted: &Images,
    status: Option<&ReleaseStatus>,
    processor: &Rollout,
    producer: &Rollout,
) -> Images {
    let image = |decided: Option<&WorkerRelease>, running: &Rollout, wanted: &String| {
        let decided = decided.map(|worker| worker.image.clone());
        let running = || running.image.clone();
        decided.or_else(running).unwrap_or_else(|| wanted.clone())
    };
    Images {
        processor: image(
            status.map(|status| &status.processor),
            processor,
            &wanted.processor,
        ),
        producer: image(status.map(|status| &status.producer), producer, &wanted.producer),
        pull_policy: wanted.pull_policy.clone(),
    }
}

/// Decides.
#[must_use]
pub fn decide(facts: &Facts<'_>) -> Decision {
    let previous = facts.previous.cloned();
    let mut release = previous.clone().unwrap_or_else(|| adopted(facts));
    forget_failures(&mut release, facts);

    let wanted = facts.wanted;
    let first = advance(
        Component::Processor,
        &mut release.processor,
        &wanted.processor,
        &facts.processor,
        facts,
    );
    // Processors come first: they know what an older producer publishes, but it may not be so the other way round.
    let second = match is_settled(&release.processor, &wanted.processor) {
        true => advance(
            Component::Producer,
            &mut release.producer,
            &wanted.producer,
            // Counted from the step before: a worker that moves on now is judged at the next look.
            &facts.producer,
            facts,
        ),
        false => Step::Settled,
    };

    let going = |worker: &WorkerRelease, wanted: &str| {
        let failed = worker
            .failed
            .as_ref()
            .is_some_and(|failed| failed.image == wanted);
        worker.good.as_ref() != Some(&worker.image) || (worker.image != wanted && !failed)
    };
    let processors_go = going(&release.processor, &wanted.processor);
    // The producer waits for processors that were put back.
    let processors_failed = release.processor.failed.is_some();
    let producer_goes = going(&release.producer, &wanted.producer) && !processors_failed;
    let failed = processors_failed || release.producer.failed.is_some();
    release.state = match (processors_go || producer_goes, failed) {
        (true, _) => ReleaseState::Progressing,
        (false, true) => ReleaseState::RolledBack,
        (false, false) => ReleaseState::Good,
    };
    release.message = message(&release, &first, &second);
    let begins_anew = [&first, &second]
        .into_iter()
        .any(|step| matches!(step, Step::Moved | Step::Proved | Step::PutBack));
    if begins_anew || previous.is_none_or(|previous| previous.state != release.state) {
        release.since = whole_seconds(facts.now);
    }
    let upgrades = |worker: &WorkerRelease, wanted: &str| worker.good.is_some() && going(worker, wanted);
    let under_way = release.state == ReleaseState::Progressing
        && !facts.suspended
        && (upgrades(&release.processor, &wanted.processor) || upgrades(&release.producer, &wanted.producer));
    Decision { release, under_way }
}

/// Takes in what runs: it is as good as the feed was.
fn adopted(facts: &Facts<'_>) -> ReleaseStatus {
    let worker = |running: Option<&str>, wanted: &str| WorkerRelease {
        image: running.unwrap_or(wanted).to_owned(),
        good: running.filter(|_| facts.was_ready).map(str::to_owned),
        failed: None,
    };
    ReleaseStatus {
        state: ReleaseState::Progressing,
        since: whole_seconds(facts.now),
        message: String::new(),
        processor: worker(facts.running_processor, &facts.wanted.processor),
        producer: worker(facts.running_producer, &facts.wanted.producer),
        retried: facts.retry.map(str::to_owned),
    }
}

/// An image that was put back is tried again when somebody asks for it, or when another one was named meanwhile.
fn forget_failures(release: &mut ReleaseStatus, facts: &Facts<'_>) {
    let asked = facts.retry.is_some() && facts.retry != release.retried.as_deref();
    release.retried = facts.retry.map(str::to_owned);
    for (worker, wanted) in [
        (&mut release.processor, &facts.wanted.processor),
        (&mut release.producer, &facts.wanted.producer),
    ] {
        if asked
            || worker
                .failed
                .as_ref()
                .is_some_and(|failed| failed.image != *wanted)
        {
            worker.failed = None;
        }
    }
}

fn advance(
    component: Component,
    worker: &mut WorkerRelease,
    wanted: &str,
    evidence: &Evidence,
    facts: &Facts<'_>,
) -> Step {
    let refused = worker
        .failed
        .as_ref()
        .is_some_and(|failed| failed.image == wanted);
    let target = match refused {
        true => worker.good.clone().unwrap_or_else(|| wanted.to_owned()),
        false => wanted.to_owned(),
    };
    if worker.image != target {
        if let Some(why) = &facts.held {
            return Step::Waits(why.clone());
        }
        worker.image = target;
        return Step::Moved;
    }
    if worker.good.as_ref() == Some(&worker.image) {
        return Step::Settled;
    }
    let why = match evidence {
        Evidence::Flows => {
            worker.good = Some(worker.image.clone());
            return Step::Proved;
        }
        Evidence::Missing(why) => why,
    };
    match &worker.good {
        Some(good) if facts.overdue => {
            worker.failed = Some(FailedImage {
                image: worker.image.clone(),
                why: why.clone(),
            });
            worker.image.clone_from(good);
            Step::PutBack
        }
        _ => Step::Waits(format!("{}: {why}", component.name())),
    }
}

/// What is worth an Event, and in which words.
#[must_use]
pub fn news(before: &ReleaseStatus, now: &ReleaseStatus) -> Option<(Reason, String)> {
    let put_back =
        |release: &ReleaseStatus| [&release.processor, &release.producer].map(|worker| worker.failed.clone());
    if now.state == ReleaseState::RolledBack && put_back(before) != put_back(now) {
        return Some((Reason::RolledBack, now.message.clone()));
    }
    let workers = [
        (Component::Processor, &before.processor, &now.processor),
        (Component::Producer, &before.producer, &now.producer),
    ];
    let changes: Vec<_> = workers
        .iter()
        .filter(|(_, before, now)| before.image != now.image)
        .map(|(component, before, now)| {
            format!(
                "{}: image {} instead of {}",
                component.name(),
                now.image,
                before.image
            )
        })
        .collect();
    if !changes.is_empty() && now.state == ReleaseState::Progressing {
        return Some((Reason::RolloutStarted, changes.join("; ")));
    }
    // The first images of a feed are no change.
    let proved = workers
        .iter()
        .any(|(_, before, now)| before.good.is_some() && before.good != now.good);
    if proved && now.state == ReleaseState::Good {
        let note = format!(
            "data flows on processor image {} and producer image {}",
            now.processor.image, now.producer.image
        );
        return Some((Reason::RolloutSucceeded, note));
    }
    None
}

/// Whether a worker has an image that is not known to be good, instead of one that is.
#[must_use]
pub fn is_rolling(release: &ReleaseStatus) -> bool {
    [&release.processor, &release.producer]
        .iter()
        .any(|worker| worker.good.as_ref().is_some_and(|good| *good != worker.image))
}

fn is_settled(worker: &WorkerRelease, wanted: &str) -> bool {
    worker.image == wanted && worker.good.as_deref() == Some(wanted)
}

/// For people: what is waited for, or what was put back and why.
fn message(release: &ReleaseStatus, first: &Step, second: &Step) -> String {
    let step = |step: &Step, component: Component, worker: &WorkerRelease| match step {
        Step::Waits(why) => Some(why.clone()),
        Step::Moved => Some(format!("{}: gets image {}", component.name(), worker.image)),
        Step::Settled | Step::Proved | Step::PutBack => None,
    };
    let going = step(first, Component::Processor, &release.processor)
        .or_else(|| step(second, Component::Producer, &release.producer));
    let back = |component: Component, worker: &WorkerRelease| {
        let failed = worker.failed.as_ref()?;
        Some(format!(
            "{} image {} was put back to {}: {}",
            component.name(),
            failed.image,
            worker.image,
            failed.why
        ))
    };
    let put_back = back(Component::Processor, &release.processor)
        .or_else(|| back(Component::Producer, &release.producer));
    match release.state {
        ReleaseState::Good => None,
        ReleaseState::Progressing => going,
        ReleaseState::RolledBack => put_back,
    }
    .unwrap_or_default()
}

/// Kubernetes keeps whole seconds.
fn whole_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

#[cfg(test)]
mod tests;
