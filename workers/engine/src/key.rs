//! The order of ticks within a window.

use contract::event_time::EventTime;

/// Which message a tick came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageIdentity {
    /// The publisher's UUID. Version 7, so later runs sort after earlier ones.
    pub publisher: [u8; 16],
    /// The message's number among those of its publisher and partition, from 1.
    pub sequence: u64,
}

/// A tick's place in the total order that decides `open` and `close`: event time, then publisher, then sequence, then
/// place in the message. Its 36 bytes sort as the fields do, so the database compares it as `bytea`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TickKey([u8; 36]);

impl TickKey {
    /// The key of a tick. Ticks of a message without identity sort before numbered ones of the same time.
    #[must_use]
    pub fn new(event_time: EventTime, message: Option<MessageIdentity>, place: u32) -> Self {
        let MessageIdentity { publisher, sequence } = message.unwrap_or_default();
        // With the sign bit flipped, two's complement sorts as unsigned bytes.
        let time = event_time.as_microseconds().cast_unsigned() ^ (1 << 63);
        let mut bytes = [0; 36];
        bytes[..8].copy_from_slice(&time.to_be_bytes());
        bytes[8..24].copy_from_slice(&publisher);
        bytes[24..32].copy_from_slice(&sequence.to_be_bytes());
        bytes[32..].copy_from_slice(&place.to_be_bytes());
        Self(bytes)
    }

    /// The bytes, in the order of the fields.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 36] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_sort_as_the_fields(
            left in (-1_000_000_i64..1_000_000, any::<[u8; 16]>(), any::<u64>(), any::<u32>()),
            right in (-1_000_000_i64..1_000_000, any::<[u8; 16]>(), any::<u64>(), any::<u32>()),
        ) {
            let key = |(time, publisher, sequence, place): (i64, [u8; 16], u64, u32)| {
                let time = EventTime::from_microseconds(time).unwrap();
                TickKey::new(time, Some(MessageIdentity { publisher, sequence }), place)
            };
            prop_assert_eq!(key(left).as_bytes().cmp(key(right).as_bytes()), left.cmp(&right));
        }
    }
}
