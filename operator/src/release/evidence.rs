//! Whether data flows on the images that a feed's workers have.
//!
//! That pods are ready says little. A worker's image is good when its pods, and no others, have it, and after that
//! - of the processors: what is committed moves on, or the queues are empty and every one has a consumer;
//! - of the producer: what it published is committed (the watermark moves with each poll), or it answers that there is nothing to
//!   poll now.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::apps::v1::Deployment;
use schema::Progress;

use crate::{
    api::status::reason, broker::COUNT_LAG, generations::Found, rollout::Rollout, source::Judged,
    status::Truth,
};

/// What speaks for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Data flows on it.
    Flows,
    /// It was not seen yet that data flows on it; what is missing.
    Missing(String),
}

/// One look at a feed.
#[derive(Clone, Debug)]
pub struct Look<'a> {
    /// Whether broker and database are as they should be, and the feed is not suspended: else nothing is to be expected.
    pub expected: bool,
    /// The processors' image, and whether all of their pods have it and are ready.
    pub processor: (&'a str, Result<(), String>),
    /// The producer's image, and whether its pod has it and is ready.
    pub producer: (&'a str, Result<(), String>),
    /// Whether the producer's image is known to be good.
    pub producer_is_good: bool,
    /// What is committed; `None` when the database could not be asked.
    pub progress: Option<&'a Progress>,
    /// The queues that are consumed; `None` when the broker could not be asked.
    pub queues: Option<&'a Found>,
    /// When the broker was asked.
    pub read_at: Instant,
    /// What the producer says of its source.
    pub source: SourceSays,
}

/// What the producer says of its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSays {
    /// The producer does not answer, or did not ask it yet.
    Nothing,
    /// It gives quotes, or was not asked yet.
    Quotes,
    /// It is not to be asked now.
    NotNow,
    /// It gives none.
    Trouble(String),
}

impl SourceSays {
    /// From what was judged.
    #[must_use]
    pub fn new(judged: &Judged) -> Self {
        let verdict = &judged.verdict;
        match (verdict.truth, verdict.reason.as_ref()) {
            (Truth::True, reason::MARKET_CLOSED | reason::CALLS_USED_UP) => Self::NotNow,
            (Truth::True, _) => Self::Quotes,
            (Truth::False, _) => Self::Trouble(verdict.message.clone()),
            (Truth::Unknown, _) => Self::Nothing,
        }
    }
}

/// What was seen of all feeds. Losing it in a restart only makes the operator wait once more.
#[derive(Debug, Default)]
pub struct Releases {
    seen: Mutex<HashMap<String, Seen>>,
}

#[derive(Clone, Debug)]
struct Seen {
    /// Since when nothing else was to blame.
    since: Instant,
    processor: Option<Baseline>,
    producer: Option<Baseline>,
    /// Whether the source gave quotes under the last good image.
    had_quotes: bool,
}

/// When all pods were first seen to have the image, and what was committed then.
#[derive(Clone, Debug)]
struct Baseline {
    image: String,
    since: Instant,
    progress: Progress,
}

/// What a look comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeing {
    /// Of the processors' image.
    pub processor: Evidence,
    /// Of the producer's image.
    pub producer: Evidence,
    /// For how long nothing else was to blame, as far as is remembered.
    pub undisturbed: Duration,
}

impl Releases {
    /// Takes in a look.
    pub fn observe(&self, uid: &str, look: &Look<'_>, now: Instant) -> Seeing {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(uid.to_owned()).or_insert_with(|| Seen {
            since: now,
            processor: None,
            producer: None,
            had_quotes: false,
        });
        seen.advance(look, now)
    }

    /// The feed is gone.
    pub fn forget(&self, uid: &str) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(uid);
    }
}

impl Seen {
    fn advance(&mut self, look: &Look<'_>, now: Instant) -> Seeing {
        if look.producer_is_good {
            self.had_quotes = matches!(look.source, SourceSays::Quotes | SourceSays::NotNow);
        }
        // A source that gave nothing before either says nothing of the image.
        let to_blame = matches!(look.source, SourceSays::Trouble(_)) && !self.had_quotes;
        if !look.expected || to_blame {
            self.since = now;
        }
        let processor = self.of_processor(look, now);
        let producer = self.of_producer(look, now);
        Seeing {
            processor,
            producer,
            undisturbed: now.saturating_duration_since(self.since),
        }
    }

