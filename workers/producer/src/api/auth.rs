//! Who may use the API: whoever knows its token.
//!
//! The token lies in a mounted Secret, and its files are read again while the producer runs, so that a token can be changed
//! without a restart: first `previous` gets the old one and `token` the new one, and when everybody uses that `previous` goes.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret as _, SecretString};
use service::credentials::{self, secret_file};
use subtle::ConstantTimeEq as _;
use tracing::{info, warn};

use crate::{
    api::{Shared, problem::Problem},
    chain::chain,
};

/// How long what was read is good.
const MAX_AGE: Duration = Duration::from_secs(1);
/// What is asked for who brings no token.
pub const CHALLENGE: &str = "Bearer";
/// What is asked for who brings a wrong one (RFC 6750).
pub const CHALLENGE_AGAIN: &str = r#"Bearer error="invalid_token""#;

/// Compares tokens with those of a folder.
pub struct Gate {
    directory: PathBuf,
    last: Mutex<Option<Reading>>,
}

/// What the folder held.
struct Reading {
    at: Instant,
    /// `None`: it could not be read.
    tokens: Option<Arc<Tokens>>,
}

struct Tokens {
    current: SecretString,
    previous: Option<SecretString>,
}

impl Gate {
    /// Tokens in the files `token` and, while it is there, `previous` of a folder.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            last: Mutex::new(None),
        }
    }

    /// Whether a request may pass.
    ///
    /// # Errors
    /// 401 when it has no token or a wrong one, 503 when there is none to compare with.
    pub fn check(&self, headers: &HeaderMap, now: Instant) -> Result<(), Problem> {
        let Some(tokens) = self.tokens(now) else {
            return Err(Problem::token_unreadable());
        };
        let Some(given) = bearer(headers) else {
            let detail = "send the header Authorization: Bearer, a blank, and the API's token";
            return Err(Problem::unauthorized(detail, CHALLENGE));
        };
        if tokens.contain(given) {
            Ok(())
        } else {
            let detail = "this is not the API's token";
            Err(Problem::unauthorized(detail, CHALLENGE_AGAIN))
        }
    }

    /// The tokens, at most [`MAX_AGE`] old.
    fn tokens(&self, now: Instant) -> Option<Arc<Tokens>> {
        // What is in it is replaced whole: a panic elsewhere leaves it usable.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = last.as_ref()
            && now.saturating_duration_since(reading.at) < MAX_AGE
        {
            return reading.tokens.clone();
        }
        let could = last.as_ref().map(|reading| reading.tokens.is_some());
        let tokens = match Tokens::read(&self.directory) {
            Ok(tokens) => {
                if could == Some(false) {
                    info!("The API's token can be read again");
                }
                Some(Arc::new(tokens))
            }
            Err(error) => {
                // Once when it begins, not with each request.
                if could != Some(false) {
                    warn!("The API refuses all who need a token: {}", chain(&error));
                }
                None
            }
        };
        *last = Some(Reading {
            at: now,
            tokens: tokens.clone(),
        });
        tokens
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Gate")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    fn read(directory: &Path) -> Result<Self, credentials::Error> {
        let previous = match secret_file(&directory.join("previous")) {
            Ok(previous) => Some(previous),
            Err(credentials::Error::Empty { .. }) => None,
            Err(credentials::Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            current: secret_file(&directory.join("token"))?,
            previous,
        })
    }

    /// Takes as long for any wrong token of one length: both are compared, to their ends.
    fn contain(&self, given: &[u8]) -> bool {
        let equal = |secret: &SecretString| secret.expose_secret().as_bytes().ct_eq(given);
        let current = equal(&self.current);
        let either = self
            .previous
            .as_ref()
            .map_or(current, |previous| current | equal(previous));
        either.into()
    }
}

/// The token that a request brings.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"Bearer ";
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.as_bytes().split_at_checked(SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then_some(token.trim_ascii())
        .filter(|token| !token.is_empty())
}

