//! Prices, exact and within limits that keep every sum exact as well.

use std::{cmp::Ordering, fmt, str::FromStr};

use rust_decimal::Decimal;
use serde::Serialize;
use snafu::{OptionExt, Snafu, ensure};

/// A price is below this (ten billion).
pub const BELOW: i64 = 10_000_000_000;
/// Digits after the point that a price may have.
pub const MAX_SCALE: u32 = 10;
/// Digits a price may have in all.
pub const MAX_DIGITS: u32 = 19;

const MAX_SCALE_BYTE: u8 = 10;
/// Units of 10^-10 in one.
const UNITS: i128 = 10_000_000_000;
/// Powers of ten, from the zeroth to the tenth.
const POWERS: [i128; 11] = {
    let mut powers = [1; 11];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// A price: above zero, below ten billion, at most 10 decimals and 19 digits.
///
/// The limits are what keeps the window sums of [`Price::fixed`] and [`Price::square`] exact in 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Price {
    /// The digits, without trailing zeros of the fraction.
    mantissa: u64,
    /// How many of them are decimals.
    scale: u8,
}

/// Why a number is not a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Snafu)]
pub enum InvalidPrice {
    /// The text is not a decimal number.
    #[snafu(display("not a decimal number"))]
    NotANumber,
    /// Zero or less.
    #[snafu(display("a price must be above zero"))]
    NotPositive,
    /// Too large or too many digits.
    #[snafu(display(
        "a price must be below {BELOW} with at most {MAX_SCALE} decimals and {MAX_DIGITS} digits"
    ))]
    OutOfRange,
}

impl Price {
    /// Checks a number.
    ///
    /// # Errors
    /// When it is not above zero, or beyond the limits.
    pub fn new(value: Decimal) -> Result<Self, InvalidPrice> {
        ensure!(value > Decimal::ZERO, NotPositiveSnafu);
        let normal = value.normalize();
        let (mantissa, scale) = (u64::try_from(normal.mantissa()), u8::try_from(normal.scale()));
        match (mantissa, scale) {
            (Ok(mantissa), Ok(scale)) => Self::checked(mantissa, scale),
            _ => OutOfRangeSnafu.fail(),
        }
    }

    /// A normal number within the limits.
    fn checked(mantissa: u64, scale: u8) -> Result<Self, InvalidPrice> {
        ensure!(mantissa > 0, NotPositiveSnafu);
        let price = Self { mantissa, scale };
        let digits_fit = mantissa < 10_u64.pow(MAX_DIGITS) && u32::from(scale) <= MAX_SCALE;
        ensure!(
            digits_fit && price.fixed() < i128::from(BELOW) * UNITS,
            OutOfRangeSnafu
        );
        Ok(price)
    }

    /// The price as a decimal.
    #[must_use]
    pub fn value(self) -> Decimal {
        Decimal::from_i128_with_scale(self.mantissa.into(), self.scale.into())
    }

    /// The digits: the price is this times 10 to the power of minus [`Price::scale`].
    #[must_use]
    pub const fn mantissa(self) -> u64 {
        self.mantissa
    }

    /// How many of the digits are decimals; the last of them is not zero.
    #[must_use]
    pub const fn scale(self) -> u8 {
        self.scale
    }

    /// The price in units of 10^-10, exact; below 10^20.
    #[must_use]
    pub fn fixed(self) -> i128 {
        i128::from(self.mantissa) * POWERS[usize::from(MAX_SCALE_BYTE - self.scale)]
    }

    /// The square of the price, exact, in two parts that can be summed without a loss: whole units, below 10^20, and units of
    /// 10^-20, below 3 · 10^30. With `price = a + b · 10^-10` they are `a²` and `2ab · 10^10 + b²`.
    #[must_use]
    pub fn square(self) -> (i128, i128) {
        let fixed = self.fixed();
        let (whole, fraction) = (fixed / UNITS, fixed % UNITS);
        (whole * whole, 2 * whole * fraction * UNITS + fraction * fraction)
    }
}

impl Ord for Price {
    fn cmp(&self, other: &Self) -> Ordering {
        self.fixed().cmp(&other.fixed())
    }
}

impl PartialOrd for Price {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Price {
    type Err = InvalidPrice;

