//! Daily bars, read from CSV.

use std::{collections::BTreeMap, io::Read, path::Path};

use contract::symbol::Symbol;
use flate2::read::GzDecoder;
use jiff::civil::Date;
use rust_decimal::Decimal;
use serde::Deserialize;
use snafu::{ResultExt, Snafu, ensure};

/// The history that the program brings along; `data/README.md` says where it is from.
const SAMPLE: &[u8] = include_bytes!("../data/daily-bars.csv.gz");
/// The first two bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// One day of one symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// The exchange's calendar day.
    pub date: Date,
    /// The first price.
    pub open: Decimal,
    /// The highest price.
    pub high: Decimal,
    /// The lowest price.
    pub low: Decimal,
    /// The last price.
    pub close: Decimal,
    /// Shares traded.
    pub volume: i64,
}

/// The bars of each symbol, in the order of their days.
pub type Bars = BTreeMap<Symbol, Vec<Bar>>;

/// Why a history cannot be used.
#[derive(Debug, Snafu)]
pub enum Error {
    /// The file cannot be read.
    #[snafu(display("failed to read the history {path}"))]
    Open {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not of the form.
    #[snafu(display(
        "failed to read a bar: a line must have Ticker, Date, Open, High, Low, Close and Volume"
    ))]
    Form {
        /// Where and why.
        source: csv::Error,
    },
    /// A bar contradicts itself.
    #[snafu(display("failed to use the bar of {symbol} on {date}: {problem}"))]
    Bar {
        /// Whose.
        symbol: Symbol,
        /// Of which day.
        date: Date,
        /// Why.
        problem: &'static str,
    },
}

/// A line of the file. Numbers stay text until they are decimals: no digit passes through a float.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    ticker: Symbol,
    date: Date,
    open: Decimal,
    high: Decimal,
    low: Decimal,
    close: Decimal,
    volume: i64,
}

/// Reads the history that the program brings along.
///
/// # Errors
/// Never in a build that passed its tests.
pub fn sample() -> Result<Bars, Error> {
    parse(SAMPLE)
}

/// Reads a CSV file, gzipped or not.
///
/// # Errors
/// When it cannot be read, is not of the form, or a bar contradicts itself.
pub fn read(path: &Path) -> Result<Bars, Error> {
    let bytes = std::fs::read(path).context(OpenSnafu {
        path: path.display().to_string(),
    })?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Bars, Error> {
    let text: Box<dyn Read + '_> = if bytes.starts_with(&GZIP) {
        Box::new(GzDecoder::new(bytes))
    } else {
        Box::new(bytes)
    };
    let mut bars = Bars::new();
    for line in csv::Reader::from_reader(text).deserialize() {
        let Line {
            ticker,
            date,
            open,
            high,
            low,
            close,
            volume,
        } = line.context(FormSnafu)?;
        let bar = Bar {
            date,
            open,
            high,
            low,
            close,
            volume,
        };
        let days = bars.entry(ticker.clone()).or_default();
        let problem = problem(&bar, days.last());
        ensure!(
            problem.is_none(),
            BarSnafu {
                symbol: ticker,
                date,
                problem: problem.unwrap_or_default()
            }
        );
        days.push(bar);
    }
    Ok(bars)
}

fn problem(bar: &Bar, previous: Option<&Bar>) -> Option<&'static str> {
    if previous.is_some_and(|previous| previous.date >= bar.date) {
        return Some("days must be in order, each once");
    }
    if bar.low <= Decimal::ZERO {
        return Some("prices must be above zero");
    }
    if bar.low > bar.open.min(bar.close) || bar.high < bar.open.max(bar.close) {
        return Some("open and close must lie between low and high");
    }
    (bar.volume < 0).then_some("volume must not be negative")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const HEADER: &str = "Ticker,Date,Open,High,Low,Close,Volume,Adj Close\n";

    #[test]
    fn the_sample_is_whole_and_exact() {
        let bars = sample().unwrap();
        let counts: Vec<_> = bars
            .iter()
            .map(|(symbol, days)| (symbol.as_str(), days.len()))
            .collect();
        let expected = [
            ("AAPL", 3_270),
            ("FB", 196),
            ("GOOG", 2_148),
            ("IBM", 3_270),
            ("MSFT", 3_270),
        ];
        assert_eq!(counts, expected);
        let first = bars["AAPL"][0];
        let digits = [first.open, first.high, first.low, first.close].map(|price| price.to_string());
        assert_eq!(digits, ["118.56", "132.06", "118.5", "130.31"]);
        assert_eq!(bars["AAPL"][1].open.to_string(), "127.0", "a last zero is kept");
    }

    #[test]
    fn plain_and_gzipped_files_are_read() {
        let text = format!("{HEADER}A,2012-01-03,1.50,2,1,1.75,100,9\n");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("plain.csv", text.clone().into_bytes()),
            ("zipped", gzip.finish().unwrap()),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read(&path).unwrap()["A"][0].open.to_string(), "1.50");
        }
        let missing = read(&folder.path().join("missing.csv")).unwrap_err();
        assert!(missing.to_string().contains("missing.csv"));
    }

    #[test]
    fn a_bar_that_contradicts_itself_is_refused() {
        for (lines, expected) in [
            ("A,2012-01-03,1,2,1,3,100,\n", "between low and high"),
            ("A,2012-01-03,0,2,0,1,100,\n", "above zero"),
            ("A,2012-01-03,1,2,1,1,-1,\n", "negative"),
            ("A,2012-01-03,1,2,1,1,1,\nA,2012-01-03,1,2,1,1,1,\n", "in order"),
            ("A,2012-01-03,x,2,1,1,1,\n", "a line must have"),
        ] {
            let error = parse(format!("{HEADER}{lines}").as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{lines}: {error}");
        }
    }
}
