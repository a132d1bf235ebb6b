//! What a feed asks of its source, and what its plan allows. Pure arithmetic.

use std::time::Duration;

use contract::duration;

use crate::api::{Plan, status::Quota};

/// The most symbols of one call to the batch endpoint.
const BATCH: u64 = 100;
const DAY_MILLISECONDS: u128 = 86_400_000;
const MINUTE_MILLISECONDS: u128 = 60_000;

/// What may be asked, by the plan or by agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The plan.
    pub plan: Plan,
    /// Instead of the plan's calls a day.
    pub calls_per_day: Option<u64>,
    /// Instead of the plan's calls a minute.
    pub calls_per_minute: Option<u64>,
}

/// Whether it suffices, with the numbers and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// Whether the plan allows what the feed asks.
    pub sufficient: bool,
    /// For people.
    pub message: String,
    /// For the status.
    pub quota: Quota,
}

impl Plan {
    /// Whether the plan has the batch endpoint.
    #[must_use]
    pub fn has_batch(self) -> bool {
        self != Self::Basic
    }

    const ALL: [Self; 4] = [Self::Basic, Self::Starter, Self::Premium, Self::Ultimate];

    const fn calls_per_day(self) -> Option<u64> {
        match self {
            Self::Basic => Some(250),
            Self::Starter | Self::Premium | Self::Ultimate => None,
        }
    }

    const fn calls_per_minute(self) -> Option<u64> {
        match self {
            Self::Basic => None,
            Self::Starter => Some(300),
            Self::Premium => Some(750),
            Self::Ultimate => Some(3_000),
        }
    }
}

impl Allowance {
    fn per_day(self) -> Option<u64> {
        self.calls_per_day.or_else(|| self.plan.calls_per_day())
    }

    fn per_minute(self) -> Option<u64> {
        self.calls_per_minute.or_else(|| self.plan.calls_per_minute())
    }

    fn calls_per_poll(self, symbols: usize) -> u64 {
        let symbols = u64::try_from(symbols).unwrap_or(u64::MAX);
        if self.plan.has_batch() {
            symbols.div_ceil(BATCH)
        } else {
            symbols
        }
    }

    /// The shortest interval within both limits, rounded up to a round one.
    fn minimum_interval(self, symbols: usize) -> Duration {
        let calls = u128::from(self.calls_per_poll(symbols));
        let of = |window: u128, limit: Option<u64>| {
            limit.map_or(0, |limit| (calls * window).div_ceil(u128::from(limit)))
        };
        let milliseconds =
            of(DAY_MILLISECONDS, self.per_day()).max(of(MINUTE_MILLISECONDS, self.per_minute()));
        round_up(milliseconds.max(contract::config::MIN_INTERVAL.as_millis()))
    }
}

/// Compares what the feed asks with what it may.
#[must_use]
pub fn assess(symbols: usize, interval: Duration, allowance: Allowance) -> Assessment {
    let calls = u128::from(allowance.calls_per_poll(symbols));
    let milliseconds = interval.as_millis().max(1);
    let a_day = (calls * DAY_MILLISECONDS).div_ceil(milliseconds);
    let a_minute = (calls * MINUTE_MILLISECONDS).div_ceil(milliseconds);
    let minimum = allowance.minimum_interval(symbols);
    let beyond = |asked: u128, limit: Option<u64>| limit.filter(|limit| asked > u128::from(*limit));

    let (sufficient, message) = if let Some(limit) = beyond(a_day, allowance.per_day()) {
        let advice = advice(symbols, interval, allowance, minimum);
        let (asked, limit) = (grouped(a_day), grouped(limit.into()));
        (
            false,
            format!("{asked} calls a day projected, {limit} allowed: {advice}"),
        )
    } else if let Some(limit) = beyond(a_minute, allowance.per_minute()) {
        let advice = advice(symbols, interval, allowance, minimum);
        let (asked, limit) = (grouped(a_minute), grouped(limit.into()));
        (
            false,
            format!("{asked} calls a minute projected, {limit} allowed: {advice}"),
        )
    } else {
        (true, format!("{} calls a day projected", grouped(a_day)))
    };

    Assessment {
        sufficient,
        message,
        quota: Quota {
            calls_per_day: allowance.per_day().map(to_i64),
            projected_calls_per_day: i64::try_from(a_day).unwrap_or(i64::MAX),
            minimum_interval: duration::format(minimum),
        },
    }
}

