//! What is committed together: messages that were taken in, folded, and written as rows, ready to be sent.

use std::{
    collections::{BTreeSet, HashSet},
    time::Instant,
};

use contract::event_time::EventTime;
use engine::{
    key::MessageIdentity,
    partition::{Effects, Gap, Lateness, PartitionState, Quote},
    sequence::Sequences,
};
use lapin::message::Delivery;
use traces::Place;

use crate::{
    decode::{self, Decoded, Header, Refused, Rules, Scope},
    store::{self, Released},
};

/// Messages that are committed together, and what they do.
#[derive(Debug, Default)]
pub struct Batch {
    /// What event time makes of them.
    pub effects: Effects,
    /// Rows of `stock_data`, as COPY takes them.
    pub rows: Vec<u8>,
    /// Weeks that the rows are of.
    pub weeks: BTreeSet<i64>,
    /// What the decoder refused, with the message's identity if it has one.
    pub refused: Vec<(Option<MessageIdentity>, Refused)>,
    /// Holes that were given up.
    pub gaps: Vec<Gap>,
    /// Rows of `quarantine` that were released and are dealt with here.
    pub released: Vec<i64>,
    /// For each message that says so, when it was published.
    pub published: Vec<EventTime>,
    /// For each message with ticks, the newest event time of them.
    pub happened: Vec<EventTime>,
    /// Messages taken in, those that were committed before included.
    pub messages: usize,
    /// Bytes of their bodies.
    pub bytes: usize,
    /// Acknowledging this tag acknowledges all of them.
    pub last_tag: u64,
    /// Since when the first of them is held.
    pub since: Option<Instant>,
    /// The traces that its messages belong to, each once and not too many; only where traces are sent.
    pub origins: Vec<Place>,
    publishers: HashSet<[u8; 16]>,
}

/// The most traces that a commit is linked to.
const MAX_ORIGINS: usize = 32;

/// A batch that takes no more, with the state that the partition has after it.
#[derive(Debug)]
pub struct Change {
    /// The batch.
    pub batch: Batch,
    /// The watermark after it.
    pub watermark: Option<EventTime>,
    /// The committed sequences of the publishers that it holds messages of.
    pub sequences: Vec<([u8; 16], Sequences)>,
    /// Whether sequences are missing that hold the watermark back.
    pub waits_for_missing: bool,
}

impl Batch {
    /// Takes in a delivery. `now` is the time of day.
    pub fn take(&mut self, rules: &Rules, state: &mut PartitionState, delivery: &Delivery, now: EventTime) {
        self.since.get_or_insert_with(Instant::now);
        self.messages += 1;
        self.bytes += delivery.data.len();
        self.last_tag = delivery.delivery_tag;
        let header = decode::header(rules, &delivery.properties, now);
        let Header {
            identity,
            heartbeat,
            published_at,
            ..
        } = header;
        if state.contains(identity) {
            self.effects.duplicates += 1;
            return;
        }
        if traces::are_on() {
            self.note_origin(decode::origin(&delivery.properties));
        }
        let decoded = decode::decode(rules, Scope::Partition, &header, &delivery.data, now);
        let heartbeat = heartbeat.filter(|_| !decoded.whole);
        let newest = self.fold(state, identity, decoded, Lateness::Judged);
        state.settle(identity, newest, heartbeat, &mut self.effects);
        self.publishers
            .extend(identity.map(|MessageIdentity { publisher, .. }| publisher));
        self.published.extend(published_at);
        self.happened.extend(newest);
    }

    /// Notes the trace of a message. Those of one poll come together.
    fn note_origin(&mut self, origin: Option<Place>) {
        let new = origin.filter(|origin| self.origins.len() < MAX_ORIGINS && !self.origins.contains(origin));
        self.origins.extend(new);
    }

    /// Takes in a row of `quarantine` that somebody released: by the rules of now, for every symbol of the feed, and however
    /// late it is. What cannot be used now either goes back to quarantine with its new reason.
    pub fn take_released(
        &mut self,
        rules: &Rules,
        state: &mut PartitionState,
        released: &Released,
        now: EventTime,
    ) {
        let Released { id, identity, raw } = released;
        self.since.get_or_insert_with(Instant::now);
        self.released.push(*id);
        // An empty body is a heartbeat's: there is nothing in it that could be late or lost.
        let header = Header {
            heartbeat: Some(EventTime::EPOCH),
            ..Header::default()
        };
        let decoded = decode::decode(rules, Scope::Feed, &header, raw, now);
        let newest = self.fold(state, *identity, decoded, Lateness::Forgiven);
        self.effects.last_event_time = self.effects.last_event_time.max(newest);
    }

    /// Notes that a message is dealt with although it was not delivered.
    pub fn settle_elsewhere(&mut self, state: &mut PartitionState, identity: MessageIdentity) {
        if !state.contains(Some(identity)) {
            state.settle(Some(identity), None, None, &mut self.effects);
            self.publishers.insert(identity.publisher);
        }
    }

