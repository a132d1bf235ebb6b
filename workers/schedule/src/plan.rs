//! What a feed asks of its source, and what it may. A round is one poll of every symbol.
//!
//! Days are New York's. Whole numbers only: intervals are rounded up, to whole milliseconds below a second and to whole
//! seconds from there on; shares of calls are rounded down.

use std::time::Duration;

use contract::config::{MIN_INTERVAL, MarketHours, QuotaPolicy};
use jiff::Timestamp;

use crate::calendar;

const NANOSECONDS_PER_MILLISECOND: u128 = 1_000_000;
const SECOND_MILLISECONDS: u128 = 1_000;
const MINUTE_MILLISECONDS: u128 = 60_000;
const DAY_MILLISECONDS: u128 = 86_400_000;
const MINUTE: Duration = Duration::from_secs(60);

/// What a feed asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// How many symbols it has.
    pub symbols: usize,
    /// The most symbols of one call: 1 when they are asked for one by one. 0 counts as 1.
    pub symbols_per_call: u64,
    /// From the beginning of one round to the beginning of the next.
    pub interval: Duration,
    /// When it polls at all.
    pub hours: MarketHours,
}

/// How many calls may be made with the API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Calls a day; `None`: no limit.
    pub per_day: Option<u64>,
    /// Calls in any minute; `None`: no limit.
    pub per_minute: Option<u64>,
    /// How many feeds use the key: each may make that part of the calls. 0 counts as 1.
    pub feeds: u64,
}

/// Whether there may be a round now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effective {
    /// Yes, and the next one is due `interval` from now.
    Every {
        /// From this round to the next; never shorter than the one asked for.
        interval: Duration,
        /// Whether it is longer than the one asked for.
        stretched: bool,
    },
    /// No: less than a round is left of the day's calls.
    Exhausted {
        /// When there are calls again, and the market is open.
        until: Timestamp,
    },
    /// No: the market is closed.
    Closed {
        /// When it opens.
        until: Timestamp,
    },
}

impl Demand {
    /// Calls that one round takes.
    #[must_use]
    pub fn calls_per_round(&self) -> u64 {
        let symbols = u64::try_from(self.symbols).unwrap_or(u64::MAX);
        symbols.div_ceil(self.symbols_per_call.max(1))
    }

    /// Calls that a full trading day takes: 24 hours of `Always`, 6.5 of `Regular`, 16 of `Extended`.
    #[must_use]
    pub fn calls_per_day(&self) -> u64 {
        self.calls_in(full_day(self.hours))
    }

    /// The most calls that begin in any 60 seconds.
    #[must_use]
    pub fn peak_calls_per_minute(&self) -> u64 {
        self.calls_in(MINUTE)
    }

    fn calls_in(&self, window: Duration) -> u64 {
        let calls = u128::from(self.calls_per_round()).saturating_mul(rounds_in(window, self.interval));
        u64::try_from(calls).unwrap_or(u64::MAX)
    }
}

impl Limit {
    /// Calls a day that one feed may make: an equal part, rounded down, but at least 1, so that a feed does something even
    /// where more feeds than calls share a key. What is counted for the key as a whole then refuses the rest.
    #[must_use]
    pub fn share_per_day(&self) -> Option<u64> {
        self.per_day.map(|limit| self.share(limit))
    }

    /// Calls in any minute that one feed may make, divided as [`share_per_day`](Self::share_per_day).
    #[must_use]
    pub fn share_per_minute(&self) -> Option<u64> {
        self.per_minute.map(|limit| self.share(limit))
    }

    fn share(&self, limit: u64) -> u64 {
        (limit / self.feeds.max(1)).max(1)
    }
}

/// Whether the calls of a full trading day, and of every minute, suffice for the interval that is asked for.
#[must_use]
pub fn fits(demand: &Demand, limit: &Limit) -> bool {
    let day = limit
        .share_per_day()
        .is_none_or(|share| demand.calls_per_day() <= share);
    day && demand.interval >= from_milliseconds(minimum_of_a_minute(demand, limit))
}

/// The shortest interval whose calls fit into a full trading day and into every minute. Never shorter than 100 ms.
///
/// When the calls of one round are more than a minute's, they have to wait for one another, and it is the time that they
/// take. When they are more than a day's, no interval fits, since calls are not saved up from one day for the next; it is
/// then as many days of 24 hours as a round has calls for, which says at least how far the demand is from what is allowed.
#[must_use]
pub fn minimum_interval(demand: &Demand, limit: &Limit) -> Duration {
    let calls = demand.calls_per_round();
    let day = limit.share_per_day().map_or(0, |share| {
        if share < calls {
            u128::from(calls.div_ceil(share)) * DAY_MILLISECONDS
        } else {
            spread(full_day(demand.hours), share, calls)
        }
    });
    let minute = minimum_of_a_minute(demand, limit);
    rounded_up(day.max(minute).max(MIN_INTERVAL.as_millis()))
}

