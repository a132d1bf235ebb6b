//! Event time: when something happened at the exchange, as opposed to when we saw it.

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use snafu::{ResultExt, Snafu};

/// A moment, in whole microseconds since 1970-01-01T00:00:00Z: PostgreSQL's own resolution, so that what is stored
/// is what was compared. Finer digits are cut off when a time is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime(i64);

/// The text is not a time.
#[derive(Debug, Snafu)]
#[snafu(display("not a time like 2026-11-20T20:59:59Z"))]
pub struct InvalidTime {
    source: jiff::Error,
}

impl EventTime {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// From microseconds since the epoch; `None` outside the years -9999 to 9999.
    #[must_use]
    pub fn from_microseconds(microseconds: i64) -> Option<Self> {
        Timestamp::from_microsecond(microseconds)
            .ok()
            .map(|_| Self(microseconds))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_microseconds(self) -> i64 {
        self.0
    }

    /// From a timestamp; digits below the microsecond are cut off (towards the past).
    #[must_use]
    pub fn from_timestamp(timestamp: Timestamp) -> Self {
        let microseconds = timestamp.as_nanosecond().div_euclid(1_000);
        Self(i64::try_from(microseconds).unwrap_or(i64::MIN))
    }

    /// As a timestamp.
    #[must_use]
    pub fn to_timestamp(self) -> Timestamp {
        // Cannot fail: every constructor checked the range.
        Timestamp::from_microsecond(self.0).unwrap_or(Timestamp::MIN)
    }

    /// This moment less `duration`, or the earliest moment there is.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let earliest = Timestamp::MIN.as_microsecond();
        let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(microseconds).max(earliest))
    }

    /// This moment plus `duration`, or the latest moment there is.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let latest = Timestamp::MAX.as_microsecond();
        let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(microseconds).min(latest))
    }
}

impl FromStr for EventTime {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        text.parse::<Timestamp>()
            .map(Self::from_timestamp)
            .context(InvalidTimeSnafu)
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_timestamp().fmt(formatter)
    }
}

impl Serialize for EventTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventTime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finer_digits_are_cut_off_towards_the_past() {
        let time: EventTime = "2026-11-20T20:59:59.1234567Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-20T20:59:59.123456Z");
        let before_epoch: EventTime = "1969-12-31T23:59:59.9999999Z".parse().unwrap();
        assert_eq!(before_epoch.as_microseconds(), -1);
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        let time: EventTime = "2026-11-20T00:00:00Z".parse().unwrap();
        assert_eq!(
            time.saturating_sub(Duration::MAX).to_timestamp(),
            Timestamp::from_microsecond(Timestamp::MIN.as_microsecond()).unwrap()
        );
        assert!(time.saturating_add(Duration::MAX) > time);
        assert_eq!(
            time.saturating_add(Duration::from_secs(1))
                .saturating_sub(Duration::from_secs(1)),
            time
        );
    }
}
