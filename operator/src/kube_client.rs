//! The client of the API server: one that writes nothing unless this operator leads.
//!
//! Every request of the operator passes here, so no write can be forgotten. Only the Lease itself has a client without this.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::http::{Method, Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{BoxError, Layer, Service};

use crate::leader::{Leadership, NotLeading};

/// A client that writes only while this operator leads.
///
/// # Errors
/// When the configuration is not usable.
pub fn fenced(config: Config, leadership: Leadership) -> kube::Result<Client> {
    let fence = FenceLayer { leadership };
    Ok(ClientBuilder::try_from(config)?.with_layer(&fence).build())
}

struct FenceLayer {
    leadership: Leadership,
}

impl<S> Layer<S> for FenceLayer {
    type Service = Fence<S>;

    fn layer(&self, inner: S) -> Fence<S> {
        Fence {
            inner,
            leadership: self.leadership.clone(),
        }
    }
}

struct Fence<S> {
    inner: S,
    leadership: Leadership,
}

impl<S, B> Service<Request<Body>> for Fence<S>
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
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if !reads && !self.leadership.is_held() {
            return Box::pin(async { Err(NotLeading.into()) });
        }
        let answer = self.inner.call(request);
        if reads {
            return Box::pin(async { answer.await.map_err(Into::into) });
        }
        // It may wait for a connection, or be tried again.
        let leadership = self.leadership.clone();
        Box::pin(async move {
            match leadership.guard(answer).await {
                Ok(answered) => answered.map_err(Into::into),
                Err(not_leading) => Err(not_leading.into()),
            }
        })
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
        let fence = FenceLayer { leadership };
        ClientBuilder::new(server, "default").with_layer(&fence).build()
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
