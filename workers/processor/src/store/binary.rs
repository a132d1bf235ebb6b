//! Numbers and times in PostgreSQL's binary format, for COPY and for parameters: to write and to read them as text costs more
//! than all else that is done to a candle.
//!
//! The formats are those of `numeric_recv`, `timestamptz_recv` and `date_recv` in PostgreSQL's source.

use contract::event_time::EventTime;
use jiff::civil::Date;
use sqlx::{
    Postgres, Type,
    encode::{Encode, IsNull},
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, types::Oid},
};

/// Microseconds from 1970 to 2000, which PostgreSQL counts from.
const EPOCH_OFFSET: i64 = 946_684_800_000_000;
/// Decimal digits in a group.
const GROUP: u128 = 10_000;
const NEGATIVE: u16 = 0x4000;

/// A `numeric`.
#[derive(Clone, Debug)]
pub(super) struct Numeric(Vec<u8>);

/// A `timestamptz`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(i64);

/// A `date`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Day(i32);

/// A moment in microseconds since 2000.
pub(super) const fn moment(time: EventTime) -> i64 {
    time.as_microseconds() - EPOCH_OFFSET
}

/// Appends `mantissa` · 10^-`scale`, shown with that many decimals. The mantissa has at most 29 digits.
pub(super) fn numeric(bytes: &mut Vec<u8>, mantissa: u128, scale: u32, negative: bool) {
    // The fraction's digits must fill whole groups.
    let missing = (4 - scale % 4) % 4;
    let mut groups = Groups::default();
    groups.push_all(mantissa * 10_u128.pow(missing));
    groups.write(bytes, ((scale + missing) / 4) as usize, scale as u16, negative);
}

impl Numeric {
    /// Of a positive number of units of 10^-10, below 10^26; shown without trailing zeros.
    pub(super) fn of_units(units: i128) -> Self {
        let mut groups = Groups::default();
        groups.push_all(units.unsigned_abs() * 100);
        groups.into_numeric(3)
    }

    /// Of positive whole units, and units of 10^-20 below one; shown without trailing zeros.
    pub(super) fn of_parts((whole, fraction): (i128, i128)) -> Self {
        let mut groups = Groups::default();
        groups.push_all(fraction.unsigned_abs());
        groups.count = 5;
        groups.push_all(whole.unsigned_abs());
        groups.into_numeric(5)
    }
}

impl From<EventTime> for Moment {
    fn from(time: EventTime) -> Self {
        Self(moment(time))
    }
}

impl From<Date> for Day {
    fn from(date: Date) -> Self {
        const SINCE: Date = Date::constant(2000, 1, 1);
        // Two dates of the calendar are at most twenty thousand years apart.
        Self(SINCE.until(date).map_or(0, |span| span.get_days()))
    }
}

/// Groups of four decimal digits, the least first.
#[derive(Default)]
struct Groups {
    groups: [u16; 20],
    count: usize,
}

impl Groups {
    fn push_all(&mut self, mut rest: u128) {
        while rest > u128::from(u64::MAX) {
            self.push((rest % GROUP) as u16);
            rest /= GROUP;
        }
        // Division of 128 bits is slow, and few numbers need it.
        let mut rest = rest as u64;
        while rest > 0 {
            self.push((rest % GROUP as u64) as u16);
            rest /= GROUP as u64;
        }
    }

    fn push(&mut self, group: u16) {
        self.groups[self.count] = group;
        self.count += 1;
    }

    /// With as many decimals as it has.
    fn into_numeric(self, fraction: usize) -> Numeric {
        let decimals = self.groups[..fraction]
            .iter()
            .enumerate()
            .find_map(|(place, group)| {
                let zeros = (1..4)
                    .take_while(|exponent| group % 10_u16.pow(*exponent) == 0)
                    .count();
                (*group > 0).then(|| (fraction - place) * 4 - zeros)
            });
        let mut bytes = Vec::with_capacity(8 + 2 * self.count);
        self.write(&mut bytes, fraction, decimals.unwrap_or(0) as u16, false);
        Numeric(bytes)
    }

