//! `/docs`: the API's description to read and to try. Every file of it is in the binary, so it works without the internet.

use axum::Router;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::api::openapi;

/// Where the pages are.
pub const PATH: &str = "/docs";

/// The pages.
pub fn router() -> Router {
    let config = Config::from(openapi::PATH)
        .try_it_out_enabled(true)
        // It would show the description to a validator in the internet.
        .validator_url("none");
    SwaggerUi::new(PATH).config(config).into()
}

/// Whether a path is of a file of the pages.
pub fn is_file(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.starts_with('/'))
}
