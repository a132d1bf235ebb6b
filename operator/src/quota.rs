//! What a feed asks of its source, and what it may: the arithmetic of crate `schedule`, for the status.

use std::time::Duration;

use contract::config::{MarketHours, QuotaConfig};
use schedule::{
    offer::Offer,
    plan::{self, Demand, Limit},
    sentence,
};

use crate::api::{Plan, status::Quota};

/// The most symbols of one call where many are asked for at once.
const BATCH: u64 = 100;
/// What stands for the plan where there is none.
pub const NO_PLAN: &str = "as configured";

/// What a feed asks.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// How many symbols.
    pub symbols: usize,
    /// How often.
    pub interval: Duration,
    /// When.
    pub hours: MarketHours,
    /// What it may.
    pub quota: &'a QuotaConfig,
    /// Whether many symbols are asked for in one call.
    pub batch: bool,
}

/// Whether it suffices, with the numbers and a sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// Whether what is allowed suffices for the interval.
    pub sufficient: bool,
    /// For people.
    pub message: String,
    /// For the status.
    pub quota: Quota,
}

impl Plan {
    /// The plan's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Basic => "Basic",
            Self::Starter => "Starter",
            Self::Premium => "Premium",
            Self::Ultimate => "Ultimate",
        }
    }

    /// Whether the plan has the batch endpoint.
    #[must_use]
    pub fn has_batch(self) -> bool {
        self.offer().is_some_and(|offer| offer.symbols_per_call > 1)
    }

    /// Calls a day that it allows; `None`: no limit.
    #[must_use]
    pub fn calls_per_day(self) -> Option<u64> {
        self.offer()?.calls_per_day
    }

    /// Calls a minute that it allows; `None`: no limit.
    #[must_use]
    pub fn calls_per_minute(self) -> Option<u64> {
        self.offer()?.calls_per_minute
    }

    fn offer(self) -> Option<Offer> {
        Offer::named(self.name())
    }
}

/// Compares what the feed asks with what it may.
#[must_use]
pub fn assess(ask: &Ask<'_>) -> Assessment {
    let demand = Demand {
        symbols: ask.symbols,
        symbols_per_call: if ask.batch { BATCH } else { 1 },
        interval: ask.interval,
        hours: ask.hours,
    };
    let limit = Limit {
        per_day: ask.quota.calls_per_day,
        per_minute: ask.quota.calls_per_minute,
        feeds: ask.quota.feeds,
    };
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Assessment {
        sufficient: plan::fits(&demand, &limit),
        message: sentence::describe(&demand, &limit, ask.quota.policy, &ask.quota.plan),
        quota: Quota {
            calls_per_day: limit.per_day.map(number),
            projected_calls_per_day: number(demand.calls_per_day()),
            minimum_interval: sentence::compound(plan::minimum_interval(&demand, &limit)),
            feeds: limit.per_day.and_then(|_| i32::try_from(limit.feeds).ok()),
            ..Quota::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use contract::config::QuotaPolicy;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::the_compose_project((5, 60, 1), Plan::Basic, false, 7_200, "28m48s", "plan Starter")]
    #[case::basic_just_enough((5, 1_728, 1), Plan::Basic, true, 250, "28m48s", "plan Basic allows 250 a day")]
    #[case::shared((5, 1_800, 2), Plan::Basic, false, 240, "57m36s", "to each of 2 feeds")]
    #[case::batches((500, 1, 1), Plan::Starter, true, 432_000, "1s", "up to 300 a minute")]
    fn quota(
        #[case] (symbols, seconds, feeds): (usize, u64, u64),
        #[case] plan: Plan,
        #[case] sufficient: bool,
        #[case] projected: i64,
        #[case] minimum: &str,
        #[case] says: &str,
    ) {
        let quota = QuotaConfig {
            calls_per_day: plan.calls_per_day(),
            calls_per_minute: plan.calls_per_minute(),
            policy: QuotaPolicy::Stretch,
            plan: plan.name().to_owned(),
            key: String::new(),
            feeds,
        };
        let assessment = assess(&Ask {
            symbols,
            interval: Duration::from_secs(seconds),
            hours: MarketHours::Always,
            quota: &quota,
            batch: plan.has_batch(),
        });
        assert_eq!(assessment.sufficient, sufficient, "{}", assessment.message);
        assert_eq!(assessment.quota.projected_calls_per_day, projected);
        assert_eq!(assessment.quota.minimum_interval, minimum);
        assert!(assessment.message.contains(says), "{}", assessment.message);
    }
}
