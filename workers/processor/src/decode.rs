//! From a delivery to ticks, or to quarantine. Never a panic, never a silent drop: every message comes out as ticks, a
//! heartbeat, or quarantined entries.

use std::{collections::HashMap, time::Duration};

use contract::{
    event_time::EventTime,
    partition::partition_of,
    symbol::Symbol,
    tick::{self, RejectReason, Rejected, TickRef, header},
};
use engine::{key::MessageIdentity, partition::SymbolId};
use lapin::{
    protocol::basic::AMQPProperties,
    types::{AMQPValue, FieldTable},
};
use traces::Place;
use uuid::Uuid;

/// What belongs in a partition.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The feed's symbols in the order of their names: a symbol's id is its place.
    symbols: Vec<Symbol>,
    ids: HashMap<Symbol, SymbolId>,
    /// By id: whether the symbol hashes to this partition.
    ours: Vec<bool>,
    max_future: Duration,
    max_age: Option<Duration>,
}

/// Which symbols a message may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those that hash to the partition.
    Partition,
    /// All of the feed's.
    Feed,
}

/// An entry that cannot be used, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub why: Rejected,
    /// The whole body, or the one tick of it.
    pub raw: Vec<u8>,
}

/// What a message's properties say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Its publisher and sequence. They count even when nothing else of the message can be used.
    pub identity: Option<MessageIdentity>,
    /// A heartbeat's promise.
    pub heartbeat: Option<EventTime>,
    /// When it was sent first. A publisher that says something else than a time says nothing.
    pub published_at: Option<EventTime>,
    /// Why the message is refused as a whole.
    pub refused: Option<Rejected>,
}

/// The entries of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Good ticks with their places in the body.
    pub ticks: Vec<(u32, SymbolId, TickRef<'a>)>,
    /// For quarantine.
    pub refused: Vec<Refused>,
    /// Whether the message is refused as a whole: then its promise is worth nothing either.
    pub whole: bool,
}

impl Rules {
    /// The rules of one partition.
    #[must_use]
    pub fn new(
        symbols: &[Symbol],
        partition: u16,
        partitions: u16,
        max_future: Duration,
        max_age: Option<Duration>,
    ) -> Self {
        let mut symbols = symbols.to_vec();
        symbols.sort_unstable();
        let ours = symbols
            .iter()
            .map(|symbol| partition_of(symbol, partitions) == partition)
            .collect();
        let ids = (0..).map(SymbolId).zip(&symbols);
        Self {
            ids: ids.map(|(id, symbol)| (symbol.clone(), id)).collect(),
            symbols,
            ours,
            max_future,
            max_age,
        }
    }

    /// The feed's symbols by id.
    #[must_use]
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// The symbols that hash to the partition.
    pub fn ours(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols
            .iter()
            .zip(&self.ours)
            .filter_map(|(symbol, ours)| ours.then_some(symbol))
    }

    fn check(&self, scope: Scope, tick: &TickRef<'_>, now: EventTime) -> Result<SymbolId, Rejected> {
        let id = self.ids.get(tick.symbol.as_ref()).copied();
        let id = id.filter(|id| scope == Scope::Feed || self.ours[usize::from(id.0)]);
        let id = id.ok_or_else(|| {
            let detail = format!("{} is not a symbol of this feed and partition", tick.symbol);
            Rejected::new(RejectReason::UnknownSymbol, detail)
        })?;
        self.in_range(tick.event_time, now)?;
        Ok(id)
    }

    fn in_range(&self, time: EventTime, now: EventTime) -> Result<(), Rejected> {
        let refused = |detail| Err(Rejected::new(RejectReason::TimeOutOfRange, detail));
        if time > now.saturating_add(self.max_future) {
            let seconds = self.max_future.as_secs();
            return refused(format!("event_time {time} is more than {seconds} s ahead"));
        }
        let oldest = self
            .max_age
            .map_or(EventTime::EPOCH, |age| now.saturating_sub(age))
            .max(EventTime::EPOCH);
        if time < oldest {
            return refused(format!("event_time {time} is before {oldest}"));
        }
        Ok(())
    }
}

