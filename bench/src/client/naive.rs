//! What one writes in an afternoon: receive, decode, copy, commit, acknowledge, from the beginning again. At least once, and
//! nothing but ticks: no candles, no watermark, no check of anything.

use std::fmt::Write as _;

use anyhow::Result;
use lapin::{Connection, options::BasicAckOptions};
use serde::Deserialize;
use sqlx::{Connection as _, PgConnection};

use super::{Done, Meter, Queues, consume, receive};
use crate::copy::Format;

#[derive(Deserialize)]
struct Tick {
    symbol: String,
    price: String,
    event_time: String,
    volume: i64,
    exchange: String,
}

pub(super) async fn run(queues: &Queues) -> Result<Done> {
    let connection = queues.places.broker().await?;
    let meter = Meter::new(queues.ticks);
    let tasks = queues
        .queues
        .iter()
        .map(|queue| process(&connection, queue, queues, &meter));
    meter.run(tasks).await
}

async fn process(connection: &Connection, queue: &str, queues: &Queues, meter: &Meter) -> Result<()> {
    let mut database = queues.places.database().await?;
    let (channel, mut consumer) = consume(connection, queue).await?;
    let mut batch = Vec::new();
    loop {
        batch.clear();
        receive(&mut consumer, &mut batch).await?;
        let mut ticks: Vec<Tick> = Vec::new();
        for delivery in &batch {
            ticks.append(&mut serde_json::from_slice(&delivery.data)?);
        }
        write(&mut database, &ticks).await?;
        if let Some(last) = batch.last() {
            let multiple = BasicAckOptions { multiple: true };
            channel.basic_ack(last.delivery_tag, multiple).await?;
        }
        meter.add(ticks.len() as u64);
    }
}

async fn write(database: &mut PgConnection, ticks: &[Tick]) -> Result<()> {
    let mut text = String::new();
    for tick in ticks {
        let Tick {
            symbol,
            price,
            event_time,
            volume,
            exchange,
        } = tick;
        writeln!(
            text,
            "{symbol}\t{price}\t\\N\t\\N\t{volume}\t\\N\t\\N\t\\N\t\\N\t\\N\t{exchange}\t\\N\t{event_time}"
        )?;
    }
    let mut transaction = database.begin().await?;
    let mut copy = transaction.copy_in_raw(&Format::Text.statement()).await?;
    copy.send(text.as_bytes()).await?;
    copy.finish().await?;
    Ok(transaction.commit().await?)
}
