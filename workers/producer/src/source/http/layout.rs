//! Where the quotes are in an answer, and the values in a quote. Pure.

use contract::{
    config::{HttpConfig, TimeFormat},
    symbol::Symbol,
    tick::{RejectReason, Rejected, Tick},
};
use serde_json::value::RawValue;

use super::pointer::Pointer;
use crate::source::{client::show, round::Entry, value};

/// The layout of an answer.
#[derive(Clone, Debug)]
pub struct Layout {
    quotes: Pointer,
    symbol: Option<Pointer>,
    price: Pointer,
    time: Pointer,
    time_format: TimeFormat,
    volume: Option<Pointer>,
}

impl Layout {
    /// The layout that a configuration describes.
    ///
    /// # Errors
    /// When one of its JSON pointers is none; the error names the field.
    pub fn new(config: &HttpConfig) -> anyhow::Result<Self> {
        let optional = |field, text: &Option<String>| {
            let text = text.as_deref();
            text.map(|text| Pointer::new(field, text)).transpose()
        };
        Ok(Self {
            quotes: Pointer::new("source.http.quotes", &config.quotes)?,
            symbol: optional("source.http.symbol", &config.symbol)?,
            price: Pointer::new("source.http.price", &config.price)?,
            time: Pointer::new("source.http.time", &config.time)?,
            time_format: config.time_format,
            volume: optional("source.http.volume", &config.volume)?,
        })
    }

    /// Reads the answer to a request for some symbols. A quote that is wrong does not spoil its neighbours.
    ///
    /// # Errors
    /// What is wrong with the answer as a whole: it is not JSON, or has neither an object nor a list, nor null, in the place
    /// of the quotes.
    pub fn quotes(&self, body: &[u8], asked: &[Symbol]) -> Result<Vec<Entry>, String> {
        let answer: &RawValue = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let found = self.quotes.find(answer).map_err(|error| error.to_string())?;
        let quotes = found.ok_or_else(|| self.missing("nothing", answer))?;
        // Null says that there are none; a missing place, that this is no answer.
        if quotes.get() == "null" {
            return Ok(Vec::new());
        }
        if quotes.get().starts_with('{') {
            return Ok(vec![self.quote(quotes, asked)]);
        }
        let entries: Vec<&RawValue> = serde_json::from_str(quotes.get())
            .map_err(|_| self.missing("neither an object nor a list", answer))?;
        Ok(entries
            .into_iter()
            .filter(|entry| entry.get() != "null")
            .map(|entry| self.quote(entry, asked))
            .collect())
    }

    fn missing(&self, what: &str, answer: &RawValue) -> String {
        let place = self.quotes.as_str();
        format!(
            "there is {what} at {place:?} (source.http.quotes) in {}",
            show(answer.get(), None)
        )
    }

    fn quote(&self, quote: &RawValue, asked: &[Symbol]) -> Entry {
        let symbol = self.symbol(quote, asked).map_err(|rejected| (None, rejected))?;
        self.tick(symbol.clone(), quote)
            .map_err(|rejected| (Some(symbol), rejected))
    }

    fn symbol(&self, quote: &RawValue, asked: &[Symbol]) -> Result<Symbol, Rejected> {
        match (&self.symbol, asked) {
            (None, [only]) => Ok(only.clone()),
            (None, _) => {
                let detail = "source.http.symbol is not set, and more than one symbol was asked for";
                Err(Rejected::new(RejectReason::InvalidSymbol, detail))
            }
            (Some(pointer), _) => {
                let raw = find(pointer, quote)?;
                let text = raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
                let text = text.ok_or_else(|| {
                    let detail = format!("{} is missing, or not a text", pointer.as_str());
                    Rejected::new(RejectReason::InvalidSymbol, detail)
                })?;
                value::symbol(&text, asked)
            }
        }
    }

    fn tick(&self, symbol: Symbol, quote: &RawValue) -> Result<Tick, Rejected> {
        let price = value::price(self.price.as_str(), find(&self.price, quote)?)?;
        let time = find(&self.time, quote)?;
        let event_time = value::event_time(self.time.as_str(), time, self.time_format)?;
        let volume = match &self.volume {
            Some(pointer) => value::volume(pointer.as_str(), find(pointer, quote)?)?,
            None => None,
        };
        Ok(Tick {
            symbol,
            price,
            event_time,
            volume,
            market_cap: None,
            open: None,
            day_high: None,
            day_low: None,
            previous_close: None,
            change: None,
            change_percentage: None,
            exchange: None,
            name: None,
        })
    }
}

/// A value of a quote; `None` where it is missing or null.
fn find<'a>(pointer: &Pointer, quote: &'a RawValue) -> Result<Option<&'a RawValue>, Rejected> {
    let found = pointer
        .find(quote)
        .map_err(|error| Rejected::new(RejectReason::Undecodable, error.to_string()))?;
    Ok(found.filter(|value| value.get() != "null"))
}

#[cfg(test)]
mod tests;
