//! How many processors a feed has. Deciding is pure; `run` looks at the facts and does what follows.
//!
//! ```text
//!  queues' counts ──┐
//!  processors'      ├─► history ──► decide ──► status.scaling ──► Deployment, in the next reconciliation
//!  commits and time ┘   rates,      wanted,
//!                       stalls      reason
//! ```
//!
//! The rule: a processor that is at work for a share `b` of its time and commits `r` messages a second could commit `r / b`.
//! More processors are made when what waits would not be worked off in time, at once but at most twice as many; one is taken
//! away when fewer have been enough for a while. What is not known changes nothing.

use std::time::Duration;

use strum::IntoStaticStr;

use crate::generations::grouped;

pub mod history;
pub mod limits;
pub mod processors;
pub mod run;
mod stage;
pub mod stall;

pub use history::{Calm, History, Load, Measured};
pub use limits::Limits;
pub use run::{Scalings, act, look};
pub use stage::while_it_scales;

/// What waits for less time than this is on its way: processors keep up.
const KEEPS_UP: f64 = 5.0;
/// The share of their time that processors are to be at work when one is taken away: the rest is for what comes unevenly.
const WORKLOAD: f64 = 0.8;

/// Processors that were less at work than that, on average, are held up by nobody.
const AT_WORK: f64 = 0.1;

/// Why there are to be so many. Stable: people and alerts match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum Reason {
    /// The spec names the number.
    Fixed,
    /// As many as are needed.
    Steady,
    /// More are needed to work off what waits in time.
    CatchingUp,
    /// More are needed than there may be.
    AtMaximum,
    /// Fewer are enough, and have been for long enough: one less.
    LessWork,
    /// Fewer are enough, and it has to stay so for a while.
    Stabilizing,
    /// Fewer are enough, but the number of partitions changes.
    Repartitioning,
    /// More are needed; those that were asked for last do not run yet.
    WaitingForPods,
    /// Processors are being replaced.
    RollingOut,
    /// The queues could not be counted.
    BacklogUnknown,
    /// It is not known yet what a processor can do.
    Measuring,
    /// A processor does not answer.
    ProcessorSilent,
    /// Processors are at work and commit nothing: the database holds them up, and would hold up more of them.
    NothingCommitted,
    /// A consumer does not work though messages wait: it is restarted.
    ConsumerStalled,
    /// There are no processors to be.
    Stopped,
}

/// What is known when it is decided.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What the spec allows.
    pub limits: &'a Limits,
    /// Partitions of the generation that is consumed.
    pub partitions: u16,
    /// Processors that there are to be, so far.
    pub current: u16,
    /// What their Deployment says.
    pub pods: Pods,
    /// Whether the number of partitions changes.
    pub repartitioning: bool,
    /// What was measured; `None`: the queues could not be counted.
    pub measured: Option<&'a Measured>,
    /// Whether all processors answered.
    pub all_answered: bool,
}

/// The processors' pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// None are to be.
    None,
    /// They are being replaced, or some are on their way out.
    RollingOut,
    /// So many run of those that are to be.
    Available(u16),
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Processors that there are to be.
    pub wanted: u16,
    /// Why, as one word.
    pub reason: Reason,
    /// Why, with the numbers.
    pub message: String,
}

/// How many processors what is measured needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// So many.
    Of(u32),
    /// It cannot be told.
    Unknown(Reason),
}

/// Whether fewer than now would be enough; `None`: it cannot be told.
#[must_use]
pub fn is_lower(facts: &Facts<'_>) -> Option<bool> {
    match need(facts) {
        Need::Of(needed) => Some(bounded(facts, needed) < facts.current),
        Need::Unknown(_) => None,
    }
}

/// The nearest number that there may be.
fn bounded(facts: &Facts<'_>, needed: u32) -> u16 {
    let Limits { min, .. } = *facts.limits;
    u16::try_from(needed)
        .unwrap_or(u16::MAX)
        .clamp(min, facts.limits.upper(facts.partitions))
}