/// What to do about a plan that does not suffice. A better plan is named only where no other agreement overrides plans.
fn advice(symbols: usize, interval: Duration, allowance: Allowance, minimum: Duration) -> String {
    let interval_advice = format!("use interval {}", duration::format(minimum));
    let agreed = allowance.calls_per_day.is_some() || allowance.calls_per_minute.is_some();
    let suffices = |plan: &Plan| {
        let upgraded = Allowance {
            plan: *plan,
            calls_per_day: None,
            calls_per_minute: None,
        };
        upgraded.minimum_interval(symbols) <= interval
    };
    match Plan::ALL.into_iter().find(suffices) {
        Some(plan) if !agreed => format!("{interval_advice} or plan {plan:?}"),
        _ => interval_advice,
    }
}

/// Up to the next whole minute, second or millisecond, whichever a person would write.
fn round_up(milliseconds: u128) -> Duration {
    let unit = match milliseconds {
        60_000.. => 60_000,
        1_000.. => 1_000,
        _ => 1,
    };
    let rounded = milliseconds.div_ceil(unit) * unit;
    Duration::from_millis(u64::try_from(rounded).unwrap_or(u64::MAX))
}

/// A number with a comma before every third digit.
fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn plan(plan: Plan) -> Allowance {
        Allowance {
            plan,
            calls_per_day: None,
            calls_per_minute: None,
        }
    }

    #[rstest]
    #[case::the_compose_project(
        5,
        60_000,
        plan(Plan::Basic),
        false,
        "7,200 calls a day projected, 250 allowed: use interval 29m or plan Starter",
        7_200,
        "29m"
    )]
    #[case::basic_just_enough(
        5,
        1_740_000,
        plan(Plan::Basic),
        true,
        "249 calls a day projected",
        249,
        "29m"
    )]
    #[case::basic_one_symbol(1, 345_600, plan(Plan::Basic), true, "250 calls a day projected", 250, "6m")]
    #[case::starter_batches(
        500,
        1_000,
        plan(Plan::Starter),
        true,
        "432,000 calls a day projected",
        432_000,
        "1s"
    )]
    #[case::starter_too_fast(
        1,
        100,
        plan(Plan::Starter),
        false,
        "600 calls a minute projected, 300 allowed: use interval 200ms or plan Premium",
        864_000,
        "200ms"
    )]
    #[case::ultimate_at_most(
        500,
        100,
        plan(Plan::Ultimate),
        true,
        "4,320,000 calls a day projected",
        4_320_000,
        "100ms"
    )]
    #[case::agreed(5, 60_000, Allowance { calls_per_day: Some(1_000), ..plan(Plan::Basic) }, false, "7,200 calls a day projected, 1,000 allowed: use interval 8m", 7_200, "8m")]
    #[case::agreed_both(300, 1_000, Allowance { calls_per_day: Some(1_000_000), calls_per_minute: Some(100), ..plan(Plan::Premium) }, false, "180 calls a minute projected, 100 allowed: use interval 2s", 259_200, "2s")]
    fn quota(
        #[case] symbols: usize,
        #[case] interval: u64,
        #[case] allowance: Allowance,
        #[case] sufficient: bool,
        #[case] message: &str,
        #[case] projected: i64,
        #[case] minimum: &str,
    ) {
        let assessment = assess(symbols, Duration::from_millis(interval), allowance);
        assert_eq!(assessment.message, message);
        assert_eq!(assessment.sufficient, sufficient);
        assert_eq!(assessment.quota.projected_calls_per_day, projected);
        assert_eq!(assessment.quota.minimum_interval, minimum);
    }

    proptest::proptest! {
        #[test]
        fn the_minimum_interval_suffices(symbols in 1_usize..=500, which in 0_usize..4, a_day in 1_u64..1_000_000) {
            let allowance = Allowance { calls_per_day: Some(a_day), ..plan(Plan::ALL[which]) };
            let minimum = allowance.minimum_interval(symbols);
            proptest::prop_assert!(assess(symbols, minimum, allowance).sufficient);
        }
    }
}
