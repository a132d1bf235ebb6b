//! Errors of our own API: a code for programs, a message and a remedy for people.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

/// What is answered instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub code: Code,
    pub message: String,
    pub remedy: Option<String>,
}

/// Classes of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    BadRequest,
    Unauthenticated,
    Forbidden,
    ActionsOff,
    NotFound,
    MethodNotAllowed,
    Conflict,
    WrongHost,
    TooMany,
    Unavailable,
    Timeout,
}

impl Code {
    const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::ActionsOff => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::WrongHost => StatusCode::MISDIRECTED_REQUEST,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl ApiError {
    /// Without a remedy.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            remedy: None,
        }
    }

    /// With what helps.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// There is no such feed.
    #[must_use]
    pub fn no_feed(name: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no feed {name}")).remedy("GET /api/v1/feeds lists them")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = format!("{:?}", self.code);
        let body = json!({"error": {"code": code, "message": self.message, "remedy": self.remedy}});
        (self.code.status(), Json(body)).into_response()
    }
}
