//! Compares what was published with what is stored, tick by tick: nothing may be lost, doubled or put out of order.
//!
//! What was published comes from a tap ([`Broker::tap`](crate::broker::Broker::tap)), a queue of the test's own that gets a copy of every
//! message; not from what the source may have said.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use contract::tick;
use rust_decimal::Decimal;

use crate::{broker::Tapped, database::Session, history::differences, say};

/// One observation, as it is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick {
    /// Since 1970.
    pub microseconds: i64,
    /// The price.
    pub price: Decimal,
    /// The day's running total.
    pub volume: Option<i64>,
}

/// A tick that was published, and what its message says of where it came from.
#[derive(Clone, Debug)]
pub struct Published {
    /// The run of the producer.
    pub publisher: String,
    /// The tick.
    pub tick: Tick,
}

/// What was published, by symbol, in its order.
///
/// # Errors
/// When a message cannot be read.
pub fn published(messages: &[Tapped]) -> Result<BTreeMap<String, Vec<Published>>> {
    let mut all: BTreeMap<String, Vec<Published>> = BTreeMap::new();
    for message in messages {
        let entries = tick::decode(message.payload.as_bytes()).map_err(|why| anyhow::anyhow!("{why:?}"))?;
        for entry in entries {
            let read = entry.map_err(|(why, _)| anyhow::anyhow!("{why:?}"))?;
            let tick = Tick {
                microseconds: read.event_time.as_microseconds(),
                price: read.price.value().normalize(),
                volume: read.volume,
            };
            let publisher = message.publisher().to_owned();
            all.entry(read.symbol.to_string())
                .or_default()
                .push(Published { publisher, tick });
        }
    }
    Ok(all)
}

/// A new run of the producer does not know what the one before published, and may begin with its last quote. Nothing else
/// may be published twice.
///
/// # Errors
/// When something else was.
pub fn only_last_quotes_are_repeated(published: &BTreeMap<String, Vec<Published>>) -> Result<()> {
    let mut repeated = 0;
    for (symbol, ticks) in published {
        let mut seen: BTreeMap<&Tick, usize> = BTreeMap::new();
        for (place, here) in ticks.iter().enumerate() {
            let Some(earlier) = seen.insert(&here.tick, place) else {
                continue;
            };
            let is_last_of_another_run = earlier + 1 == place && ticks[earlier].publisher != here.publisher;
            ensure!(is_last_of_another_run, "{symbol} was published twice: {here:?}");
            repeated += 1;
        }
    }
    say(format!(
        "{repeated} last quotes were published again by the next run of the producer"
    ));
    Ok(())
}

/// What is stored, by symbol, in the order in which it was.
///
/// # Errors
/// When the database does not answer.
pub async fn stored(reader: &mut Session) -> Result<BTreeMap<String, Vec<Tick>>> {
    let query = r#"SELECT symbol, (extract(epoch FROM "timestamp") * 1000000)::bigint, price, volume FROM stock_data ORDER BY id"#;
    let rows: Vec<(String, i64, Decimal, Option<i64>)> =
        sqlx::query_as(query).fetch_all(&mut **reader).await?;
    let mut all: BTreeMap<String, Vec<Tick>> = BTreeMap::new();
    for (symbol, microseconds, price, volume) in rows {
        let price = price.normalize();
        all.entry(symbol).or_default().push(Tick {
            microseconds,
            price,
            volume,
        });
    }
    Ok(all)
}

/// Every tick that was published is stored, as often as it was published, and in its order.
///
/// # Errors
/// When something is missing, too much or out of order, or fewer symbols than these were published.
pub fn compare(
    published: &BTreeMap<String, Vec<Published>>,
    stored: &BTreeMap<String, Vec<Tick>>,
    symbols: usize,
) -> Result<()> {
    ensure!(
        published.len() == symbols,
        "{} symbols were published",
        published.len()
    );
    let mut count = 0;
    for (symbol, ticks) in published {
        let expected: Vec<Tick> = ticks.iter().map(|one| one.tick.clone()).collect();
        let found = stored.get(symbol).map_or(&[][..], Vec::as_slice);
        let differing: Vec<_> = differences(&expected, found).into_iter().take(5).collect();
        ensure!(differing.is_empty(), "{symbol}:\n{}", differing.join("\n"));
        ensure!(
            expected == found,
            "{symbol} is stored in another order than published"
        );
        let in_order = found
            .windows(2)
            .all(|pair| pair[0].microseconds <= pair[1].microseconds);
        ensure!(in_order, "{symbol} is not stored in the order of its times");
        count += found.len();
    }
    ensure!(
        stored.len() == published.len(),
        "{} symbols are stored",
        stored.len()
    );
    say(format!(
        "all {count} published ticks of {symbols} symbols are stored once, in order"
    ));
    Ok(())
}
