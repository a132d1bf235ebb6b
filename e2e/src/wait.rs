//! Waiting for something to become true.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::say;

/// How often to ask.
const INTERVAL: Duration = Duration::from_millis(250);
/// The longest that one question may take, so that a connection that hangs is asked anew.
const QUESTION: Duration = Duration::from_secs(20);

/// Asks until the answer is `Ok`. An error is a "not yet" that says why; the last one is the reason when time is up.
///
/// # Errors
/// When the answer is not `Ok` within that time.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut question: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = match tokio::time::timeout(QUESTION, question()).await {
            Ok(answer) => answer,
            Err(slow) => Err(slow).context("no answer"),
        };
        match answer {
            Ok(value) => {
                say(format!("{what} (after {:.1}s)", start.elapsed().as_secs_f64()));
                return Ok(value);
            }
            Err(error) if start.elapsed() >= within => {
                return Err(error.context(format!("not within {} s: {what}", within.as_secs())));
            }
            Err(_) => {}
        }
    }
}