/// Lets requests pass that bring the token; all, when no folder is configured.
pub async fn require(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let verdict = shared
        .gate
        .as_ref()
        .map_or(Ok(()), |gate| gate.check(request.headers(), Instant::now()));
    match verdict {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use axum::http::StatusCode;

    use super::*;

    /// Status and challenge of a refusal, or 200.
    fn check(gate: &Gate, authorization: Option<&str>, now: Instant) -> (u16, Option<String>) {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        match gate.check(&headers, now) {
            Ok(()) => (200, None),
            Err(problem) => {
                let response = problem.into_response();
                let challenge = response.headers().get(header::WWW_AUTHENTICATE);
                let challenge = challenge.map(|value| value.to_str().unwrap().to_owned());
                (response.status().as_u16(), challenge)
            }
        }
    }

    fn with_token(token: &str) -> (tempfile::TempDir, Gate) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("token"), token).unwrap();
        let gate = Gate::new(directory.path().to_owned());
        (directory, gate)
    }

    #[test]
    fn the_token_opens_and_nothing_else_does() {
        let (_directory, gate) = with_token("secret-1\n");
        let now = Instant::now();
        for right in ["Bearer secret-1", "bearer secret-1", "Bearer  secret-1"] {
            assert_eq!(check(&gate, Some(right), now).0, 200, "{right}");
        }
        let asked = (401, Some("Bearer".to_owned()));
        for none in [
            None,
            Some("Basic c2VjcmV0LTE="),
            Some("Bearer"),
            Some("Bearer "),
            Some("secret-1"),
        ] {
            assert_eq!(check(&gate, none, now), asked, "{none:?}");
        }
        let again = (401, Some(CHALLENGE_AGAIN.to_owned()));
        for wrong in [
            "Bearer secret-2",
            "Bearer secret",
            "Bearer secret-11",
            "Bearer secret-1, x",
        ] {
            assert_eq!(check(&gate, Some(wrong), now), again, "{wrong}");
        }
    }

    #[test]
    fn two_authorization_headers_are_none() {
        let (_directory, gate) = with_token("secret-1");
        let mut headers = HeaderMap::new();
        headers.append(header::AUTHORIZATION, "Bearer secret-1".parse().unwrap());
        headers.append(header::AUTHORIZATION, "Bearer secret-1".parse().unwrap());
        let refused = gate.check(&headers, Instant::now()).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn a_token_is_rotated_without_a_restart() {
        let (directory, gate) = with_token("old");
        let start = Instant::now();
        assert_eq!(check(&gate, Some("Bearer old"), start).0, 200);
        fs::write(directory.path().join("previous"), "old").unwrap();
        fs::write(directory.path().join("token"), "new").unwrap();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(
            check(&gate, Some("Bearer new"), at(999)).0,
            401,
            "not read again yet"
        );
        assert_eq!(check(&gate, Some("Bearer new"), at(1_000)).0, 200);
        assert_eq!(check(&gate, Some("Bearer old"), at(1_000)).0, 200, "still good");
        fs::remove_file(directory.path().join("previous")).unwrap();
        assert_eq!(check(&gate, Some("Bearer old"), at(2_000)).0, 401);
        assert_eq!(check(&gate, Some("Bearer new"), at(2_000)).0, 200);
    }

    #[test]
    fn without_a_token_to_compare_with_nobody_passes() {
        let directory = tempfile::tempdir().unwrap();
        let gate = Gate::new(directory.path().to_owned());
        let start = Instant::now();
        assert_eq!(check(&gate, Some("Bearer any"), start).0, 503, "no file");
        fs::write(directory.path().join("token"), "\n").unwrap();
        fs::write(directory.path().join("previous"), "old").unwrap();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(check(&gate, Some("Bearer old"), at(1)).0, 503, "an empty file");
        fs::write(directory.path().join("token"), "new").unwrap();
        fs::write(directory.path().join("previous"), "").unwrap();
        assert_eq!(check(&gate, Some("Bearer new"), at(2)).0, 200, "it heals");
        assert_eq!(
            check(&gate, Some("Bearer "), at(2)).0,
            401,
            "an empty token is none"
        );
        fs::remove_file(directory.path().join("previous")).unwrap();
        fs::create_dir(directory.path().join("previous")).unwrap();
        assert_eq!(
            check(&gate, Some("Bearer new"), at(3)).0,
            503,
            "not known whether all are right"
        );
    }

    #[test]
    fn a_token_is_in_no_text() {
        let (_directory, gate) = with_token("secret-1");
        assert_eq!(check(&gate, Some("Bearer secret-1"), Instant::now()).0, 200);
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer guessed".parse().unwrap());
        let problem = gate.check(&headers, Instant::now()).unwrap_err();
        let texts = format!("{gate:?} {problem:?}");
        assert!(
            !texts.contains("secret-1") && !texts.contains("guessed"),
            "{texts}"
        );
    }
}
