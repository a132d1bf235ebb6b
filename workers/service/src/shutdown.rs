//! One cancellation token for the whole process.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second one ends the process at once, for a person at a
/// terminal who has waited long enough.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn token() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        for round in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if round == 0 {
                tracing::info!("Shutting down");
                cancelled.cancel();
            } else {
                tracing::warn!("Second signal: ending at once");
                std::process::exit(130);
            }
        }
    });
    Ok(token)
}
