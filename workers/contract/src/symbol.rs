//! Ticker symbols.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use snafu::Snafu;

/// The longest symbol, in characters.
pub const MAX_LENGTH: usize = 16;

/// The pattern of a symbol, as the custom resource's schema states it.
pub const PATTERN: &str = r"^[A-Z0-9.^=-]{1,16}$";

/// A ticker symbol as the source spells it: 1 to 16 of `A-Z 0-9 . ^ = -`.
///
/// The characters are those of stocks (`BRK.B`), indexes (`^GSPC`), pairs (`EURUSD=X`) and classes (`BF-B`).
/// None of them is special in a routing key except the dot, which only makes more words of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Symbol(Box<str>);

/// The text is not a symbol.
#[derive(Clone, Debug, PartialEq, Eq, Snafu)]
#[snafu(display("{text:?} is not a symbol: use 1 to {MAX_LENGTH} of A-Z, 0-9, '.', '^', '=' and '-'"))]
pub struct InvalidSymbol {
    text: String,
}

impl Symbol {
    /// The symbol's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Symbol {
    type Err = InvalidSymbol;

    fn from_str(text: &str) -> Result<Self, InvalidSymbol> {
        check(text)?;
        Ok(Self(text.into()))
    }
}

/// Whether a text is a symbol.
///
/// # Errors
/// When it is not; the error says what one is.
pub fn check(text: &str) -> Result<(), InvalidSymbol> {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b".^=-".contains(&byte);
    if text.is_empty() || text.len() > MAX_LENGTH || !text.bytes().all(allowed) {
        // The text may be anything somebody published: show no more of it than a symbol could have.
        return InvalidSymbolSnafu {
            text: text.chars().take(MAX_LENGTH + 1).collect::<String>(),
        }
        .fail();
    }
    Ok(())
}

impl TryFrom<String> for Symbol {
    type Error = InvalidSymbol;

    fn try_from(text: String) -> Result<Self, InvalidSymbol> {
        text.parse()
    }
}

impl From<Symbol> for String {
    fn from(symbol: Symbol) -> Self {
        symbol.0.into()
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Symbol {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_stocks_indexes_pairs_and_classes() {
        for text in [
            "A",
            "AAPL",
            "BRK.B",
            "^GSPC",
            "EURUSD=X",
            "BF-B",
            "0700.HK",
            "ABCDEFGHIJKLMNOP",
        ] {
            assert_eq!(text.parse::<Symbol>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn refuses_everything_else_and_says_what_is_allowed() {
        for text in ["", "aapl", "AA PL", "ABCDEFGHIJKLMNOPQ", "A/B", "Ä", "A*", "#"] {
            let error = text.parse::<Symbol>().unwrap_err().to_string();
            assert!(error.contains("A-Z"), "{error}");
        }
    }
}
