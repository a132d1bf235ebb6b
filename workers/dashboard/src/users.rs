//! Who asks, and what he may: the API server says so, each time. Nothing of a token is kept.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use serde::Serialize;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    error::{ApiError, Code},
    feeds::Key,
    observe::ask::plain,
};

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer ones are none.
const MAX_TOKEN: usize = 16 * 1024;
/// Reviews at once: who tries tokens waits for himself.
static TURNS: Semaphore = Semaphore::const_new(8);

/// A user that the API server knows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
    #[serde(skip)]
    info: Box<UserInfo>,
}

/// The bearer token of a request, if there is one.
///
/// # Errors
/// When the header is not one.
pub fn token(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(header) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let text = header.to_str().unwrap_or_default();
    let token = text
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN);
    token.map(Some).ok_or_else(|| {
        ApiError::new(
            Code::Unauthenticated,
            "the header Authorization is not of the form Bearer <token>",
        )
    })
}

/// Asks the API server whose token it is.
///
/// # Errors
/// When it is nobody's, or cannot be asked.
pub async fn authenticate(client: &Client, token: &str) -> Result<User, ApiError> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token.to_owned()),
            audiences: None,
        },
        ..TokenReview::default()
    };
    let api: Api<TokenReview> = Api::all(client.clone());
    let asked = reviewed(api.create(&PostParams::default(), &review)).await?;
    let status = asked.status.unwrap_or_default();
    let known = status.authenticated == Some(true);
    match status.user.filter(|_| known) {
        Some(info) => Ok(User {
            name: info.username.clone().unwrap_or_default(),
            groups: info.groups.clone().unwrap_or_default(),
            info: Box::new(info),
        }),
        None => Err(
            ApiError::new(Code::Unauthenticated, "the API server does not know this token")
                .remedy("kubectl create token NAME makes one for a ServiceAccount"),
        ),
    }
}

/// Asks the API server whether the user may do that with a feed.
///
/// # Errors
/// When he may not, or it cannot be asked.
pub async fn authorize(client: &Client, user: &User, verb: &str, key: &Key) -> Result<(), ApiError> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: user.info.username.clone(),
            groups: user.info.groups.clone(),
            uid: user.info.uid.clone(),
            extra: user.info.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some(operator::api::GROUP.to_owned()),
                resource: Some("stockfeeds".to_owned()),
                version: Some("v1alpha1".to_owned()),
                verb: Some(verb.to_owned()),
                namespace: Some(key.namespace.clone()),
                name: Some(key.name.clone()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let asked = reviewed(api.create(&PostParams::default(), &review)).await?;
    match asked.status.is_some_and(|status| status.allowed) {
        true => Ok(()),
        false => Err(ApiError::new(
            Code::Forbidden,
            format!("{} may not {verb} stockfeeds {key}", user.name),
        )
        .remedy("a role with that verb on stockfeeds, as the cluster's role edit has it")),
    }
}

async fn reviewed<T>(asking: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    let asked = async {
        let _turn = TURNS.acquire().await;
        asking.await
    };
    timeout(PATIENCE, asked)
        .await
        .map_err(|_| ApiError::new(Code::Timeout, "the API server did not answer in time"))?
        .map_err(|error| ApiError::new(Code::Unavailable, plain(&error)))
}