/// Decides.
#[must_use]
pub fn decide(facts: &Facts<'_>, calm: Calm) -> Decision {
    let Facts { limits, current, .. } = *facts;
    let upper = limits.upper(facts.partitions);
    let needed = match need(facts) {
        Need::Of(needed) => needed,
        Need::Unknown(reason) => return hold(facts, reason),
    };
    let bounded = bounded(facts, needed);
    if bounded > current {
        let Pods::Available(available) = facts.pods else {
            return hold(facts, Reason::RollingOut);
        };
        if available < current {
            return hold(facts, Reason::WaitingForPods);
        }
        let wanted = bounded.min(current.saturating_mul(2));
        return says(facts, wanted, Reason::CatchingUp, needed);
    }
    if bounded < current {
        let stable = limits.stabilization;
        let calm = calm.lower_for >= stable && calm.changed.is_none_or(|changed| changed >= stable);
        let reason = match () {
            () if facts.repartitioning => Reason::Repartitioning,
            () if facts.pods == Pods::RollingOut => Reason::RollingOut,
            () if !calm => Reason::Stabilizing,
            () => return says(facts, current - 1, Reason::LessWork, needed),
        };
        return says(facts, current, reason, needed);
    }
    let reason = match needed > u32::from(upper) {
        true => Reason::AtMaximum,
        false => Reason::Steady,
    };
    says(facts, current, reason, needed)
}

/// How many processors are needed, whatever the limits are.
fn need(facts: &Facts<'_>) -> Need {
    if facts.pods == Pods::None {
        return Need::Unknown(Reason::Stopped);
    }
    let Some(measured) = facts.measured else {
        return Need::Unknown(Reason::BacklogUnknown);
    };
    if measured.stall.is_some() {
        return Need::Unknown(Reason::ConsumerStalled);
    }
    let Some(load) = measured.load else {
        return Need::Unknown(match (facts.pods, facts.all_answered) {
            (Pods::RollingOut, _) => Reason::RollingOut,
            (Pods::Available(available), _) if available < facts.current => Reason::WaitingForPods,
            (_, false) => Reason::ProcessorSilent,
            (_, true) => Reason::Measuring,
        });
    };
    if measured.backlog > 0 && load.committed <= 0.0 && load.busy >= AT_WORK {
        return Need::Unknown(Reason::NothingCommitted);
    }
    let backlog = history::as_float(measured.backlog);
    // Where nobody was seen at work for long enough to tell, one is enough for what was done.
    let to_keep_up = load
        .per_replica
        .map_or(1, |able| processors(load.arrival / (able * WORKLOAD)));
    if backlog <= load.committed * KEEPS_UP {
        // However busy they are: batches grow when more comes, and then a processor does more than it was seen to do.
        return Need::Of(to_keep_up.min(u32::from(facts.current)));
    }
    let Some(able) = load.per_replica else {
        return Need::Unknown(Reason::Measuring);
    };
    let in_time = backlog / facts.limits.catch_up.as_secs_f64();
    // None is taken away before what waits is worked off.
    let to_catch_up = processors((load.arrival + in_time) / able).max(facts.current.into());
    Need::Of(to_keep_up.max(to_catch_up))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a conversion to an integer stops at its limits"
)]
fn processors(number: f64) -> u32 {
    (number.ceil() as u32).max(1)
}