    /// How many groups, the weight of the first (as a power of 10,000), the sign, the decimals to show, and the groups.
    fn write(&self, bytes: &mut Vec<u8>, fraction: usize, decimals: u16, negative: bool) {
        let used = &self.groups[..self.count];
        let above = used.iter().rev().take_while(|group| **group == 0).count();
        let used = &used[..self.count - above];
        let below = used.iter().take_while(|group| **group == 0).count();
        let stored = &used[below..];
        // Small by construction.
        let weight = if stored.is_empty() {
            0
        } else {
            used.len() as i16 - fraction as i16 - 1
        };
        let sign = if negative && !stored.is_empty() {
            NEGATIVE
        } else {
            0
        };
        bytes.extend_from_slice(&(stored.len() as i16).to_be_bytes());
        bytes.extend_from_slice(&weight.to_be_bytes());
        bytes.extend_from_slice(&sign.to_be_bytes());
        bytes.extend_from_slice(&decimals.to_be_bytes());
        for group in stored.iter().rev() {
            bytes.extend_from_slice(&group.to_be_bytes());
        }
    }
}

/// A type by the numbers that it and its array have had in every PostgreSQL (`pg_type.dat`).
macro_rules! parameter {
    ($type:ty, $oid:literal, $array:literal, $value:ident => $bytes:expr) => {
        impl Type<Postgres> for $type {
            fn type_info() -> PgTypeInfo {
                PgTypeInfo::with_oid(Oid($oid))
            }
        }

        impl PgHasArrayType for $type {
            fn array_type_info() -> PgTypeInfo {
                PgTypeInfo::with_oid(Oid($array))
            }
        }

        impl Encode<'_, Postgres> for $type {
            fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
                let $value = self;
                buffer.extend_from_slice($bytes);
                Ok(IsNull::No)
            }
        }
    };
}

parameter!(Numeric, 1700, 1231, value => &value.0);
parameter!(Moment, 1184, 1185, value => &value.0.to_be_bytes());
parameter!(Day, 1082, 1182, value => &value.0.to_be_bytes());

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As `numeric_recv` and `numeric_out` read and show it.
    fn shown(bytes: &[u8]) -> String {
        let word = |place: usize| i16::from_be_bytes([bytes[2 * place], bytes[2 * place + 1]]);
        let (count, weight, decimals) = (word(0), word(1), word(3) as usize);
        assert_eq!(bytes.len(), 8 + 2 * count as usize);
        let group = |exponent: i16| {
            let place = weight - exponent;
            if (0..count).contains(&place) {
                word(4 + place as usize)
            } else {
                0
            }
        };
        let whole: String = (0..=weight.max(0))
            .rev()
            .map(|exponent| format!("{:04}", group(exponent)))
            .collect();
        let fraction: String = (1..=10)
            .map(|exponent| format!("{:04}", group(-exponent)))
            .collect();
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        assert!(
            fraction[decimals..].bytes().all(|digit| digit == b'0'),
            "more digits than are shown"
        );
        match decimals {
            0 => whole.to_owned(),
            decimals => format!("{whole}.{}", &fraction[..decimals]),
        }
    }

    #[test]
    fn sums_are_exact_and_shown_without_zeros() {
        let units = |units| shown(&Numeric::of_units(units).0);
        assert_eq!(units(2_281_200_000_000), "228.12");
        assert_eq!(units(1), "0.0000000001");
        assert_eq!(units(30_000_000_000), "3");
        assert_eq!(units(100_000_000_000_000), "10000");
        let parts = |parts| shown(&Numeric::of_parts(parts).0);
        assert_eq!(
            parts((10_i128.pow(25), 10)),
            "10000000000000000000000000.0000000000000000001"
        );
        assert_eq!(parts((0, 0)), "0");
        assert_eq!(parts((7, 0)), "7");
        assert_eq!(parts((0, 5 * 10_i128.pow(19))), "0.5");
    }

    #[test]
    fn days_are_counted_from_2000() {
        let day = |text: &str| Day::from(text.parse::<Date>().unwrap()).0;
        assert_eq!(
            (day("2000-01-01"), day("1999-12-31"), day("2026-11-24")),
            (0, -1, 9_824)
        );
    }

    proptest! {
        #[test]
        fn units_read_as_they_were(units in 1_i128..10_i128.pow(25)) {
            let expected = rust_decimal::Decimal::from_i128_with_scale(units, 10).normalize().to_string();
            prop_assert_eq!(shown(&Numeric::of_units(units).0), expected);
        }

        #[test]
        fn parts_read_as_they_were(whole in 0_i128..10_i128.pow(30), fraction in 0_i128..10_i128.pow(20)) {
            let expected = format!("{whole}.{fraction:020}");
            let expected = expected.trim_end_matches('0').trim_end_matches('.');
            prop_assert_eq!(shown(&Numeric::of_parts((whole, fraction)).0), expected);
        }
    }
}
