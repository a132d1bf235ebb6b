//! `kubectl stockfeed`: what a person does with a feed, each in a command.
//!
//! `args` is the command line, `cluster` speaks with the API server. What is said of a feed follows from the object alone:
//! `status`, `explain`, `remedy`, `pods` and `quota` are pure. `lifecycle` changes a feed. `psql`, `quarantine` and
//! `dashboard` go through a port-forward (`forward`), to where `route` finds the server. `complete` answers kubectl's own completion.

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::{CommandFactory as _, Parser as _};
use kube::ResourceExt;

use crate::{
    args::{Args, Command, Format, Quarantine, Target},
    cluster::Cluster,
};

mod args;
mod cluster;
mod complete;
mod credentials;
mod dashboard;
mod explain;
mod forward;
mod lifecycle;
mod pods;
mod psql;
mod quarantine;
mod quota;
mod remedy;
mod route;
mod status;
mod text;

/// Who presses Tab does not wait for longer.
const COMPLETED_WITHIN: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<ExitCode> {
    if let Command::Completion { shell } = args.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "kubectl-stockfeed", &mut script);
        print(&script)?;
        return Ok(ExitCode::SUCCESS);
    }
    // One provider for everything that speaks TLS, chosen before anything does.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        bail!("another TLS provider was installed first");
    }
    if let Command::Complete { words } = &args.command {
        let text = next_words(args.target.clone(), words).await;
        print(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let cluster = Cluster::connect(&args.target).await?;
    let answer = match args.command {
        Command::Psql {
            name,
            writer,
            arguments,
            ..
        } => return psql::run(&cluster, &name, writer, &arguments).await,
        Command::Dashboard { name, port, no_open } => {
            dashboard::run(&cluster, &name, port, !no_open).await?;
            String::new()
        }
        command => answer(&cluster, command).await?,
    };
    print(answer.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Commands that end with a text.
async fn answer(cluster: &Cluster, command: Command) -> Result<String> {
    let now = operator::clock::now();
    match command {
        Command::Status {
            name: Some(name),
            output,
            ..
        } => {
            let feed = cluster.feed(&name).await?;
            match output {
                Format::Text => Ok(status::detail(&feed, now)),
                Format::Json => text::json(&status::Summary::of(&feed)),
            }
        }
        Command::Status {
            all_namespaces,
            output,
            ..
        } => {
            let feeds = cluster.feeds(all_namespaces).await?;
            match output {
                Format::Text if feeds.is_empty() => Ok(cluster.no_feeds(all_namespaces)),
                Format::Text => Ok(status::table(&feeds, all_namespaces, now)),
                Format::Json => text::json(&feeds.iter().map(status::Summary::of).collect::<Vec<_>>()),
            }
        }
        Command::Explain { name, output } => {
            let feed = cluster.feed(&name).await?;
            let mut explanation = explain::explain(&feed);
            pods::look(cluster, &feed, &mut explanation).await;
            match output {
                Format::Text => Ok(explain::render(&explanation, now)),
                Format::Json => text::json(&explanation),
            }
        }
        Command::Suspend { name } => lifecycle::suspend(cluster, &name, true).await,
        Command::Resume { name } => lifecycle::suspend(cluster, &name, false).await,
        Command::Drain { name, timeout } => lifecycle::drain(cluster, &name, timeout).await,
        Command::Restart {
            name,
            producer,
            processor,
        } => lifecycle::restart(cluster, &name, &args::restarted(producer, processor), now).await,
        Command::Pause { name } => lifecycle::pause(cluster, &name, true).await,
        Command::Unpause { name } => lifecycle::pause(cluster, &name, false).await,
        Command::Quota { name, output } => {
            let feed = cluster.feed(&name).await?;
            match output {
                Format::Text => Ok(quota::describe(&feed, now)),
                Format::Json => text::json(&feed.status.unwrap_or_default().quota),
            }
        }
        Command::Quarantine { action } => match action {
            Quarantine::List {
                name,
                reason,
                limit,
                output,
            } => {
                let entries = quarantine::list(cluster, &name, reason.as_deref(), limit).await?;
                match output {
                    Format::Text => Ok(quarantine::table(&name, &entries, now)),
                    Format::Json => text::json(&entries),
                }
            }
            Quarantine::Release { name, which } => quarantine::release(cluster, &name, &which).await,
            Quarantine::Discard { name, which, .. } => quarantine::discard(cluster, &name, &which).await,
        },
        // They have no text, and were taken before.
        Command::Psql { .. }
        | Command::Dashboard { .. }
        | Command::Completion { .. }
        | Command::Complete { .. } => Ok(String::new()),
    }
}

/// Candidates for the next word, one a line. A cluster that does not answer at once has no names to offer.
async fn next_words(target: Target, line: &[String]) -> String {
    let mut root = Args::command();
    root.build();
    let mut candidates = complete::candidates(&root, line);
    if candidates.feeds {
        let target = Target {
            namespace: candidates.namespace.take().or(target.namespace),
            ..target
        };
        let names = tokio::time::timeout(COMPLETED_WITHIN, async {
            Cluster::connect(&target).await?.feeds(false).await
        });
        let last = line.last().map(String::as_str).unwrap_or_default();
        let feeds = names.await.ok().and_then(Result::ok).unwrap_or_default();
        let names = feeds.iter().map(ResourceExt::name_any);
        candidates
            .words
            .extend(names.filter(|name| name.starts_with(last)));
    }
    let words: String = candidates.words.iter().map(|word| format!("{word}\n")).collect();
    words + complete::NO_FILES
}

/// Writes to standard output. Who reads it may stop at any time, as `head` does.
fn print(text: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
