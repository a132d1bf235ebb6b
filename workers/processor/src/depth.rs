//! How many messages wait in the queues that this replica owns: asked of the broker, and only while somebody wants to know.

use std::time::Duration;

use lapin::{Connection, options::QueueDeclareOptions, types::FieldTable};
use tracing::debug;

use crate::{board::Queue, consumer::Context};

/// How often the broker is asked.
const PERIOD: Duration = Duration::from_secs(5);
/// How often is looked whether somebody wants to know.
const LOOK: Duration = Duration::from_millis(500);

/// Keeps the board's figures of queues fresh, until it is dropped.
pub async fn watch(context: &Context, connection: &Connection) {
    loop {
        let wait = match context.board.wants_depths() {
            false => LOOK,
            true => {
                // A queue that is gone closes the channel: the next look has another one.
                if let Err(error) = look(context, connection).await {
                    debug!(%error, "The broker does not tell of a queue");
                }
                PERIOD
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn look(context: &Context, connection: &Connection) -> Result<(), lapin::Error> {
    let channel = connection.create_channel().await?;
    // Passive: nothing is declared, it is only looked at.
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    for id in context.board.owned() {
        let name = context.config.feed.queue(id.generation, id.partition);
        let found = channel
            .queue_declare(name.as_str().into(), passive, FieldTable::default())
            .await?;
        let queue = Queue {
            ready: found.message_count(),
            consumers: found.consumer_count(),
            at: service::clock::event_time(),
        };
        context.board.queue(id, queue);
    }
    channel.close(200, "done".into()).await
}