/// Reads a message's properties. `now` is the time of day; only the rules about absurd times need it.
#[must_use]
pub fn header(rules: &Rules, properties: &AMQPProperties, now: EventTime) -> Header {
    let empty = FieldTable::default();
    let headers = properties.headers().as_ref().unwrap_or(&empty);
    let mut header = Header::default();
    match identity(headers) {
        Ok(identity) => header.identity = identity,
        Err(why) => header.refused = Some(why),
    }
    let kind = properties.kind().as_ref().map(|kind| kind.as_str());
    if header.refused.is_none() && kind != Some(tick::MESSAGE_TYPE) {
        let kind = kind.unwrap_or_default();
        let detail = format!("type is {kind:?}, not {}", tick::MESSAGE_TYPE);
        header.refused = Some(Rejected::new(RejectReason::UnknownType, detail));
    }
    if header.refused.is_none() {
        match heartbeat(rules, headers, now) {
            Ok(heartbeat) => header.heartbeat = heartbeat,
            Err(why) => header.refused = Some(why),
        }
    }
    let published = headers.inner().get(header::PUBLISHED_AT).and_then(number);
    header.published_at = published.and_then(EventTime::from_microseconds);
    header
}

/// The trace that a message belongs to, if it names one.
#[must_use]
pub fn origin(properties: &AMQPProperties) -> Option<Place> {
    let headers = properties.headers().as_ref()?;
    Place::from_traceparent(text(headers.inner().get(header::TRACEPARENT)?)?)
}

/// Reads a body.
#[must_use]
pub fn decode<'a>(
    rules: &Rules,
    scope: Scope,
    header: &Header,
    body: &'a [u8],
    now: EventTime,
) -> Decoded<'a> {
    let whole = |why| Decoded {
        ticks: Vec::new(),
        refused: vec![Refused {
            why,
            raw: body.to_vec(),
        }],
        whole: true,
    };
    if let Some(why) = &header.refused {
        return whole(why.clone());
    }
    let entries = match tick::decode(body) {
        Ok(entries) => entries,
        Err(why) => return whole(why),
    };
    if entries.is_empty() && header.heartbeat.is_none() {
        let detail = "a body without ticks is a heartbeat, and needs header event_time";
        return whole(Rejected::new(RejectReason::InvalidHeaders, detail));
    }
    let mut decoded = Decoded {
        ticks: Vec::with_capacity(entries.len()),
        refused: Vec::new(),
        whole: false,
    };
    // Looked up when the first tick is refused by a rule, which is seldom.
    let mut raw_entries = Vec::new();
    for (place, entry) in (0..).zip(entries) {
        let (why, raw) = match entry {
            Ok(tick) => match rules.check(scope, &tick, now) {
                Ok(id) => {
                    decoded.ticks.push((place, id, tick));
                    continue;
                }
                Err(why) => {
                    if raw_entries.is_empty() {
                        raw_entries = tick::raw_entries(body);
                    }
                    (why, raw_entries.get(place as usize).copied())
                }
            },
            Err((why, raw)) => (why, Some(raw)),
        };
        let raw = raw.map_or(body, str::as_bytes).to_vec();
        decoded.refused.push(Refused { why, raw });
    }
    decoded
}

/// Publisher and sequence: both or neither.
pub(crate) fn identity(headers: &FieldTable) -> Result<Option<MessageIdentity>, Rejected> {
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

fn heartbeat(rules: &Rules, headers: &FieldTable, now: EventTime) -> Result<Option<EventTime>, Rejected> {
    let Some(value) = headers.inner().get(header::EVENT_TIME) else {
        return Ok(None);
    };
    let time: Option<EventTime> = text(value).and_then(|text| text.parse().ok());
    let invalid = || Rejected::new(RejectReason::InvalidHeaders, "header event_time is not a time");
    let time = time.ok_or_else(invalid)?;
    rules.in_range(time, now)?;
    Ok(Some(time))
}

pub(crate) fn text(value: &AMQPValue) -> Option<&str> {
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
