//! Durations as people write them: `100ms`, `60s`, `5m`, `1h`, `90d`.
//!
//! Use with `#[serde(with = "contract::duration")]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};
use snafu::{ResultExt, Snafu, ensure};

/// The text is not a duration.
#[derive(Debug, Snafu)]
pub enum InvalidDuration {
    /// A unit that means different things to different people (`M`, `months`, `years`), or another character.
    #[snafu(display("{text:?} is not a duration: use ms, s, m, h or d, as in 100ms, 60s, 90d"))]
    Form {
        /// What was given.
        text: String,
    },
    /// `humantime` could not read it.
    #[snafu(display("{text:?} is not a duration: use ms, s, m, h or d, as in 100ms, 60s, 90d"))]
    Parse {
        /// What was given.
        text: String,
        /// Why.
        source: humantime::DurationError,
    },
}

/// Reads a duration of the units ms, s, m, h and d.
///
/// # Errors
/// When the text has another form, or is too long for 64 bits of seconds.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let plain = |character: char| character.is_ascii_digit() || "mshd".contains(character);
    ensure!(
        text.len() <= 32 && text.chars().all(plain),
        FormSnafu {
            text: text.chars().take(33).collect::<String>()
        }
    );
    humantime::parse_duration(text).context(ParseSnafu { text })
}

/// Writes a duration so that [`parse`] reads the same one. Whole milliseconds only: finer parts are cut off.
#[must_use]
pub fn format(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if milliseconds.is_multiple_of(length) {
            return format!("{}{unit}", milliseconds / length);
        }
    }
    format!("{milliseconds}ms")
}

/// For serde.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For serde.
///
/// # Errors
/// When the text is not a duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// For serde, of a duration that may be left out: `#[serde(with = "contract::duration::optional", default)]`.
pub mod optional {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    /// For serde.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// For serde.
    ///
    /// # Errors
    /// When the text is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::parse(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_units_of_the_resource() {
        for (text, milliseconds) in [
            ("100ms", 100),
            ("60s", 60_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("90d", 7_776_000_000),
            ("1h30m", 5_400_000),
        ] {
            assert_eq!(
                parse(text).unwrap(),
                Duration::from_millis(milliseconds),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_other_forms() {
        for text in [
            "",
            "60",
            "1 h",
            "-1s",
            "1M",
            "1y",
            "1.5s",
            "s",
            "1week",
            "99999999999999999999999d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(milliseconds in 0_u64..10_u64.pow(13)) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse(&format(duration)).unwrap(), duration);
        }
    }
}
