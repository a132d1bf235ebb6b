//! Raw ticks by COPY, in its binary format: the server parses no text. Rows are written as ticks are decoded, so that a
//! batch is one run of bytes.
//!
//! Format: <https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.55.9.4>.

use contract::{event_time::EventTime, price::Price, tick::TickRef};
use rust_decimal::Decimal;
use snafu::ResultExt;
use sqlx::PgConnection;

use super::{DatabaseSnafu, Error, binary};

const COPY: &str = r#"COPY stock_data (symbol, price, change, change_percentage, volume, market_cap, open_price, high_price,
    low_price, previous_close, exchange, company_name, "timestamp") FROM STDIN (FORMAT binary)"#;
const COLUMNS: i16 = 13;

/// Signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// Sent at once: sqlx copies a piece into a buffer that it keeps.
const PIECE: usize = 128 * 1024;

/// Sends rows that [`row`] wrote.
pub(super) async fn send(connection: &mut PgConnection, rows: &[u8]) -> Result<(), Error> {
    let action = "copy ticks";
    let mut copy = connection
        .copy_in_raw(COPY)
        .await
        .context(DatabaseSnafu { action })?;
    copy.send(HEADER).await.context(DatabaseSnafu { action })?;
    for piece in rows.chunks(PIECE) {
        copy.send(piece).await.context(DatabaseSnafu { action })?;
    }
    copy.send(TRAILER).await.context(DatabaseSnafu { action })?;
    copy.finish().await.context(DatabaseSnafu { action })?;
    Ok(())
}

/// Appends the row of a tick.
pub fn row(rows: &mut Vec<u8>, tick: &TickRef<'_>) {
    let TickRef {
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
    rows.extend_from_slice(&COLUMNS.to_be_bytes());
    text(rows, Some(symbol));
    self::price(rows, *price);
    decimal(rows, *change);
    decimal(rows, *change_percentage);
    match volume {
        Some(volume) => field(rows, &volume.to_be_bytes()),
        None => null(rows),
    }
    for value in [market_cap, open, day_high, day_low, previous_close] {
        decimal(rows, *value);
    }
    text(rows, exchange.as_deref());
    text(rows, name.as_deref());
    time(rows, *event_time);
}

fn null(rows: &mut Vec<u8>) {
    rows.extend_from_slice(&(-1_i32).to_be_bytes());
}

fn field(rows: &mut Vec<u8>, bytes: &[u8]) {
    // No text of a tick is longer than a message, and that is far below 2 GiB.
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    rows.extend_from_slice(&length.to_be_bytes());
    rows.extend_from_slice(bytes);
}

fn text(rows: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(text) => field(rows, text.as_bytes()),
        None => null(rows),
    }
}

fn time(rows: &mut Vec<u8>, time: EventTime) {
    field(rows, &binary::moment(time).to_be_bytes());
}

fn price(rows: &mut Vec<u8>, price: Price) {
    numeric(rows, price.mantissa().into(), price.scale().into(), false);
}

fn decimal(rows: &mut Vec<u8>, value: Option<Decimal>) {
    match value {
        Some(value) => {
            let mantissa = value.mantissa();
            numeric(rows, mantissa.unsigned_abs(), value.scale(), mantissa < 0);
        }
        None => null(rows),
    }
}

fn numeric(rows: &mut Vec<u8>, mantissa: u128, scale: u32, negative: bool) {
    let start = rows.len();
    rows.extend_from_slice(&[0; 4]);
    binary::numeric(rows, mantissa, scale, negative);
    // Far below 2 GiB.
    let length = (rows.len() - start - 4) as i32;
    rows[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As `numeric_recv` reads it, as text without trailing zeros.
    fn read(bytes: &[u8]) -> Decimal {
        let word = |place: usize| i16::from_be_bytes([bytes[4 + 2 * place], bytes[5 + 2 * place]]);
        assert_eq!(
            i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize,
            bytes.len() - 4
        );
        let (count, weight, sign) = (word(0), i32::from(word(1)), word(2));
        assert_eq!(bytes.len(), 12 + 2 * count as usize);
        let mut value = Decimal::ZERO;
        for place in 0..count {
            let group = word(4 + place as usize);
            assert!((0..10_000).contains(&group));
            let exponent = 4 * (weight - i32::from(place));
            let group = Decimal::from(group);
            value += match u32::try_from(exponent) {
                Ok(exponent) => group * Decimal::from(10_i128.pow(exponent)),
                Err(_) => group * Decimal::from_i128_with_scale(1, exponent.unsigned_abs().min(28)),
            };
        }
        if sign == 0 { value } else { -value }
    }

    proptest! {
        #[test]
        fn numbers_survive(mantissa in -(10_i128.pow(24))..10_i128.pow(24), scale in 0_u32..=24) {
            let value = Decimal::from_i128_with_scale(mantissa, scale);
            let mut rows = Vec::new();
            decimal(&mut rows, Some(value));
            prop_assert_eq!(read(&rows), value);
        }
    }

    #[test]
    fn the_extremes_fit() {
        for value in [
            Decimal::MAX,
            Decimal::MIN,
            Decimal::ZERO,
            Decimal::from_i128_with_scale(1, 28),
        ] {
            let mut rows = Vec::new();
            decimal(&mut rows, Some(value));
            assert!(rows.len() <= 32);
        }
    }
}
