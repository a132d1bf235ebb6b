//! Merging partial candles into `candle_state`, by the same rules as [`engine::candle`].

use contract::event_time::EventTime;
use engine::{
    candle::PartialCandle,
    candles::{CandleKey, Candles},
};
use snafu::ResultExt;
use sqlx::{Arguments as _, PgConnection, error::BoxDynError, postgres::PgArguments};

use super::{
    DatabaseSnafu, Error,
    binary::{Day, Moment, Numeric},
};

const MERGE: &str = "
    INSERT INTO candle_state AS stored (symbol, width, window_start, window_end, session_day, open, high, low, close,
        first_key, last_key, volume_total, volume_key, tick_count, price_sum, price_square_sum, revision, is_final)
    SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::date[], $6::numeric[],
                $7::numeric[], $8::numeric[], $9::numeric[], $10::bytea[], $11::bytea[], $12::bigint[], $13::bytea[],
                $14::bigint[], $15::numeric[], $16::numeric[], $17::bigint[], $18::boolean[])
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

/// What [`merge`] sends for a batch's candles. `symbols` are the names of their ids.
pub(super) fn arguments(
    symbols: &[String],
    candles: &Candles,
    watermark: Option<EventTime>,
) -> Result<PgArguments, BoxDynError> {
    // In the order of their keys: two that merge at once lock the same rows in the same order.
    let candles = candles.sorted();
    let name = |key: &CandleKey| symbols[usize::from(key.symbol.0)].as_str();
    let mut arguments = PgArguments::default();
    arguments.add(candles.iter().map(|(key, _)| name(key)).collect::<Vec<_>>())?;
    arguments.add(column(&candles, |key, _| key.width.label()))?;
    arguments.add(column(&candles, |_, part| Moment::from(part.window.start)))?;
    arguments.add(column(&candles, |_, part| Moment::from(part.window.end)))?;
    arguments.add(column(&candles, |_, part| Day::from(part.window.session_day)))?;
    arguments.add(column(&candles, |_, part| Numeric::of_units(part.open)))?;
    arguments.add(column(&candles, |_, part| Numeric::of_units(part.high)))?;
    arguments.add(column(&candles, |_, part| Numeric::of_units(part.low)))?;
    arguments.add(column(&candles, |_, part| Numeric::of_units(part.close)))?;
    arguments.add(column(&candles, |_, part| part.first_key.as_bytes().to_vec()))?;
    arguments.add(column(&candles, |_, part| part.last_key.as_bytes().to_vec()))?;
    arguments.add(column(&candles, |_, part| part.volume.map(|volume| volume.total)))?;
    arguments.add(column(&candles, |_, part| {
        part.volume.map(|volume| volume.key.as_bytes().to_vec())
    }))?;
    arguments.add(column(&candles, |_, part| part.tick_count))?;
    arguments.add(column(&candles, |_, part| Numeric::of_units(part.price_sum)))?;
    arguments.add(column(&candles, |_, part| {
        Numeric::of_parts(part.price_square_sum.parts())
    }))?;
    arguments.add(column(&candles, |_, part| part.revisions))?;
    arguments.add(
        candles
            .iter()
            .map(|(_, part)| part.is_final(watermark))
            .collect::<Vec<_>>(),
    )?;
    Ok(arguments)
}

/// Merges a batch's candles.
pub(super) async fn merge(
    connection: &mut PgConnection,
    arguments: Result<PgArguments, BoxDynError>,
) -> Result<(), Error> {
    let action = "merge candles";
    let arguments = arguments
        .map_err(sqlx::Error::Encode)
        .context(DatabaseSnafu { action })?;
    sqlx::query_with(MERGE, arguments)
        .execute(connection)
        .await
        .context(DatabaseSnafu { action })?;
    Ok(())
}

fn column<T>(candles: &[&(CandleKey, PartialCandle)], value: fn(&CandleKey, &PartialCandle) -> T) -> Vec<T> {
    candles.iter().map(|(key, part)| value(key, part)).collect()
}

/// Marks final what the watermark has passed since it was at `before`, of this partition's symbols. What ends earlier is final
/// already, and the index still has entries of it.
pub(super) async fn finalize(
    connection: &mut PgConnection,
    symbols: &[String],
    before: Option<EventTime>,
    watermark: EventTime,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE candle_state SET is_final = true, updated_at = now()
         WHERE NOT is_final AND window_end > $1 AND window_end <= $2 AND symbol = ANY($3)",
    )
    .bind(Moment::from(before.unwrap_or(EventTime::EPOCH)))
    .bind(Moment::from(watermark))
    .bind(symbols)
    .execute(connection)
    .await
    .context(DatabaseSnafu {
        action: "mark candles final",
    })?;
    Ok(())
}
