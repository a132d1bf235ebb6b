//! One partition: what has been committed, where its watermark stands, and what a message does to both.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    time::Duration,
};

use contract::{event_time::EventTime, symbol::Symbol, tick::Tick, window::WindowWidth};

use crate::{
    calendar::Calendar,
    candle::PartialCandle,
    key::{MessageIdentity, TickKey},
    sequence::Sequences,
};

/// What the resource says about event time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Candle widths.
    pub widths: Vec<WindowWidth>,
    /// How far behind the newest event the watermark runs.
    pub out_of_orderness: Duration,
    /// How long past its end, in event time, a candle may still be revised.
    pub allowed_lateness: Duration,
}

/// A message that passed the decoder. What was refused of it is not here, but its sequence is: it is dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Publisher and sequence; `None` for messages that are taken at-least-once.
    pub identity: Option<MessageIdentity>,
    /// Its good ticks with their places in the body.
    pub ticks: Vec<(u32, Tick)>,
    /// A heartbeat's promise: nothing older will follow.
    pub heartbeat: Option<EventTime>,
}

/// What a batch of messages does to the database.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Rows of `stock_data`, in order of arrival.
    pub ticks: Vec<Tick>,
    /// Parts of candles.
    pub candles: BTreeMap<CandleKey, PartialCandle>,
    /// Ticks that are in no candle of a width, for being too late.
    pub late: Vec<LateTick>,
    /// Messages that were committed before.
    pub duplicates: u64,
    /// Messages that were not.
    pub messages: u64,
    /// The newest event time of the batch.
    pub last_event_time: Option<EventTime>,
}

/// Which candle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CandleKey {
    /// Whose.
    pub symbol: Symbol,
    /// How wide.
    pub width: WindowWidth,
    /// Where it starts.
    pub start: EventTime,
}

/// A tick that came after the allowed lateness of one of its windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateTick {
    /// Its place in [`Effects::ticks`].
    pub tick: usize,
    /// The width whose candle it missed.
    pub width: WindowWidth,
    /// Where that candle starts.
    pub window_start: EventTime,
    /// The watermark that it was measured against.
    pub watermark: EventTime,
}

/// Messages that were published and did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Whose.
    pub publisher: [u8; 16],
    /// The first missing sequence.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// Whether a message was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It was, and its effects are noted.
    New,
    /// It is committed already; nothing happened.
    Duplicate,
}

/// The state of a partition.
#[derive(Clone, Debug)]
pub struct PartitionState {
    settings: Settings,
    calendar: Calendar,
    publishers: HashMap<[u8; 16], Sequences>,
    watermark: Option<EventTime>,
    /// The bound of messages without identity. Not stored: after a restart the watermark itself says enough.
    unnumbered: Option<EventTime>,
}

impl PartitionState {
    /// From what is stored.
    #[must_use]
    pub fn restore(
        settings: Settings,
        watermark: Option<EventTime>,
        publishers: impl IntoIterator<Item = ([u8; 16], Sequences)>,
    ) -> Self {
        let publishers = publishers.into_iter().collect();
        Self {
            settings,
            calendar: Calendar::default(),
            publishers,
            watermark,
            unnumbered: None,
        }
    }

    /// No candle that ends at or before this will be revised, but for late ticks. Never goes back.
    #[must_use]
    pub const fn watermark(&self) -> Option<EventTime> {
        self.watermark
    }

    /// The committed sequences of a publisher.
    #[must_use]
    pub fn sequences(&self, publisher: &[u8; 16]) -> Option<&Sequences> {
        self.publishers.get(publisher)
    }

    /// All publishers seen.
    pub fn publishers(&self) -> impl Iterator<Item = (&[u8; 16], &Sequences)> {
        self.publishers.iter()
    }

    /// Forgets a publisher that will publish no more.
    pub fn forget(&mut self, publisher: &[u8; 16]) {
        self.publishers.remove(publisher);
    }

    /// Whether sequences are missing that hold the watermark back.
    #[must_use]
    pub fn has_open_holes(&self) -> bool {
        self.publishers
            .values()
            .any(|sequences| sequences.open_holes().next().is_some())
    }

    /// Takes in one message: drops it if it is committed, or notes its effects and moves the watermark.
    pub fn observe(&mut self, message: Message, effects: &mut Effects) -> Observed {
        let Message {
            identity,
            ticks,
            heartbeat,
        } = message;
        if let Some(MessageIdentity { publisher, sequence }) = identity
            && self
                .publishers
                .get(&publisher)
                .is_some_and(|sequences| sequences.contains(sequence))
        {
            effects.duplicates += 1;
            return Observed::Duplicate;
        }
        effects.messages += 1;
        let newest = ticks.iter().map(|(_, tick)| tick.event_time).max();
        for (place, tick) in ticks {
            self.fold(tick, identity, place, effects);
        }
        effects.last_event_time = effects.last_event_time.max(newest);
        let bound = newest
            .map(|time| time.saturating_sub(self.settings.out_of_orderness))
            .max(heartbeat);
        match identity {
            Some(MessageIdentity { publisher, sequence }) => {
                self.publishers
                    .entry(publisher)
                    .or_default()
                    .insert(sequence, bound);
            }
            None => self.unnumbered = self.unnumbered.max(bound),
        }
        self.advance();
        Observed::New
    }

    /// Gives up the holes there are, so that they hold the watermark back no longer. The caller decides when they have
    /// been open long enough; a message that arrives in one after all is still taken.
    pub fn abandon_holes(&mut self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (publisher, sequences) in &mut self.publishers {
            gaps.extend(sequences.open_holes().map(|(first, last)| Gap {
                publisher: *publisher,
                first,
                last,
            }));
            sequences.abandon_holes();
        }
        self.advance();
        gaps
    }

    fn fold(&mut self, tick: Tick, identity: Option<MessageIdentity>, place: u32, effects: &mut Effects) {
        let key = TickKey::new(tick.event_time, identity, place);
        for width in &self.settings.widths {
            let window = self.calendar.window(*width, tick.event_time);
            let closes = window.end.saturating_add(self.settings.allowed_lateness);
            match self.watermark {
                Some(watermark) if closes <= watermark => {
                    let (tick, width) = (effects.ticks.len(), *width);
                    effects.late.push(LateTick {
                        tick,
                        width,
                        window_start: window.start,
                        watermark,
                    });
                }
                watermark => {
                    let after_end = watermark.is_some_and(|watermark| window.end <= watermark);
                    let part = PartialCandle::of(&tick, key, window, after_end);
                    let candle = CandleKey {
                        symbol: tick.symbol.clone(),
                        width: *width,
                        start: window.start,
                    };
                    match effects.candles.entry(candle) {
                        Entry::Occupied(mut entry) => entry.get_mut().merge(&part),
                        Entry::Vacant(entry) => drop(entry.insert(part)),
                    }
                }
            }
        }
        effects.ticks.push(tick);
    }

    /// Moves the watermark as far as the messages allow. It stands still while any publisher misses a sequence: what is
    /// missing may hold older ticks, whoever sends next.
    fn advance(&mut self) {
        if self.has_open_holes() {
            return;
        }
        let settled = self
            .publishers
            .values()
            .filter_map(Sequences::settled_bound)
            .max();
        self.watermark = self.watermark.max(settled).max(self.unnumbered);
    }
}

#[cfg(test)]
mod tests;
