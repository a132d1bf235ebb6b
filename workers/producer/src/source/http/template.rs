//! The URL with a place for symbols.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use contract::symbol::Symbol;
use reqwest::Url;

use crate::source::requester::Shape;

/// Stands for one symbol.
const SYMBOL: &str = "{symbol}";
/// Stands for many, separated by commas.
const SYMBOLS: &str = "{symbols}";
/// What no host, path or query has by chance.
const PROBE: &str = "stockfeed-place-of-symbols";

/// A URL with `{symbol}` or `{symbols}` in its path or query.
#[derive(Clone, Debug)]
pub struct Template {
    url: String,
    shape: Shape,
}

impl Template {
    /// Checks a URL.
    ///
    /// # Errors
    /// When it is none, or has no such place, both, or one outside of path and query.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let shape = match (url.contains(SYMBOL), url.contains(SYMBOLS)) {
            (true, false) => Shape::Single,
            (false, true) => Shape::Batch,
            _ => anyhow::bail!("source.http.url must have either {SYMBOL} or {SYMBOLS} in it"),
        };
        let template = Self {
            url: url.to_owned(),
            shape,
        };
        let filled: Url = template
            .replace(PROBE)
            .parse()
            .context("failed to parse source.http.url")?;
        ensure!(
            matches!(filled.scheme(), "http" | "https"),
            "source.http.url must begin with http:// or https://"
        );
        ensure!(
            filled.username().is_empty() && filled.password().is_none(),
            "source.http.url must not hold credentials: use source.http.keyHeader and a Secret"
        );
        // Anywhere else it would choose the host that the key is sent to, or not be sent at all.
        let sent = format!("{}?{}", filled.path(), filled.query().unwrap_or_default());
        let elsewhere =
            filled.host_str().is_some_and(|host| host.contains(PROBE)) || filled.fragment().is_some();
        ensure!(
            sent.contains(PROBE) && !elsewhere,
            "source.http.url must have its symbols in the path or the query, and no fragment"
        );
        Ok(template)
    }

    /// How many symbols a request is for.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The URL for some symbols.
    #[must_use]
    pub fn fill(&self, symbols: &[Symbol]) -> String {
        let symbols: Vec<String> = symbols.iter().map(|symbol| encode(symbol.as_str())).collect();
        self.replace(&symbols.join(","))
    }

    fn replace(&self, symbols: &str) -> String {
        let place = match self.shape {
            Shape::Single => SYMBOL,
            Shape::Batch => SYMBOLS,
        };
        self.url.replace(place, symbols)
    }
}

/// Percent-encodes everything that is not unreserved (RFC 3986), so that a symbol means the same in a path and in a query.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Cannot fail: the writer is a string.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(texts: &[&str]) -> Vec<Symbol> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn symbols_are_percent_encoded_and_stay_so() {
        let single = Template::new("https://example.com/v1/{symbol}/quote?s={symbol}&x=%20").unwrap();
        let filled = single.fill(&symbols(&["EURUSD=X"]));
        assert_eq!(
            filled,
            "https://example.com/v1/EURUSD%3DX/quote?s=EURUSD%3DX&x=%20"
        );
        assert_eq!(filled.parse::<Url>().unwrap().as_str(), filled);
        let batch = Template::new("http://127.0.0.1:8080?list={symbols}").unwrap();
        assert_eq!(
            batch.fill(&symbols(&["^GSPC", "BRK.B", "BF-B"])),
            "http://127.0.0.1:8080?list=%5EGSPC,BRK.B,BF-B"
        );
        assert_eq!((single.shape(), batch.shape()), (Shape::Single, Shape::Batch));
        assert_eq!(encode("a/ä~"), "a%2F%C3%A4~");
    }

    #[test]
    fn a_url_must_be_one_with_a_place_for_symbols() {
        for (url, says) in [
            ("https://example.com/quote", "either {symbol} or {symbols}"),
            ("https://example.com/{symbol}/{symbols}", "either"),
            ("example.com/{symbol}", "failed to parse"),
            ("ftp://example.com/{symbol}", "begin with http"),
            ("https://{symbol}.example.com/quote", "path or the query"),
            ("https://{symbol}.example.com/{symbol}", "path or the query"),
            ("https://example.com/#{symbol}", "path or the query"),
            ("https://user:secret@example.com/{symbol}", "credentials"),
            ("https://{symbol}@example.com/{symbol}", "credentials"),
            ("https://example.com:{symbol}/", "failed to parse"),
        ] {
            let error = Template::new(url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
