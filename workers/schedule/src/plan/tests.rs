use contract::config::{
    MarketHours::{self, Always, Extended, Regular},
    QuotaPolicy::{self, Enforce, Stretch},
};
use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Five symbols, one by one, every minute.
fn five(hours: MarketHours) -> Demand {
    Demand {
        symbols: 5,
        symbols_per_call: 1,
        interval: seconds(60),
        hours,
    }
}

fn a_day(calls: u64) -> Limit {
    Limit {
        per_day: Some(calls),
        per_minute: None,
        feeds: 1,
    }
}

fn a_minute(calls: u64) -> Limit {
    Limit {
        per_day: None,
        per_minute: Some(calls),
        feeds: 1,
    }
}

const UNLIMITED: Limit = Limit {
    per_day: None,
    per_minute: None,
    feeds: 1,
};

#[rstest]
#[case::one_by_one(5, 1, 60_000, Always, 5, 7_200, 5)]
#[case::in_batches(250, 100, 1_000, Always, 3, 259_200, 180)]
#[case::the_last_round_of_a_minute_counts(1, 1, 7_000, Always, 1, 12_343, 9)]
#[case::of_regular_hours(5, 1, 60_000, Regular, 5, 1_950, 5)]
#[case::of_extended_hours(5, 1, 60_000, Extended, 5, 4_800, 5)]
#[case::less_often_than_daily(5, 1, 100_000_000, Always, 5, 5, 5)]
#[case::a_batch_of_none_is_one_symbol(5, 0, 60_000, Always, 5, 7_200, 5)]
#[case::without_symbols(0, 1, 60_000, Always, 0, 0, 0)]
fn a_feed_asks_for(
    #[case] symbols: usize,
    #[case] symbols_per_call: u64,
    #[case] milliseconds: u64,
    #[case] hours: MarketHours,
    #[case] a_round: u64,
    #[case] a_day: u64,
    #[case] a_minute: u64,
) {
    let demand = Demand {
        symbols,
        symbols_per_call,
        interval: Duration::from_millis(milliseconds),
        hours,
    };
    assert_eq!(demand.calls_per_round(), a_round);
    assert_eq!(demand.calls_per_day(), a_day);
    assert_eq!(demand.peak_calls_per_minute(), a_minute);
}

#[rstest]
fn a_full_day_is_one_of_the_calendar(#[values(Always, Regular, Extended)] hours: MarketHours) {
    let midnight = at("2026-11-25T05:00:00Z");
    let open = calendar::open_time(hours, midnight, calendar::next_midnight(midnight));
    assert_eq!(open, full_day(hours));
}

#[rstest]
#[case::alone(250, 1, 250)]
#[case::rounded_down(250, 3, 83)]
#[case::at_least_one(2, 5, 1)]
#[case::nothing_allowed(0, 1, 1)]
#[case::no_feed_counts_as_one(250, 0, 250)]
fn feeds_share_a_key(#[case] calls: u64, #[case] feeds: u64, #[case] share: u64) {
    let limit = Limit {
        per_day: Some(calls),
        per_minute: Some(calls),
        feeds,
    };
    assert_eq!(limit.share_per_day(), Some(share));
    assert_eq!(limit.share_per_minute(), Some(share));
    assert_eq!(Limit { feeds, ..UNLIMITED }.share_per_day(), None);
}

#[rstest]
#[case::the_free_plan(five(Always), a_day(250), seconds(28 * 60 + 48))]
#[case::of_regular_hours(five(Regular), a_day(250), seconds(7 * 60 + 48))]
#[case::whole_seconds_from_one_on(five(Always), a_day(35), seconds(12_343))]
#[case::whole_milliseconds_below(five(Always), a_minute(700), Duration::from_millis(429))]
#[case::whole_rounds_of_a_minute(five(Always), a_minute(9), seconds(60))]
#[case::the_stricter_of_both(five(Always), Limit { per_day: Some(7_200), ..a_minute(1) }, seconds(300))]
#[case::a_round_of_several_minutes(five(Always), a_minute(2), seconds(150))]
#[case::a_round_of_several_days(five(Always), a_day(2), seconds(3 * 86_400))]
#[case::never_below_the_resource(five(Always), UNLIMITED, MIN_INTERVAL)]
#[case::without_symbols(Demand { symbols: 0, ..five(Always) }, a_day(1), MIN_INTERVAL)]
fn the_minimum_interval_is(#[case] demand: Demand, #[case] limit: Limit, #[case] expected: Duration) {
    assert_eq!(minimum_interval(&demand, &limit), expected);
}

