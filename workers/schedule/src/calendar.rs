//! Sessions of NYSE and NASDAQ, which keep the same days and hours.
//!
//! A session is half-open: the market is open at 09:30:00 and closed at 16:00:00. Days are New York's, from midnight to
//! midnight: 23 hours long when the clocks go forward, 25 when they go back. Sessions never meet such a change, which is at
//! 02:00 on a Sunday.
//!
//! | hours      | a trading day | a half day    |
//! |------------|---------------|---------------|
//! | `Always`   | all of it     | all of it     |
//! | `Regular`  | 09:30 – 16:00 | 09:30 – 13:00 |
//! | `Extended` | 04:00 – 20:00 | 04:00 – 17:00 |

mod holidays;

use std::{sync::LazyLock, time::Duration};

use contract::config::MarketHours;
use jiff::{
    Timestamp,
    civil::{Date, Time, Weekday, time},
    tz::TimeZone,
};

const EXCHANGE_ZONE: &str = "America/New_York";

// The time zone database is compiled in; UTC would only be reached by a build without it, which tests exclude.
static ZONE: LazyLock<TimeZone> = LazyLock::new(|| TimeZone::get(EXCHANGE_ZONE).unwrap_or(TimeZone::UTC));

const REGULAR_OPEN: Time = time(9, 30, 0, 0);
const REGULAR_CLOSE: Time = time(16, 0, 0, 0);
const REGULAR_HALF_DAY_CLOSE: Time = time(13, 0, 0, 0);
const EXTENDED_OPEN: Time = time(4, 0, 0, 0);
const EXTENDED_CLOSE: Time = time(20, 0, 0, 0);
const EXTENDED_HALF_DAY_CLOSE: Time = time(17, 0, 0, 0);

/// Whether the market is open.
#[must_use]
pub fn is_open(hours: MarketHours, at: Timestamp) -> bool {
    hours == MarketHours::Always || session_around(hours, at).is_some()
}

/// The first moment from `at` on when the market is open: `at` itself when it is open then. After the last session of the
/// year 9999 it is the end of time.
#[must_use]
pub fn next_open(hours: MarketHours, at: Timestamp) -> Timestamp {
    if hours == MarketHours::Always {
        return at;
    }
    let mut date = day(at);
    loop {
        if let Some((open, close)) = session(hours, date)
            && at < close
        {
            return open.max(at);
        }
        // Ends within a week: no closure is longer, see 2001-09-11.
        let Ok(tomorrow) = date.tomorrow() else {
            return Timestamp::MAX;
        };
        date = tomorrow;
    }
}

/// When the session that `at` lies in ends, which is its first closed moment. `None` when the market is closed, or never
/// closes.
#[must_use]
pub fn closes(hours: MarketHours, at: Timestamp) -> Option<Timestamp> {
    if hours == MarketHours::Always {
        return None;
    }
    session_around(hours, at).map(|(_, close)| close)
}

/// How long the market is open from `from` until before `to`; zero when `to` is not after `from`. Looks at every day in
/// between.
#[must_use]
pub fn open_time(hours: MarketHours, from: Timestamp, to: Timestamp) -> Duration {
    if hours == MarketHours::Always {
        return between(from, to);
    }
    let last = day(to);
    let mut date = day(from);
    let mut total = Duration::ZERO;
    while date <= last {
        if let Some((open, close)) = session(hours, date) {
            total = total.saturating_add(between(open.max(from), close.min(to)));
        }
        let Ok(tomorrow) = date.tomorrow() else {
            break;
        };
        date = tomorrow;
    }
    total
}

/// When the last session before or at `at` ended. `None` for hours that never close, and where none ended in the fortnight before:
/// the market has never been closed for longer in the years that the rules are of.
#[must_use]
pub fn last_close(hours: MarketHours, at: Timestamp) -> Option<Timestamp> {
    if hours == MarketHours::Always {
        return None;
    }
    let mut date = day(at);
    for _ in 0..14 {
        if let Some((_, end)) = session(hours, date)
            && end <= at
        {
            return Some(end);
        }
        date = date.yesterday().ok()?;
    }
    None
}

/// The calendar day in New York.
#[must_use]
pub fn day(at: Timestamp) -> Date {
    at.to_zoned(ZONE.clone()).date()
}

/// The next midnight in New York, which is after `at`; the end of time on the last day of the year 9999.
#[must_use]
pub fn next_midnight(at: Timestamp) -> Timestamp {
    day(at)
        .tomorrow()
        .ok()
        .and_then(|tomorrow| moment(tomorrow, Time::midnight()))
        .unwrap_or(Timestamp::MAX)
}

/// The session of a day: its first moment, and the first moment after it. `None` on a day without one, and where one of the
/// two is outside representable time.
#[must_use]
pub fn session(hours: MarketHours, date: Date) -> Option<(Timestamp, Timestamp)> {
    let (open, close, half_day_close) = match hours {
        MarketHours::Always => {
            let midnight = Time::midnight();
            return Some((moment(date, midnight)?, moment(date.tomorrow().ok()?, midnight)?));
        }
        MarketHours::Regular => (REGULAR_OPEN, REGULAR_CLOSE, REGULAR_HALF_DAY_CLOSE),
        MarketHours::Extended => (EXTENDED_OPEN, EXTENDED_CLOSE, EXTENDED_HALF_DAY_CLOSE),
    };
    if !is_trading_day(date) {
        return None;
    }
    let close = if is_half_day(date) { half_day_close } else { close };
    Some((moment(date, open)?, moment(date, close)?))
}

/// Whether there is a session at all.
#[must_use]
pub fn is_trading_day(date: Date) -> bool {
    let weekend = matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
    !weekend && !holidays::is_holiday(date) && !holidays::is_unscheduled_closure(date)
}

/// Whether it is a trading day that ends at 13:00 (17:00 with extended hours).
#[must_use]
pub fn is_half_day(date: Date) -> bool {
    holidays::is_eve_of_a_holiday(date) && is_trading_day(date)
}

/// The session that a moment lies in.
fn session_around(hours: MarketHours, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
    session(hours, day(at)).filter(|(open, close)| *open <= at && at < *close)
}

fn moment(date: Date, time: Time) -> Option<Timestamp> {
    let zoned = date.to_datetime(time).to_zoned(ZONE.clone()).ok()?;
    Some(zoned.timestamp())
}

/// From the first to the second; zero when that is backwards.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests;
