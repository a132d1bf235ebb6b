//! What is answered to what the poll loop replied: a fetch's outcome, or why there is none.

use std::{collections::BTreeMap, time::Duration};

use axum::http::StatusCode;
use contract::symbol::Symbol;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{problem::Problem, schema::SymbolText},
    poll::command::{Outcome, Refusal, Report, SymbolReport},
};

/// What a fetch brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FetchAnswer {
    /// How many quotes came, for people.
    #[schema(example = "Fetched 4 of 4 symbols")]
    message: String,
    /// The symbols that were asked for.
    #[schema(value_type = Vec<SymbolText>)]
    symbols: Vec<Symbol>,
    /// Quotes that were published, or wait for the broker.
    published: usize,
    /// Quotes that were the same as the last one of their symbol.
    unchanged: usize,
    /// Symbols that the source does not know.
    #[schema(value_type = Vec<SymbolText>)]
    absent: Vec<Symbol>,
    /// What went wrong.
    errors: Vec<FetchError>,
    /// When it was done.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// What became of each symbol.
    #[schema(value_type = BTreeMap<String, SymbolReport>)]
    results: BTreeMap<Symbol, SymbolReport>,
    /// Calls to the source that it took; they count against the quota.
    calls: u64,
    /// Calls that are left for today; `null` when there is no limit.
    quota_left: Option<u64>,
}

/// Something that went wrong, and the symbols that it concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FetchError {
    /// Which.
    #[schema(value_type = Vec<SymbolText>)]
    symbols: Vec<Symbol>,
    /// Its class, as in `GET /ready`.
    reason: String,
    /// For people.
    message: String,
}

/// What is answered to a fetch that was made.
///
/// # Errors
/// 502 when every request to the source failed.
pub fn answer(
    symbols: Vec<Symbol>,
    report: Report,
    quota_left: Option<u64>,
    now: Timestamp,
) -> Result<FetchAnswer, Problem> {
    let Report {
        results,
        calls,
        published,
        unchanged,
    } = report;
    if !results.is_empty() && results.values().all(|result| result.outcome == Outcome::Failed) {
        return Err(all_failed(results));
    }
    let absent = results
        .iter()
        .filter(|(_, result)| result.outcome == Outcome::Absent);
    Ok(FetchAnswer {
        message: format!("Fetched {} of {} symbols", published + unchanged, symbols.len()),
        published,
        unchanged,
        absent: absent.map(|(symbol, _)| symbol.clone()).collect(),
        errors: errors(&results),
        timestamp: now,
        calls,
        quota_left,
        symbols,
        results,
    })
}

/// What went wrong: symbols with the same trouble together.
fn errors(results: &BTreeMap<Symbol, SymbolReport>) -> Vec<FetchError> {
    let mut errors: Vec<FetchError> = Vec::new();
    let wrong = results
        .iter()
        .filter(|(_, result)| matches!(result.outcome, Outcome::Failed | Outcome::Rejected));
    for (symbol, result) in wrong {
        let reason = result.reason.clone().unwrap_or_default();
        let message = result.message.clone().unwrap_or_default();
        match errors
            .iter_mut()
            .find(|error| error.reason == reason && error.message == message)
        {
            Some(error) => error.symbols.push(symbol.clone()),
            None => errors.push(FetchError {
                symbols: vec![symbol.clone()],
                reason,
                message,
            }),
        }
    }
    errors
}

/// 502: the source answered nothing.
pub fn all_failed(results: BTreeMap<Symbol, SymbolReport>) -> Problem {
    let first = results.values().next();
    let reason = first.and_then(|result| result.reason.clone());
    let message = first.and_then(|result| result.message.clone());
    Problem::new(
        StatusCode::BAD_GATEWAY,
        reason.unwrap_or_else(|| "Unknown".to_owned()),
        message.unwrap_or_else(|| "nothing was fetched".to_owned()),
    )
    .with_results(results)
}

/// 503: too much is ordered at once.
pub fn busy() -> Problem {
    let detail = "too many fetches are waiting: try again when one has ended";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Busy", detail)
}

/// 503: the poll loop takes no more orders.
pub fn shutting_down() -> Problem {
    let detail = "the producer is shutting down";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ShuttingDown", detail)
}

/// 429 or 503: the poll loop does not fetch now.
pub fn refused(refusal: &Refusal, now: Timestamp) -> Problem {
    let (limited, unavailable) = (StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE);
    match refusal {
        Refusal::Paused { left } => {
            let seconds = whole_seconds(*left);
            let detail = format!("the source asked for a pause: try again in {seconds} s");
            Problem::new(limited, "RateLimited", detail).retry_after(seconds)
        }
        Refusal::QuotaExhausted { needed, left, resets } => {
            let wait = Duration::try_from(resets.duration_since(now)).unwrap_or_default();
            let detail =
                format!("it would take {needed} calls, and {left} are left of the quota until {resets}");
            Problem::new(limited, "QuotaExhausted", detail).retry_after(whole_seconds(wait))
        }
        Refusal::QuotaUnknown { message } => {
            let detail = format!("calls cannot be counted now, and there is a limit: {message}");
            Problem::new(unavailable, "QuotaUnknown", detail)
        }
        Refusal::SpoolFull { bytes } => {
            let detail = format!(
                "{bytes} bytes wait for the broker, and there is no room for more: GET /ready says what is wrong with it"
            );
            Problem::new(unavailable, "SpoolFull", detail)
        }
    }
}

/// Rounded up, and never 0: who comes back must not be early.
fn whole_seconds(duration: Duration) -> u64 {
    let rounded = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    rounded.max(1)
}

#[cfg(test)]
mod tests;
