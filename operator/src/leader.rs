//! Of several operators one works at a time: the one that holds a Lease.
//!
//! ```text
//!  candidate ──the Lease is free, or ran out──► leader ──end of work──► gives the Lease back: the next takes over at once
//!                                                 │
//!                                                 └─not renewed in time, or taken─► the process ends with an error
//! ```
//!
//! `election` decides and is pure; `lease` asks and tells the API server; `fence` holds back the work of a leader that is
//! none any more, for example because its process was stopped for longer than the Lease lasts.
//! [ADR 12](../../docs/adr/0012-leader-election.md) says why it is made like this.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub mod election;
pub mod fence;
pub mod lease;
pub mod options;

pub use election::Terms;
pub use fence::{Leadership, NotLeading};
pub use lease::{Elector, Loss};

/// How long work that is under way may take to end after it was asked to. Less than the pod is given.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);

/// Waits for the Lease, works while it is held, and gives it back when the work has ended. Ends early when asked to.
///
/// # Errors
/// When the Lease was lost: then the process has to end, since others may work by now.
pub async fn lead<W>(
    mut elector: Elector,
    ending: &CancellationToken,
    work: impl FnOnce() -> W,
) -> Result<(), Loss>
where
    W: Future<Output = ()> + Send + 'static,
{
    if !elector.acquire(ending).await {
        return Ok(());
    }
    info!(identity = elector.identity(), "This operator leads");
    let mut working = tokio::spawn(work());
    let too_long = async {
        ending.cancelled().await;
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    tokio::select! {
        loss = elector.hold() => {
            working.abort();
            return Err(loss);
        }
        ended = &mut working => if let Err(error) = ended {
            warn!(error = %error, "The work ended badly");
        },
        () = too_long => {
            warn!("What is under way takes too long and is given up");
            working.abort();
        }
    }
    elector.release().await;
    Ok(())
}

#[cfg(test)]
mod tests;
