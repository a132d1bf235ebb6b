//! Tumbling windows: half-open `[start, end)`, aligned to the epoch, or to the exchange's calendar day.
//!
//! For example a tick of 14:31:07Z is in the `1m` window `[14:31:00Z, 14:32:00Z)`. The `1d` window runs from midnight to
//! midnight in New York: 24 hours, 23 on the day the clocks go forward, 25 on the day they go back.

use std::fmt;

use contract::{event_time::EventTime, window::WindowWidth};
use jiff::{civil::Date, tz::TimeZone};

/// The exchange's time zone.
pub const EXCHANGE_ZONE: &str = "America/New_York";

/// One window of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first moment in it.
    pub start: EventTime,
    /// The first moment after it.
    pub end: EventTime,
    /// The exchange's calendar day that it lies in.
    pub session_day: Date,
}

/// Assigns windows. Remembers the last calendar day and the last window of each width: ticks come in order, nearly.
#[derive(Clone)]
pub struct Calendar {
    zone: TimeZone,
    day: Window,
    last: [Window; WindowWidth::ALL.len()],
}

impl fmt::Debug for Calendar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Calendar")
            .field("day", &self.day)
            .finish_non_exhaustive()
    }
}

impl Default for Calendar {
    fn default() -> Self {
        // The time zone database is compiled in; UTC would only be reached by a build without it, which tests exclude.
        let zone = TimeZone::get(EXCHANGE_ZONE).unwrap_or(TimeZone::UTC);
        let day = look_up(&zone, EventTime::from_timestamp(jiff::Timestamp::UNIX_EPOCH));
        // No moment lies in it, so each width is looked up at first.
        let nowhere = Window {
            start: EventTime::EPOCH,
            end: EventTime::EPOCH,
            session_day: day.session_day,
        };
        Self {
            zone,
            day,
            last: [nowhere; WindowWidth::ALL.len()],
        }
    }
}

impl Calendar {
    /// The window of a moment.
    pub fn window(&mut self, width: WindowWidth, time: EventTime) -> Window {
        let last = self.last[width as usize];
        if last.start <= time && time < last.end {
            return last;
        }
        let window = self.compute(width, time);
        self.last[width as usize] = window;
        window
    }

    fn compute(&mut self, width: WindowWidth, time: EventTime) -> Window {
        if time < self.day.start || time >= self.day.end {
            self.day = look_up(&self.zone, time);
        }
        let Some(seconds) = width.seconds() else {
            return self.day;
        };
        let length = seconds * 1_000_000;
        let start = time.as_microseconds().div_euclid(length) * length;
        let at = |microseconds| EventTime::from_microseconds(microseconds).unwrap_or(time);
        Window {
            start: at(start),
            end: at(start + length),
            session_day: self.day.session_day,
        }
    }
}

/// The calendar day of a moment. At the ends of time, where there is no next midnight, the day is the moment's own second.
fn look_up(zone: &TimeZone, time: EventTime) -> Window {
    let local = time.to_timestamp().to_zoned(zone.clone());
    let session_day = local.date();
    let midnight = |date: Date| {
        date.to_zoned(zone.clone())
            .map(|zoned| EventTime::from_timestamp(zoned.timestamp()))
    };
    let start = midnight(session_day).unwrap_or(time);
    let end = session_day.tomorrow().and_then(midnight);
    let end = end.unwrap_or_else(|_| time.saturating_add(std::time::Duration::from_secs(1)));
    Window {
        start,
        end,
        session_day,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> EventTime {
        text.parse().unwrap()
    }

    fn window(width: WindowWidth, moment: &str) -> (String, String, String) {
        let window = Calendar::default().window(width, time(moment));
        (
            window.start.to_string(),
            window.end.to_string(),
            window.session_day.to_string(),
        )
    }

    #[test]
    fn minutes_are_aligned_to_the_epoch() {
        let expected = (
            "2026-11-20T14:31:00Z".into(),
            "2026-11-20T14:32:00Z".into(),
            "2026-11-20".into(),
        );
        assert_eq!(window(WindowWidth::Minute1, "2026-11-20T14:31:07.5Z"), expected);
        assert_eq!(window(WindowWidth::Minute1, "2026-11-20T14:31:00Z"), expected);
    }

    #[test]
    fn days_are_new_yorks_and_have_23_24_or_25_hours() {
        let day = |moment| window(WindowWidth::Day1, moment);
        // 2012-03-11: clocks go forward. 2012-11-04: they go back.
        assert_eq!(
            day("2012-03-11T12:00:00Z"),
            (
                "2012-03-11T05:00:00Z".into(),
                "2012-03-12T04:00:00Z".into(),
                "2012-03-11".into()
            )
        );
        assert_eq!(
            day("2012-11-04T12:00:00Z"),
            (
                "2012-11-04T04:00:00Z".into(),
                "2012-11-05T05:00:00Z".into(),
                "2012-11-04".into()
            )
        );
        // 01:00Z is still the evening before in New York.
        assert_eq!(day("2026-11-21T01:00:00Z").2, "2026-11-20");
    }

    #[test]
    fn a_half_day_is_a_day() {
        // The exchange closed at 13:00 on 2025-11-28; the window is the calendar's.
        assert_eq!(
            window(WindowWidth::Day1, "2025-11-28T17:59:59Z").1,
            "2025-11-29T05:00:00Z"
        );
    }

    proptest! {
        #[test]
        fn every_moment_is_in_its_window_and_windows_do_not_overlap(
            moments in proptest::collection::vec(0_i64..4_000_000_000_000_000, 1..40),
        ) {
            let mut calendar = Calendar::default();
            for width in WindowWidth::ALL {
                for moment in &moments {
                    let moment = EventTime::from_microseconds(*moment).unwrap();
                    let window = calendar.window(width, moment);
                    prop_assert!(window.start <= moment && moment < window.end);
                    // What is remembered changes nothing.
                    prop_assert_eq!(window, Calendar::default().window(width, moment));
                    // The first and the last moment have the same window; the next one has another, that follows at once.
                    let last = EventTime::from_microseconds(window.end.as_microseconds() - 1).unwrap();
                    prop_assert_eq!(calendar.window(width, window.start), window);
                    prop_assert_eq!(calendar.window(width, last), window);
                    prop_assert_eq!(calendar.window(width, window.end).start, window.end);
                    let day = calendar.window(WindowWidth::Day1, moment);
                    prop_assert!(day.start <= window.start && window.end <= day.end);
                }
            }
        }
    }
}
