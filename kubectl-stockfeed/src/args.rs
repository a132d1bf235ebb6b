//! The command line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args as Group, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use operator::labels::Component;

/// Look after market-data feeds.
#[derive(Debug, Parser)]
#[command(name = "kubectl-stockfeed", bin_name = "kubectl stockfeed", version)]
pub struct Args {
    /// Which cluster and namespace.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster and namespace, as kubectl has it.
#[derive(Clone, Debug, Default, Group)]
pub struct Target {
    /// Namespace of the feed; by default that of the context
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// File with the kubeconfig; by default as kubectl finds it
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show all feeds, or one in detail
    Status {
        /// The feed; without it all of the namespace
        name: Option<String>,
        /// Feeds of all namespaces
        #[arg(short = 'A', long, conflicts_with = "name")]
        all_namespaces: bool,
        /// How to write it
        #[arg(short, long, default_value = "text")]
        output: Format,
    },
    /// Say why a feed is not Ready: the root cause first, then what follows from it, and what to do
    Explain {
        /// The feed
        name: String,
        /// How to write it
        #[arg(short, long, default_value = "text")]
        output: Format,
    },
    /// Stop polling; processors finish what is queued
    Suspend {
        /// The feed
        name: String,
    },
    /// Poll again
    Resume {
        /// The feed
        name: String,
    },
    /// Suspend a feed and wait until everything that was published is committed
    Drain {
        /// The feed
        name: String,
        /// How long to wait, as in 90s or 10m
        #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Replace the pods of a feed, without losing or doubling anything
    Restart {
        /// The feed
        name: String,
        /// Only the producer
        #[arg(long)]
        producer: bool,
        /// Only the processors
        #[arg(long)]
        processor: bool,
    },
    /// Leave a feed as it is: nothing is compared, healed or changed
    Pause {
        /// The feed
        name: String,
    },
    /// Look after a paused feed again
    Unpause {
        /// The feed
        name: String,
    },
    /// Show what a feed asks of its source, and what it may
    Quota {
        /// The feed
        name: String,
        /// How to write it
        #[arg(short, long, default_value = "text")]
        output: Format,
    },
    /// Look at what could not be used, try it again, or throw it away
    Quarantine {
        /// Which of it
        #[command(subcommand)]
        action: Quarantine,
    },
    /// Run psql as the feed's reader role, through a port-forward
    Psql {
        /// The feed
        name: String,
        /// As the writer role, which can change and delete what is stored; needs --yes as well
        #[arg(long, requires = "yes")]
        writer: bool,
        /// Yes, as the writer
        #[arg(long, requires = "writer")]
        yes: bool,
        /// Arguments of psql, as in `-- -c 'SELECT 1'`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Lead a local port to the dashboard and open the feed in a browser
    Dashboard {
        /// The feed
        name: String,
        /// Local port; by default a free one
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Only print the address
        #[arg(long)]
        no_open: bool,
    },
    /// Print what makes a shell complete these commands
    Completion {
        /// The shell
        shell: Shell,
    },
    /// What may come next, as kubectl asks
    #[command(name = "__complete", hide = true)]
    Complete {
        /// The words so far; the last one may be half a word
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// What to do with the quarantine.
#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// Show the newest entries
    List {
        /// The feed
        name: String,
        /// Only entries with this reason
        #[arg(long)]
        reason: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=10_000))]
        limit: i32,
        /// How to write it
        #[arg(short, long, default_value = "text")]
        output: Format,
    },
    /// Try entries again by the present rules
    Release {
        /// The feed
        name: String,
        /// Which entries
        #[command(flatten)]
        which: Entries,
    },
    /// Delete entries for good
    Discard {
        /// The feed
        name: String,
        /// Which entries
        #[command(flatten)]
        which: Entries,
        /// Yes, delete them
        #[arg(long, required = true)]
        yes: bool,
    },
}

/// Entries of the quarantine: those named, or all of a reason.
#[derive(Clone, Debug, Group)]
#[group(required = true, multiple = false)]
pub struct Entries {
    /// Ids of entries, as `list` shows them
    #[arg(value_name = "ID")]
    pub ids: Vec<i64>,
    /// All entries with this reason
    #[arg(long)]
    pub reason: Option<String>,
}

/// The workers that `restart` is about: those that are named, or both.
#[must_use]
pub fn restarted(producer: bool, processor: bool) -> Vec<Component> {
    let all = producer == processor;
    let asked = [(Component::Producer, producer), (Component::Processor, processor)];
    asked
        .into_iter()
        .filter(|(_, wanted)| all || *wanted)
        .map(|(component, _)| component)
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[rstest]
    #[case::writer_unasked(&["psql", "tech", "--writer"])]
    #[case::discard_unasked(&["quarantine", "discard", "tech", "1"])]
    #[case::release_of_nothing(&["quarantine", "release", "tech"])]
    #[case::release_of_both(&["quarantine", "release", "tech", "1", "--reason", "x"])]
    #[case::all_and_one(&["status", "tech", "-A"])]
    fn what_is_dangerous_or_unclear_is_refused(#[case] arguments: &[&str]) {
        let line = ["kubectl-stockfeed"].iter().chain(arguments);
        assert!(Args::try_parse_from(line).is_err());
    }

    #[rstest]
    #[case::namespace_first(&["-n", "markets", "status"])]
    #[case::namespace_last(&["status", "-n", "markets"])]
    fn flags_may_stand_before_and_after_the_command(#[case] arguments: &[&str]) {
        let line = ["kubectl-stockfeed"].iter().chain(arguments);
        let args = Args::try_parse_from(line).unwrap();
        assert_eq!(args.target.namespace.as_deref(), Some("markets"));
    }

    #[rstest]
    #[case::neither(false, false, &[Component::Producer, Component::Processor])]
    #[case::both(true, true, &[Component::Producer, Component::Processor])]
    #[case::producer(true, false, &[Component::Producer])]
    #[case::processor(false, true, &[Component::Processor])]
    fn restart_is_about_what_is_named_or_all(
        #[case] producer: bool,
        #[case] processor: bool,
        #[case] expected: &[Component],
    ) {
        assert_eq!(restarted(producer, processor), expected);
    }
}
