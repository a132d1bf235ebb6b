//! Days of a feed in virtual time: a clock that ticks once a second, and a producer that asks before every round.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use contract::config::{
    MarketHours::{self, Always, Extended, Regular},
    QuotaPolicy::{self, Enforce, Stretch},
};
use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, Weekday, time},
    tz::TimeZone,
};
use proptest::prelude::*;
use rstest::rstest;
use schedule::{
    calendar::{closes, day, next_midnight, session},
    plan::{Demand, Effective, Limit, effective_interval, exhaustion},
};

/// A feed under a plan, from a moment on.
#[derive(Clone, Debug)]
struct Scenario {
    demand: Demand,
    limit: Limit,
    policy: QuotaPolicy,
    start: Timestamp,
    seconds: u64,
    /// Calls of the first day that were made before the start.
    used: u64,
    /// After so many seconds the producer starts anew, and is due at once.
    restarts: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    at: Timestamp,
    interval: Duration,
}

/// What happened: the rounds of each day, and when it was first noticed on a day that its calls are used up.
#[derive(Debug, Default)]
struct Run {
    rounds: BTreeMap<Date, Vec<Round>>,
    exhausted: BTreeMap<Date, Timestamp>,
}

impl Scenario {
    fn run(&self) -> Run {
        let after = |seconds: u64| self.start + SignedDuration::from_secs(i64::try_from(seconds).unwrap());
        let second_of = |moment: Timestamp| {
            let passed = moment.duration_since(self.start);
            assert_eq!(passed.subsec_nanos(), 0, "{moment} is between two seconds");
            u64::try_from(passed.as_secs()).unwrap()
        };
        let mut run = Run::default();
        let mut used = self.used;
        let mut midnight = second_of(next_midnight(self.start));
        let mut due = 0;
        let mut restarts = self.restarts.iter().copied().peekable();
        for second in 0..self.seconds {
            if second == midnight {
                used = 0;
                midnight = second_of(next_midnight(after(second)));
            }
            if restarts.next_if_eq(&second).is_some() {
                due = second;
            }
            if second < due {
                continue;
            }
            let now = after(second);
            match effective_interval(&self.demand, &self.limit, self.policy, used, now) {
                Effective::Every { interval, stretched } => {
                    assert_eq!(stretched, interval > self.demand.interval);
                    assert!(interval >= self.demand.interval);
                    used += self.demand.calls_per_round();
                    let round = Round { at: now, interval };
                    run.rounds.entry(day(now)).or_default().push(round);
                    assert_eq!(interval.subsec_nanos(), 0);
                    due = second + interval.as_secs();
                }
                Effective::Exhausted { until } => {
                    run.exhausted.entry(day(now)).or_insert(now);
                    due = second_of(until);
                }
                Effective::Closed { until } => due = second_of(until),
            }
            assert!(due > second, "a producer that is not to wait would spin");
        }
        run
    }

    /// Calls that may be made on a day.
    fn share(&self, date: Date) -> u64 {
        let share = self.limit.share_per_day().unwrap_or(u64::MAX);
        let used = if date == day(self.start) { self.used } else { 0 };
        share.saturating_sub(used)
    }

