//! Who sees what in Superset: roles, the feeds and symbols that they see, and whether they may write queries. Pure.

use std::collections::BTreeSet;

use contract::{names::FeedName, symbol::Symbol};
use serde::Deserialize;
use snafu::{ResultExt, Snafu, ensure};

/// What a role of Superset sees.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Access {
    /// The role's name in Superset.
    pub role: String,
    /// Which feeds it sees: namespace/name, with * for any text without a slash.
    pub feeds: Vec<String>,
    /// Which symbols it sees of them; none: all.
    #[serde(default)]
    pub symbols: Vec<String>,
    /// Whether it may query the feeds' tables in SQL Lab, and explore them.
    #[serde(default)]
    pub sql_lab: bool,
}

/// What the file says cannot be.
#[derive(Debug, Snafu)]
pub enum Error {
    /// Not a list of roles.
    #[snafu(display("it must be a YAML list of role, feeds, symbols, sqlLab"))]
    Form {
        /// Why.
        source: serde_yaml::Error,
    },
    /// A role without a name.
    #[snafu(display("an entry has an empty role"))]
    NoRole,
    /// The same role again.
    #[snafu(display("role {role:?} is there twice: name all of its feeds in one entry"))]
    Twice {
        /// Which.
        role: String,
    },
    /// Its own administrators see everything.
    #[snafu(display("role {role:?} is Superset's own: make one for the feeds"))]
    BuiltIn {
        /// Which.
        role: String,
    },
    /// Not a pattern.
    #[snafu(display(
        "role {role:?}: feeds has {pattern:?}, which is not of the form namespace/name, with * for any text"
    ))]
    Pattern {
        /// Whose.
        role: String,
        /// Which.
        pattern: String,
    },
    /// Not a symbol.
    #[snafu(display("role {role:?}: symbols"))]
    Symbol {
        /// Whose.
        role: String,
        /// Why.
        source: contract::symbol::InvalidSymbol,
    },
    /// Who writes queries is not held back by what dashboards filter.
    #[snafu(display(
        "role {role:?} has symbols and sqlLab: who may write queries reads every row of a feed; leave one of them out"
    ))]
    SymbolsInSqlLab {
        /// Whose.
        role: String,
    },
}

/// Roles that Superset makes itself.
const BUILT_IN: [&str; 5] = ["Admin", "Alpha", "Gamma", "Public", "sql_lab"];

/// Reads the list.
///
/// # Errors
/// When it says what cannot be.
pub fn parse(text: &str) -> Result<Vec<Access>, Error> {
    let list: Option<Vec<Access>> = serde_yaml::from_str(text).context(FormSnafu)?;
    let list = list.unwrap_or_default();
    let mut roles = BTreeSet::new();
    for Access {
        role,
        feeds,
        symbols,
        sql_lab,
    } in &list
    {
        ensure!(!role.trim().is_empty(), NoRoleSnafu);
        ensure!(!BUILT_IN.contains(&role.as_str()), BuiltInSnafu { role });
        ensure!(roles.insert(role), TwiceSnafu { role });
        for pattern in feeds {
            let parts = pattern.split_once('/');
            let well = parts.is_some_and(|(namespace, name)| is_pattern(namespace) && is_pattern(name));
            ensure!(well, PatternSnafu { role, pattern });
        }
        for symbol in symbols {
            let _: Symbol = symbol.parse().context(SymbolSnafu { role })?;
        }
        ensure!(symbols.is_empty() || !sql_lab, SymbolsInSqlLabSnafu { role });
    }
    Ok(list)
}

fn is_pattern(text: &str) -> bool {
    let plain = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || "-*".contains(character)
    };
    !text.is_empty() && text.chars().all(plain)
}

impl Access {
    /// Whether the role sees a feed.
    #[must_use]
    pub fn sees(&self, feed: &FeedName) -> bool {
        self.feeds.iter().any(|pattern| {
            pattern.split_once('/').is_some_and(|(namespace, name)| {
                matches(namespace, feed.namespace()) && matches(name, feed.name())
            })
        })
    }

