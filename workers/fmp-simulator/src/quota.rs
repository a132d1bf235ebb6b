//! Calls a day and calls a minute.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use serde::Serialize;

/// What is counted, and how much is allowed. A call over the quota is not counted, as at FMP.
#[derive(Clone, Debug)]
pub struct Quota {
    per_day: Option<u32>,
    per_minute: Option<u32>,
    day: Date,
    today: u32,
    /// The calls of the last 60 seconds, oldest first. Kept only if the minute is limited.
    recent: VecDeque<Timestamp>,
}

/// How much is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Calls allowed a day (UTC).
    pub calls_per_day: Option<u32>,
    /// Calls allowed in any 60 seconds.
    pub calls_per_minute: Option<u32>,
    /// Calls counted today.
    pub calls_today: u32,
}

impl Quota {
    /// Nothing used. A limit of zero is none.
    #[must_use]
    pub fn new(per_day: Option<u32>, per_minute: Option<u32>) -> Self {
        Self {
            per_day: per_day.filter(|limit| *limit > 0),
            per_minute: per_minute.filter(|limit| *limit > 0),
            day: Date::MIN,
            today: 0,
            recent: VecDeque::new(),
        }
    }

    /// Counts a call if it is allowed; says whether it is.
    pub fn take(&mut self, now: Timestamp) -> bool {
        self.forget(now);
        let day_full = self.per_day.is_some_and(|limit| self.today >= limit);
        let minute_full = self
            .per_minute
            .is_some_and(|limit| self.recent.len() >= usize::try_from(limit).unwrap_or(usize::MAX));
        if day_full || minute_full {
            return false;
        }
        self.today += 1;
        if self.per_minute.is_some() {
            self.recent.push_back(now);
        }
        true
    }

    /// How much is used.
    #[must_use]
    pub fn usage(&mut self, now: Timestamp) -> Usage {
        self.forget(now);
        Usage {
            calls_per_day: self.per_day,
            calls_per_minute: self.per_minute,
            calls_today: self.today,
        }
    }

    /// Back to nothing used.
    pub fn reset(&mut self) {
        self.today = 0;
        self.recent.clear();
    }

    fn forget(&mut self, now: Timestamp) {
        let day = now.to_zoned(TimeZone::UTC).date();
        if self.day != day {
            self.day = day;
            self.today = 0;
        }
        let minute = SignedDuration::from_mins(1);
        while self
            .recent
            .front()
            .is_some_and(|call| now.duration_since(*call) >= minute)
        {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_day_begins_anew_at_midnight() {
        let mut quota = Quota::new(Some(2), None);
        let taken = [
            "2026-11-20T23:59:57Z",
            "2026-11-20T23:59:58Z",
            "2026-11-20T23:59:59Z",
            "2026-11-21T00:00:00Z",
        ]
        .map(|time| quota.take(at(time)));
        assert_eq!(taken, [true, true, false, true]);
    }

    #[test]
    fn no_60_seconds_have_more_calls_than_the_minute_allows() {
        let mut quota = Quota::new(None, Some(2));
        let taken = [
            "00:00:00", "00:00:30", "00:00:59", "00:01:00", "00:01:01", "00:01:30",
        ]
        .map(|time| quota.take(at(&format!("2026-11-20T{time}Z"))));
        assert_eq!(taken, [true, true, false, true, false, true]);
    }

    #[test]
    fn zero_is_no_limit() {
        let mut quota = Quota::new(Some(0), Some(0));
        assert!((0..10_000).all(|_| quota.take(at("2026-11-20T00:00:00Z"))));
        assert_eq!(quota.usage(at("2026-11-20T00:00:00Z")).calls_today, 10_000);
    }
}