    fn from_str(text: &str) -> Result<Self, InvalidPrice> {
        match plain(text) {
            Some((mantissa, scale)) => Self::checked(mantissa, scale),
            // A sign, an exponent, more digits than fit, or no number at all.
            None => Self::new(decimal(text).context(NotANumberSnafu)?),
        }
    }
}

/// As text, so that no reader takes it for a float.
impl Serialize for Price {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Mantissa and scale of a number of at most 19 digits, with or without a point, normal; `None` for everything else.
fn plain(text: &str) -> Option<(u64, u8)> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > 20 || !bytes[0].is_ascii_digit() {
        return None;
    }
    let (mut mantissa, mut digits, mut point) = (0_u64, 0_u32, None);
    for (place, byte) in (0..).zip(bytes) {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                // Twenty digits may not fit: asked before they are multiplied.
                if digits > MAX_DIGITS {
                    return None;
                }
                mantissa = mantissa * 10 + u64::from(byte - b'0');
            }
            b'.' if point.is_none() => point = Some(place),
            _ => return None,
        }
    }
    let length = u8::try_from(bytes.len()).ok()?;
    let mut scale = match point {
        Some(place) if place + 1 == length => return None,
        Some(place) => length - place - 1,
        None => 0,
    };
    while scale > 0 && mantissa.is_multiple_of(10) {
        mantissa /= 10;
        scale -= 1;
    }
    Some((mantissa, scale))
}

impl fmt::Display for Price {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value().fmt(formatter)
    }
}

/// Reads a decimal number, with or without an exponent, exactly: `None` when it is not one or does not fit
/// 28 digits without rounding.
#[must_use]
pub fn decimal(text: &str) -> Option<Decimal> {
    match text.find(['e', 'E']) {
        None => Decimal::from_str_exact(text).ok(),
        Some(_) => {
            let value = Decimal::from_scientific(text).ok()?;
            // `from_scientific` may round a mantissa that does not fit; an exact one survives both ways.
            let mantissa = text.split(['e', 'E']).next()?;
            Decimal::from_str_exact(mantissa).ok().map(|_| value)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn says_what_is_wrong() {
        for (text, expected) in [
            ("0", InvalidPrice::NotPositive),
            ("-1.5", InvalidPrice::NotPositive),
            ("10000000000", InvalidPrice::OutOfRange),
            ("1.00000000001", InvalidPrice::OutOfRange),
            ("1234567890.1234567891", InvalidPrice::OutOfRange),
            ("99999999999999999999", InvalidPrice::OutOfRange),
            ("9999999999.9999999999", InvalidPrice::OutOfRange),
            ("NaN", InvalidPrice::NotANumber),
            ("", InvalidPrice::NotANumber),
            ("1,5", InvalidPrice::NotANumber),
        ] {
            assert_eq!(text.parse::<Price>().unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn exponents_are_exact() {
        assert_eq!("2.2812e2".parse::<Price>().unwrap(), "228.12".parse().unwrap());
        assert_eq!("1e-8".parse::<Price>().unwrap().to_string(), "0.00000001");
    }

    #[test]
    fn squares_of_many_decimals_are_exact() {
        // 0.0000123456² = 1.5241383936 · 10^-10: below the resolution that a rounded square would have.
        let price: Price = "0.0000123456".parse().unwrap();
        assert_eq!(price.square(), (0, 15_241_383_936));
        let price: Price = "9999999999.999999999".parse().unwrap();
        assert_eq!(square(price), "99999999999999999980.000000000000000001");
    }

    /// The square as text: both parts added up by hand.
    fn square(price: Price) -> String {
        let (whole, fraction) = price.square();
        let unit = 10_i128.pow(20);
        let digits = format!("{}.{:020}", whole + fraction / unit, fraction % unit);
        digits.trim_end_matches('0').trim_end_matches('.').to_owned()
    }

    proptest! {
        #[test]
        fn fixed_and_square_agree_with_decimal_arithmetic(mantissa in 1_i64..10_000_000_i64, scale in 0_u32..=7) {
            let price = Price::new(Decimal::new(mantissa, scale)).unwrap();
            prop_assert_eq!(Decimal::from_i128_with_scale(price.fixed(), 10).normalize(), price.value());
            let expected = (price.value() * price.value()).normalize();
            prop_assert_eq!(square(price), expected.to_string());
        }

        #[test]
        fn plain_numbers_read_as_decimals_do(text in "[0-9]{0,12}(\\.[0-9]{0,11})?") {
            let by_decimal = decimal(&text).ok_or(InvalidPrice::NotANumber).and_then(Price::new);
            prop_assert_eq!(text.parse::<Price>(), by_decimal);
        }

        #[test]
        fn every_price_has_a_square(mantissa in 1_i128..10_i128.pow(MAX_DIGITS), scale in 0_u32..=MAX_SCALE) {
            if let Ok(price) = Price::new(Decimal::from_i128_with_scale(mantissa, scale)) {
                let (whole, fraction) = price.square();
                prop_assert!((0..10_i128.pow(20)).contains(&whole));
                prop_assert!((0..3 * 10_i128.pow(30)).contains(&fraction));
                prop_assert!(price.fixed() > 0);
            }
        }
    }
}
