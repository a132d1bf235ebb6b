//! What applies to every request.

use std::time::Duration;

use axum::{
    extract::Request,
    http::{HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::api::{docs, problem::Problem};

/// How long a request may take, its body included. Longer than any answer needs: it ends those that never become complete.
pub const TIMEOUT: Duration = Duration::from_secs(70);

/// Answers 408 when a request takes longer than [`TIMEOUT`].
pub async fn limit_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timed_out(TIMEOUT.as_secs()).into_response(),
    }
}

/// No answer is taken for what its type does not say, and none is kept: each is about this moment. The files of the
/// documentation may be.
pub async fn add_headers(request: Request, next: Next) -> Response {
    let keep = docs::is_file(request.uri().path());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if !keep {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
