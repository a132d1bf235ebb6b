//! Commits the batches of one partition: until it is known to be done, or the partition is lost.

use std::time::{Duration, Instant};

use contract::event_time::EventTime;
use engine::{key::MessageIdentity, partition::PartitionState};
use snafu::{ResultExt as _, Snafu};
use tracing::{Instrument as _, field::Empty, info, trace_span, warn};
use uuid::Uuid;

use crate::{
    activity::Activity,
    batch::{Batch, Change},
    board::{self, Checkpoint},
    consumer::Context,
    store::{self, PartitionId, Released, Store},
};

/// Waits after a failed commit: doubled each time, up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a drain may wait for a database that does not answer.
const DRAIN: Duration = Duration::from_secs(20);

/// Why a batch is not committed.
#[derive(Debug, Snafu)]
pub enum Error {
    /// The partition is lost.
    #[snafu(display("the partition was lost"))]
    Lost {
        /// To whom.
        source: store::Error,
    },
    /// The database cannot be used, and what was asked of it can wait.
    #[snafu(display("the database could not be asked"))]
    Ask {
        /// Why.
        source: store::Error,
    },
    /// Shutdown came while a batch could not be committed. The broker delivers it to somebody else.
    #[snafu(display("gave up waiting for the database, because of shutdown"))]
    Interrupted,
}

/// The database's side of a partition, and what is told of it.
#[derive(Debug)]
pub struct Committer<'a> {
    context: &'a Context,
    id: PartitionId,
    store: Store,
    activity: Activity,
    /// Since when sequences are missing.
    holes_since: Option<Instant>,
}

impl<'a> Committer<'a> {
    /// Of one partition.
    #[must_use]
    pub const fn new(context: &'a Context, id: PartitionId, store: Store, activity: Activity) -> Self {
        Self {
            context,
            id,
            store,
            activity,
            holes_since: None,
        }
    }

    /// Takes the partition over, however many attempts that takes.
    ///
    /// # Errors
    /// When shutdown comes first.
    pub async fn claim(&mut self) -> Result<PartitionState, Error> {
        let mut pause = RETRY.0;
        loop {
            match self.store.claim().await {
                Ok(state) => {
                    let watermark = state.watermark().map(tracing::field::display);
                    info!(partition = %board::label(self.id), watermark, "Claimed a partition");
                    self.holes_since = state.has_open_holes().then(Instant::now);
                    self.context.board.database(true);
                    let (board, version) = (&self.context.board, self.store.version());
                    let now = service::clock::event_time();
                    board.claimed(self.id, &state, version, now, self.activity.clone());
                    return Ok(state);
                }
                Err(error) => {
                    self.failed(error)?;
                    self.pause(&mut pause).await?;
                }
            }
        }
    }

    /// Takes a partition over that was this one's once, and another's meanwhile.
    ///
    /// # Errors
    /// When shutdown comes first.
    pub async fn claim_again(&mut self) -> Result<PartitionState, Error> {
        self.store.renew().await;
        self.claim().await
    }

    /// Whether the partition is still this one's, however many attempts that takes to find out.
    ///
    /// # Errors
    /// When shutdown comes first.
    pub async fn owns(&mut self) -> Result<bool, Error> {
        let mut pause = RETRY.0;
        loop {
            match self.store.owns().await {
                Ok(owns) => return Ok(owns),
                Err(error) => {
                    self.failed(error)?;
                    self.pause(&mut pause).await?;
                }
            }
        }
    }

    /// Commits a change, however many attempts that takes. Returns the buffer of its rows, empty, for the next one.
    ///
    /// # Errors
    /// When the partition is lost, or shutdown has waited long enough.
    pub async fn commit(&mut self, change: Change) -> Result<Vec<u8>, Error> {
        let batch = &change.batch;
        let span = trace_span!(
            target: traces::TARGET, "commit",
            partition = %board::label(self.id), messages = batch.messages, bytes = batch.bytes, version = Empty,
        );
        traces::link(&span, &batch.origins);
        let rows = self.write(change).instrument(span.clone()).await?;
        span.record("version", self.store.version());
        Ok(rows)
    }

    async fn write(&mut self, change: Change) -> Result<Vec<u8>, Error> {
        let started = Instant::now();
        let mut pause = RETRY.0;
        while let Err(error) = self.store.commit(&change).await {
            self.failed(error)?;
            let settled = loop {
                self.pause(&mut pause).await?;
                match self.store.settle().await {
                    Ok(settled) => break settled,
                    Err(error) => self.failed(error)?,
                }
            };
            if settled {
                break;
            }
        }
        self.committed(&change, started.elapsed());
        let mut rows = change.batch.rows;
        rows.clear();
        Ok(rows)
    }

