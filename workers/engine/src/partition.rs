//! One partition: what has been committed, where its watermark stands, and what a message does to both.

use std::{collections::HashMap, time::Duration};

use contract::{event_time::EventTime, price::Price, window::WindowWidth};

use crate::{
    calendar::Calendar,
    candle::Observation,
    candles::Candles,
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

/// A symbol's place in the list of whoever feeds the engine, which does not care for its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SymbolId(pub u16);

/// What event time needs to know of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Whose.
    pub symbol: SymbolId,
    /// The price.
    pub price: Price,
    /// When, at the exchange.
    pub event_time: EventTime,
    /// The day's running total of shares.
    pub volume: Option<i64>,
}

/// What a batch of messages does to the database, beside its raw ticks.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Parts of candles.
    pub candles: Candles,
    /// Ticks that are in no candle of a width, for being too late.
    pub late: Vec<LateTick>,
    /// Ticks.
    pub ticks: u64,
    /// Messages that were committed before.
    pub duplicates: u64,
    /// Messages that were not.
    pub messages: u64,
    /// The newest event time of the batch.
    pub last_event_time: Option<EventTime>,
}

/// A tick that came after the allowed lateness of one of its windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateTick {
    /// The tick.
    pub quote: Quote,
    /// The width whose candle it missed.
    pub width: WindowWidth,
    /// Where that candle starts.
    pub window_start: EventTime,
    /// The watermark that it was measured against.
    pub watermark: EventTime,
}

/// What becomes of a tick that is later than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lateness {
    /// It is left out of the candle and kept as a late tick.
    Judged,
    /// It revises the candle all the same: somebody asked for it by name.
    Forgiven,
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

/// The state of a partition.
#[derive(Debug)]
pub struct PartitionState {
    widths: Vec<WindowWidth>,
    out_of_orderness: Duration,
    /// In microseconds.
    allowed_lateness: i64,
    calendar: Calendar,
    publishers: HashMap<[u8; 16], Sequences>,
    /// Publishers that miss a sequence.
    holed: usize,
    watermark: Option<EventTime>,
}

impl PartitionState {
    /// From what is stored.
    #[must_use]
    pub fn restore(
        settings: Settings,
        watermark: Option<EventTime>,
        publishers: impl IntoIterator<Item = ([u8; 16], Sequences)>,
    ) -> Self {
        let Settings {
            widths,
            out_of_orderness,
            allowed_lateness,
        } = settings;
        let publishers: HashMap<_, _> = publishers.into_iter().collect();
        Self {
            widths,
            out_of_orderness,
            allowed_lateness: i64::try_from(allowed_lateness.as_micros()).unwrap_or(i64::MAX),
            calendar: Calendar::default(),
            holed: publishers
                .values()
                .filter(|sequences| sequences.has_open_holes())
                .count(),
            publishers,
            watermark,
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

    /// Whether sequences are missing that hold the watermark back.
    #[must_use]
    pub const fn has_open_holes(&self) -> bool {
        self.holed > 0
    }

    /// Whether a message was taken in before. One without identity never was.
    #[must_use]
    pub fn contains(&self, identity: Option<MessageIdentity>) -> bool {
        identity.is_some_and(|MessageIdentity { publisher, sequence }| {
            self.publishers
                .get(&publisher)
                .is_some_and(|sequences| sequences.contains(sequence))
        })
    }

    /// Folds one tick of a message into its windows. Its lateness is measured against the watermark before the message, so
    /// call [`PartitionState::settle`] after the message's last tick.
    pub fn fold(
        &mut self,
        quote: &Quote,
        identity: Option<MessageIdentity>,
        place: u32,
        lateness: Lateness,
        effects: &mut Effects,
    ) {
        let key = TickKey::new(quote.event_time, identity, place);
        let observation = Observation::new(quote, key);
        let first_slot = usize::from(quote.symbol.0) * self.widths.len();
        for (number, width) in self.widths.iter().enumerate() {
            let window = self.calendar.window(*width, quote.event_time);
            let closes = window.end.as_microseconds().saturating_add(self.allowed_lateness);
            match self.watermark {
                Some(watermark) if closes <= watermark.as_microseconds() && lateness == Lateness::Judged => {
                    effects.late.push(LateTick {
                        quote: *quote,
                        width: *width,
                        window_start: window.start,
                        watermark,
                    });
                }
                watermark => {
                    let after_end = watermark.is_some_and(|watermark| window.end <= watermark);
                    effects.candles.fold(
                        first_slot + number,
                        (quote.symbol, *width),
                        window,
                        &observation,
                        after_end,
                    );
                }
            }
        }
        effects.ticks += 1;
    }

    /// Takes a message in: it is committed from now on, and moves the watermark. `newest` is the latest event time of its
    /// ticks, `heartbeat` its promise that nothing older will follow.
    pub fn settle(
        &mut self,
        identity: Option<MessageIdentity>,
        newest: Option<EventTime>,
        heartbeat: Option<EventTime>,
        effects: &mut Effects,
    ) {
        effects.messages += 1;
        effects.last_event_time = effects.last_event_time.max(newest);
        let bound = newest
            .map(|time| time.saturating_sub(self.out_of_orderness))
            .max(heartbeat);
        let Some(MessageIdentity { publisher, sequence }) = identity else {
            // Of messages that are not numbered none can be known to be missing.
            if self.holed == 0 {
                self.watermark = self.watermark.max(bound);
            }
            return;
        };
        let sequences = self.publishers.entry(publisher).or_default();
        let had_holes = sequences.has_open_holes();
        sequences.insert(sequence, bound);
        match (had_holes, sequences.has_open_holes()) {
            (false, true) => self.holed += 1,
            (true, false) => {
                self.holed -= 1;
                // What others let the watermark go to had to wait for this one.
                self.advance();
            }
            (false, false) if self.holed == 0 => {
                self.watermark = self.watermark.max(sequences.settled_bound());
            }
            _ => {}
        }
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
        self.holed = 0;
        self.advance();
        gaps
    }

    /// Moves the watermark as far as the messages allow. It stands still while any publisher misses a sequence: what is
    /// missing may hold older ticks, whoever sends next.
    fn advance(&mut self) {
        if self.holed > 0 {
            return;
        }
        let settled = self
            .publishers
            .values()
            .filter_map(Sequences::settled_bound)
            .max();
        self.watermark = self.watermark.max(settled);
    }
}

#[cfg(test)]
mod tests;