fn every(interval: u64) -> Effective {
    Effective::Every {
        interval: seconds(interval),
        stretched: interval != 60,
    }
}

// Thanksgiving is November 26, 2026; the days before and after are a trading day and a half day.
#[rstest]
#[case::a_whole_day(five(Always), a_day(250), Stretch, 0, "2026-11-25T05:00:00Z", every(1_728))]
#[case::a_day_of_23_hours(five(Always), a_day(250), Stretch, 0, "2026-03-08T05:00:00Z", every(1_656))]
#[case::a_day_of_25_hours(five(Always), a_day(250), Stretch, 0, "2026-11-01T04:00:00Z", every(1_800))]
#[case::the_rest_of_a_day(five(Always), a_day(250), Stretch, 200, "2026-11-26T03:00:00Z", every(720))]
#[case::used_calls_leave_a_part(five(Always), a_day(250), Stretch, 199, "2026-11-26T03:00:00Z", every(720))]
#[case::a_session(five(Regular), a_day(250), Stretch, 0, "2026-11-25T14:30:00Z", every(468))]
#[case::a_half_day(five(Regular), a_day(250), Stretch, 0, "2026-11-27T14:30:00Z", every(252))]
#[case::calls_suffice(five(Always), a_day(250), Stretch, 0, "2026-11-26T04:30:00Z", every(60))]
#[case::no_limit(
    five(Always),
    UNLIMITED,
    Stretch,
    1_000_000,
    "2026-11-25T05:00:00Z",
    every(60)
)]
#[case::a_minute_stretches_too(five(Always), a_minute(1), Stretch, 0, "2026-11-25T05:00:00Z", every(300))]
#[case::enforced(five(Always), a_day(250), Enforce, 0, "2026-11-25T05:00:00Z", every(60))]
#[case::enforced_to_the_last(five(Always), a_day(250), Enforce, 245, "2026-11-25T05:00:00Z", every(60))]
#[case::exhausted(five(Always), a_day(250), Enforce, 250, "2026-11-25T12:00:00Z", Effective::Exhausted { until: at("2026-11-26T05:00:00Z") })]
#[case::less_than_a_round(five(Always), a_day(250), Stretch, 246, "2026-11-25T12:00:00Z", Effective::Exhausted { until: at("2026-11-26T05:00:00Z") })]
#[case::more_than_allowed(five(Always), a_day(250), Stretch, 900, "2026-11-25T12:00:00Z", Effective::Exhausted { until: at("2026-11-26T05:00:00Z") })]
#[case::until_the_next_session(five(Regular), a_day(250), Stretch, 250, "2026-11-25T15:00:00Z", Effective::Exhausted { until: at("2026-11-27T14:30:00Z") })]
#[case::a_round_is_too_much(five(Always), a_day(4), Stretch, 0, "2026-11-25T12:00:00Z", Effective::Exhausted { until: at("2026-11-26T05:00:00Z") })]
#[case::closed(five(Regular), a_day(250), Stretch, 0, "2026-11-25T21:00:00Z", Effective::Closed { until: at("2026-11-27T14:30:00Z") })]
#[case::closed_and_exhausted(five(Regular), a_day(250), Enforce, 250, "2026-11-25T12:00:00Z", Effective::Closed { until: at("2026-11-25T14:30:00Z") })]
fn a_round_now(
    #[case] demand: Demand,
    #[case] limit: Limit,
    #[case] policy: QuotaPolicy,
    #[case] used: u64,
    #[case] now: &str,
    #[case] expected: Effective,
) {
    assert_eq!(
        effective_interval(&demand, &limit, policy, used, at(now)),
        expected
    );
}