    /// The condition that a row has to meet, where not all are seen.
    #[must_use]
    pub fn clause(&self) -> Option<String> {
        let quoted: Vec<_> = self
            .symbols
            .iter()
            // None has a quote in it; what has is none.
            .map(|symbol| format!("'{}'", symbol.replace('\'', "''")))
            .collect();
        (!quoted.is_empty()).then(|| format!("symbol IN ({})", quoted.join(", ")))
    }
}

/// Whether a text is as a pattern says, in which * stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(rest) = text.strip_prefix(before) else {
        return false;
    };
    (0..=rest.len())
        .filter_map(|cut| rest.get(cut..))
        .any(|rest| matches(after, rest))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const LIST: &str = "
- {role: StockFeed viewer, feeds: ['*/*']}
- {role: Desk, feeds: ['markets/*', 'research/tech-*'], symbols: [AAPL, BRK-B]}
- {role: Analyst, feeds: ['markets/tech'], sqlLab: true}
";

    fn feed(namespace: &str, name: &str) -> FeedName {
        FeedName::new(namespace, name).unwrap()
    }

    #[rstest]
    #[case::any("StockFeed viewer", "anything", "at-all", true)]
    #[case::any_of_a_namespace("Desk", "markets", "bonds", true)]
    #[case::another_namespace("Desk", "marketsx", "bonds", false)]
    #[case::beginning("Desk", "research", "tech-us", true)]
    #[case::another_beginning("Desk", "research", "techno", false)]
    #[case::exactly("Analyst", "markets", "tech", true)]
    #[case::longer("Analyst", "markets", "tech2", false)]
    fn a_role_sees_the_feeds_that_are_as_it_says(
        #[case] role: &str,
        #[case] namespace: &str,
        #[case] name: &str,
        #[case] expected: bool,
    ) {
        let list = parse(LIST).unwrap();
        let access = list.iter().find(|access| access.role == role).unwrap();
        assert_eq!(access.sees(&feed(namespace, name)), expected);
    }

    #[rstest]
    #[case("*", "", true)]
    #[case("a*c", "abc", true)]
    #[case("a*c", "ac", true)]
    #[case("a*c", "abcd", false)]
    #[case("*b*", "abc", true)]
    #[case("a*b*c", "a-b-b-c", true)]
    #[case("a*b*c", "acb", false)]
    fn a_star_is_any_text(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(matches(pattern, text), expected);
    }

    #[test]
    fn symbols_become_a_condition_of_rows() {
        let clauses: Vec<_> = parse(LIST).unwrap().iter().map(Access::clause).collect();
        let desk = "symbol IN ('AAPL', 'BRK-B')".to_owned();
        assert_eq!(clauses, [None, Some(desk), None]);
    }

    #[test]
    fn an_empty_file_lets_nobody_in() {
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("[]").unwrap(), []);
    }

    #[rstest]
    #[case::no_list("role: a", "YAML list")]
    #[case::unknown("- {role: a, feeds: ['*/*'], symbol: [A]}", "unknown field")]
    #[case::no_name("- {role: ' ', feeds: []}", "empty role")]
    #[case::twice("- {role: a, feeds: []}\n- {role: a, feeds: []}", "twice")]
    #[case::built_in("- {role: Admin, feeds: []}", "Superset's own")]
    #[case::no_slash("- {role: a, feeds: [tech]}", "\"tech\"")]
    #[case::two_slashes("- {role: a, feeds: [a/b/c]}", "a/b/c")]
    #[case::no_symbol("- {role: a, feeds: ['*/*'], symbols: [\"A'; DROP\"]}", "symbols")]
    #[case::both(
        "- {role: a, feeds: ['*/*'], symbols: [A], sqlLab: true}",
        "leave one of them out"
    )]
    fn says_what_cannot_be(#[case] text: &str, #[case] words: &str) {
        let error = crate::status::chain(&parse(text).unwrap_err());
        assert!(error.contains(words), "{error}");
    }
}
