//! Which feeds this operator looks after, and how many of them at once.

use std::{fmt, str::FromStr};

use kube::runtime::watcher;
use snafu::{OptionExt as _, Snafu};

/// Which feeds, and how many at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Their namespaces; none means all.
    pub namespaces: Vec<String>,
    /// Their labels; `None` means any.
    pub selector: Option<LabelSelector>,
    /// How many are reconciled at once. Each holds a few requests and at most two database connections.
    pub concurrency: u16,
}

impl Scope {
    /// What is watched of feeds. Their children have the operator's own labels, whatever those of the feed are.
    #[must_use]
    pub fn feeds(&self) -> watcher::Config {
        let all = watcher::Config::default();
        match &self.selector {
            Some(selector) => all.labels(&selector.0),
            None => all,
        }
    }
}

/// A label selector in the words of kubectl: `team=quotes,tier in (a, b),!legacy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSelector(String);

/// Not a label selector.
#[derive(Debug, PartialEq, Eq, Snafu)]
#[snafu(display(
    "{part:?} is no requirement of a label selector: write key=value, key!=value, key in (a,b), key notin (a,b), key or !key, \
     separated by commas"
))]
pub struct InvalidSelector {
    part: String,
}

impl FromStr for LabelSelector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        for part in parts(text) {
            requirement(part).context(InvalidSelectorSnafu { part })?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The text between commas that are in no parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|character| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    })
    .collect()
}

fn requirement(part: &str) -> Option<()> {
    let part = part.trim();
    if let Some(key) = part.strip_prefix('!') {
        return key_of(key.trim());
    }
    if let Some(set) = part.strip_suffix(')') {
        let (key_and_word, values) = set.split_once('(')?;
        let (key, word) = key_and_word.trim_end().rsplit_once(char::is_whitespace)?;
        if !matches!(word, "in" | "notin") {
            return None;
        }
        values.split(',').try_for_each(|value| value_of(value.trim()))?;
        return key_of(key.trim());
    }
    // Longer signs first: the others are parts of them.
    for sign in ["!=", "==", "="] {
        if let Some((key, value)) = part.split_once(sign) {
            value_of(value.trim())?;
            return key_of(key.trim());
        }
    }
    key_of(part)
}

/// A label's name, with the prefix of its domain or without.
fn key_of(key: &str) -> Option<()> {
    let name = match key.split_once('/') {
        Some((domain, name)) => {
            let plain = |character: char| character.is_ascii_alphanumeric() || "-.".contains(character);
            (!domain.is_empty() && domain.len() <= 253 && domain.chars().all(plain)).then_some(name)?
        }
        None => key,
    };
    (!name.is_empty()).then_some(())?;
    value_of(name)
}

fn value_of(value: &str) -> Option<()> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
    (value.len() <= 63 && value.chars().all(plain)).then_some(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("team=quotes")]
    #[case("team==quotes,tier!=test")]
    #[case("example.com/tier in (a, b),!legacy")]
    #[case("tier notin (a), shard , team=")]
    fn reads_what_kubectl_reads(#[case] text: &str) {
        let selector: LabelSelector = text.parse().unwrap();
        assert_eq!(selector.to_string(), text);
    }

    #[rstest]
    #[case("", "")]
    #[case("team=quotes,", "")]
    #[case("team=two words", "team=two words")]
    #[case("a=b,tier within (a)", "tier within (a)")]
    #[case("in (a)", "in (a)")]
    #[case("/name=a", "/name=a")]
    #[case("team in (a", "team in (a")]
    #[case("=a", "=a")]
    fn says_which_part_it_cannot_read(#[case] text: &str, #[case] part: &str) {
        let part = part.to_owned();
        assert_eq!(text.parse::<LabelSelector>(), Err(InvalidSelector { part }));
    }

    #[test]
    fn only_feeds_with_the_labels_are_watched() {
        let mut scope = Scope {
            namespaces: Vec::new(),
            selector: None,
            concurrency: 1,
        };
        assert_eq!(scope.feeds().label_selector, None);
        scope.selector = Some("team=quotes".parse().unwrap());
        assert_eq!(scope.feeds().label_selector.as_deref(), Some("team=quotes"));
    }
}
