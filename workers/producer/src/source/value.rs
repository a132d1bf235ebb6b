//! Reads the values of a quote from their JSON text. Pure.
//!
//! Numbers are taken from their digits, never through a float; they may be JSON numbers, or strings that hold one.

use contract::{
    config::TimeFormat,
    event_time::EventTime,
    price::{InvalidPrice, Price, decimal},
    symbol::{InvalidSymbol, Symbol},
    tick::{RejectReason, Rejected},
};
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::value::RawValue;

/// The first second after the year 9999.
const END_OF_TIME: i64 = 253_402_300_800;

/// The symbol of a quote, if it is one that was asked for.
///
/// # Errors
/// When it is none, or another one.
pub fn symbol(text: &str, asked: &[Symbol]) -> Result<Symbol, Rejected> {
    let symbol: Symbol = text.parse().map_err(|error: InvalidSymbol| {
        let detail = error.to_string();
        Rejected::new(RejectReason::InvalidSymbol, detail)
    })?;
    if !asked.contains(&symbol) {
        let detail = format!("{symbol} was not asked for");
        return Err(Rejected::new(RejectReason::UnknownSymbol, detail));
    }
    Ok(symbol)
}

/// A price; `field` is what an error calls it.
///
/// # Errors
/// When it is missing, or is none.
pub fn price(field: &str, raw: Option<&RawValue>) -> Result<Price, Rejected> {
    let Some(raw) = raw else {
        let detail = format!("{field} is missing");
        return Err(Rejected::new(RejectReason::InvalidPrice, detail));
    };
    digits(raw).parse().map_err(|error: InvalidPrice| {
        let reason = match error {
            InvalidPrice::NotANumber => RejectReason::InvalidPrice,
            InvalidPrice::NotPositive => RejectReason::PriceNotPositive,
            InvalidPrice::OutOfRange => RejectReason::PriceOutOfRange,
        };
        Rejected::new(reason, format!("{field}: {error}"))
    })
}

/// A time after 1970-01-01 and within the year 9999. Digits below the microsecond are cut off.
///
/// # Errors
/// When it is missing, not written in the format, or out of that range.
pub fn event_time(field: &str, raw: Option<&RawValue>, format: TimeFormat) -> Result<EventTime, Rejected> {
    match format {
        TimeFormat::UnixSeconds => unix(field, raw, 1_000_000, "seconds"),
        TimeFormat::UnixMilliseconds => unix(field, raw, 1_000, "milliseconds"),
        TimeFormat::Rfc3339 => {
            let text = raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
            let time: Option<EventTime> = text.and_then(|text| text.parse().ok());
            let time = time.ok_or_else(|| {
                let detail = format!("{field} is missing, or not a time like 2026-11-20T20:59:59Z");
                Rejected::new(RejectReason::InvalidTime, detail)
            })?;
            if time <= EventTime::EPOCH {
                let detail = format!("{field} is not after 1970-01-01");
                return Err(Rejected::new(RejectReason::TimeOutOfRange, detail));
            }
            Ok(time)
        }
    }
}

/// Units since 1970, with or without a fraction.
fn unix(
    field: &str,
    raw: Option<&RawValue>,
    microseconds_per_unit: i64,
    unit: &str,
) -> Result<EventTime, Rejected> {
    let value = raw.and_then(|raw| decimal(digits(raw))).ok_or_else(|| {
        let detail = format!("{field} is missing or not a number");
        Rejected::new(RejectReason::InvalidTime, detail)
    })?;
    let out_of_range = || {
        let detail = format!("{field} is not in the years 1970 to 9999: it must be in {unit}");
        Rejected::new(RejectReason::TimeOutOfRange, detail)
    };
    let end = Decimal::from(END_OF_TIME * (1_000_000 / microseconds_per_unit));
    if value <= Decimal::ZERO || value >= end {
        return Err(out_of_range());
    }
    let microseconds = (value * Decimal::from(microseconds_per_unit)).trunc();
    i64::try_from(microseconds)
        .ok()
        .and_then(EventTime::from_microseconds)
        .ok_or_else(out_of_range)
}

