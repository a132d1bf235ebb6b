//! Many messages, fast.

use std::fmt::Write as _;

use anyhow::Result;
use contract::{
    config::QueueGeneration, event_time::EventTime, partition::partition_of, symbol::Symbol, tick,
};
use futures::future::join_all;
use uuid::Uuid;

use crate::live::{
    feed::Feed,
    outbox::{Letter, Outbox},
};

/// 2025-03-03T14:30:00Z, in microseconds.
const BEGIN: i64 = 1_741_012_200_000_000;
/// From one tick of a symbol to the next, in microseconds.
const STEP: i64 = 1_000;
/// Bytes that are published before their confirmations are waited for.
const WINDOW: usize = 2 << 20;

/// What is published.
pub struct Load {
    small: usize,
    medium: usize,
    huge: usize,
}

impl Load {
    /// Messages of one tick, about 120 bytes.
    pub const fn small(messages: usize) -> Self {
        Self {
            small: messages,
            medium: 0,
            huge: 0,
        }
    }

    /// Messages of about 20 KB, and after each so many of them one of 1 MiB.
    pub const fn large(medium: usize, huge: usize) -> Self {
        Self {
            small: 0,
            medium,
            huge,
        }
    }

    pub const fn messages(&self) -> usize {
        self.small + self.medium + self.huge
    }

    /// Publishes everything, each partition by a publisher of its own at once. Returns the number of ticks.
    pub async fn publish(&self, feed: &Feed, queues: QueueGeneration, symbols: &[&str]) -> Result<i64> {
        let publishers = (0..queues.partitions).zip(symbols).map(|(partition, symbol)| {
            let outbox = Outbox::new(feed.name.clone(), feed.broker_directory().to_owned());
            let key = format!("{}-{partition}.{symbol}", queues.generation);
            let stream = Stream {
                symbol: (*symbol).to_owned(),
                key,
                publisher: Uuid::now_v7(),
                sequence: 0,
                ticks: 0,
            };
            let bytes = self.bodies(usize::from(queues.partitions), usize::from(partition));
            tokio::spawn(stream.publish(outbox, bytes))
        });
        let mut ticks = 0;
        for published in join_all(publishers).await {
            ticks += published?;
        }
        Ok(ticks)
    }

    /// The sizes of a partition's bodies: its share of each kind, the huge ones among the medium ones.
    fn bodies(&self, partitions: usize, partition: usize) -> Vec<usize> {
        let share = |all: usize| all / partitions + usize::from(partition < all % partitions);
        let mut bodies = vec![100; share(self.small)];
        bodies.resize(bodies.len() + share(self.medium), 20_000);
        let huge = share(self.huge);
        for number in 0..huge {
            let place = bodies.len() * number / huge;
            bodies.insert(place, (1 << 20) - 300);
        }
        bodies
    }
}

struct Stream {
    symbol: String,
    key: String,
    publisher: Uuid,
    sequence: u64,
    ticks: i64,
}

impl Stream {
    async fn publish(mut self, mut outbox: Outbox, bodies: Vec<usize>) -> i64 {
        let mut bodies = bodies.into_iter().peekable();
        while bodies.peek().is_some() {
            let (mut letters, mut bytes) = (Vec::new(), 0);
            while bytes < WINDOW
                && let Some(size) = bodies.next()
            {
                letters.push(self.letter(size));
                // What a message costs beside its body.
                bytes += size + 400;
            }
            outbox.send(&letters).await;
        }
        self.ticks
    }

    /// A message whose body is at least so long.
    fn letter(&mut self, size: usize) -> Letter {
        let mut body = String::with_capacity(size + 400);
        body.push('[');
        while body.len() < size {
            self.tick(&mut body, size > 1_000);
        }
        body.pop();
        body.push(']');
        self.sequence += 1;
        Letter {
            routing_key: self.key.clone(),
            kind: tick::MESSAGE_TYPE,
            publisher: self.publisher,
            sequence: self.sequence,
            heartbeat: None,
            body: body.into_bytes(),
        }
    }

    fn tick(&mut self, body: &mut String, detailed: bool) {
        let time = EventTime::from_microseconds(BEGIN + self.ticks * STEP).unwrap_or(EventTime::EPOCH);
        let (symbol, cents) = (&self.symbol, 22_000 + self.ticks % 1_000);
        let (whole, cents) = (cents / 100, cents % 100);
        let volume = self.ticks;
        // Writing to a String cannot fail.
        let _infallible = write!(
            body,
            r#"{{"symbol":"{symbol}","price":"{whole}.{cents:02}","event_time":"{time}","volume":{volume}"#
        );
        if detailed {
            body.push_str(
                r#","market_cap":"3500823120000","open":"227.2","day_high":"233.13","exchange":"NASDAQ","name":"Apple Inc.""#,
            );
        } else {
            body.push_str(r#","exchange":"NASDAQ""#);
        }
        body.push_str("},");
        self.ticks += 1;
    }
}

/// A symbol for each partition, in their order.
pub fn symbols(partitions: u16) -> Vec<String> {
    let of = |text: &str| {
        text.parse::<Symbol>()
            .ok()
            .map(|symbol| partition_of(&symbol, partitions))
    };
    (0..partitions)
        .filter_map(|partition| {
            let mut names = (0..).map(|number| format!("S{number}"));
            names.find(|name| of(name) == Some(partition))
        })
        .collect()
}