/// Whether there may be a round now, and when the next one is due after it. Ask right before a round, with the calls that
/// this feed has made since midnight in New York (not with those of the round itself).
///
/// With [`QuotaPolicy::Stretch`] the interval is the one at which what is left of the day's share lasts for what is left of
/// the day's open time, where that is longer than the one asked for, and long enough for the share of a minute.
/// With [`QuotaPolicy::Enforce`] it is the one asked for; the caller holds back what a minute does not allow.
#[must_use]
pub fn effective_interval(
    demand: &Demand,
    limit: &Limit,
    policy: QuotaPolicy,
    used_today: u64,
    now: Timestamp,
) -> Effective {
    let hours = demand.hours;
    if !calendar::is_open(hours, now) {
        let until = calendar::next_open(hours, now);
        return Effective::Closed { until };
    }
    let midnight = calendar::next_midnight(now);
    let calls = demand.calls_per_round();
    let left = left_today(limit, used_today);
    if left.is_some_and(|left| left < calls) {
        let until = calendar::next_open(hours, midnight);
        return Effective::Exhausted { until };
    }
    let needed = match policy {
        QuotaPolicy::Enforce => 0,
        QuotaPolicy::Stretch => {
            let open = calendar::open_time(hours, now, midnight);
            let day = left.map_or(0, |left| spread(open, left, calls));
            day.max(minimum_of_a_minute(demand, limit))
        }
    };
    if from_milliseconds(needed) <= demand.interval {
        return Effective::Every {
            interval: demand.interval,
            stretched: false,
        };
    }
    Effective::Every {
        interval: rounded_up(needed),
        stretched: true,
    }
}

/// When today's first round is due that there are no calls for, with rounds from now on (from the open, when it is not yet
/// open) at the interval asked for. `None` when the calls suffice for the rest of today, and when today's session is over.
#[must_use]
pub fn exhaustion(demand: &Demand, limit: &Limit, used_today: u64, now: Timestamp) -> Option<Timestamp> {
    let midnight = calendar::next_midnight(now);
    let first = calendar::next_open(demand.hours, now);
    if first >= midnight {
        return None;
    }
    let open = calendar::open_time(demand.hours, first, midnight);
    // Without symbols there are no calls that could be used up.
    let rounds = left_today(limit, used_today)?.checked_div(demand.calls_per_round())?;
    if u128::from(rounds) >= rounds_in(open, demand.interval) {
        return None;
    }
    // Less than `open`, so it cannot overflow.
    let later = demand.interval.as_nanos().saturating_mul(u128::from(rounds));
    let later = i128::try_from(later).unwrap_or(i128::MAX);
    Timestamp::from_nanosecond(first.as_nanosecond().saturating_add(later)).ok()
}

/// How long the market is open on a day of 24 hours that is not a half day.
pub(crate) const fn full_day(hours: MarketHours) -> Duration {
    let minutes = match hours {
        MarketHours::Always => 24 * 60,
        MarketHours::Regular => 6 * 60 + 30,
        MarketHours::Extended => 16 * 60,
    };
    Duration::from_secs(minutes * 60)
}

fn left_today(limit: &Limit, used_today: u64) -> Option<u64> {
    limit
        .share_per_day()
        .map(|share| share.saturating_sub(used_today))
}

/// Rounds that begin in a window with one at its beginning. An interval of zero counts as a nanosecond.
fn rounds_in(window: Duration, interval: Duration) -> u128 {
    window.as_nanos().div_ceil(interval.as_nanos().max(1))
}

/// The shortest interval, in milliseconds, at which the rounds that `left` suffices for take all of `open`. Zero without
/// calls to make, and when not even one round is left.
fn spread(open: Duration, left: u64, calls: u64) -> u128 {
    match left.checked_div(calls) {
        None | Some(0) => 0,
        Some(rounds) => open
            .as_nanos()
            .div_ceil(NANOSECONDS_PER_MILLISECOND * u128::from(rounds)),
    }
}

/// The shortest interval, in milliseconds, that the share of a minute allows; zero without one.
fn minimum_of_a_minute(demand: &Demand, limit: &Limit) -> u128 {
    let Some(share) = limit.share_per_minute() else {
        return 0;
    };
    let calls = demand.calls_per_round();
    if share < calls {
        return (u128::from(calls) * MINUTE_MILLISECONDS).div_ceil(u128::from(share));
    }
    spread(MINUTE, share, calls)
}

/// Up to the next whole second, or millisecond where it is less than a second.
fn rounded_up(milliseconds: u128) -> Duration {
    if milliseconds < SECOND_MILLISECONDS {
        return from_milliseconds(milliseconds);
    }
    from_milliseconds(milliseconds.div_ceil(SECOND_MILLISECONDS) * SECOND_MILLISECONDS)
}

fn from_milliseconds(milliseconds: u128) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