/// Whole shares. Some sources give fractions for some instruments, and a running total cut off to whole ones still only grows.
///
/// # Errors
/// When it is there and not a number of shares.
pub fn volume(field: &str, raw: Option<&RawValue>) -> Result<Option<i64>, Rejected> {
    let Some(value) = number(field, raw)? else {
        return Ok(None);
    };
    let whole = value.round_dp_with_strategy(0, RoundingStrategy::ToNegativeInfinity);
    let shares = i64::try_from(whole).ok().filter(|shares| *shares >= 0);
    shares.map(Some).ok_or_else(|| {
        let detail = format!("{field} is negative, or more than 64 bits hold");
        Rejected::new(RejectReason::InvalidNumber, detail)
    })
}

/// Any number.
///
/// # Errors
/// When it is there and not a number, or one of too many digits.
pub fn number(field: &str, raw: Option<&RawValue>) -> Result<Option<Decimal>, Rejected> {
    let Some(raw) = raw else {
        return Ok(None);
    };
    decimal(digits(raw)).map(Some).ok_or_else(|| {
        let detail = format!("{field} is not a number of at most 28 digits");
        Rejected::new(RejectReason::InvalidNumber, detail)
    })
}

/// The digits of a JSON number, or of a JSON string that holds one.
fn digits(raw: &RawValue) -> &str {
    let text = raw.get();
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(json: &str, format: TimeFormat) -> Result<String, RejectReason> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        event_time("time", Some(&raw), format)
            .map(|time| time.to_string())
            .map_err(|rejected| rejected.reason)
    }

    #[test]
    fn a_time_is_read_in_each_format() {
        use RejectReason::{InvalidTime, TimeOutOfRange};
        use TimeFormat::{Rfc3339, UnixMilliseconds, UnixSeconds};
        for (json, format, expected) in [
            ("1738702801", UnixSeconds, Ok("2025-02-04T21:00:01Z")),
            (r#""1738702801""#, UnixSeconds, Ok("2025-02-04T21:00:01Z")),
            (
                "1738702801.1234567",
                UnixSeconds,
                Ok("2025-02-04T21:00:01.123456Z"),
            ),
            ("1.7387028015e9", UnixSeconds, Ok("2025-02-04T21:00:01.5Z")),
            ("253402200000", UnixSeconds, Ok("9999-12-30T20:00:00Z")),
            ("1738702801000", UnixSeconds, Err(TimeOutOfRange)),
            ("0", UnixSeconds, Err(TimeOutOfRange)),
            (r#""2025-02-04T21:00:01Z""#, UnixSeconds, Err(InvalidTime)),
            ("1738702801250", UnixMilliseconds, Ok("2025-02-04T21:00:01.25Z")),
            (
                "1738702801250.75",
                UnixMilliseconds,
                Ok("2025-02-04T21:00:01.25075Z"),
            ),
            (
                "253402200000999",
                UnixMilliseconds,
                Ok("9999-12-30T20:00:00.999Z"),
            ),
            ("253402300800000", UnixMilliseconds, Err(TimeOutOfRange)),
            ("-1", UnixMilliseconds, Err(TimeOutOfRange)),
            ("true", UnixMilliseconds, Err(InvalidTime)),
            (
                r#""2025-02-04T21:00:01.5Z""#,
                Rfc3339,
                Ok("2025-02-04T21:00:01.5Z"),
            ),
            (
                r#""2025-02-04T16:00:01-05:00""#,
                Rfc3339,
                Ok("2025-02-04T21:00:01Z"),
            ),
            (
                r#""\u0032025-02-04T21:00:01Z""#,
                Rfc3339,
                Ok("2025-02-04T21:00:01Z"),
            ),
            (r#""1970-01-01T00:00:00Z""#, Rfc3339, Err(TimeOutOfRange)),
            (r#""2025-02-04T21:00:01""#, Rfc3339, Err(InvalidTime)),
            ("1738702801", Rfc3339, Err(InvalidTime)),
        ] {
            assert_eq!(
                time(json, format),
                expected.map(str::to_owned),
                "{json} as {format:?}"
            );
        }
        for format in [UnixSeconds, UnixMilliseconds, Rfc3339] {
            let rejected = event_time("/at", None, format).unwrap_err();
            assert_eq!(rejected.reason, InvalidTime);
            assert!(rejected.detail.starts_with("/at is missing"), "{rejected}");
        }
    }
}
