use contract::{event_time::EventTime, window::WindowWidth};
use proptest::prelude::*;

use super::*;
use crate::{calendar::Calendar, key::MessageIdentity, partition::SymbolId};

type Input = (i64, i64, Option<i64>, Option<u64>);

fn observed((offset, price, volume, numbered): Input) -> (Observation, Window, bool) {
    let event_time = EventTime::from_microseconds(1_700_000_000_000_000 + offset).unwrap();
    let quote = Quote {
        symbol: SymbolId(0),
        price: price.to_string().parse().unwrap(),
        event_time,
        volume,
    };
    let message = numbered.map(|sequence| MessageIdentity {
        publisher: [7; 16],
        sequence,
    });
    let window = Calendar::default().window(WindowWidth::Day1, event_time);
    let observation = Observation::new(&quote, TickKey::new(event_time, message, 0));
    (observation, window, offset % 2 == 0)
}

fn folded(inputs: &[Input]) -> PartialCandle {
    let (first, window, after_end) = observed(inputs[0]);
    let mut candle = PartialCandle::of(&first, window, after_end);
    for input in &inputs[1..] {
        let (observation, _, after_end) = observed(*input);
        candle.add(&observation, after_end);
    }
    candle
}

/// Two parts of one candle as the SQL of whoever commits them makes one of them.
pub(crate) fn merge(stored: &mut PartialCandle, part: &PartialCandle) {
    if (part.first_key, part.open) < (stored.first_key, stored.open) {
        (stored.first_key, stored.open) = (part.first_key, part.open);
    }
    if (part.last_key, part.close) > (stored.last_key, stored.close) {
        (stored.last_key, stored.close) = (part.last_key, part.close);
    }
    stored.high = stored.high.max(part.high);
    stored.low = stored.low.min(part.low);
    stored.volume = stored.volume.max(part.volume);
    stored.tick_count += part.tick_count;
    stored.price_sum += part.price_sum;
    let SquareSum { whole, fraction } = part.price_square_sum;
    stored.price_square_sum.add((whole, fraction));
    stored.revisions += part.revisions;
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    // Few distinct times and numbers, so that ties are common.
    let input = (
        0_i64..4,
        1_i64..50,
        proptest::option::of(0_i64..9),
        proptest::option::of(1_u64..4),
    );
    proptest::collection::vec(input, 1..12)
}

#[test]
fn sums_of_squares_are_exact_to_twenty_decimals() {
    let mut sum = SquareSum::default();
    for price in ["0.0000012345", "99999.9999999999", "3"] {
        sum.add(price.parse::<contract::price::Price>().unwrap().square());
    }
    // 0.0000012345² + 99999.9999999999² + 9
    assert_eq!(sum.parts(), (10_000_000_008, 99_998_000_000_152_399_026));
}

proptest! {
    #[test]
    fn order_does_not_matter(inputs in inputs(), seed in any::<u64>()) {
        let mut shuffled = inputs.clone();
        let count = shuffled.len();
        for index in 0..count {
            let other = usize::try_from(seed.rotate_left(u32::try_from(index).unwrap() * 7) % count as u64).unwrap();
            shuffled.swap(index, other);
        }
        prop_assert_eq!(folded(&inputs), folded(&shuffled));
    }

    #[test]
    fn batches_do_not_matter(inputs in inputs(), cut in 1_usize..12) {
        let mut stored: Option<PartialCandle> = None;
        for batch in inputs.chunks(cut) {
            let part = folded(batch);
            match &mut stored {
                Some(stored) => merge(stored, &part),
                None => stored = Some(part),
            }
        }
        prop_assert_eq!(stored, Some(folded(&inputs)));
    }

    #[test]
    fn a_candle_is_ordered(inputs in inputs()) {
        let candle = folded(&inputs);
        prop_assert!(candle.low <= candle.open && candle.open <= candle.high);
        prop_assert!(candle.low <= candle.close && candle.close <= candle.high);
        prop_assert_eq!(candle.tick_count, i64::try_from(inputs.len()).unwrap());
    }
}
