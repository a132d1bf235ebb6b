//! The rules against the calendar of an independent source, day by day.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;

use jiff::civil::{Date, Weekday, date};
use schedule::calendar::{is_half_day, is_trading_day};

const FIRST: Date = date(2020, 1, 1);
const LAST: Date = date(2030, 12, 31);

fn published() -> BTreeMap<Date, &'static str> {
    include_str!("nyse-2020-2030.csv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (date, what) = line.split_once(',').unwrap();
            (date.parse().unwrap(), what)
        })
        .collect()
}

#[test]
fn every_day_of_eleven_years_is_as_published() {
    let published = published();
    assert_eq!(published.len(), 130);
    let mut date = FIRST;
    let mut wrong = Vec::new();
    while date <= LAST {
        let weekend = matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
        let (trading, half) = match published.get(&date) {
            _ if weekend => (false, false),
            None => (true, false),
            Some(&"closed") => (false, false),
            Some(&"13:00") => (true, true),
            Some(other) => panic!("{date} is {other}"),
        };
        if (is_trading_day(date), is_half_day(date)) != (trading, half) {
            wrong.push(date);
        }
        date = date.tomorrow().unwrap();
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