    fn of_processor(&mut self, look: &Look<'_>, now: Instant) -> Evidence {
        let base = match baseline(&mut self.processor, &look.processor, look.progress, now) {
            Ok(base) => base,
            Err(missing) => return missing,
        };
        let Some(progress) = look.progress else {
            return Evidence::Missing("the database could not be asked".to_owned());
        };
        if moved(&base.progress, progress) {
            return Evidence::Flows;
        }
        if progress.quarantined > base.progress.quarantined {
            return Evidence::Missing("what arrives goes to quarantine".to_owned());
        }
        let idle = look.queues.is_some_and(|queues| {
            queues.messages == Some(0) && queues.consumers.is_some_and(|consumers| consumers > 0)
        });
        // The broker's counts are some seconds old.
        let fresh = look.read_at.saturating_duration_since(base.since) >= COUNT_LAG;
        match (idle, fresh) {
            (true, true) => Evidence::Flows,
            (true, false) => Evidence::Missing("the queues are being counted".to_owned()),
            (false, _) => Evidence::Missing("nothing has been committed with it yet".to_owned()),
        }
    }

    fn of_producer(&mut self, look: &Look<'_>, now: Instant) -> Evidence {
        let base = match baseline(&mut self.producer, &look.producer, look.progress, now) {
            Ok(base) => base,
            Err(missing) => return missing,
        };
        match (&look.source, look.progress) {
            (SourceSays::Nothing, _) => Evidence::Missing("it has not said how its source does".to_owned()),
            (SourceSays::NotNow, _) => Evidence::Flows,
            (SourceSays::Quotes, Some(progress)) if moved(&base.progress, progress) => Evidence::Flows,
            (SourceSays::Quotes, _) => {
                Evidence::Missing("nothing that it published has been committed yet".to_owned())
            }
            (SourceSays::Trouble(why), _) => Evidence::Missing(format!("the source gives nothing: {why}")),
        }
    }
}

fn baseline<'a>(
    kept: &'a mut Option<Baseline>,
    (image, rolled): &(&str, Result<(), String>),
    progress: Option<&Progress>,
    now: Instant,
) -> Result<&'a Baseline, Evidence> {
    if let Err(why) = rolled {
        *kept = None;
        return Err(Evidence::Missing(why.clone()));
    }
    if kept.as_ref().is_none_or(|base| base.image != *image) {
        *kept = progress.map(|progress| Baseline {
            image: (*image).to_owned(),
            since: now,
            progress: *progress,
        });
    }
    kept.as_ref()
        .ok_or_else(|| Evidence::Missing("the database could not be asked".to_owned()))
}

/// Whether anything was committed in between. Heartbeats move the watermark where no tick is new.
fn moved(before: &Progress, after: &Progress) -> bool {
    after.ticks > before.ticks || after.watermark > before.watermark
}

/// Whether all pods of a worker, and no others, are of this image and ready; or what is missing. `deployment` is as it was applied,
/// `pods` what was seen before that.
///
/// # Errors
/// What is missing.
pub fn rolled(deployment: Option<&Deployment>, pods: &Rollout, image: &str) -> Result<(), String> {
    let Some(deployment) = deployment else {
        return Err("it is not made yet".to_owned());
    };
    if crate::rollout::image(deployment).as_deref() != Some(image) {
        return Err("its Deployment does not have it yet".to_owned());
    }
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    if wanted == 0 {
        return Err("it is suspended, and is judged when it resumes".to_owned());
    }
    let status = deployment.status.clone().unwrap_or_default();
    let current = status.observed_generation >= deployment.metadata.generation;
    let counts = [
        status.replicas,
        status.updated_replicas,
        status.available_replicas,
    ];
    let all = counts.iter().all(|count| count.unwrap_or(0) == wanted);
    let alone = i32::try_from(pods.pods) == Ok(wanted);
    if current && all && alone {
        return Ok(());
    }
    let updated = match current {
        true => status.updated_replicas.unwrap_or(0),
        false => 0,
    };
    let trouble = match &pods.trouble {
        Some(trouble) => format!("; {trouble}"),
        None => String::new(),
    };
    Err(format!(
        "{updated} of {wanted} pods have it, {} are ready, {} are there{trouble}",
        status.available_replicas.unwrap_or(0),
        pods.pods
    ))
}

#[cfg(test)]
mod tests;
