//! Superset's REST API, as far as dashboards need it.
//!
//! Who writes shows three things: a token of the account, a token against forged requests, and the session that the latter belongs to.
//! All three are got together, and again when Superset takes one of them no longer.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use reqwest::{Method, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use snafu::{ResultExt, Snafu};
use tokio::sync::Mutex;

use crate::{
    api::status::reason,
    http_client,
    metrics::requests::{Access, Requests, Server, answer_of},
};

/// The longest that one request may take. An import of a first dashboard takes a second, on a busy machine several.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// How much of Superset's words is shown.
const MAX_ANSWER: usize = 300;
/// The most entries of a list that Superset gives at once.
const PAGE_SIZE: usize = 100;
/// More pages than any installation has: a server that always says there is more is not asked for ever.
const MAX_PAGES: usize = 2_000;

/// An account in Superset.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user.
    pub username: String,
    /// Its password.
    pub password: SecretString,
    /// The only authority that is trusted, in PEM; `None`: the public ones.
    pub authority: Option<String>,
}

impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username
            && self.authority == other.authority
            && self.password.expose_secret() == other.password.expose_secret()
    }
}

/// A client with an account.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    account: Account,
    requests: Requests,
    session: Mutex<Option<HeaderMap>>,
}

/// Why Superset could not be asked or told.
#[derive(Debug, Snafu)]
pub enum Error {
    /// No client can be made.
    #[snafu(display("failed to set up a client of Superset"))]
    Setup {
        /// Why.
        source: http_client::Error,
    },
    /// No answer.
    #[snafu(display("failed to {action}: Superset does not answer"))]
    Request {
        /// What was attempted.
        action: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The account is refused.
    #[snafu(display("Superset refuses the operator's account {username}: {answer}"))]
    Authentication {
        /// Which.
        username: String,
        /// In Superset's words.
        answer: String,
    },
    /// The account may not do it.
    #[snafu(display("Superset does not let the operator's account {action}"))]
    Forbidden {
        /// What was attempted.
        action: String,
    },
    /// An error.
    #[snafu(display("failed to {action}: Superset answers {status}: {answer}"))]
    Answer {
        /// What was attempted.
        action: String,
        /// Its code.
        status: u16,
        /// In Superset's words.
        answer: String,
    },
    /// Not what was asked for.
    #[snafu(display("failed to {action}: what answers is not Superset, or of another version"))]
    Form {
        /// What was attempted.
        action: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl Error {
    /// As a condition's reason, when it concerns all that Superset does.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Setup { .. } => reason::SECRET_INVALID,
            Self::Request { source, .. } if certificates::meaning(source).is_some() => reason::TLS_FAILED,
            Self::Authentication { .. } => reason::AUTHENTICATION_FAILED,
            Self::Forbidden { .. } => reason::PERMISSION_DENIED,
            Self::Request { .. } | Self::Answer { .. } | Self::Form { .. } => reason::SUPERSET_UNREACHABLE,
        }
    }

    /// Whether it is about what was sent, and not about Superset as a whole. An import that cannot be used is answered with 500, as an
    /// error of Superset's own is.
    #[must_use]
    pub fn is_about_what_was_sent(&self) -> bool {
        matches!(self, Self::Answer { status, .. } if ![502, 503, 504, 429].contains(status))
    }
}

/// A list, page by page.
#[derive(Deserialize)]
struct Page<T> {
    count: usize,
    result: Vec<T>,
}

#[derive(Deserialize)]
struct Answered<T> {
    result: T,
}

impl Client {
    /// A client.
    ///
    /// # Errors
    /// When the account names an authority that is none.
    pub fn new(base: &Url, account: Account, requests: Requests, timeout: Duration) -> Result<Self, Error> {
        Ok(Self {
            http: http_client::build(account.authority.as_deref(), timeout).context(SetupSnafu)?,
            base: base.clone(),
            account,
            requests,
            session: Mutex::default(),
        })
    }

