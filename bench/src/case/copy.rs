//! COPY alone into the feed's own table: the most that the database takes.

use anyhow::Result;

use super::{Cost, Run, Worker, rate};
use crate::{child::ClientProcess, copy::Format, load::Ticks, stand::Stand};

/// Copies ticks, so many rows at once, over so many connections, into an empty table.
pub async fn run(stand: &Stand, format: Format, ticks: u64, rows: usize, connections: u16) -> Result<Run> {
    let feed = stand.feed(1).await?;
    let mut admin = stand.connect(&feed).await?;
    // The processor makes the week's table before its first commit; here nothing else would.
    let base = Ticks::new(service::clock::event_time()).base().as_microseconds();
    sqlx::query("SELECT ensure_stock_data_partition(timestamptz 'epoch' + $1 * interval '1 microsecond')")
        .bind(base)
        .execute(&mut admin)
        .await?;
    let arguments = [
        format!("--ticks={ticks}"),
        format!("--rows={rows}"),
        format!("--connections={connections}"),
        format!(
            "--format={}",
            if format == Format::Text { "text" } else { "binary" }
        ),
    ];
    let mut client = ClientProcess::start("copy", &feed, &arguments).await?;
    stand.settle().await?;
    let (before, prepared) = (stand.server_time()?, client.running.seconds()?);
    let done = client.work().await?;
    let cpu = Cost::new(
        client.running.seconds()? - prepared,
        before,
        stand.server_time()?,
        ticks,
    );
    let run = Run {
        worker: Worker::Copy(format),
        partitions: connections,
        ticks_per_message: rows,
        ticks,
        ticks_per_second: rate(done.ticks, done.seconds),
        cpu,
        peak_rss_mib: crate::measure::process::peak_memory(client.running.pid)?,
    };
    client.running.end().await?;
    stand.remove(feed).await?;
    Ok(run)
}
