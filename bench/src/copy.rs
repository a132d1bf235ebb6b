//! Ticks in both formats of COPY, in the columns that the processor fills.
//! <https://www.postgresql.org/docs/17/sql-copy.html>

use std::fmt::Write as _;

use crate::load::{Tick, symbol};

const COLUMNS: &str = r#"COPY stock_data (symbol, price, change, change_percentage, volume, market_cap, open_price, high_price,
    low_price, previous_close, exchange, company_name, "timestamp") FROM STDIN"#;
const FIELDS: i16 = 13;
const EXCHANGE: &str = "NASDAQ";

/// Microseconds from 1970 to 2000, where PostgreSQL counts from.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A line a row; the server parses it.
    Text,
    /// The server's own numbers, in network order.
    Binary,
}

impl Format {
    /// The statement.
    pub fn statement(self) -> String {
        match self {
            Self::Text => COLUMNS.to_owned(),
            Self::Binary => format!("{COLUMNS} (FORMAT binary)"),
        }
    }

    /// Rows as one COPY sends them.
    pub fn encode(self, ticks: impl Iterator<Item = Tick>) -> Vec<u8> {
        match self {
            Self::Text => {
                let mut text = String::new();
                ticks.for_each(|tick| line(&mut text, tick));
                text.into_bytes()
            }
            Self::Binary => {
                let mut bytes = b"PGCOPY\n\xff\r\n\0".to_vec();
                bytes.extend([0; 8]);
                ticks.for_each(|tick| row(&mut bytes, tick));
                bytes.extend((-1_i16).to_be_bytes());
                bytes
            }
        }
    }
}

fn line(text: &mut String, tick: Tick) {
    let Tick {
        symbol,
        cents,
        time,
        volume,
    } = tick;
    let (whole, hundredths) = (cents / 100, cents % 100);
    // Writing to a String cannot fail.
    let _infallible = writeln!(
        text,
        "BENCH{symbol:02}\t{whole}.{hundredths:02}\t\\N\t\\N\t{volume}\t\\N\t\\N\t\\N\t\\N\t\\N\t{EXCHANGE}\t\\N\t{time}"
    );
}

fn row(bytes: &mut Vec<u8>, tick: Tick) {
    bytes.extend(FIELDS.to_be_bytes());
    field(bytes, symbol(tick.symbol).as_bytes());
    field(bytes, &numeric(tick.cents));
    null(bytes, 2);
    field(bytes, &tick.volume.to_be_bytes());
    null(bytes, 5);
    field(bytes, EXCHANGE.as_bytes());
    null(bytes, 1);
    field(
        bytes,
        &(tick.time.as_microseconds() - POSTGRES_EPOCH).to_be_bytes(),
    );
}

fn field(bytes: &mut Vec<u8>, value: &[u8]) {
    let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
    bytes.extend(length.to_be_bytes());
    bytes.extend(value);
}

fn null(bytes: &mut Vec<u8>, count: usize) {
    for _ in 0..count {
        bytes.extend((-1_i32).to_be_bytes());
    }
}

/// A `numeric` of two decimals: number of digits, weight of the first, sign, decimals to show, and digits to the base of
/// 10,000, of which none is zero at either end.
fn numeric(cents: i64) -> Vec<u8> {
    let digit = |value: i64| i16::try_from(value % 10_000).unwrap_or(0);
    let (whole, fraction) = (cents / 100, cents % 100 * 100);
    let mut digits = vec![digit(whole / 10_000), digit(whole), digit(fraction)];
    let mut weight: i16 = 1;
    while digits.first() == Some(&0) {
        digits.remove(0);
        weight -= 1;
    }
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let count = i16::try_from(digits.len()).unwrap_or(0);
    [count, weight, 0, 2]
        .into_iter()
        .chain(digits)
        .flat_map(i16::to_be_bytes)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: &[u8]) -> Vec<i16> {
        bytes
            .chunks_exact(2)
            .map(|pair| i16::from_be_bytes([pair[0], pair[1]]))
            .collect()
    }

    #[test]
    fn numerics_are_those_of_the_protocol() {
        assert_eq!(words(&numeric(22_812)), [2, 0, 0, 2, 228, 1_200]);
        assert_eq!(words(&numeric(10_000)), [1, 0, 0, 2, 100]);
        assert_eq!(words(&numeric(5)), [1, -1, 0, 2, 500]);
        assert_eq!(words(&numeric(123_456_789)), [3, 1, 0, 2, 123, 4_567, 8_900]);
    }

    #[test]
    fn a_row_has_every_field() {
        let tick = Tick {
            symbol: 7,
            cents: 22_812,
            time: "2026-11-20T20:59:59Z".parse().unwrap(),
            volume: 44_489_128,
        };
        let mut text = String::new();
        line(&mut text, tick);
        assert_eq!(text.matches('\t').count() + 1, usize::try_from(FIELDS).unwrap());
        assert!(text.ends_with("\t2026-11-20T20:59:59Z\n"));
        let bytes = Format::Binary.encode(std::iter::once(tick));
        // Header and trailer, the number of fields, 13 lengths, and five values.
        assert_eq!(bytes.len(), 19 + 2 + 2 + 13 * 4 + 7 + 12 + 8 + 6 + 8);
    }
}
