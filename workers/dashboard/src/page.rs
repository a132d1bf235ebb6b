//! The web page's files, which are in the binary.

use axum::{
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use rust_embed::RustEmbed;

use crate::{
    error::{ApiError, Code},
    flink,
};

/// What `npm run build` made. A build for an image fails without it (`build.rs`); for tests there may be none.
#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Files;

/// The page itself.
const INDEX: &str = "index.html";
/// Files below carry a hash of their content in their name.
const HASHED: &str = "assets/";
/// Paths that the page's own router knows.
const ROUTES: [&str; 2] = ["", "feeds"];

/// A file of the page; the page itself for what its router knows.
pub async fn serve(request: Request) -> Response {
    let path = request.uri().path();
    let unknown = || ApiError::new(Code::NotFound, format!("there is nothing at {path}")).into_response();
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return ApiError::new(Code::MethodNotAllowed, "there is nothing to change here").into_response();
    }
    let path = path.trim_start_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    if flink::PATHS.contains(&first) {
        return flink::unknown(request.uri()).into_response();
    }
    let name = if ROUTES.contains(&first) { INDEX } else { path };
    match (Files::get(name), name) {
        (Some(file), name) => answer(name, file.data.into_owned()),
        (None, INDEX) => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            "This program was built without its page: `cargo xtask web` builds it. The API is at /api/v1/feeds.\n",
        )
            .into_response(),
        (None, _) => unknown(),
    }
}

fn answer(name: &str, data: Vec<u8>) -> Response {
    let cache = match name.starts_with(HASHED) {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    let mut response = data.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map" | "webmanifest") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
