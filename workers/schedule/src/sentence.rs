//! What a feed takes, what it may, what becomes of it and what would do: one sentence for people.

use std::time::Duration;

use contract::{
    config::{MarketHours, QuotaPolicy},
    duration,
};

use crate::{
    offer::{OFFERS, Offer},
    plan::{Demand, Limit, fits, minimum_interval},
};

/// Says what the feed takes of the plan on a full trading day, and what follows. For example:
///
/// > 5 symbols every 1m take 7,200 calls a day; plan Basic allows 250 a day, so each symbol is polled every 28m48s; an
/// > interval of 28m48s or plan Starter (batches of 100 symbols, no daily limit, 300 calls a minute) fits
///
/// Another plan is advised only where `plan_name` is one of [`OFFERS`] with the limits that it has there: whoever agreed on
/// others with the provider, or uses another provider, is not helped by it.
#[must_use]
pub fn describe(demand: &Demand, limit: &Limit, policy: QuotaPolicy, plan_name: &str) -> String {
    let facts = format!(
        "{}; plan {plan_name} allows {}",
        asked(demand, limit),
        allowed(limit)
    );
    if fits(demand, limit) {
        return facts;
    }
    let plan = better_plan(demand, limit, plan_name).map(offered);
    let calls = demand.calls_per_round();
    if let Some(share) = limit.share_per_day().filter(|share| *share < calls) {
        let most = counted(share.saturating_mul(demand.symbols_per_call.max(1)), "symbol");
        let calls = counted(calls, "call");
        let remedy = plan.map_or_else(String::new, |plan| format!("; {plan} fits"));
        return format!(
            "{facts}, so nothing is polled: one round takes {calls}, and at most {most} can be polled even once a day{remedy}"
        );
    }
    let minimum = compound(minimum_interval(demand, limit));
    let consequence = consequence(demand, limit, policy, &minimum);
    let or_plan = plan.map_or_else(String::new, |plan| format!(" or {plan}"));
    format!("{facts}, so {consequence}; an interval of {minimum}{or_plan} fits")
}

fn asked(demand: &Demand, limit: &Limit) -> String {
    let symbols = counted(u64::try_from(demand.symbols).unwrap_or(u64::MAX), "symbol");
    let verb = if demand.symbols == 1 { "takes" } else { "take" };
    let hours = match demand.hours {
        MarketHours::Always => "",
        MarketHours::Regular => " of regular hours",
        MarketHours::Extended => " of extended hours",
    };
    let minute = limit.per_minute.map_or_else(String::new, |_| {
        format!(" and up to {} a minute", grouped(demand.peak_calls_per_minute()))
    });
    format!(
        "{symbols} every {}{hours} {verb} {} a day{minute}",
        compound(demand.interval),
        counted(demand.calls_per_day(), "call"),
    )
}

fn allowed(limit: &Limit) -> String {
    let day = limit
        .share_per_day()
        .map(|share| format!("{} a day", grouped(share)));
    let minute = limit
        .share_per_minute()
        .map(|share| format!("{} a minute", grouped(share)));
    let calls: Vec<String> = [day, minute].into_iter().flatten().collect();
    if calls.is_empty() {
        return "any number".to_owned();
    }
    let feeds = if limit.feeds > 1 {
        format!(" to each of {} feeds", grouped(limit.feeds))
    } else {
        String::new()
    };
    format!("{}{feeds}", calls.join(" and "))
}

/// What happens when the calls do not suffice, though a day's do for one round.
fn consequence(demand: &Demand, limit: &Limit, policy: QuotaPolicy, minimum: &str) -> String {
    let share = limit.share_per_day();
    let day_share = share.filter(|share| demand.calls_per_day() > *share);
    match (policy, day_share) {
        (QuotaPolicy::Stretch, _) => format!("each symbol is polled every {minimum}"),
        (QuotaPolicy::Enforce, None) => "calls wait for the next minute".to_owned(),
        (QuotaPolicy::Enforce, Some(share)) => {
            let rounds = share.checked_div(demand.calls_per_round()).unwrap_or(0);
            let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
            let begin = match demand.hours {
                MarketHours::Always => "midnight",
                MarketHours::Regular => "09:30",
                MarketHours::Extended => "04:00",
            };
            let after = compound(demand.interval.saturating_mul(rounds));
            format!("polling ends {after} after {begin} in New York, until the next day")
        }
    }
}