    /// Everything of a list. `query` is in Rison, without its parentheses.
    ///
    /// # Errors
    /// When Superset cannot be asked.
    pub async fn list<T: DeserializeOwned>(&self, path: &str, query: &str) -> Result<Vec<T>, Error> {
        let action = format!("list {path}");
        let comma = if query.is_empty() { "" } else { "," };
        let mut all = Vec::new();
        for page in 0..MAX_PAGES {
            let query = format!("({query}{comma}page:{page},page_size:{PAGE_SIZE})");
            let bytes = self
                .send(&action, Method::GET, path, Some(&query), Body::None)
                .await?;
            let Page { count, result } =
                serde_json::from_slice(&bytes).context(FormSnafu { action: &action })?;
            let is_last = result.len() < PAGE_SIZE;
            all.extend(result);
            if is_last || all.len() >= count {
                break;
            }
        }
        Ok(all)
    }

    /// The result of a request that only reads.
    ///
    /// # Errors
    /// When Superset cannot be asked.
    pub async fn read<T: DeserializeOwned>(&self, path: &str, query: Option<&str>) -> Result<T, Error> {
        let action = format!("read {path}");
        let bytes = self.send(&action, Method::GET, path, query, Body::None).await?;
        let Answered { result } = serde_json::from_slice(&bytes).context(FormSnafu { action })?;
        Ok(result)
    }

    /// A dashboard with all that it consists of, as an archive.
    ///
    /// # Errors
    /// When Superset cannot be asked.
    pub async fn export(&self, dashboard: i64) -> Result<Vec<u8>, Error> {
        let action = format!("export dashboard {dashboard}");
        let query = format!("!({dashboard})");
        self.send(
            &action,
            Method::GET,
            "dashboard/export/",
            Some(&query),
            Body::None,
        )
        .await
    }

    /// Imports an archive. `passwords` are those of the databases in it, by their files, in JSON. It is done as a whole or not at all.
    ///
    /// # Errors
    /// When Superset cannot be told, or does not take it.
    pub async fn import(&self, what: &str, archive: &[u8], passwords: &str) -> Result<(), Error> {
        let action = format!("import {what}");
        let form = Form::new(archive, passwords);
        self.send(&action, Method::POST, "assets/import/", None, Body::Form(form))
            .await
            .map(drop)
    }

    /// Has Superset connect to a database. It changes nothing.
    ///
    /// # Errors
    /// When Superset cannot be asked, or cannot connect.
    pub async fn try_connection(&self, connection: Value) -> Result<(), Error> {
        let action = "try the connection to the feed's PostgreSQL";
        let path = "database/test_connection/";
        self.send(action, Method::POST, path, None, Body::Question(connection))
            .await
            .map(drop)
    }

    /// Writes something, and gives what Superset says of it.
    ///
    /// # Errors
    /// When Superset cannot be told.
    pub async fn write(&self, action: &str, method: Method, path: &str, body: Value) -> Result<Value, Error> {
        let bytes = self.send(action, method, path, None, Body::Json(body)).await?;
        serde_json::from_slice(&bytes).context(FormSnafu { action })
    }