    /// Says to the next owner that this one ends.
    ///
    /// # Errors
    /// When the partition is lost, or the database cannot be asked.
    pub async fn announce_drain(&mut self) -> Result<(), Error> {
        self.store.announce_drain().await.context(AskSnafu)
    }

    /// Lets the partition go.
    ///
    /// # Errors
    /// When the partition is lost, or the database cannot be asked: the next owner waits for a while then.
    pub async fn release(&mut self) -> Result<(), Error> {
        self.store.release().await.context(AskSnafu)
    }

    /// Rows of quarantine that somebody released.
    ///
    /// # Errors
    /// When the partition is lost. A database that cannot be asked now is asked later.
    pub async fn released(&mut self) -> Result<Vec<Released>, Error> {
        match self.store.released().await {
            Ok(released) => Ok(released),
            Err(error) => self.failed(error).map(|()| Vec::new()),
        }
    }

    /// Messages of these publishers that the broker gave up on.
    ///
    /// # Errors
    /// When the partition is lost, or shutdown comes first.
    pub async fn given_up_by_broker(
        &mut self,
        publishers: Vec<[u8; 16]>,
    ) -> Result<Vec<MessageIdentity>, Error> {
        let mut pause = RETRY.0;
        loop {
            match self.store.given_up_by_broker(publishers.clone()).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    self.failed(error)?;
                    self.pause(&mut pause).await?;
                }
            }
        }
    }

    /// When sequences have been missing for too long, if some are missing.
    #[must_use]
    pub fn holes_due(&self) -> Option<Instant> {
        self.holes_since
            .map(|since| since + self.context.config.gap_timeout)
    }

    /// Closes the database's connection.
    pub async fn close(&mut self) {
        self.store.close().await;
    }

    /// Tells what was committed.
    fn committed(&mut self, change: &Change, duration: Duration) {
        let Context { board, metrics, .. } = self.context;
        let Change {
            batch,
            waits_for_missing,
            ..
        } = change;
        let now = service::clock::event_time();
        metrics.committed(batch, duration);
        for time in &batch.published {
            metrics
                .latency_from_publish
                .observe(seconds_between(*time, now).max(0.0));
        }
        for time in &batch.happened {
            metrics
                .latency_from_event
                .observe(seconds_between(*time, now).max(0.0));
        }
        for gap in &batch.gaps {
            let publisher = Uuid::from_bytes(gap.publisher);
            warn!(partition = %board::label(self.id), %publisher, first = gap.first, last = gap.last, "Messages are missing");
        }
        self.holes_since = waits_for_missing.then(|| self.holes_since.unwrap_or_else(Instant::now));
        let Batch {
            effects,
            bytes,
            refused,
            ..
        } = batch;
        let duration_milliseconds = duration.as_secs_f64() * 1_000.0;
        let checkpoint = Checkpoint {
            id: self.store.version(),
            partition: board::label(self.id),
            completed_at: now,
            duration_milliseconds,
            messages: effects.messages,
            duplicates: effects.duplicates,
            ticks: effects.ticks,
            candles: effects.candles.len(),
            late: effects.late.len(),
            quarantined: refused.len(),
            bytes: *bytes,
        };
        board.committed(self.id, change, checkpoint);
    }

    /// Notes an error; a lost partition is final, everything else is tried again.
    fn failed(&self, error: store::Error) -> Result<(), Error> {
        let Context { board, metrics, .. } = self.context;
        let scope = format!("partition {}", board::label(self.id));
        board.error(service::clock::event_time(), scope, &error);
        if matches!(error, store::Error::Fenced { .. }) {
            metrics.fenced.inc();
            return Err(error).context(LostSnafu);
        }
        metrics.commit_errors.inc();
        board.database(false);
        let chain = board::chain(&error).collect::<Vec<_>>().join(": ");
        warn!(partition = %board::label(self.id), error = chain, "The database cannot be used; trying again");
        Ok(())
    }

    async fn pause(&self, pause: &mut Duration) -> Result<(), Error> {
        let shutdown = async {
            self.context.shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            () = tokio::time::sleep(*pause) => {}
            () = shutdown => return InterruptedSnafu.fail(),
        }
        *pause = (*pause * 2).min(RETRY.1);
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric in seconds does not need every microsecond of a millennium"
)]
pub(crate) fn seconds_between(earlier: EventTime, later: EventTime) -> f64 {
    (later.as_microseconds() - earlier.as_microseconds()) as f64 / 1e6
}
