//! The client of the API server: one that writes nothing unless this operator leads, and counts what it does.
//!
//! Every request of the operator passes here, so no write can be forgotten. Only the Lease itself has a client without a
//! fence.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::http::{Method, Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

use crate::{
    leader::{Leadership, NotLeading},
    metrics::requests::{Access, Answer, Requests, Server, answer_of},
};

/// A client that writes only while this operator leads.
///
/// # Errors
/// When the configuration is not usable.
pub fn fenced(config: Config, leadership: Leadership, requests: Requests) -> kube::Result<Client> {
    build(config, Some(leadership), requests)
}

/// A client for the Lease, which a candidate writes too.
///
/// # Errors
/// When the configuration is not usable.
pub fn for_election(config: Config, requests: Requests) -> kube::Result<Client> {
    build(config, None, requests)
}

fn build(config: Config, leadership: Option<Leadership>, requests: Requests) -> kube::Result<Client> {
    let rim = RimLayer { leadership, requests };
    Ok(ClientBuilder::try_from(config)?.with_layer(&rim).build())
}

struct RimLayer {
    /// Without, everything passes.
    leadership: Option<Leadership>,
    requests: Requests,
}

impl<S> Layer<S> for RimLayer {
    type Service = Rim<S>;

    fn layer(&self, inner: S) -> Rim<S> {
        Rim {
            inner,
            leadership: self.leadership.clone(),
            requests: self.requests.clone(),
        }
    }
}

struct Rim<S> {
    inner: S,
    leadership: Option<Leadership>,
    requests: Requests,
}

impl<S, B> Service<Request<Body>> for Rim<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(task).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let began = Instant::now();
        let requests = self.requests.clone();
        let access = match &self.leadership {
            None => Access::Lease,
            Some(_) => access_of(&request),
        };
        let fence = self.leadership.clone().filter(|_| access == Access::Write);
        let held_back = move |requests: &Requests| {
            let answer = Answer::HeldBack;
            requests.ended(Server::Kubernetes, access, answer, began.elapsed());
            NotLeading.into()
        };
        if fence.as_ref().is_some_and(|leadership| !leadership.is_held()) {
            let refused = held_back(&requests);
            return Box::pin(async { Err(refused) });
        }
        let sent = self.inner.call(request);
        Box::pin(async move {
            let answered = match fence {
                // It may wait for a connection, or be tried again.
                Some(leadership) => match leadership.guard(sent).await {
                    Ok(answered) => answered,
                    Err(NotLeading) => return Err(held_back(&requests)),
                },
                None => sent.await,
            };
            let answer = answer_of(answered.as_ref().map(Response::status));
            requests.ended(Server::Kubernetes, access, answer, began.elapsed());
            answered.map_err(Into::into)
        })
    }
}

fn access_of(request: &Request<Body>) -> Access {
    let watches = || {
        let mut parameters = request
            .uri()
            .query()
            .into_iter()
            .flat_map(|query| query.split('&'));
        parameters.any(|parameter| parameter.starts_with("watch="))
    };
    match *request.method() {
        Method::GET | Method::HEAD if watches() => Access::Watch,
        Method::GET | Method::HEAD => Access::Read,
        _ => Access::Write,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use axum::http::StatusCode;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api,
        api::{DeleteParams, Patch, PatchParams, PostParams},
    };
    use tower::service_fn;

    use super::*;
    use crate::leader::fence::Moment;

    /// A client of an API server that counts what arrives and knows nothing.
    fn client(leadership: Leadership, arrived: Arc<AtomicUsize>) -> Client {
        let server = service_fn(move |_: Request<Body>| {
            arrived.fetch_add(1, Ordering::Relaxed);
            async {
                let mut response = Response::new(Body::from(b"{}".to_vec()));
                *response.status_mut() = StatusCode::NOT_FOUND;
                Ok::<_, Infallible>(response)
            }
        });
        let rim = RimLayer {
            leadership: Some(leadership),
            requests: Requests::default(),
        };
        ClientBuilder::new(server, "default").with_layer(&rim).build()
    }

    #[test]
    fn a_watch_is_neither_a_read_nor_a_write() {
        let access = |method: Method, uri: &str| {
            let request = Request::builder().method(method).uri(uri);
            access_of(&request.body(Body::empty()).unwrap())
        };
        assert_eq!(
            access(Method::GET, "/api/v1/pods?limit=500&watch=true"),
            Access::Watch
        );
        assert_eq!(access(Method::GET, "/api/v1/pods?limit=1"), Access::Read);
        assert_eq!(access(Method::GET, "/api/v1/pods"), Access::Read);
        assert_eq!(access(Method::PATCH, "/api/v1/pods/a?force=true"), Access::Write);
    }

    #[tokio::test]
    async fn whoever_does_not_lead_reads_but_writes_nothing() {
        let leadership = Leadership::candidate(Duration::from_secs(10));
        let arrived = Arc::default();
        let api = Api::<ConfigMap>::default_namespaced(client(leadership.clone(), Arc::clone(&arrived)));
        let object = ConfigMap::default();
        let write = async |api: &Api<ConfigMap>| {
            let patch = Patch::Merge(serde_json::json!({}));
            [
                api.create(&PostParams::default(), &object).await.err(),
                api.patch("a", &PatchParams::default(), &patch).await.err(),
                api.delete("a", &DeleteParams::default()).await.err(),
            ]
        };

        assert!(api.get("a").await.is_err());
        assert_eq!(arrived.load(Ordering::Relaxed), 1, "a read arrives");
        for refused in write(&api).await {
            assert!(matches!(refused, Some(kube::Error::Service(_))), "{refused:?}");
        }
        assert_eq!(arrived.load(Ordering::Relaxed), 1, "a write does not");

        leadership.renewed(Moment::now());
        for refused in write(&api).await {
            assert!(matches!(refused, Some(kube::Error::Api(_))), "{refused:?}");
        }
        assert_eq!(arrived.load(Ordering::Relaxed), 4);

        leadership.end();
        write(&api).await;
        assert_eq!(arrived.load(Ordering::Relaxed), 4);
    }
}
