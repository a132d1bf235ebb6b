//! Raw ticks by COPY, in text format.

use std::fmt::Write as _;

use contract::tick::Tick;
use snafu::ResultExt;
use sqlx::PgConnection;

use super::{DatabaseSnafu, Error};

const COPY: &str = r#"COPY stock_data (symbol, price, change, change_percentage, volume, market_cap, open_price, high_price,
    low_price, previous_close, exchange, company_name, "timestamp") FROM STDIN"#;

/// Sent at once; a batch of 4 MiB of JSON is a few such pieces.
const PIECE: usize = 1024 * 1024;

pub(super) async fn ticks(connection: &mut PgConnection, ticks: &[Tick]) -> Result<(), Error> {
    let action = "copy ticks";
    let mut copy = connection
        .copy_in_raw(COPY)
        .await
        .context(DatabaseSnafu { action })?;
    let mut text = String::with_capacity(PIECE.min(ticks.len() * 128));
    for tick in ticks {
        line(&mut text, tick);
        if text.len() >= PIECE {
            copy.send(text.as_bytes())
                .await
                .context(DatabaseSnafu { action })?;
            text.clear();
        }
    }
    copy.send(text.as_bytes())
        .await
        .context(DatabaseSnafu { action })?;
    copy.finish().await.context(DatabaseSnafu { action })?;
    Ok(())
}

/// One line of COPY's text format: columns between tabs, `\N` for NULL.
/// <https://www.postgresql.org/docs/current/sql-copy.html>
fn line(text: &mut String, tick: &Tick) {
    let Tick {
        symbol,
        price,
        event_time,
        volume,
        market_cap,
        open,
        day_high,
        day_low,
        previous_close,
        change,
        change_percentage,
        exchange,
        name,
    } = tick;
    text.push_str(symbol.as_str());
    plain(text, Some(price));
    plain(text, change.as_ref());
    plain(text, change_percentage.as_ref());
    plain(text, volume.as_ref());
    for value in [market_cap, open, day_high, day_low, previous_close] {
        plain(text, value.as_ref());
    }
    escaped(text, exchange.as_deref());
    escaped(text, name.as_deref());
    plain(text, Some(event_time));
    text.push('\n');
}

/// A value whose text has nothing to escape.
fn plain<T: std::fmt::Display>(text: &mut String, value: Option<&T>) {
    // Writing to a String cannot fail.
    let _infallible = match value {
        Some(value) => write!(text, "\t{value}"),
        None => text.write_str("\t\\N"),
    };
}

fn escaped(text: &mut String, value: Option<&str>) {
    let Some(value) = value else {
        return text.push_str("\t\\N");
    };
    text.push('\t');
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            other => text.push(other),
        }
    }
}
