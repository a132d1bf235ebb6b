use std::time::Duration;

use contract::config::MarketHours::{self, Always, Extended, Regular};
use jiff::{SignedDuration, Timestamp, civil::Date};
use proptest::prelude::*;
use rstest::rstest;

use super::*;

const ALL: [MarketHours; 3] = [Always, Regular, Extended];

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn date(text: &str) -> Date {
    text.parse().unwrap()
}

#[test]
fn the_time_zone_is_new_yorks() {
    assert_eq!(ZONE.iana_name(), Some(EXCHANGE_ZONE));
}

// Around both changes of the clocks in 2026, of which UTC knows nothing.
#[rstest]
#[case::winter("2026-03-06", "2026-03-06T14:30:00Z", "2026-03-06T21:00:00Z")]
#[case::after_spring_forward("2026-03-09", "2026-03-09T13:30:00Z", "2026-03-09T20:00:00Z")]
#[case::summer("2026-10-30", "2026-10-30T13:30:00Z", "2026-10-30T20:00:00Z")]
#[case::after_fall_back("2026-11-02", "2026-11-02T14:30:00Z", "2026-11-02T21:00:00Z")]
#[case::half_day("2026-11-27", "2026-11-27T14:30:00Z", "2026-11-27T18:00:00Z")]
#[case::half_day_in_summer("2025-07-03", "2025-07-03T13:30:00Z", "2025-07-03T17:00:00Z")]
fn regular_sessions_follow_the_clock_in_new_york(#[case] day: &str, #[case] open: &str, #[case] close: &str) {
    assert_eq!(session(Regular, date(day)), Some((at(open), at(close))));
}

#[rstest]
#[case::winter("2026-03-06", "2026-03-06T09:00:00Z", "2026-03-07T01:00:00Z")]
#[case::summer("2026-03-09", "2026-03-09T08:00:00Z", "2026-03-10T00:00:00Z")]
#[case::half_day("2026-12-24", "2026-12-24T09:00:00Z", "2026-12-24T22:00:00Z")]
fn extended_sessions_follow_the_clock_in_new_york(
    #[case] day: &str,
    #[case] open: &str,
    #[case] close: &str,
) {
    assert_eq!(session(Extended, date(day)), Some((at(open), at(close))));
}

#[rstest]
#[case::spring_forward("2026-03-08", "2026-03-08T05:00:00Z", 23)]
#[case::ordinary("2026-06-01", "2026-06-01T04:00:00Z", 24)]
#[case::fall_back("2026-11-01", "2026-11-01T04:00:00Z", 25)]
fn days_have_23_24_or_25_hours(#[case] expected: &str, #[case] midnight: &str, #[case] hours: i64) {
    let midnight = at(midnight);
    let end = midnight + SignedDuration::from_hours(hours);
    let last = end - SignedDuration::from_nanos(1);
    assert_eq!(day(midnight), date(expected));
    assert_eq!(day(last), date(expected));
    assert_eq!(day(end), date(expected).tomorrow().unwrap());
    assert_eq!(next_midnight(midnight), end);
    assert_eq!(next_midnight(last), end);
    assert_eq!(session(Always, date(expected)), Some((midnight, end)));
}

#[test]
fn a_session_includes_its_first_moment_and_not_its_end() {
    let nanosecond = SignedDuration::from_nanos(1);
    let open = at("2026-11-25T14:30:00Z");
    let close = at("2026-11-25T21:00:00Z");
    assert!(!is_open(Regular, open - nanosecond));
    assert!(is_open(Regular, open));
    assert!(is_open(Regular, close - nanosecond));
    assert!(!is_open(Regular, close));
    assert_eq!(closes(Regular, open), Some(close));
    assert_eq!(closes(Regular, close), None);
    assert_eq!(closes(Always, open), None);
    assert!(is_open(Always, close));
}

#[rstest]
#[case::before_the_open("2026-11-25T12:00:00Z", "2026-11-25T14:30:00Z")]
#[case::while_open("2026-11-25T15:00:00Z", "2026-11-25T15:00:00Z")]
#[case::at_the_close_before_thanksgiving("2026-11-25T21:00:00Z", "2026-11-27T14:30:00Z")]
#[case::after_a_half_day("2026-11-27T18:00:00Z", "2026-11-30T14:30:00Z")]
#[case::over_spring_forward("2026-03-06T21:00:00Z", "2026-03-09T13:30:00Z")]
#[case::over_fall_back("2026-10-30T20:00:00Z", "2026-11-02T14:30:00Z")]
#[case::the_longest_closure("2001-09-10T20:00:00Z", "2001-09-17T13:30:00Z")]
fn the_next_open_skips_what_is_closed(#[case] from: &str, #[case] expected: &str) {
    assert_eq!(next_open(Regular, at(from)), at(expected));
}

