//! CPU and memory of the workers, and how Kubernetes writes amounts of them.

use crate::labels::Component;

/// How much of something a pod gets.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// What a node must have free.
    pub request: &'static str,
    /// What is used at most.
    pub limit: &'static str,
}

/// CPU and memory of a worker, where the feed does not say otherwise.
#[must_use]
pub const fn of(component: Component) -> [Amount; 2] {
    match component {
        Component::Producer => [
            Amount {
                request: "20m",
                limit: "1",
            },
            Amount {
                request: "32Mi",
                limit: "128Mi",
            },
        ],
        Component::Processor => [
            Amount {
                request: "50m",
                limit: "2",
            },
            Amount {
                request: "64Mi",
                limit: "512Mi",
            },
        ],
    }
}

/// An amount in thousandths, so that two can be compared. `None`: it is none, or of a form that nobody needs here.
#[must_use]
pub fn thousandths(text: &str) -> Option<u128> {
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let factor: u128 = match unit {
        "m" => 1,
        "" => 1_000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "Ki" => 1_000 << 10,
        "Mi" => 1_000 << 20,
        "Gi" => 1_000 << 30,
        "Ti" => 1_000 << 40,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let plain = |text: &str, most: usize| {
        let digits = !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u128>().ok()).flatten()
    };
    let places = u32::try_from(part.len()).ok()?;
    let scaled = plain(whole, 9)? * 10_u128.pow(places.min(3)) + plain(part, 3)?;
    Some(scaled * factor / 10_u128.pow(places))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::whole("2", Some(2_000))]
    #[case::milli("500m", Some(500))]
    #[case::part("0.5", Some(500))]
    #[case::binary("64Mi", Some(67_108_864_000))]
    #[case::part_of_binary("1.5Gi", Some(1_610_612_736_000))]
    #[case::decimal("1G", Some(1_000_000_000_000))]
    #[case::less_than_a_thousandth("0.001m", Some(0))]
    #[case::empty("", None)]
    #[case::unit_only("Mi", None)]
    #[case::unknown_unit("5MB", None)]
    #[case::negative("-1", None)]
    #[case::two_points("1.2.3", None)]
    #[case::point_only("1.", None)]
    #[case::too_long("1234567890", None)]
    fn amounts(#[case] text: &str, #[case] expected: Option<u128>) {
        assert_eq!(thousandths(text), expected);
    }

    #[test]
    fn units_are_in_order() {
        let in_order = ["1m", "1", "1k", "1Ki", "1M", "1Mi", "1G", "1Gi", "1T", "1Ti"].map(thousandths);
        assert!(in_order.is_sorted() && in_order.iter().all(Option::is_some));
    }
}
