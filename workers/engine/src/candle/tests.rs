use contract::{event_time::EventTime, window::WindowWidth};
use proptest::prelude::*;

use super::*;
use crate::{calendar::Calendar, key::MessageIdentity};

fn candle((offset, price, volume, numbered): (i64, i64, Option<i64>, Option<u64>)) -> PartialCandle {
    let time = EventTime::from_microseconds(1_700_000_000_000_000 + offset).unwrap();
    let tick = Tick {
        symbol: "A".parse().unwrap(),
        price: price.to_string().parse().unwrap(),
        event_time: time,
        volume,
        market_cap: None,
        open: None,
        day_high: None,
        day_low: None,
        previous_close: None,
        change: None,
        change_percentage: None,
        exchange: None,
        name: None,
    };
    let message = numbered.map(|sequence| MessageIdentity {
        publisher: [7; 16],
        sequence,
    });
    let window = Calendar::default().window(WindowWidth::Day1, time);
    PartialCandle::of(&tick, TickKey::new(time, message, 0), window, offset % 2 == 0)
}

fn merged(parts: &[PartialCandle]) -> PartialCandle {
    let mut whole = parts[0].clone();
    parts[1..].iter().for_each(|part| whole.merge(part));
    whole
}

fn parts() -> impl Strategy<Value = Vec<PartialCandle>> {
    // Few distinct times and numbers, so that ties are common.
    let part = (
        0_i64..4,
        1_i64..50,
        proptest::option::of(0_i64..9),
        proptest::option::of(1_u64..4),
    )
        .prop_map(candle);
    proptest::collection::vec(part, 1..12)
}

proptest! {
    #[test]
    fn order_does_not_matter(parts in parts(), seed in any::<u64>()) {
        let mut shuffled = parts.clone();
        let count = shuffled.len();
        for index in 0..count {
            let other = usize::try_from(seed.rotate_left(u32::try_from(index).unwrap() * 7) % count as u64).unwrap();
            shuffled.swap(index, other);
        }
        prop_assert_eq!(merged(&parts), merged(&shuffled));
    }

    #[test]
    fn grouping_does_not_matter(parts in parts(), cut in 0_usize..12) {
        let cut = cut.min(parts.len() - 1);
        let mut groups = Vec::new();
        if cut > 0 {
            groups.push(merged(&parts[..cut]));
        }
        groups.push(merged(&parts[cut..]));
        prop_assert_eq!(merged(&parts), merged(&groups));
    }

    #[test]
    fn a_candle_is_ordered(parts in parts()) {
        let candle = merged(&parts);
        prop_assert!(candle.low <= candle.open && candle.open <= candle.high);
        prop_assert!(candle.low <= candle.close && candle.close <= candle.high);
        prop_assert_eq!(candle.tick_count, i64::try_from(parts.len()).unwrap());
    }
}