    /// Whether a day's session lies in the simulated time as a whole.
    fn whole_session(&self, date: Date) -> Option<(Timestamp, Timestamp)> {
        let end = self.start + SignedDuration::from_secs(i64::try_from(self.seconds).unwrap());
        session(self.demand.hours, date).filter(|(open, close)| self.start <= *open && *close <= end)
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What the calendar says in other words: by the clock on the wall, without holidays.
fn open_by_the_wall_clock(hours: MarketHours, at: Timestamp) -> bool {
    let local = at.to_zoned(TimeZone::get("America/New_York").unwrap()).datetime();
    let weekday = !matches!(local.weekday(), Weekday::Saturday | Weekday::Sunday);
    let between = |open, close| (open..close).contains(&local.time());
    match hours {
        Always => true,
        Regular => weekday && between(time(9, 30, 0, 0), time(16, 0, 0, 0)),
        Extended => weekday && between(time(4, 0, 0, 0), time(20, 0, 0, 0)),
    }
}

#[rstest]
#[case::ordinary(Always, "2026-11-25T05:00:00Z", 24 * 3_600)]
#[case::of_23_hours(Always, "2026-03-08T05:00:00Z", 23 * 3_600)]
#[case::of_25_hours(Always, "2026-11-01T04:00:00Z", 25 * 3_600)]
#[case::regular(Regular, "2026-11-25T05:00:00Z", 23_400)]
#[case::half_day(Regular, "2026-11-27T05:00:00Z", 12_600)]
#[case::extended(Extended, "2026-11-25T05:00:00Z", 57_600)]
fn the_free_plan_gives_fifty_rounds_over_all_of_the_day(
    #[case] hours: MarketHours,
    #[case] midnight: &str,
    #[case] open: u64,
) {
    let scenario = Scenario {
        demand: Demand {
            symbols: 5,
            symbols_per_call: 1,
            interval: Duration::from_secs(60),
            hours,
        },
        limit: Limit {
            per_day: Some(250),
            per_minute: None,
            feeds: 1,
        },
        policy: Stretch,
        start: at(midnight),
        seconds: 25 * 3_600,
        used: 0,
        restarts: BTreeSet::new(),
    };
    let run = scenario.run();
    let rounds = &run.rounds[&day(at(midnight))];
    assert_eq!(rounds.len(), 50);
    let (first, last) = (rounds[0], rounds[49]);
    let (opens, close) = session(hours, day(at(midnight))).unwrap();
    assert_eq!(first.at, opens);
    assert_eq!(last.interval.as_secs(), open / 50);
    assert_eq!(last.at + SignedDuration::try_from(last.interval).unwrap(), close);
    assert!(run.exhausted.is_empty());
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let demand = (
        1_usize..=60,
        1_u64..=20,
        10_u64..=7_200,
        proptest::sample::select(vec![Always, Regular, Extended]),
    )
        .prop_map(|(symbols, symbols_per_call, interval, hours)| Demand {
            symbols,
            symbols_per_call,
            interval: Duration::from_secs(interval),
            hours,
        });
    let limit = (
        proptest::option::weighted(0.9, 1_u64..=2_000),
        proptest::option::weighted(0.3, 1_u64..=300),
        1_u64..=4,
    )
        .prop_map(|(per_day, per_minute, feeds)| Limit {
            per_day,
            per_minute,
            feeds,
        });
    // Anywhere in 2026 and 2027, or near a change of the clocks, Thanksgiving or Independence Day on a Saturday.
    let special = [
        "2026-03-08T07:00:00Z",
        "2026-07-03T12:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-11-26T12:00:00Z",
    ];
    let start = prop_oneof![
        (0_i64..2 * 365 * 86_400).prop_map(|seconds| (at("2026-01-01T05:00:00Z"), seconds)),
        (
            proptest::sample::select(special.map(at).to_vec()),
            -172_800_i64..86_400
        ),
    ]
    .prop_map(|(base, seconds)| base + SignedDuration::from_secs(seconds));
    let policy = proptest::sample::select(vec![Stretch, Enforce]);
    let used = prop_oneof![Just(0), 0_u64..=2_100];
    let restarts = prop_oneof![
        Just(BTreeSet::new()),
        proptest::collection::btree_set(0_u64..345_600, 1..40)
    ];
    (demand, limit, policy, start, used, restarts).prop_map(
        |(demand, limit, policy, start, used, restarts)| Scenario {
            demand,
            limit,
            policy,
            start,
            seconds: 4 * 86_400,
            used,
            restarts,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_day_takes_more_than_its_share_and_nothing_is_called_while_closed(scenario in scenarios()) {
        let run = scenario.run();
        for (date, rounds) in &run.rounds {
            let calls = scenario.demand.calls_per_round() * u64::try_from(rounds.len()).unwrap();
            prop_assert!(calls <= scenario.share(*date), "{} on {}", calls, date);
            for round in rounds {
                prop_assert!(open_by_the_wall_clock(scenario.demand.hours, round.at), "{}", round.at);
            }
        }
    }

    #[test]
    fn stretched_rounds_last_until_the_close(scenario in scenarios()) {
        let scenario = Scenario { policy: Stretch, ..scenario };
        let run = scenario.run();
        let end = scenario.start + SignedDuration::from_secs(i64::try_from(scenario.seconds).unwrap());
        for rounds in run.rounds.values() {
            let last = rounds.last().unwrap();
            let next = last.at + SignedDuration::try_from(last.interval).unwrap();
            let close = closes(scenario.demand.hours, last.at).unwrap_or_else(|| next_midnight(last.at));
            prop_assert!(next >= close.min(end), "the last round is at {}, the next at {}", last.at, next);
        }
    }

    #[test]
    fn a_whole_session_has_all_rounds_that_the_calls_suffice_for_evenly(scenario in scenarios()) {
        let limit = Limit { per_minute: None, ..scenario.limit };
        let scenario = Scenario { policy: Stretch, restarts: BTreeSet::new(), limit, ..scenario };
        let run = scenario.run();
        let mut date = day(scenario.start);
        for _ in 0..5 {
            if let Some((open, close)) = scenario.whole_session(date) {
                let seconds = u64::try_from(close.duration_since(open).as_secs()).unwrap();
                let asked = seconds.div_ceil(scenario.demand.interval.as_secs());
                let affordable = scenario.share(date) / scenario.demand.calls_per_round();
                let rounds = run.rounds.get(&date).cloned().unwrap_or_default();
                // A round of the day before, stretched or not, may be due some time after midnight.
                let first = rounds.first().map_or(open, |round| round.at);
                if first == open {
                    prop_assert_eq!(u64::try_from(rounds.len()).unwrap(), asked.min(affordable), "{}", date);
                    let gaps = rounds.iter().map(|round| round.interval.as_secs());
                    let (shortest, longest) = (gaps.clone().min(), gaps.max());
                    prop_assert!(longest.unwrap_or(0) - shortest.unwrap_or(0) <= 1);
                }
            }
            date = date.tomorrow().unwrap();
        }
    }

    #[test]
    fn stretched_rounds_keep_to_the_share_of_a_minute(
        scenario in scenarios(),
        interval in 10_u64..60,
        rounds in 1_u64..6,
        spare in 0_u64..10,
    ) {
        let demand = Demand { interval: Duration::from_secs(interval), ..scenario.demand };
        let calls = demand.calls_per_round();
        let share = calls * rounds + spare;
        let limit = Limit { per_minute: Some(share * scenario.limit.feeds), ..scenario.limit };
        let scenario = Scenario { demand, limit, policy: Stretch, restarts: BTreeSet::new(), ..scenario };
        let run = scenario.run();
        let rounds: Vec<Timestamp> = run.rounds.values().flatten().map(|round| round.at).collect();
        for (index, first) in rounds.iter().enumerate() {
            let minute = rounds[index..].iter().take_while(|at| at.duration_since(*first).as_secs() < 60);
            let of_minute = calls * u64::try_from(minute.count()).unwrap();
            prop_assert!(of_minute <= share);
        }
    }

    #[test]
    fn enforced_calls_are_used_up_when_it_is_foretold(scenario in scenarios()) {
        let scenario = Scenario { policy: Enforce, restarts: BTreeSet::new(), ..scenario };
        let run = scenario.run();
        let foretold = exhaustion(&scenario.demand, &scenario.limit, scenario.used, scenario.start);
        prop_assert_eq!(run.exhausted.get(&day(scenario.start)).copied(), foretold);
    }
}
