//! The text that Prometheus reads, as far as it is asked for.

use crate::percentile::Histogram;

/// Samples whose name begins with a prefix.
#[derive(Debug, Default)]
pub struct Samples<'a>(Vec<Sample<'a>>);

#[derive(Debug)]
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl<'a> Samples<'a> {
    /// Reads a text. Lines that are none are passed over.
    #[must_use]
    pub fn read(text: &'a str, prefix: &str) -> Self {
        Self(
            text.lines()
                .filter(|line| line.starts_with(prefix))
                .filter_map(sample)
                .collect(),
        )
    }

    /// The sum of all samples of a name with that label, or of all where no label is given; `None` when there are none.
    #[must_use]
    pub fn sum(&self, name: &str, label: Option<(&str, &str)>) -> Option<f64> {
        let mut found = self
            .of(name)
            .filter(|sample| label.is_none_or(|(key, value)| label_of(sample.labels, key) == Some(value)));
        let first = found.next()?.value;
        Some(first + found.map(|sample| sample.value).sum::<f64>())
    }

    /// A histogram, over all its labels but `le`.
    #[must_use]
    pub fn histogram(&self, name: &str) -> Histogram {
        let name = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.of(&name) {
            let Some(limit) = label_of(sample.labels, "le").and_then(limit) else {
                continue;
            };
            match buckets
                .iter_mut()
                .find(|(known, _)| known.total_cmp(&limit).is_eq())
            {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((limit, sample.value)),
            }
        }
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Histogram(buckets)
    }

    fn of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Sample<'a>> {
        self.0.iter().filter(move |sample| sample.name == name)
    }
}

fn limit(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        number => number.parse().ok(),
    }
}

/// `name{labels} value`. None of our labels has a brace or a quote in it.
fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once('}')?,
        None => ("", rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

fn label_of<'a>(labels: &'a str, key: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name == key).then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE x_messages counter\nx_messages_total{kind=\"Ticks\"} 7\nx_messages_total{kind=\"Heartbeat\"} 3\n\
        x_seconds_bucket{le=\"0.1\",endpoint=\"Quote\"} 1\nx_seconds_bucket{le=\"+Inf\",endpoint=\"Quote\"} 2\n\
        x_seconds_bucket{le=\"0.1\",endpoint=\"Batch\"} 4\nx_seconds_bucket{le=\"+Inf\",endpoint=\"Batch\"} 4\nx_plain 2.5\ny_plain 1\nx_broken{\n# EOF\n";

    #[test]
    fn samples_are_summed_over_labels() {
        let samples = Samples::read(TEXT, "x_");
        assert_eq!(
            samples.sum("x_messages_total", Some(("kind", "Ticks"))),
            Some(7.0)
        );
        assert_eq!(samples.sum("x_messages_total", None), Some(10.0));
        assert_eq!(
            (samples.sum("x_plain", None), samples.sum("y_plain", None)),
            (Some(2.5), None)
        );
    }

    #[test]
    fn a_histogram_is_the_sum_of_its_families() {
        let histogram = Samples::read(TEXT, "x_").histogram("x_seconds");
        assert_eq!(histogram.0, [(0.1, 5.0), (f64::INFINITY, 6.0)]);
    }
}
