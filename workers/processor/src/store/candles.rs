//! Merging partial candles into `candle_state`, by the same rules as [`engine::candle`].

use std::collections::BTreeMap;

use contract::event_time::EventTime;
use engine::{candle::PartialCandle, partition::CandleKey};
use snafu::ResultExt;
use sqlx::PgConnection;

use super::{DatabaseSnafu, Error};

const MERGE: &str = "
    INSERT INTO candle_state AS stored (symbol, width, window_start, window_end, session_day, open, high, low, close,
        first_key, last_key, volume_total, volume_key, tick_count, price_sum, price_square_sum, revision, is_final)
    SELECT symbol, width, timestamptz 'epoch' + window_start * interval '1 microsecond',
           timestamptz 'epoch' + window_end * interval '1 microsecond', session_day::date, open::numeric, high::numeric,
           low::numeric, close::numeric, first_key, last_key, volume_total, volume_key, tick_count, price_sum::numeric,
           price_square_sum::numeric, revision, is_final
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::text[], $10::bytea[], $11::bytea[], $12::bigint[], $13::bytea[], $14::bigint[], $15::text[],
                $16::text[], $17::bigint[], $18::boolean[])
         AS part (symbol, width, window_start, window_end, session_day, open, high, low, close, first_key, last_key,
                  volume_total, volume_key, tick_count, price_sum, price_square_sum, revision, is_final)
    ON CONFLICT (symbol, width, window_start) DO UPDATE SET
        open = CASE WHEN (excluded.first_key, excluded.open) < (stored.first_key, stored.open) THEN excluded.open ELSE stored.open END,
        first_key = least(stored.first_key, excluded.first_key),
        close = CASE WHEN (excluded.last_key, excluded.close) > (stored.last_key, stored.close) THEN excluded.close ELSE stored.close END,
        last_key = greatest(stored.last_key, excluded.last_key),
        high = greatest(stored.high, excluded.high),
        low = least(stored.low, excluded.low),
        volume_total = CASE
            WHEN excluded.volume_key IS NULL THEN stored.volume_total
            WHEN stored.volume_key IS NULL OR (excluded.volume_key, excluded.volume_total) > (stored.volume_key, stored.volume_total)
                THEN excluded.volume_total
            ELSE stored.volume_total END,
        volume_key = greatest(stored.volume_key, excluded.volume_key),
        tick_count = stored.tick_count + excluded.tick_count,
        price_sum = stored.price_sum + excluded.price_sum,
        price_square_sum = stored.price_square_sum + excluded.price_square_sum,
        revision = stored.revision + excluded.revision,
        is_final = stored.is_final OR excluded.is_final,
        updated_at = now()";

/// Merges a batch's candles.
pub(super) async fn merge(
    connection: &mut PgConnection,
    candles: &BTreeMap<CandleKey, PartialCandle>,
    watermark: Option<EventTime>,
) -> Result<(), Error> {
    let column = |text: fn(&PartialCandle) -> String| candles.values().map(text).collect::<Vec<_>>();
    let number = |value: fn(&PartialCandle) -> i64| candles.values().map(value).collect::<Vec<_>>();
    let bytes =
        |value: fn(&PartialCandle) -> Option<Vec<u8>>| candles.values().map(value).collect::<Vec<_>>();
    let final_now = |part: &PartialCandle| watermark.is_some_and(|watermark| part.window.end <= watermark);
    sqlx::query(MERGE)
        .bind(
            candles
                .keys()
                .map(|key| key.symbol.as_str().to_owned())
                .collect::<Vec<_>>(),
        )
        .bind(
            candles
                .keys()
                .map(|key| key.width.label().to_owned())
                .collect::<Vec<_>>(),
        )
        .bind(number(|part| part.window.start.as_microseconds()))
        .bind(number(|part| part.window.end.as_microseconds()))
        .bind(column(|part| part.window.session_day.to_string()))
        .bind(column(|part| part.open.to_string()))
        .bind(column(|part| part.high.to_string()))
        .bind(column(|part| part.low.to_string()))
        .bind(column(|part| part.close.to_string()))
        .bind(bytes(|part| Some(part.first_key.as_bytes().to_vec())))
        .bind(bytes(|part| Some(part.last_key.as_bytes().to_vec())))
        .bind(
            candles
                .values()
                .map(|part| part.volume.map(|volume| volume.total))
                .collect::<Vec<_>>(),
        )
        .bind(bytes(|part| {
            part.volume.map(|volume| volume.key.as_bytes().to_vec())
        }))
        .bind(number(|part| part.tick_count))
        .bind(column(|part| fixed_point(part.price_sum, 10)))
        .bind(column(|part| fixed_point(part.price_square_sum, 12)))
        .bind(number(|part| part.revisions))
        .bind(candles.values().map(final_now).collect::<Vec<_>>())
        .execute(connection)
        .await
        .context(DatabaseSnafu {
            action: "merge candles",
        })?;
    Ok(())
}

/// Marks final what the watermark has passed, of this partition's symbols.
pub(super) async fn finalize(
    connection: &mut PgConnection,
    symbols: &[String],
    watermark: EventTime,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE candle_state SET is_final = true, updated_at = now()
         WHERE NOT is_final AND window_end <= timestamptz 'epoch' + $1 * interval '1 microsecond' AND symbol = ANY($2)",
    )
    .bind(watermark.as_microseconds())
    .bind(symbols)
    .execute(connection)
    .await
    .context(DatabaseSnafu { action: "mark candles final" })?;
    Ok(())
}

/// A positive number of `units` of 10^-`scale`, as decimal text.
fn fixed_point(units: i128, scale: usize) -> String {
    let digits = format!("{units:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::fixed_point;

    #[test]
    fn fixed_point_is_exact() {
        assert_eq!(fixed_point(2_281_200_000_000, 10), "228.12");
        assert_eq!(fixed_point(1, 10), "0.0000000001");
        assert_eq!(fixed_point(30_000_000_000, 10), "3");
        assert_eq!(fixed_point(10_i128.pow(37), 12), "10000000000000000000000000");
    }
}