// The comparison with the published calendars begins in 2020: here is what the rules do not give before that.
#[rstest]
#[case("2001-09-10", "2001-09-17")]
#[case("2004-06-10", "2004-06-14")]
#[case("2006-12-29", "2007-01-03")]
#[case("2012-10-26", "2012-10-31")]
#[case("2018-12-04", "2018-12-06")]
fn unscheduled_closures_are_known(#[case] before: &str, #[case] after: &str) {
    let (before, after) = (date(before), date(after));
    assert!(is_trading_day(before));
    assert!(is_trading_day(after));
    let mut closed = before.tomorrow().unwrap();
    while closed < after {
        assert!(!is_trading_day(closed), "{closed}");
        closed = closed.tomorrow().unwrap();
    }
}

#[rstest]
#[case::new_year_on_saturday_is_not_observed("2021-12-31", true)]
#[case::new_year_on_sunday_is_observed_on_monday("2023-01-02", false)]
#[case::before_juneteenth_was_a_holiday("2020-06-19", true)]
#[case::the_year_it_became_one("2021-06-18", true)]
#[case::juneteenth_on_saturday("2027-06-18", false)]
#[case::independence_day_on_sunday("2027-07-05", false)]
#[case::christmas_on_saturday("2027-12-24", false)]
fn holidays_move_as_the_exchange_says(#[case] day: &str, #[case] trading: bool) {
    assert_eq!(is_trading_day(date(day)), trading);
    assert!(!is_half_day(date(day)));
}

#[rstest]
#[case::a_week(Regular, "2026-11-16T05:00:00Z", "2026-11-23T05:00:00Z", 5 * 390)]
#[case::a_week_with_a_holiday_and_a_half_day(Regular, "2026-11-23T05:00:00Z", "2026-11-30T05:00:00Z", 3 * 390 + 210)]
#[case::the_same_extended(Extended, "2026-11-23T05:00:00Z", "2026-11-30T05:00:00Z", 3 * 960 + 780)]
#[case::part_of_a_session(Regular, "2026-11-25T20:00:00Z", "2026-11-27T15:00:00Z", 60 + 30)]
#[case::inside_a_session(Regular, "2026-11-25T20:00:00Z", "2026-11-25T20:10:00Z", 10)]
#[case::always_a_day_of_23_hours(Always, "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", 23 * 60)]
#[case::backwards(Regular, "2026-11-27T15:00:00Z", "2026-11-25T20:00:00Z", 0)]
#[case::always_backwards(Always, "2026-11-27T15:00:00Z", "2026-11-25T20:00:00Z", 0)]
fn open_time_counts_sessions(
    #[case] hours: MarketHours,
    #[case] from: &str,
    #[case] to: &str,
    #[case] minutes: u64,
) {
    assert_eq!(
        open_time(hours, at(from), at(to)),
        Duration::from_secs(60 * minutes)
    );
}

// The functions are total. What they answer out here matters less than that they do.
#[rstest]
fn nothing_panics_at_the_ends_of_time(
    #[values(Always, Regular, Extended)] hours: MarketHours,
    #[values(0, 1, 3_600, 86_400, 200_000)] seconds: i64,
) {
    let distance = SignedDuration::from_secs(seconds);
    for (moment, end) in [
        (Timestamp::MIN + distance, Timestamp::MIN),
        (Timestamp::MAX - distance, Timestamp::MAX),
    ] {
        let next = next_open(hours, moment);
        assert!(next >= moment);
        assert!(is_open(hours, next) || next == Timestamp::MAX);
        assert!(next_midnight(moment) >= moment);
        assert!(closes(hours, moment).is_none_or(|close| close > moment));
        let (from, to) = (moment.min(end), moment.max(end));
        assert!(open_time(hours, from, to) <= between(from, to));
    }
    for date in [
        Date::MIN,
        Date::MIN.tomorrow().unwrap(),
        Date::MAX.yesterday().unwrap(),
        Date::MAX,
    ] {
        let session = session(hours, date);
        assert!(session.is_none_or(|(open, close)| open < close));
        assert!(!is_half_day(date));
    }
}