/// In what time so many processors work off what waits; `None`: they do not.
#[must_use]
pub fn catch_up(measured: &Measured, replicas: u16) -> Option<Duration> {
    if measured.backlog == 0 {
        return Some(Duration::ZERO);
    }
    let load = measured.load?;
    let beyond = load.per_replica? * f64::from(replicas) - load.arrival;
    (beyond > 0.0)
        .then(|| history::as_float(measured.backlog) / beyond)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

fn hold(facts: &Facts<'_>, reason: Reason) -> Decision {
    says(facts, facts.current, reason, 0)
}

fn says(facts: &Facts<'_>, wanted: u16, reason: Reason, needed: u32) -> Decision {
    let Facts { limits, current, .. } = *facts;
    let measured = facts.measured.cloned().unwrap_or_default();
    let backlog = match measured.backlog {
        0 => "nothing waits".to_owned(),
        1 => "1 message waits".to_owned(),
        messages => format!(
            "{} messages wait",
            grouped(i64::try_from(messages).unwrap_or(i64::MAX))
        ),
    };
    let stable = limits.stabilization.as_secs();
    let seen = sentence(&measured, &backlog);
    let in_time = format!("within {} s", limits.catch_up.as_secs());
    let least = needed.max(u32::from(limits.min));
    let message = match reason {
        Reason::Fixed | Reason::Steady => seen,
        Reason::CatchingUp => {
            let some = match u32::from(wanted) < needed {
                true => format!("{wanted} for now, {needed} are needed to catch up {in_time}"),
                false => format!("{wanted} catch up {in_time}"),
            };
            format!("{seen}: {some}")
        }
        Reason::AtMaximum => {
            let upper = limits.upper(facts.partitions);
            let why = match Some(upper) == limits.max {
                true => "replicas.max".to_owned(),
                false => format!("{} partitions are consumed", facts.partitions),
            };
            format!("{seen}: {needed} are needed to catch up {in_time}, {upper} is the most ({why})")
        }
        Reason::LessWork => {
            format!("{seen}: {least} would do, and have for {stable} s; one at a time is taken away")
        }
        Reason::Stabilizing => {
            format!("{seen}: {least} would do; one is taken away when that has been so for {stable} s")
        }
        Reason::Repartitioning => {
            format!("{seen}: {least} would do; none is taken away while the number of partitions changes")
        }
        Reason::WaitingForPods => format!("{seen}: not all of {current} run yet"),
        Reason::RollingOut => format!("{backlog}; processors are being started, ended or replaced"),
        Reason::BacklogUnknown => "the queues could not be counted".to_owned(),
        Reason::Measuring => format!("{backlog}; what a processor can do is being measured"),
        Reason::ProcessorSilent => format!("{backlog}; a processor does not say what it does"),
        Reason::NothingCommitted => format!(
            "{backlog} and nothing is committed though processors are at work: the database holds them up, and would hold up more"
        ),
        Reason::ConsumerStalled => measured.stall.as_ref().map_or(backlog, describe),
        Reason::Stopped => "there are no processors".to_owned(),
    };
    let message = match limits.dry_run && wanted != current {
        true => format!("dry run, from {current} to {wanted}: {message}"),
        false => message,
    };
    Decision {
        wanted,
        reason,
        message,
    }
}

/// For people: a consumer that is stuck.
#[must_use]
pub fn describe(stall: &stall::Stall) -> String {
    format!(
        "{} messages of partition {} wait, and {} was idle and committed none of them for {} s",
        grouped(i64::try_from(stall.messages).unwrap_or(i64::MAX)),
        stall.partition,
        stall.pod,
        stall.since.as_secs()
    )
}

fn sentence(measured: &Measured, backlog: &str) -> String {
    let Some(load) = measured.load else {
        return backlog.to_owned();
    };
    let able = load
        .per_replica
        .map(|able| format!(", one processor can commit {}/s", rate(able)));
    format!(
        "{backlog}, {}/s arrive{}",
        rate(load.arrival),
        able.unwrap_or_default()
    )
}

#[expect(clippy::cast_possible_truncation, reason = "a whole number, by then")]
fn rate(number: f64) -> String {
    match rounded(number) {
        thousands if thousands >= 1_000.0 => grouped(thousands as i64),
        small => small.to_string(),
    }
}

/// Two digits: more would be noise.
#[must_use]
pub fn rounded(number: f64) -> f64 {
    if number < 0.05 {
        return 0.0;
    }
    let magnitude = 10_f64.powf(number.log10().floor() - 1.0);
    let digits = (number / magnitude).round();
    // Powers below one are no exact floats, their reciprocals are.
    match magnitude < 1.0 {
        true => digits / (1.0 / magnitude).round(),
        false => digits * magnitude,
    }
}

#[cfg(test)]
mod tests;
