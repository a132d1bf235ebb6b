//! The time from publishing a message until its ticks can be read in the database.
//!
//! A connection of its own asks twice a millisecond which sequence is committed. A message counts as committed when the
//! first answer that includes it has arrived, so what is told is too long by up to one question and its answer, and never
//! too short. How far apart the answers were is told beside it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use contract::event_time::EventTime;
use serde::Serialize;
use sqlx::{Connection as _, PgConnection};

use super::drain;
use crate::{load::Messages, measure::statistics::Percentiles, publish::Publisher, stand::Stand};

/// Between an answer and the next question.
const POLL: Duration = Duration::from_micros(500);
/// The first messages find the processor claiming its partition and making the week's table.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long the last message may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One measured run.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Messages a second that were asked for; `None`: as many as the broker confirms.
    pub wanted_rate: Option<f64>,
    /// Messages a second that were committed, after the first second.
    pub rate: f64,
    /// Messages that were measured.
    pub messages: usize,
    /// From the header `published_at` until the commit was seen, in milliseconds.
    pub milliseconds: Percentiles,
    /// Between two answers to the question what is committed, in milliseconds: the most that a figure is too long by.
    pub error_milliseconds: Percentiles,
}

/// What was committed when.
#[derive(Clone, Copy, Debug)]
struct Answer {
    at: EventTime,
    committed: u64,
}

/// Publishes messages of one tick evenly for a while, and measures.
pub async fn run(stand: &Stand, rate: Option<f64>, duration: Duration) -> Result<Latency> {
    let feed = stand.feed(1).await?;
    let mut publisher = Publisher::connect(&feed).await?;
    let mut messages = Messages::new(service::clock::event_time(), 1, 1)?;
    stand.settle().await?;
    let processor = drain::processor(stand, &feed)?;
    let stop = Arc::new(AtomicBool::new(false));
    let poller = {
        let (options, stop) = (stand.options(&feed), Arc::clone(&stop));
        thread::spawn(move || poll(&options, &stop))
    };

    let mut published = Vec::new();
    let started = Instant::now();
    while started.elapsed() < duration {
        let due = due(started.elapsed(), rate).unwrap_or(published.len() + 1);
        let missing = due.saturating_sub(published.len()) as u64;
        for message in messages.batch(missing) {
            published.push(publisher.publish(&message).await?);
        }
        if let Some(rate) = rate {
            let next = Duration::from_secs_f64((1.0 / rate).max(0.000_2));
            tokio::task::block_in_place(|| thread::sleep(next));
        }
    }
    publisher.confirm_all().await?;
    wait_for(stand, &feed, published.len()).await?;
    stop.store(true, Ordering::Relaxed);
    let answers = poller
        .join()
        .map_err(|_| anyhow::anyhow!("the poller panicked"))??;
    processor.end().await?;
    publisher.close().await?;
    stand.remove(feed).await?;
    evaluate(rate, &published, &answers)
}

async fn wait_for(stand: &Stand, feed: &crate::stand::Feed, messages: usize) -> Result<()> {
    let mut connection = stand.connect(feed).await?;
    let waiting = async {
        while usize::try_from(committed(&mut connection).await?)? < messages {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // For the poller to see it too.
        tokio::time::sleep(Duration::from_millis(20)).await;
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .context("the last messages were not committed")?
}

fn poll(options: &sqlx::postgres::PgConnectOptions, stop: &AtomicBool) -> Result<Vec<Answer>> {
    // A runtime of its own: a sleep of tokio's is at least a millisecond, one of the thread's is not.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut connection = PgConnection::connect_with(options).await?;
        let mut answers = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let committed = committed(&mut connection).await?;
            let at = service::clock::event_time();
            answers.push(Answer { at, committed });
            thread::sleep(POLL);
        }
        Ok(answers)
    })
}

/// The highest sequence below which all are committed.
async fn committed(connection: &mut PgConnection) -> Result<u64> {
    let last: i64 = sqlx::query_scalar("SELECT coalesce(max(last[1]), 0) FROM publishers")
        .fetch_one(connection)
        .await?;
    Ok(last.cast_unsigned())
}

/// How many messages should have been published by now.
fn due(elapsed: Duration, rate: Option<f64>) -> Option<usize> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of messages is small and not negative"
    )]
    rate.map(|rate| (elapsed.as_secs_f64() * rate) as usize)
}

fn evaluate(wanted_rate: Option<f64>, published: &[EventTime], answers: &[Answer]) -> Result<Latency> {
    let begin = published
        .first()
        .context("nothing was published")?
        .saturating_add(WARM_UP);
    let end = *published.last().context("nothing was published")?;
    let measured: Vec<f64> = latencies(published, answers)
        .into_iter()
        .filter(|(at, _)| *at >= begin)
        .map(|(_, latency)| latency)
        .collect();
    let within: Vec<&Answer> = answers
        .iter()
        .filter(|answer| (begin..=end).contains(&answer.at))
        .collect();
    let (first, last) = within
        .first()
        .zip(within.last())
        .context("the run was too short to measure")?;
    let seconds = milliseconds(first.at, last.at) / 1e3;
    Ok(Latency {
        wanted_rate,
        rate: super::rate(last.committed - first.committed, seconds),
        messages: measured.len(),
        milliseconds: Percentiles::of(measured).context("no message was committed")?,
        error_milliseconds: Percentiles::of(
            within.windows(2).map(|pair| milliseconds(pair[0].at, pair[1].at)),
        )
        .context("the run was too short to measure")?,
    })
}

/// When each message was published, and how long it took. Sequence n is the n-th of `published`.
fn latencies(published: &[EventTime], answers: &[Answer]) -> Vec<(EventTime, f64)> {
    let mut latencies = Vec::with_capacity(published.len());
    for answer in answers {
        let known = latencies.len();
        let committed = usize::try_from(answer.committed)
            .unwrap_or(usize::MAX)
            .min(published.len());
        for at in published.get(known..committed).unwrap_or_default() {
            latencies.push((*at, milliseconds(*at, answer.at)));
        }
    }
    latencies
}

#[expect(
    clippy::cast_precision_loss,
    reason = "minutes in microseconds are far below 2^52"
)]
fn milliseconds(earlier: EventTime, later: EventTime) -> f64 {
    (later.as_microseconds() - earlier.as_microseconds()) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(microseconds: i64) -> EventTime {
        EventTime::from_microseconds(microseconds).unwrap()
    }

    #[test]
    fn a_message_is_committed_with_the_first_answer_that_includes_it() {
        let published = [at(0), at(1_000), at(2_000)];
        let answer = |microseconds, committed| Answer {
            at: at(microseconds),
            committed,
        };
        let answers = [
            answer(500, 0),
            answer(5_000, 2),
            answer(5_500, 2),
            answer(7_000, 3),
        ];
        let found: Vec<f64> = latencies(&published, &answers)
            .into_iter()
            .map(|(_, latency)| latency)
            .collect();
        assert_eq!(found, [5.0, 4.0, 5.0]);
    }

    #[test]
    fn messages_are_due_evenly() {
        assert_eq!(due(Duration::from_millis(250), Some(1_000.0)), Some(250));
        assert_eq!(due(Duration::from_millis(250), None), None);
    }
}
