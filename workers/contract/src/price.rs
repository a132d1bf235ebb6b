//! Prices, exact and within limits that keep every sum exact as well.

use std::{fmt, str::FromStr};

use rust_decimal::Decimal;
use serde::Serialize;
use snafu::{OptionExt, Snafu, ensure};

/// A price is below this (ten billion).
pub const BELOW: i64 = 10_000_000_000;
/// Digits after the point that a price may have.
pub const MAX_SCALE: u32 = 10;
/// Digits a price may have in all.
pub const MAX_DIGITS: u32 = 19;

/// A price: above zero, below ten billion, at most 10 decimals and 19 digits.
///
/// The limits are what keeps the window sums of [`Price::square`] exact in 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Price(Decimal);

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
        let digits_fit = normal.mantissa() < 10_i128.pow(MAX_DIGITS);
        ensure!(
            normal < Decimal::from(BELOW) && normal.scale() <= MAX_SCALE && digits_fit,
            OutOfRangeSnafu
        );
        Ok(Self(normal))
    }

    /// The price as a decimal.
    #[must_use]
    pub const fn value(self) -> Decimal {
        self.0
    }

    /// The price in units of 10^-10, exact; below 10^20.
    #[must_use]
    pub fn fixed(self) -> i128 {
        self.0.mantissa() * 10_i128.pow(MAX_SCALE - self.0.scale())
    }

    /// The square of the price in units of 10^-12, below 10^32; exact for prices of up to 6 decimals,
    /// otherwise rounded down, which depends on the price alone and so keeps sums independent of order.
    #[must_use]
    pub fn square(self) -> i128 {
        let square = self.0.mantissa() * self.0.mantissa();
        match self.0.scale() * 2 {
            scale @ 0..=12 => square * 10_i128.pow(12 - scale),
            scale => square / 10_i128.pow(scale - 12),
        }
    }
}

impl FromStr for Price {
    type Err = InvalidPrice;

    fn from_str(text: &str) -> Result<Self, InvalidPrice> {
        Self::new(decimal(text).context(NotANumberSnafu)?)
    }
}

impl fmt::Display for Price {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
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

    proptest! {
        #[test]
        fn fixed_and_square_agree_with_decimal_arithmetic(mantissa in 1_i64..10_000_000_i64, scale in 0_u32..=6) {
            let price = Price::new(Decimal::new(mantissa, scale)).unwrap();
            prop_assert_eq!(Decimal::from_i128_with_scale(price.fixed(), 10).normalize(), price.value());
            let square = price.value() * price.value();
            prop_assert_eq!(Decimal::from_i128_with_scale(price.square(), 12).normalize(), square.normalize());
        }

        #[test]
        fn every_price_has_a_square(mantissa in 1_i128..10_i128.pow(MAX_DIGITS), scale in 0_u32..=MAX_SCALE) {
            if let Ok(price) = Price::new(Decimal::from_i128_with_scale(mantissa, scale)) {
                prop_assert!(price.square() >= 0);
                prop_assert!(price.square() < 10_i128.pow(32));
                prop_assert!(price.fixed() > 0);
            }
        }
    }
}
