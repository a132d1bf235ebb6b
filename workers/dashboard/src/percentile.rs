//! Percentiles, of numbers and of Prometheus histograms.

use serde::Serialize;

/// Percentiles of what a histogram counted; `None` where it counted nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    pub count: u64,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
}

/// A histogram: cumulative counts by upper limit, the last of which is infinity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram(pub Vec<(f64, f64)>);

impl Histogram {
    /// What was counted since an earlier time. A counter that went down began anew.
    #[must_use]
    pub fn since(&self, earlier: Option<&Self>) -> Self {
        let Some(earlier) =
            earlier.filter(|earlier| earlier.0.len() == self.0.len() && earlier.total() <= self.total())
        else {
            return self.clone();
        };
        let pairs = self.0.iter().zip(&earlier.0);
        Self(
            pairs
                .map(|((limit, count), (_, before))| (*limit, count - before))
                .collect(),
        )
    }

    /// Adds what another one of the same limits counted.
    pub fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        if self.0.len() == other.0.len() {
            for ((_, count), (_, more)) in self.0.iter_mut().zip(&other.0) {
                *count += more;
            }
        }
    }

    fn total(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, count)| *count)
    }

    /// The value below which that part of what was counted lies, interpolated within its bucket. Above the last limit: that limit.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let total = self.total();
        if total <= 0.0 {
            return None;
        }
        let rank = part * total;
        let index = self.0.iter().position(|(_, count)| *count >= rank)?;
        let (below, before) = match index {
            0 => (0.0, 0.0),
            index => self.0[index - 1],
        };
        let (limit, count) = self.0[index];
        if limit.is_infinite() {
            return Some(below);
        }
        let within = if count > before {
            (rank - before) / (count - before)
        } else {
            1.0
        };
        Some(below + (limit - below) * within)
    }

    /// Some of them.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are whole and not negative"
    )]
    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            count: self.total().max(0.0) as u64,
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
        }
    }
}

/// What there is to say of some numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    pub min: Option<f64>,
    pub avg: Option<f64>,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
}

/// Sorts numbers, and leaves out what is none.
#[must_use]
pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value at a part of sorted numbers (nearest rank).
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks of a few hundred numbers"
)]
pub fn rank(sorted: &[f64], part: f64) -> Option<f64> {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

impl Distribution {
    /// Of these numbers.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a few hundred numbers")]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values = sorted(values);
        if values.is_empty() {
            return Self::default();
        }
        Self {
            min: values.first().copied(),
            avg: Some(values.iter().sum::<f64>() / values.len() as f64),
            p50: rank(&values, 0.5),
            p90: rank(&values, 0.9),
            p95: rank(&values, 0.95),
            p99: rank(&values, 0.99),
            max: values.last().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn histogram(counts: &[(f64, f64)]) -> Histogram {
        Histogram(counts.to_vec())
    }

    #[rstest]
    #[case::half_of_the_first_bucket(0.25, Some(0.05))]
    #[case::end_of_the_first_bucket(0.5, Some(0.1))]
    #[case::within_the_second(0.75, Some(0.55))]
    #[case::all(1.0, Some(1.0))]
    fn quantiles_are_interpolated(#[case] part: f64, #[case] expected: Option<f64>) {
        let found = histogram(&[(0.1, 50.0), (1.0, 100.0), (f64::INFINITY, 100.0)]).quantile(part);
        let close = |(a, b): (f64, f64)| (a - b).abs() < 1e-9;
        assert!(found.zip(expected).is_some_and(close), "{found:?}");
    }

    #[test]
    fn nothing_counted_has_no_percentile_and_the_endless_bucket_no_end() {
        assert_eq!(histogram(&[(1.0, 0.0), (f64::INFINITY, 0.0)]).quantile(0.5), None);
        assert_eq!(
            histogram(&[(1.0, 0.0), (f64::INFINITY, 9.0)]).quantile(0.5),
            Some(1.0)
        );
        assert_eq!(Histogram::default().percentiles(), Percentiles::default());
    }

    #[test]
    fn what_was_counted_in_between_is_a_difference_unless_the_process_began_anew() {
        let earlier = histogram(&[(1.0, 2.0), (f64::INFINITY, 5.0)]);
        let later = histogram(&[(1.0, 4.0), (f64::INFINITY, 9.0)]);
        assert_eq!(later.since(Some(&earlier)).0, [(1.0, 2.0), (f64::INFINITY, 4.0)]);
        assert_eq!(earlier.since(Some(&later)), earlier);
        assert_eq!(later.since(None), later);
    }

    #[test]
    fn a_distribution_has_the_nearest_ranks() {
        let all = Distribution::of((1..=100).map(f64::from));
        assert_eq!((all.p50, all.p99, all.max), (Some(50.0), Some(99.0), Some(100.0)));
        assert_eq!(Distribution::of([]), Distribution::default());
    }
}
