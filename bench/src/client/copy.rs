//! The database's limit: rows that are encoded beforehand, one COPY and one commit a batch.

use anyhow::Result;
use contract::event_time::EventTime;
use sqlx::PgConnection;

use super::{Copy, Done};
use crate::{copy::Format, load::Ticks};

/// Connections, and what each sends.
#[derive(Debug)]
pub(super) struct Prepared {
    format: Format,
    rows: u64,
    work: Vec<(PgConnection, Vec<Vec<u8>>)>,
}

pub(super) async fn prepare(copy: &Copy) -> Result<Prepared> {
    let mut work = Vec::new();
    for _ in 0..copy.connections {
        work.push((copy.places.database().await?, Vec::new()));
    }
    let now: EventTime = service::clock::event_time();
    let mut ticks = Ticks::new(now);
    let mut left = copy.ticks;
    for number in 0.. {
        let rows = left.min(copy.rows as u64);
        if rows == 0 {
            break;
        }
        left -= rows;
        let batch = ticks.by_ref().take(usize::try_from(rows)?);
        work[number % copy.connections].1.push(copy.format.encode(batch));
    }
    Ok(Prepared {
        format: copy.format,
        rows: copy.ticks,
        work,
    })
}

pub(super) async fn run(Prepared { format, rows, work }: Prepared) -> Result<Done> {
    let started = std::time::Instant::now();
    let tasks: Vec<_> = work
        .into_iter()
        .map(|(connection, batches)| tokio::spawn(send(connection, batches, format)))
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(Done {
        ticks: rows,
        seconds: started.elapsed().as_secs_f64(),
    })
}

async fn send(mut connection: PgConnection, batches: Vec<Vec<u8>>, format: Format) -> Result<()> {
    let statement = format.statement();
    for batch in batches {
        // One COPY outside of a transaction is one: BEGIN and COMMIT would only be two more round trips.
        let mut copy = connection.copy_in_raw(&statement).await?;
        copy.send(batch).await?;
        copy.finish().await?;
    }
    Ok(())
}