    /// Deletes something. That it is not there is as good.
    ///
    /// # Errors
    /// When Superset cannot be told.
    pub async fn delete(&self, action: &str, path: &str) -> Result<(), Error> {
        match self.send(action, Method::DELETE, path, None, Body::None).await {
            Ok(_) | Err(Error::Answer { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes several things of a list at once. `query` names them, in Rison.
    ///
    /// # Errors
    /// When Superset cannot be told.
    pub async fn delete_all(&self, action: &str, path: &str, query: &str) -> Result<(), Error> {
        match self
            .send(action, Method::DELETE, path, Some(query), Body::None)
            .await
        {
            Ok(_) | Err(Error::Answer { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn send(
        &self,
        action: &str,
        method: Method,
        path: &str,
        query: Option<&str>,
        body: Body,
    ) -> Result<Vec<u8>, Error> {
        let mut session = self.session.lock().await;
        let known = session.take();
        let is_new = known.is_none();
        let headers = match known {
            Some(headers) => headers,
            None => self.log_in().await?,
        };
        let (status, bytes) = self
            .attempt(action, method.clone(), path, query, &body, &headers)
            .await?;
        // A token that ran out, a session that a new secret key ended, an account that was made anew.
        let is_stale = status == StatusCode::UNAUTHORIZED
            || (status == StatusCode::BAD_REQUEST && text_of(&bytes).contains("CSRF"));
        let (headers, status, bytes) = match is_stale && !is_new {
            true => {
                let headers = self.log_in().await?;
                let (status, bytes) = self.attempt(action, method, path, query, &body, &headers).await?;
                (headers, status, bytes)
            }
            false => (headers, status, bytes),
        };
        match status {
            status if status.is_success() => {
                *session = Some(headers);
                Ok(bytes)
            }
            StatusCode::UNAUTHORIZED => AuthenticationSnafu {
                username: &self.account.username,
                answer: words(&bytes),
            }
            .fail(),
            status => {
                *session = Some(headers);
                match status {
                    StatusCode::FORBIDDEN => ForbiddenSnafu { action }.fail(),
                    status => AnswerSnafu {
                        action,
                        status: status.as_u16(),
                        answer: words(&bytes),
                    }
                    .fail(),
                }
            }
        }
    }

    async fn attempt(
        &self,
        action: &str,
        method: Method,
        path: &str,
        query: Option<&str>,
        body: &Body,
        headers: &HeaderMap,
    ) -> Result<(StatusCode, Vec<u8>), Error> {
        let mut url = self.url(path);
        if let Some(query) = query {
            url.query_pairs_mut().append_pair("q", query);
        }
        let request = self.http.request(method.clone(), url).headers(headers.clone());
        let request = match body {
            Body::None => request,
            Body::Json(value) | Body::Question(value) => request.json(value),
            Body::Form(form) => request
                .header(header::CONTENT_TYPE, form.content_type())
                .body(form.content.clone()),
        };
        let access = match (method, body) {
            (Method::GET, _) | (_, Body::Question(_)) => Access::Read,
            _ => Access::Write,
        };
        self.answer(action, access, request)
            .await
            .map(|(status, _, bytes)| (status, bytes))
    }

    /// Gets the three tokens.
    async fn log_in(&self) -> Result<HeaderMap, Error> {
        #[derive(Deserialize)]
        struct Login {
            access_token: SecretString,
        }
        let Account {
            username, password, ..
        } = &self.account;
        let action = "log in";
        let body = json!({"username": username, "password": password.expose_secret(), "provider": "db"});
        let request = self.http.post(self.url("security/login")).json(&body);
        let (status, _, bytes) = self.answer(action, Access::Read, request).await?;
        if status == StatusCode::UNAUTHORIZED {
            let answer = words(&bytes);
            return AuthenticationSnafu { username, answer }.fail();
        }
        succeeded(action, status, &bytes)?;
        let Login { access_token } = serde_json::from_slice(&bytes).context(FormSnafu { action })?;

        let mut headers = HeaderMap::new();
        headers.insert(
            header::AUTHORIZATION,
            secret(&format!("Bearer {}", access_token.expose_secret())),
        );
        let action = "get a token against forged requests";
        let request = self
            .http
            .get(self.url("security/csrf_token/"))
            .headers(headers.clone());
        let (status, answered, bytes) = self.answer(action, Access::Read, request).await?;
        succeeded(action, status, &bytes)?;
        let Answered::<String> { result } = serde_json::from_slice(&bytes).context(FormSnafu { action })?;
        headers.insert("x-csrftoken", secret(&result));
        // Where it is TLS, Superset checks where the request comes from.
        headers.insert(header::REFERER, secret(self.base.as_str()));
        let cookies: Vec<_> = answered
            .get_all(header::SET_COOKIE)
            .iter()
            .filter_map(|cookie| cookie.to_str().ok()?.split(';').next())
            .collect();
        headers.insert(header::COOKIE, secret(&cookies.join("; ")));
        Ok(headers)
    }

    async fn answer(
        &self,
        action: &str,
        access: Access,
        request: reqwest::RequestBuilder,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), Error> {
        let failed = |error: reqwest::Error| Error::Request {
            action: action.to_owned(),
            source: error.without_url(),
        };
        let ended = |answered: &Result<reqwest::Response, _>| {
            answer_of(answered.as_ref().map(reqwest::Response::status))
        };
        let response = self
            .requests
            .timed(Server::Superset, access, request.send(), ended)
            .await
            .map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.map_err(failed)?;
        Ok((status, headers, bytes.into()))
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let before = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{before}/api/v1/{path}"));
        url
    }
}

/// What is sent.
enum Body {
    None,
    Json(Value),
    /// Something that changes nothing.
    Question(Value),
    Form(Form),
}

/// A form with a file, RFC 7578.
struct Form {
    boundary: String,
    content: Vec<u8>,
}

impl Form {
    fn new(archive: &[u8], passwords: &str) -> Self {
        let boundary = format!("stockfeed-{:032x}", rand::random::<u128>());
        let before = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"passwords\"\r\n\r\n{passwords}\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"bundle\"; filename=\"assets.zip\"\r\nContent-Type: application/zip\r\n\r\n"
        );
        let after = format!("\r\n--{boundary}--\r\n");
        Self {
            content: [before.as_bytes(), archive, after.as_bytes()].concat(),
            boundary,
        }
    }

    fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }
}

/// A header that is shown nowhere. A text that cannot be one is as good as none: Superset refuses it.
fn secret(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

fn succeeded(action: &str, status: StatusCode, bytes: &[u8]) -> Result<(), Error> {
    match status.is_success() {
        true => Ok(()),
        false => AnswerSnafu {
            action,
            status: status.as_u16(),
            answer: words(bytes),
        }
        .fail(),
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What an answer says, in a few words.
fn words(bytes: &[u8]) -> String {
    let text = text_of(bytes);
    let said = serde_json::from_str::<Value>(&text).ok().and_then(|answer| {
        let errors = answer.pointer("/errors/0/message").and_then(Value::as_str);
        let message = answer.get("message").or_else(|| answer.get("msg"));
        let message = message.map(|message| {
            message
                .as_str()
                .map_or_else(|| message.to_string(), str::to_owned)
        });
        errors.map(str::to_owned).or(message)
    });
    // A page of a proxy says nothing that is worth a line.
    let said = said.unwrap_or_else(|| match text.trim_start().starts_with('<') {
        true => "a page of HTML".to_owned(),
        false => text,
    });
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_ANSWER).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::message(
        r#"{"message": "Import failed for an unknown reason"}"#,
        "Import failed for an unknown reason"
    )]
    #[case::fields(r#"{"message": {"name": ["too long"]}}"#, r#"{"name":["too long"]}"#)]
    #[case::errors(r#"{"errors": [{"message": "no such table"}]}"#, "no such table")]
    #[case::token(r#"{"msg": "Token has expired"}"#, "Token has expired")]
    #[case::page("<!doctype html>\n<title>500</title>", "a page of HTML")]
    #[case::text("upstream\n  connect error", "upstream connect error")]
    fn answers_are_told_in_a_line(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(words(text.as_bytes()), expected);
    }

    #[test]
    fn a_form_holds_the_archive_as_it_is() {
        let archive = b"PK\x03\x04\r\n--\x00\xff";
        let form = Form::new(archive, r#"{"databases/a.yaml":"s3cret"}"#);
        let found = form
            .content
            .windows(archive.len())
            .filter(|window| window == archive);
        assert_eq!(found.count(), 1);
        let text = text_of(&form.content);
        assert!(text.contains(r#"{"databases/a.yaml":"s3cret"}"#), "{text}");
        assert!(text.ends_with(&format!("--{}--\r\n", form.boundary)), "{text}");
    }

    #[rstest]
    #[case::root("http://superset:8080", "http://superset:8080/api/v1/chart/")]
    #[case::below_a_path("https://example.com/bi/", "https://example.com/bi/api/v1/chart/")]
    fn paths_are_appended_to_the_address(#[case] base: &str, #[case] expected: &str) {
        let account = Account {
            username: "operator".to_owned(),
            password: "s3cret".into(),
            authority: None,
        };
        let metrics = crate::metrics::Metrics::new();
        let base = base.parse().unwrap();
        let client = Client::new(&base, account, metrics.requests, TIMEOUT).unwrap();
        assert_eq!(client.url("chart/").as_str(), expected);
    }
}