    /// Gives up the sequences that are missing.
    pub fn give_up_holes(&mut self, state: &mut PartitionState) {
        self.gaps = state.abandon_holes();
        self.publishers.extend(self.gaps.iter().map(|gap| gap.publisher));
    }

    /// Messages that are given up in it.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.last - gap.first + 1).sum()
    }

    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0 && self.publishers.is_empty() && self.released.is_empty()
    }

    /// Closes the batch. Empty afterwards; its rows go into `rows`, an empty buffer that was used before.
    pub fn seal(&mut self, state: &PartitionState, rows: Vec<u8>) -> Change {
        let next = Self {
            rows,
            ..Self::default()
        };
        let batch = std::mem::replace(self, next);
        let sequences = batch.publishers.iter().filter_map(|publisher| {
            let sequences = state.sequences(publisher)?;
            Some((*publisher, sequences.clone()))
        });
        Change {
            watermark: state.watermark(),
            sequences: sequences.collect(),
            waits_for_missing: state.has_open_holes(),
            batch,
        }
    }

    /// Folds ticks and writes their rows; returns the newest event time.
    fn fold(
        &mut self,
        state: &mut PartitionState,
        identity: Option<MessageIdentity>,
        decoded: Decoded<'_>,
        lateness: Lateness,
    ) -> Option<EventTime> {
        let Decoded {
            ticks,
            refused,
            whole: _,
        } = decoded;
        let mut newest = None;
        for (place, symbol, tick) in &ticks {
            let quote = Quote {
                symbol: *symbol,
                price: tick.price,
                event_time: tick.event_time,
                volume: tick.volume,
            };
            state.fold(&quote, identity, *place, lateness, &mut self.effects);
            store::row(&mut self.rows, tick);
            if newest.is_none_or(|newest| newest < tick.event_time) {
                newest = Some(tick.event_time);
            }
            let week = store::week_of(tick.event_time);
            // Nearly always the last one again.
            if self.weeks.last() != Some(&week) {
                self.weeks.insert(week);
            }
        }
        let refused = refused.into_iter().map(|refused| (identity, refused));
        self.refused.extend(refused);
        newest
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use contract::tick::{MESSAGE_TYPE, header};
    use engine::partition::Settings;
    use lapin::types::{AMQPValue, FieldTable};
    use traces::Traces;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn delivery(sequence: i64, trace: &str) -> Delivery {
        let mut headers = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(text.into());
        headers.insert(
            header::PUBLISHER.into(),
            text("019a0000-0000-7000-8000-000000000001"),
        );
        headers.insert(header::SEQUENCE.into(), AMQPValue::LongLongInt(sequence));
        headers.insert(
            header::TRACEPARENT.into(),
            text(&format!("00-{trace:0>32}-000000000000000b-01")),
        );
        let mut delivery = Delivery::mock(1, "x".into(), "1-0.AAPL".into(), false, b"[]".to_vec());
        delivery.properties = delivery
            .properties
            .with_type(MESSAGE_TYPE.into())
            .with_headers(headers);
        delivery
    }

    /// What a batch knows of traces that takes these in, the last of them twice.
    fn origins() -> Vec<Place> {
        let rules = Rules::new(&["AAPL".parse().unwrap()], 0, 1, Duration::from_secs(60), None);
        let settings = Settings {
            widths: Vec::new(),
            out_of_orderness: Duration::ZERO,
            allowed_lateness: Duration::ZERO,
        };
        let mut state = PartitionState::restore(settings, None, []);
        let mut batch = Batch::default();
        let now = "2026-11-20T21:00:00Z".parse().unwrap();
        for (sequence, trace) in [(1, "a"), (2, "a"), (3, "c"), (3, "d")] {
            batch.take(&rules, &mut state, &delivery(sequence, trace), now);
        }
        assert_eq!((batch.messages, batch.effects.duplicates), (4, 1));
        batch.origins
    }

    #[test]
    fn traces_of_messages_are_noted_only_where_traces_are_sent() {
        assert_eq!(origins(), []);
        // Nobody listens there.
        let traces = Traces::start(&"http://127.0.0.1:9".parse().unwrap(), "processor", "1").unwrap();
        let subscriber = tracing_subscriber::registry().with(traces.layer());
        let noted = tracing::subscriber::with_default(subscriber, origins);
        let place = |trace| Place { trace, span: 0xb };
        // One that was committed before is no part of what is committed now.
        assert_eq!(noted, [place(0xa), place(0xc)]);
    }

    #[test]
    fn a_batch_knows_each_of_its_traces_once_and_not_too_many() {
        let place = |span| Place { trace: 7, span };
        let mut batch = Batch::default();
        for span in [1, 1, 2, 1, 2] {
            batch.note_origin(Some(place(span)));
            batch.note_origin(None);
        }
        assert_eq!(batch.origins, [place(1), place(2)]);
        for span in 0..1_000 {
            batch.note_origin(Some(place(span)));
        }
        assert_eq!(batch.origins.len(), MAX_ORIGINS);
    }
}
