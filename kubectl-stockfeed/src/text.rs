//! Tables and times, as kubectl writes them.

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

/// What is shown where nothing is known.
pub const NONE: &str = "-";

/// Rows under titles, in columns as wide as they need to be.
#[must_use]
pub fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max();
            widest.unwrap_or(0).max(title.len())
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line.push_str(&format!("{cell:<width$}   "));
        }
        format!("{}\n", line.trim_end())
    };
    let mut text = line(&mut titles.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// How long something lasts, in its largest unit or two: `42s`, `3m10s`, `5h`, `12d`.
#[must_use]
pub fn span(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let seconds = seconds.unsigned_abs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let text = match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if !seconds.is_multiple_of(60) => format!("{minutes}m{}s", seconds % 60),
        120..7200 => format!("{minutes}m"),
        7200..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    };
    format!("{sign}{text}")
}

/// How long ago something was.
#[must_use]
pub fn ago(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(
        || NONE.to_owned(),
        |then| span(now.as_second() - then.as_second()),
    )
}

/// A value, or a sign that there is none.
#[must_use]
pub fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

/// For programs.
///
/// # Errors
/// When the value cannot be written as JSON.
pub fn json(value: &impl Serialize) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_have_no_blanks_at_their_end() {
        let rows = [
            vec!["é".to_owned(), "1".to_owned()],
            vec!["longer".to_owned(), String::new()],
        ];
        assert_eq!(table(&["NAME", "X"], &rows), "NAME     X\né        1\nlonger\n");
    }

    #[rstest]
    #[case(0, "0s")]
    #[case(119, "119s")]
    #[case(190, "3m10s")]
    #[case(180, "3m")]
    #[case(3600, "60m")]
    #[case(7200, "2h")]
    #[case(172_800, "2d")]
    #[case(-5, "-5s")]
    fn a_span_has_its_largest_unit(#[case] seconds: i64, #[case] expected: &str) {
        assert_eq!(span(seconds), expected);
    }
}