/// Moments of 1998 to 2100 at full resolution, half of them within days of a change of the clocks.
fn moments() -> impl Strategy<Value = Timestamp> {
    let first = at("1998-01-01T00:00:00Z").as_nanosecond();
    let last = at("2100-01-01T00:00:00Z").as_nanosecond();
    let anywhere = (first..last).prop_map(|nanosecond| Timestamp::from_nanosecond(nanosecond).unwrap());
    let changes = [
        "2007-03-11T07:00:00Z",
        "2012-11-04T06:00:00Z",
        "2026-03-08T07:00:00Z",
        "2026-11-01T06:00:00Z",
        "2027-03-14T07:00:00Z",
        "2030-11-03T06:00:00Z",
    ];
    let change = proptest::sample::select(changes.map(at).to_vec());
    let near = (change, -400_000_i64..400_000)
        .prop_map(|(change, seconds)| change + SignedDuration::from_secs(seconds));
    prop_oneof![anywhere, near]
}

fn hours() -> impl Strategy<Value = MarketHours> {
    proptest::sample::select(ALL.to_vec())
}

proptest! {
    #[test]
    fn the_next_open_is_the_first(hours in hours(), at in moments()) {
        let next = next_open(hours, at);
        prop_assert!(next >= at);
        prop_assert!(is_open(hours, next));
        prop_assert_eq!(next == at, is_open(hours, at));
        prop_assert_eq!(open_time(hours, at, next), Duration::ZERO);
    }

    #[test]
    fn a_session_ends_where_it_says(hours in hours(), at in moments()) {
        if let Some(close) = closes(hours, at) {
            prop_assert!(is_open(hours, at));
            prop_assert!(close > at);
            prop_assert!(!is_open(hours, close));
            prop_assert!(is_open(hours, close - SignedDuration::from_nanos(1)));
            prop_assert_eq!(open_time(hours, at, close), between(at, close));
        } else {
            prop_assert!(hours == Always || !is_open(hours, at));
        }
    }

    #[test]
    fn open_time_adds_up(hours in hours(), start in moments(), first in 0_i64..2_000_000, second in 0_i64..2_000_000) {
        let middle = start + SignedDuration::from_secs(first);
        let end = middle + SignedDuration::from_secs(second);
        let parts = open_time(hours, start, middle) + open_time(hours, middle, end);
        prop_assert_eq!(open_time(hours, start, end), parts);
    }

    #[test]
    fn open_time_is_what_a_stopwatch_shows(hours in hours(), start in moments(), minutes in 0_i64..4_000) {
        // Sessions begin and end at whole minutes of UTC, so a minute is open or not as its first moment is.
        let minute = SignedDuration::from_mins(1);
        let start = start.round(jiff::Unit::Minute).unwrap();
        let moments = (0..minutes).map(|passed| start + minute * i32::try_from(passed).unwrap());
        let open = moments.filter(|moment| is_open(hours, *moment)).count();
        let end = start + SignedDuration::from_mins(minutes);
        prop_assert_eq!(open_time(hours, start, end), Duration::from_secs(60 * u64::try_from(open).unwrap()));
    }

    #[test]
    fn midnight_begins_the_next_day(at in moments()) {
        let midnight = next_midnight(at);
        prop_assert!(midnight > at);
        prop_assert!(between(at, midnight) <= Duration::from_secs(25 * 3_600));
        prop_assert_eq!(day(midnight), day(at).tomorrow().unwrap());
        prop_assert_eq!(day(midnight - SignedDuration::from_nanos(1)), day(at));
    }

    #[test]
    fn wider_hours_include_narrower_ones(at in moments()) {
        prop_assert!(!is_open(Regular, at) || is_open(Extended, at));
        prop_assert_eq!(session(Regular, day(at)).is_some(), is_trading_day(day(at)));
        prop_assert_eq!(session(Extended, day(at)).is_some(), is_trading_day(day(at)));
    }
}

#[rstest]
#[case::after_the_close("2026-11-25T21:00:00Z", Some("2026-11-25T21:00:00Z"))]
#[case::before_it("2026-11-25T20:59:59Z", Some("2026-11-24T21:00:00Z"))]
#[case::a_holiday_and_the_half_day_after_it("2026-11-27T17:59:59Z", Some("2026-11-25T21:00:00Z"))]
#[case::after_the_half_day("2026-11-29T12:00:00Z", Some("2026-11-27T18:00:00Z"))]
#[case::closed_for_days("2001-09-16T12:00:00Z", Some("2001-09-10T20:00:00Z"))]
fn the_last_close(#[case] at: &str, #[case] expected: Option<&str>) {
    let expected = expected.map(|text| text.parse().unwrap());
    assert_eq!(last_close(MarketHours::Regular, at.parse().unwrap()), expected);
    assert_eq!(last_close(MarketHours::Always, at.parse().unwrap()), None);
}
