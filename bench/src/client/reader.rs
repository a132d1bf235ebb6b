//! The broker's limit: deliveries are taken and acknowledged, in the same batches as the processor's.

use anyhow::Result;
use lapin::{Connection, options::BasicAckOptions};

use super::{Done, Meter, Queues, consume, receive};

pub(super) async fn run(queues: &Queues) -> Result<Done> {
    let connection = queues.places.broker().await?;
    let meter = Meter::new(queues.ticks);
    let tasks = queues
        .queues
        .iter()
        .map(|queue| read(&connection, queue, queues, &meter));
    meter.run(tasks).await
}

async fn read(connection: &Connection, queue: &str, queues: &Queues, meter: &Meter) -> Result<()> {
    let (channel, mut consumer) = consume(connection, queue).await?;
    let mut batch = Vec::new();
    loop {
        batch.clear();
        receive(&mut consumer, &mut batch).await?;
        if let Some(last) = batch.last() {
            let multiple = BasicAckOptions { multiple: true };
            channel.basic_ack(last.delivery_tag, multiple).await?;
            meter.add(batch.len() as u64 * queues.ticks_per_message);
        }
    }
}
