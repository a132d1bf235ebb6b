//! Widths of candle windows.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use snafu::Snafu;

/// The width of a tumbling window. A closed set: each divides the hour, or is the hour, or is the exchange's
/// calendar day, so that no window lies in two days and the volumes of a day's windows add up to the day's volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WindowWidth {
    /// `1s`
    Second1,
    /// `5s`
    Second5,
    /// `10s`
    Second10,
    /// `15s`
    Second15,
    /// `30s`
    Second30,
    /// `1m`
    Minute1,
    /// `5m`
    Minute5,
    /// `10m`
    Minute10,
    /// `15m`
    Minute15,
    /// `30m`
    Minute30,
    /// `1h`
    Hour1,
    /// `1d`: midnight to midnight in New York, 23, 24 or 25 hours.
    Day1,
}

/// The text is not a width.
#[derive(Clone, Debug, PartialEq, Eq, Snafu)]
#[snafu(display(
    "{text:?} is not a window width: use one of 1s, 5s, 10s, 15s, 30s, 1m, 5m, 10m, 15m, 30m, 1h, 1d"
))]
pub struct UnknownWidth {
    text: String,
}

impl WindowWidth {
    /// All widths, narrowest first.
    pub const ALL: [Self; 12] = [
        Self::Second1,
        Self::Second5,
        Self::Second10,
        Self::Second15,
        Self::Second30,
        Self::Minute1,
        Self::Minute5,
        Self::Minute10,
        Self::Minute15,
        Self::Minute30,
        Self::Hour1,
        Self::Day1,
    ];

    /// The width's label, as in the resource and in column `candles.width`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Second1 => "1s",
            Self::Second5 => "5s",
            Self::Second10 => "10s",
            Self::Second15 => "15s",
            Self::Second30 => "30s",
            Self::Minute1 => "1m",
            Self::Minute5 => "5m",
            Self::Minute10 => "10m",
            Self::Minute15 => "15m",
            Self::Minute30 => "30m",
            Self::Hour1 => "1h",
            Self::Day1 => "1d",
        }
    }

    /// The length in seconds; `None` for `1d`, whose length the calendar decides.
    #[must_use]
    pub const fn seconds(self) -> Option<i64> {
        Some(match self {
            Self::Second1 => 1,
            Self::Second5 => 5,
            Self::Second10 => 10,
            Self::Second15 => 15,
            Self::Second30 => 30,
            Self::Minute1 => 60,
            Self::Minute5 => 300,
            Self::Minute10 => 600,
            Self::Minute15 => 900,
            Self::Minute30 => 1_800,
            Self::Hour1 => 3_600,
            Self::Day1 => return None,
        })
    }
}

impl FromStr for WindowWidth {
    type Err = UnknownWidth;

    fn from_str(text: &str) -> Result<Self, UnknownWidth> {
        let found = Self::ALL.into_iter().find(|width| width.label() == text);
        found.ok_or_else(|| {
            UnknownWidthSnafu {
                text: text.chars().take(16).collect::<String>(),
            }
            .build()
        })
    }
}

impl TryFrom<String> for WindowWidth {
    type Error = UnknownWidth;

    fn try_from(text: String) -> Result<Self, UnknownWidth> {
        text.parse()
    }
}

impl From<WindowWidth> for String {
    fn from(width: WindowWidth) -> Self {
        width.label().to_owned()
    }
}

impl fmt::Display for WindowWidth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_reads_back_and_every_width_divides_the_hour() {
        for width in WindowWidth::ALL {
            assert_eq!(width.label().parse::<WindowWidth>().unwrap(), width);
            assert!(width.seconds().is_none_or(|seconds| 3_600 % seconds == 0));
        }
        assert!(
            "2m".parse::<WindowWidth>()
                .unwrap_err()
                .to_string()
                .contains("1m, 5m")
        );
    }
}
