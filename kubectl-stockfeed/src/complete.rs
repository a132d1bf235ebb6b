//! What may come next on the command line, as kubectl asks its plugins (`kubectl_complete-stockfeed`). Pure.

use clap::Command;

/// After the candidates: they are all there are, names of files are none.
pub const NO_FILES: &str = ":4\n";

/// What may come next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Words.
    pub words: Vec<String>,
    /// Whether the names of feeds are meant as well.
    pub feeds: bool,
    /// The namespace that was named.
    pub namespace: Option<String>,
}

/// Candidates for the last of these words, which may be empty or half a word.
#[must_use]
pub fn candidates(root: &Command, line: &[String]) -> Candidates {
    let (last, before) = line
        .split_last()
        .map_or(("", line), |(last, before)| (last.as_str(), before));
    let mut command = root;
    let mut positionals = 0;
    let mut option = None;
    let mut namespace = None;
    for word in before {
        if let Some(taken) = option.take() {
            if taken == "namespace" {
                namespace = Some(word.clone());
            }
        } else if word.starts_with('-') {
            option = option_with_value(command, word);
        } else if let Some(next) = command.find_subcommand(word) {
            command = next;
            positionals = 0;
        } else {
            positionals += 1;
        }
    }
    let mut words: Vec<String> = match option {
        Some(option) => values(command, option),
        None if last.starts_with('-') => command
            .get_arguments()
            .filter_map(|argument| argument.get_long().map(|long| format!("--{long}")))
            .collect(),
        None => {
            let subcommands = command.get_subcommands();
            let shown = subcommands.filter(|subcommand| !subcommand.is_hide_set());
            let mut words: Vec<String> = shown.map(|subcommand| subcommand.get_name().to_owned()).collect();
            let next = command.get_positionals().nth(positionals);
            words.extend(
                next.map(|next| values(command, next.get_id().as_str()))
                    .unwrap_or_default(),
            );
            words
        }
    };
    words.retain(|word| word.starts_with(last));
    let next = command.get_positionals().nth(positionals);
    let feeds = option.is_none()
        && !last.starts_with('-')
        && next.is_some_and(|argument| argument.get_id() == "name");
    Candidates {
        words,
        feeds,
        namespace,
    }
}

/// The option that a word is, if its value is the word after it.
fn option_with_value<'a>(command: &'a Command, word: &str) -> Option<&'a str> {
    let argument = command.get_arguments().find(|argument| {
        let long = argument.get_long().map(|long| format!("--{long}"));
        let short = argument.get_short().map(|short| format!("-{short}"));
        long.as_deref() == Some(word) || short.as_deref() == Some(word)
    })?;
    argument
        .get_action()
        .takes_values()
        .then(|| argument.get_id().as_str())
}

/// The values that an argument can have, if they are few.
fn values(command: &Command, id: &str) -> Vec<String> {
    command
        .get_arguments()
        .filter(|argument| argument.get_id() == id)
        .flat_map(clap::Arg::get_possible_values)
        .map(|value| value.get_name().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;
    use crate::args::Args;

    fn of(line: &[&str]) -> Candidates {
        let mut root = Args::command();
        root.build();
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        candidates(&root, &line)
    }

    #[rstest]
    #[case::commands(&["re"], &["resume", "restart"], false)]
    #[case::hidden(&["__"], &[], false)]
    #[case::feed(&["drain", ""], &[], true)]
    #[case::after_the_feed(&["drain", "tech", ""], &[], false)]
    #[case::below_a_command(&["quarantine", ""], &["list", "release", "discard", "help"], false)]
    #[case::feed_below(&["quarantine", "list", ""], &[], true)]
    #[case::option(&["restart", "tech", "--pro"], &["--producer", "--processor"], false)]
    #[case::shared_option(&["drain", "--name"], &["--namespace"], false)]
    #[case::value(&["status", "-o", ""], &["text", "json"], false)]
    #[case::shell(&["completion", "z"], &["zsh"], false)]
    fn what_may_come_next(#[case] line: &[&str], #[case] words: &[&str], #[case] feeds: bool) {
        let found = of(line);
        assert_eq!(
            (found.words, found.feeds),
            (words.iter().map(|word| (*word).to_owned()).collect(), feeds)
        );
    }

    #[test]
    fn the_namespace_that_was_named_is_looked_in() {
        assert_eq!(
            of(&["-n", "markets", "explain", ""]).namespace.as_deref(),
            Some("markets")
        );
    }
}
