//! Medians and percentiles. A machine that others use too makes single runs worthless: what counts is the middle of several.

use serde::Serialize;

/// The least, the middle and the greatest of some runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle; of an even number the mean of both middle ones.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of some values; `None` when there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let sorted = sorted(values);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[half - 1], sorted[half])
        } else {
            sorted[half]
        };
        Some(Self { min, median, max })
    }

    /// Of the quotients of two series that were measured in turn, pair by pair: what slows the machine for a while
    /// slows both of a pair.
    pub fn of_ratios(over: &[f64], under: &[f64]) -> Option<Self> {
        Self::of(over.iter().zip(under).map(|(over, under)| over / under))
    }
}

/// How long something took, over very many times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half took at most this long.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Percentiles {
    /// Of some values; `None` when there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let sorted = sorted(values);
        Some(Self {
            p50: nearest_rank(&sorted, 500)?,
            p99: nearest_rank(&sorted, 990)?,
            p999: nearest_rank(&sorted, 999)?,
            max: *sorted.last()?,
        })
    }
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The smallest value that at least so many of a thousand are not above.
fn nearest_rank(sorted: &[f64], of_thousand: usize) -> Option<f64> {
    let rank = (sorted.len() * of_thousand).div_ceil(1_000);
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let percentiles = Percentiles::of((1..=1_000).rev().map(f64::from));
        let expected = Percentiles {
            p50: 500.0,
            p99: 990.0,
            p999: 999.0,
            max: 1_000.0,
        };
        assert_eq!(percentiles, Some(expected));
        assert_eq!(
            Percentiles::of([7.0]).map(|one| (one.p50, one.p999)),
            Some((7.0, 7.0))
        );
        assert_eq!(Percentiles::of([]), None);
    }

    #[test]
    fn the_median_is_the_middle() {
        let median = |values: &[f64]| Spread::of(values.iter().copied()).map(|spread| spread.median);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // The machine was half as fast during the second pair; the ratio does not show it.
        let spread = Spread::of_ratios(&[90.0, 45.0], &[100.0, 50.0]);
        assert_eq!(spread.map(|spread| (spread.min, spread.max)), Some((0.9, 0.9)));
    }
}