#[rstest]
#[case::fifty_rounds(
    five(Always),
    a_day(250),
    0,
    "2026-11-25T05:00:00Z",
    Some("2026-11-25T05:50:00Z")
)]
#[case::what_is_left(
    five(Always),
    a_day(250),
    239,
    "2026-11-25T05:00:00Z",
    Some("2026-11-25T05:02:00Z")
)]
#[case::at_once(
    five(Always),
    a_day(250),
    250,
    "2026-11-25T05:00:00Z",
    Some("2026-11-25T05:00:00Z")
)]
#[case::from_the_open(
    five(Regular),
    a_day(250),
    0,
    "2026-11-25T12:00:00Z",
    Some("2026-11-25T15:20:00Z")
)]
#[case::just_enough(five(Regular), a_day(1_950), 0, "2026-11-25T12:00:00Z", None)]
#[case::one_too_few(
    five(Regular),
    a_day(1_949),
    0,
    "2026-11-25T12:00:00Z",
    Some("2026-11-25T20:59:00Z")
)]
#[case::enough_for_the_rest(five(Always), a_day(250), 0, "2026-11-26T04:30:00Z", None)]
#[case::after_the_close(five(Regular), a_day(250), 250, "2026-11-25T21:00:00Z", None)]
#[case::on_a_holiday(five(Regular), a_day(250), 250, "2026-11-26T15:00:00Z", None)]
#[case::no_limit(five(Always), UNLIMITED, 250, "2026-11-25T05:00:00Z", None)]
#[case::without_symbols(Demand { symbols: 0, ..five(Always) }, a_day(1), 1, "2026-11-25T05:00:00Z", None)]
fn calls_are_used_up(
    #[case] demand: Demand,
    #[case] limit: Limit,
    #[case] used: u64,
    #[case] now: &str,
    #[case] expected: Option<&str>,
) {
    assert_eq!(exhaustion(&demand, &limit, used, at(now)), expected.map(at));
}

// The functions are total: the largest numbers saturate.
#[rstest]
fn nothing_panics_at_the_ends_of_numbers(
    #[values(0, 1, usize::MAX)] symbols: usize,
    #[values(0, 1, u64::MAX)] number: u64,
    #[values(Duration::ZERO, Duration::from_nanos(1), Duration::MAX)] interval: Duration,
    #[values(Stretch, Enforce)] policy: QuotaPolicy,
    #[values(Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX)] now: Timestamp,
) {
    let demand = Demand {
        symbols,
        symbols_per_call: number,
        interval,
        hours: Always,
    };
    let limit = Limit {
        per_day: Some(number),
        per_minute: Some(number),
        feeds: number,
    };
    assert!(minimum_interval(&demand, &limit) >= MIN_INTERVAL);
    assert_eq!(demand.calls_per_day() == 0, symbols == 0);
    if let Effective::Every { interval, stretched } = effective_interval(&demand, &limit, policy, 0, now) {
        assert_eq!(stretched, interval > demand.interval);
    }
    assert!(exhaustion(&demand, &limit, 0, now).is_none_or(|moment| moment >= now));
}

fn hours() -> impl Strategy<Value = MarketHours> {
    proptest::sample::select(vec![Always, Regular, Extended])
}

proptest! {
    #[test]
    fn the_minimum_interval_is_the_shortest_that_fits(
        symbols in 1_usize..=500,
        symbols_per_call in 1_u64..=100,
        hours in hours(),
        per_day in proptest::option::of(1_u64..1_000_000),
        per_minute in proptest::option::of(1_u64..5_000),
        feeds in 1_u64..10,
    ) {
        let limit = Limit { per_day, per_minute, feeds };
        let demand = Demand { symbols, symbols_per_call, interval: Duration::ZERO, hours };
        let calls = demand.calls_per_round();
        let minimum = minimum_interval(&demand, &limit);
        let at_minimum = Demand { interval: minimum, ..demand };
        if limit.share_per_day().is_some_and(|share| share < calls) {
            prop_assert!(!fits(&at_minimum, &limit));
            return Ok(());
        }
        prop_assert!(fits(&at_minimum, &limit));
        prop_assert!(limit.share_per_day().is_none_or(|share| at_minimum.calls_per_day() <= share));
        if limit.share_per_minute().is_some_and(|share| share >= calls) {
            prop_assert!(at_minimum.peak_calls_per_minute() <= limit.share_per_minute().unwrap());
        }
        if minimum > MIN_INTERVAL {
            let step = if minimum > seconds(1) { seconds(1) } else { Duration::from_millis(1) };
            let shorter = Demand { interval: minimum - step, ..demand };
            prop_assert!(!fits(&shorter, &limit));
        }
    }
}