/// The cheapest plan that the feed fits into as it is.
fn better_plan(demand: &Demand, limit: &Limit, plan_name: &str) -> Option<Offer> {
    let own = Offer::named(plan_name)?;
    let as_offered = own.limit(limit.feeds) == *limit && own.symbols_per_call == demand.symbols_per_call;
    let suffices = |offer: &Offer| {
        let demand = Demand {
            symbols_per_call: offer.symbols_per_call,
            ..*demand
        };
        fits(&demand, &offer.limit(limit.feeds))
    };
    OFFERS.into_iter().filter(|_| as_offered).find(suffices)
}

fn offered(offer: Offer) -> String {
    let mut terms = Vec::new();
    if offer.symbols_per_call > 1 {
        terms.push(format!("batches of {} symbols", offer.symbols_per_call));
    }
    terms.push(offer.calls_per_day.map_or_else(
        || "no daily limit".to_owned(),
        |calls| format!("{} a day", counted(calls, "call")),
    ));
    if let Some(calls) = offer.calls_per_minute {
        terms.push(format!("{} a minute", counted(calls, "call")));
    }
    format!("plan {} ({})", offer.name, terms.join(", "))
}

/// A time as in 28m48s, where [`duration::format`] keeps to one unit and would say 1728s.
#[must_use]
pub fn compound(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for unit in [86_400_000, 3_600_000, 60_000, 1_000, 1] {
        let whole = left - left % unit;
        left -= whole;
        if whole > 0 {
            text.push_str(&duration::format(Duration::from_millis(whole)));
        }
    }
    if text.is_empty() {
        return duration::format(Duration::ZERO);
    }
    text
}

fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// With a comma before every third digit.
fn grouped(number: u64) -> String {
    let mut rest = number;
    let mut groups = Vec::new();
    while rest >= 1_000 {
        groups.push(format!("{:03}", rest % 1_000));
        rest /= 1_000;
    }
    groups.push(rest.to_string());
    groups.reverse();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use contract::config::{
        MarketHours::{Always, Extended, Regular},
        QuotaPolicy::{Enforce, Stretch},
    };
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn of_plan(
        symbols: usize,
        milliseconds: u64,
        hours: MarketHours,
        plan: &str,
        feeds: u64,
    ) -> (Demand, Limit) {
        let offer = Offer::named(plan).unwrap();
        let demand = Demand {
            symbols,
            symbols_per_call: offer.symbols_per_call,
            interval: Duration::from_millis(milliseconds),
            hours,
        };
        (demand, offer.limit(feeds))
    }

    #[rstest]
    #[case::stretched(
        5, 60_000, Always, Stretch, "Basic", 1,
        "5 symbols every 1m take 7,200 calls a day; plan Basic allows 250 a day, so each symbol is polled every 28m48s; \
         an interval of 28m48s or plan Starter (batches of 100 symbols, no daily limit, 300 calls a minute) fits"
    )]
    #[case::enforced(
        5, 60_000, Always, Enforce, "Basic", 1,
        "5 symbols every 1m take 7,200 calls a day; plan Basic allows 250 a day, so polling ends 50m after midnight in \
         New York, until the next day; an interval of 28m48s or plan Starter (batches of 100 symbols, no daily limit, \
         300 calls a minute) fits"
    )]
    #[case::enforced_in_regular_hours(
        5, 90_000, Regular, Enforce, "Basic", 1,
        "5 symbols every 1m30s of regular hours take 1,300 calls a day; plan Basic allows 250 a day, so polling ends \
         1h15m after 09:30 in New York, until the next day; an interval of 7m48s or plan Starter (batches of 100 \
         symbols, no daily limit, 300 calls a minute) fits"
    )]
    #[case::it_fits(
        5, 1_728_000, Always, Stretch, "Basic", 1,
        "5 symbols every 28m48s take 250 calls a day; plan Basic allows 250 a day"
    )]
    #[case::one_symbol(
        1, 3_600_000, Extended, Stretch, "Basic", 1,
        "1 symbol every 1h of extended hours takes 16 calls a day; plan Basic allows 250 a day"
    )]
    #[case::shared(
        5, 1_800_000, Always, Stretch, "Basic", 2,
        "5 symbols every 30m take 240 calls a day; plan Basic allows 125 a day to each of 2 feeds, so each symbol is \
         polled every 57m36s; an interval of 57m36s or plan Starter (batches of 100 symbols, no daily limit, 300 calls \
         a minute) fits"
    )]
    #[case::a_minute_stretched(
        1, 100, Always, Stretch, "Starter", 1,
        "1 symbol every 100ms takes 864,000 calls a day and up to 600 a minute; plan Starter allows 300 a minute, so \
         each symbol is polled every 200ms; an interval of 200ms or plan Premium (batches of 100 symbols, no daily \
         limit, 750 calls a minute) fits"
    )]
    #[case::a_minute_enforced(
        500, 100, Always, Enforce, "Premium", 1,
        "500 symbols every 100ms take 4,320,000 calls a day and up to 3,000 a minute; plan Premium allows 750 a minute, \
         so calls wait for the next minute; an interval of 400ms or plan Ultimate (batches of 100 symbols, no daily \
         limit, 3,000 calls a minute) fits"
    )]
    #[case::no_plan_suffices(
        500, 100, Always, Stretch, "Ultimate", 2,
        "500 symbols every 100ms take 4,320,000 calls a day and up to 3,000 a minute; plan Ultimate allows 1,500 a \
         minute to each of 2 feeds, so each symbol is polled every 200ms; an interval of 200ms fits"
    )]
    #[case::not_even_one_round(
        300, 60_000, Always, Stretch, "Basic", 1,
        "300 symbols every 1m take 432,000 calls a day; plan Basic allows 250 a day, so nothing is polled: one round \
         takes 300 calls, and at most 250 symbols can be polled even once a day; plan Starter (batches of 100 symbols, \
         no daily limit, 300 calls a minute) fits"
    )]
    #[rustfmt::skip]
    fn says(
        #[case] symbols: usize,
        #[case] milliseconds: u64,
        #[case] hours: MarketHours,
        #[case] policy: QuotaPolicy,
        #[case] plan: &str,
        #[case] feeds: u64,
        #[case] expected: &str,
    ) {
        let (demand, limit) = of_plan(symbols, milliseconds, hours, plan, feeds);
        assert_eq!(describe(&demand, &limit, policy, plan), expected);
    }

    #[rstest]
    #[case::another_limit(
        "Basic",
        Some(1_000),
        "Basic allows 1,000 a day, so each symbol is polled every 7m12s; an interval of 7m12s fits"
    )]
    #[case::another_provider(
        "Elsewhere",
        Some(250),
        "Elsewhere allows 250 a day, so each symbol is polled every 28m48s; an interval of 28m48s fits"
    )]
    #[case::no_limit("Elsewhere", None, "Elsewhere allows any number")]
    fn other_agreements_get_no_advice_about_plans(
        #[case] plan: &str,
        #[case] per_day: Option<u64>,
        #[case] end: &str,
    ) {
        let (demand, limit) = of_plan(5, 60_000, Always, "Basic", 1);
        let sentence = describe(&demand, &Limit { per_day, ..limit }, Stretch, plan);
        assert_eq!(
            sentence,
            format!("5 symbols every 1m take 7,200 calls a day; plan {end}")
        );
    }

    proptest! {
        #[test]
        fn a_compound_duration_reads_the_same(milliseconds in 0_u64..10_u64.pow(11)) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(duration::parse(&compound(duration)).unwrap(), duration);
        }

        #[test]
        fn commas_only_group(number: u64) {
            let text = grouped(number);
            prop_assert_eq!(text.replace(',', "").parse::<u64>().unwrap(), number);
            let mut groups = text.split(',');
            prop_assert!(groups.next().is_some_and(|group| (1..=3).contains(&group.len())));
            prop_assert!(groups.all(|group| group.len() == 3));
        }
    }
}
