//! From a delivery to what the engine takes, or to quarantine. Never a panic, never a silent drop: every message comes
//! out as ticks, a heartbeat, or quarantined entries.

use std::{collections::BTreeSet, time::Duration};

use contract::{
    event_time::EventTime,
    partition::partition_of,
    symbol::Symbol,
    tick::{self, RejectReason, Rejected, Tick, header},
};
use engine::{key::MessageIdentity, partition::Message};
use lapin::{
    protocol::basic::AMQPProperties,
    types::{AMQPValue, FieldTable},
};
use uuid::Uuid;

/// What belongs in a partition.
#[derive(Clone, Debug)]
pub struct Rules {
    symbols: BTreeSet<Symbol>,
    max_future: Duration,
    max_age: Option<Duration>,
}

impl Rules {
    /// The rules of one partition: the feed's symbols that hash to it.
    #[must_use]
    pub fn new(
        symbols: &[Symbol],
        partition: u16,
        partitions: u16,
        max_future: Duration,
        max_age: Option<Duration>,
    ) -> Self {
        let symbols = symbols
            .iter()
            .filter(|symbol| partition_of(symbol, partitions) == partition)
            .cloned()
            .collect();
        Self {
            symbols,
            max_future,
            max_age,
        }
    }

    /// The partition's symbols.
    #[must_use]
    pub const fn symbols(&self) -> &BTreeSet<Symbol> {
        &self.symbols
    }
}

/// An entry that cannot be used, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub why: Rejected,
    /// The whole body, or the one tick of it.
    pub raw: Vec<u8>,
}

/// A decoded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// For the engine. Its sequence counts even when nothing of the body could be used.
    pub message: Message,
    /// For quarantine.
    pub refused: Vec<Refused>,
    /// Size of the body.
    pub bytes: usize,
}

/// Decodes one message. `now` is the processor's time of day; only the rule about the far future needs it.
#[must_use]
pub fn decode(rules: &Rules, properties: &AMQPProperties, body: &[u8], now: EventTime) -> Decoded {
    let whole = |identity, why| Decoded {
        message: Message {
            identity,
            ticks: Vec::new(),
            heartbeat: None,
        },
        refused: vec![Refused {
            why,
            raw: body.to_vec(),
        }],
        bytes: body.len(),
    };
    let empty = FieldTable::default();
    let headers = properties.headers().as_ref().unwrap_or(&empty);
    let identity = match identity(headers) {
        Ok(identity) => identity,
        Err(why) => return whole(None, why),
    };
    let kind = properties.kind().as_ref().map(|kind| kind.as_str());
    if kind != Some(tick::MESSAGE_TYPE) {
        let detail = format!(
            "type is {:?}, not {}",
            kind.unwrap_or_default(),
            tick::MESSAGE_TYPE
        );
        return whole(identity, Rejected::new(RejectReason::UnknownType, detail));
    }
    let heartbeat =
        match heartbeat(headers).and_then(|time| time.map(|time| in_range(rules, time, now)).transpose()) {
            Ok(heartbeat) => heartbeat,
            Err(why) => return whole(identity, why),
        };
    let entries = match tick::decode(body) {
        Ok(entries) => entries,
        Err(why) => return whole(identity, why),
    };
    if entries.is_empty() && heartbeat.is_none() {
        let detail = "a body without ticks is a heartbeat, and needs header event_time";
        return whole(identity, Rejected::new(RejectReason::InvalidHeaders, detail));
    }
    let mut ticks = Vec::with_capacity(entries.len());
    let mut refused = Vec::new();
    for (place, entry) in (0..).zip(entries) {
        match entry.map_err(|(why, raw)| Refused {
            why,
            raw: raw.as_bytes().to_vec(),
        }) {
            Ok(tick) => match check(rules, &tick, now) {
                Ok(()) => ticks.push((place, tick)),
                Err(why) => refused.push(Refused {
                    why,
                    raw: tick::encode(std::slice::from_ref(&tick)),
                }),
            },
            Err(entry) => refused.push(entry),
        }
    }
    Decoded {
        message: Message {
            identity,
            ticks,
            heartbeat,
        },
        refused,
        bytes: body.len(),
    }
}

fn check(rules: &Rules, tick: &Tick, now: EventTime) -> Result<(), Rejected> {
    if !rules.symbols.contains(&tick.symbol) {
        let detail = format!("{} is not a symbol of this feed and partition", tick.symbol);
        return Err(Rejected::new(RejectReason::UnknownSymbol, detail));
    }
    in_range(rules, tick.event_time, now).map(drop)
}

fn in_range(rules: &Rules, time: EventTime, now: EventTime) -> Result<EventTime, Rejected> {
    if time > now.saturating_add(rules.max_future) {
        let detail = format!(
            "event_time {time} is more than {} s ahead",
            rules.max_future.as_secs()
        );
        return Err(Rejected::new(RejectReason::TimeOutOfRange, detail));
    }
    let oldest = rules
        .max_age
        .map_or(EventTime::EPOCH, |age| now.saturating_sub(age));
    if time < oldest.max(EventTime::EPOCH) {
        let detail = format!("event_time {time} is before {oldest}");
        return Err(Rejected::new(RejectReason::TimeOutOfRange, detail));
    }
    Ok(time)
}

/// Publisher and sequence: both or neither.
fn identity(headers: &FieldTable) -> Result<Option<MessageIdentity>, Rejected> {
    let invalid = |detail| Rejected::new(RejectReason::InvalidHeaders, detail);
    match (
        headers.inner().get(header::PUBLISHER),
        headers.inner().get(header::SEQUENCE),
    ) {
        (None, None) => Ok(None),
        (Some(publisher), Some(sequence)) => {
            let publisher = text(publisher).and_then(|text| Uuid::try_parse(text).ok());
            let publisher = publisher.ok_or_else(|| invalid("header publisher is not a UUID"))?;
            let sequence = number(sequence).filter(|sequence| (1..i64::MAX).contains(sequence));
            let sequence = sequence.ok_or_else(|| invalid("header sequence is not a number from 1"))?;
            Ok(Some(MessageIdentity {
                publisher: publisher.into_bytes(),
                sequence: sequence.cast_unsigned(),
            }))
        }
        _ => Err(invalid("headers publisher and sequence go together")),
    }
}

fn heartbeat(headers: &FieldTable) -> Result<Option<EventTime>, Rejected> {
    let Some(value) = headers.inner().get(header::EVENT_TIME) else {
        return Ok(None);
    };
    let time = text(value).and_then(|text| text.parse().ok());
    let invalid = || Rejected::new(RejectReason::InvalidHeaders, "header event_time is not a time");
    time.map(Some).ok_or_else(invalid)
}

fn text(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

fn number(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(number) => Some((*number).into()),
        AMQPValue::ShortShortUInt(number) => Some((*number).into()),
        AMQPValue::ShortInt(number) => Some((*number).into()),
        AMQPValue::ShortUInt(number) => Some((*number).into()),
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongUInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
