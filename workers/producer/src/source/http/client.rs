//! One request to the generic source.

use std::time::Duration;

use anyhow::Context as _;
use contract::symbol::Symbol;
use reqwest::header::HeaderName;
use serde_json::Value;

use super::{layout::Layout, template::Template};
use crate::source::{
    SourceError,
    client::Client,
    key::Key,
    requester::{Api, Endpoint, Shape},
    round::Answer,
};

/// Where the body of an error has its words, as JSON pointers: the places that most APIs use, in this order.
const WORDS: [&str; 7] = [
    "/error/message",
    "/error",
    "/message",
    "/detail",
    "/title",
    "/errors/0/message",
    "/Error Message",
];

/// Asks the generic source.
#[derive(Clone, Debug)]
pub struct HttpClient {
    http: Client,
    template: Template,
    key_header: Option<HeaderName>,
    layout: Layout,
}

impl HttpClient {
    /// Prepares a client; nothing is sent yet. The key, if there is one, is sent in the header without a prefix.
    ///
    /// # Errors
    /// When the header's name is not one.
    pub fn new(
        template: Template,
        key_header: Option<&str>,
        layout: Layout,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let key_header = key_header
            .map(str::parse)
            .transpose()
            .context("failed to read source.http.keyHeader: use the name of an HTTP header")?;
        Ok(Self {
            http: Client::new(timeout)?,
            template,
            key_header,
            layout,
        })
    }
}

impl Api for HttpClient {
    const HAS_SINGLES_INSTEAD: bool = false;

    fn endpoint(&self, _: Shape) -> Endpoint {
        Endpoint::Http
    }

    async fn get(&self, _: Shape, symbols: &[Symbol], key: Option<&Key>) -> Result<Answer, SourceError> {
        let request = self.http.request(self.template.fill(symbols));
        let request = match (&self.key_header, key) {
            (Some(name), Some(key)) => request.header(name, key.header()),
            (Some(_) | None, _) => request,
        };
        let received = self.http.send(request, key, words).await?;
        match self.layout.quotes(&received.body, symbols) {
            Ok(entries) => Ok(received.into_answer(entries, key)),
            Err(detail) => Err(received.malformed(&detail, key)),
        }
    }
}

/// What the body of an error says.
fn words(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    WORDS
        .iter()
        .find_map(|pointer| body.pointer(pointer)?.as_str())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_words_of_an_error() {
        for (body, expected) in [
            (r#"{"message":"no such plan"}"#, Some("no such plan")),
            (r#"{"error":"no","message":"such plan"}"#, Some("no")),
            (r#"{"error":{"code":5,"message":"no"}}"#, Some("no")),
            (r#"{"errors":[{"message":"no"}]}"#, Some("no")),
            (r#"{"status":"error"}"#, None),
            (r#"{"message":5}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(words(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }
}
