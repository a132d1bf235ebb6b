//! What the producer says of its calls: `GET /quota`.

use std::time::Duration;

use contract::config::{MarketHours, QuotaConfig, QuotaPolicy};
use jiff::Timestamp;
use schedule::{
    calendar,
    plan::{self, Demand, Effective, Limit},
    sentence,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{live::Live, status::Problem};

/// What may be asked of the source, and what was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct QuotaState {
    /// `Stretch`: the interval grows so that the calls last. `Enforce`: polling stops when they are used up.
    pub policy: String,
    /// Calls a day with the API key; absent: no limit.
    pub calls_per_day: Option<u64>,
    /// This feed's part of them.
    pub share_per_day: Option<u64>,
    /// Calls that this feed has made today.
    pub used_today: u64,
    /// Calls that are left to it today; absent: no limit.
    pub left_today: Option<u64>,
    /// Calls in any minute with the API key; absent: no limit.
    pub calls_per_minute: Option<u64>,
    /// When the day ends: midnight in New York.
    #[schema(value_type = String, format = DateTime)]
    pub resets_at: Timestamp,
    /// Calls of a whole day at the configured interval.
    pub projected_calls_per_day: u64,
    /// The configured interval.
    pub interval_seconds: f64,
    /// The interval that is kept now; absent while nothing is polled.
    pub effective_interval_seconds: Option<f64>,
    /// The shortest interval that stays within the limits.
    pub minimum_interval_seconds: f64,
    /// When today's calls are used up at the configured interval; absent: they suffice.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub exhausted_at: Option<Timestamp>,
    /// The exchange.
    pub market: MarketState,
    /// All of this in a sentence.
    pub message: String,
    /// Why calls cannot be counted, if so.
    pub problem: Option<Problem<String>>,
}

/// Whether the exchange trades.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct MarketState {
    /// `Always`, `Regular` or `Extended`.
    pub hours: String,
    /// Whether it is polled now.
    pub open: bool,
    /// When it is polled next, if not now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_open: Option<Timestamp>,
}

/// What a feed asks.
#[must_use]
pub fn demand(live: &Live, symbols_per_call: u64) -> Demand {
    Demand {
        symbols: live.symbols.len(),
        symbols_per_call,
        interval: live.interval,
        hours: live.market_hours,
    }
}

/// What it may.
#[must_use]
pub const fn limit(quota: &QuotaConfig) -> Limit {
    Limit {
        per_day: quota.calls_per_day,
        per_minute: quota.calls_per_minute,
        feeds: quota.feeds,
    }
}

impl QuotaState {
    /// At this moment.
    #[must_use]
    pub fn new(
        live: &Live,
        demand: &Demand,
        used_today: u64,
        left_today: Option<u64>,
        effective: &Effective,
        now: Timestamp,
    ) -> Self {
        let quota = &live.quota;
        let limit = limit(quota);
        let open = calendar::is_open(live.market_hours, now);
        let policy = match quota.policy {
            QuotaPolicy::Stretch => "Stretch",
            QuotaPolicy::Enforce => "Enforce",
        };
        let hours = match live.market_hours {
            MarketHours::Always => "Always",
            MarketHours::Regular => "Regular",
            MarketHours::Extended => "Extended",
        };
        Self {
            policy: policy.to_owned(),
            calls_per_day: quota.calls_per_day,
            share_per_day: limit.share_per_day(),
            used_today,
            left_today,
            calls_per_minute: quota.calls_per_minute,
            resets_at: calendar::next_midnight(now),
            projected_calls_per_day: demand.calls_per_day(),
            interval_seconds: live.interval.as_secs_f64(),
            effective_interval_seconds: match effective {
                Effective::Every { interval, .. } => Some(interval.as_secs_f64()),
                Effective::Exhausted { .. } | Effective::Closed { .. } => None,
            },
            minimum_interval_seconds: plan::minimum_interval(demand, &limit).as_secs_f64(),
            exhausted_at: plan::exhaustion(demand, &limit, used_today, now),
            market: MarketState {
                hours: hours.to_owned(),
                open,
                next_open: (!open).then(|| calendar::next_open(live.market_hours, now)),
            },
            message: words(demand, &limit, quota, effective, used_today),
            problem: None,
        }
    }
}

fn words(demand: &Demand, limit: &Limit, quota: &QuotaConfig, effective: &Effective, used: u64) -> String {
    let plan = sentence::describe(demand, limit, quota.policy, &quota.plan);
    let state = match effective {
        Effective::Every {
            interval,
            stretched: true,
        } => {
            format!("polling every {} so that the calls last", time(*interval))
        }
        Effective::Every { interval, .. } => format!("polling every {}", time(*interval)),
        Effective::Exhausted { until } => {
            format!("today's calls are used up ({used}); polling again at {until}")
        }
        Effective::Closed { until } => format!("the exchange is closed; polling again at {until}"),
    };
    format!("{state}. {plan}")
}

fn time(interval: Duration) -> String {
    sentence::compound(interval)
}
