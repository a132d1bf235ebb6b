//! Asks a feed's pods how they are. One feed costs at most [`DEADLINE`]; all together as many requests at once as there are turns.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use operator::labels::{Component, MANAGED_SELECTOR};
use serde::de::DeserializeOwned;
use snafu::Snafu;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    feeds::{Key, seconds_between},
    observe::{
        FORGET, Observation, Trouble,
        pods::PodSeen,
        processor::{self, ProcessorSeen},
        producer::{self, ProducerSeen},
        rates,
    },
};

/// Workers answer from memory.
const PATIENCE: Duration = Duration::from_secs(2);
/// All of a feed.
const DEADLINE: Duration = Duration::from_secs(4);
/// Requests to workers at once, for all feeds together.
const TURNS: usize = 64;
/// The largest answer that is read.
const MAX_ANSWER: usize = 2 << 20;

/// Why something does not answer.
#[derive(Debug, Snafu)]
pub enum Error {
    /// In time.
    #[snafu(display("does not answer within {} s", PATIENCE.as_secs()))]
    Slow,
    /// At all.
    #[snafu(display("cannot be reached"))]
    Unreachable { source: reqwest::Error },
    /// As it should.
    #[snafu(display("answers with status {status}"))]
    Refused { status: u16 },
    /// In so few bytes.
    #[snafu(display("answers with more than {MAX_ANSWER} bytes"))]
    TooLarge,
    /// In a form that is known.
    #[snafu(display("answers with something else than expected: {source}"))]
    Form { source: serde_json::Error },
    /// Another pod has its address by now.
    #[snafu(display("another program answers at its address"))]
    Another,
}

/// Asks pods.
#[derive(Clone)]
pub struct Asker {
    client: Client,
    http: reqwest::Client,
    turns: Arc<Semaphore>,
    /// Where workers listen.
    ports: BTreeMap<Component, u16>,
}

/// What a request brought.
struct Answered<T> {
    source: String,
    answer: Result<T, Error>,
}

impl Asker {
    /// With these clients.
    #[must_use]
    pub fn new(client: Client, http: reqwest::Client) -> Self {
        Self {
            client,
            http,
            turns: Arc::new(Semaphore::new(TURNS)),
            ports: [Component::Producer, Component::Processor]
                .map(|component| (component, component.port()))
                .into(),
        }
    }

    /// Looks at a feed. What does not answer keeps what it said before.
    pub async fn observe(&self, key: &Key, before: Option<&Observation>, now: Timestamp) -> Observation {
        let mut next = Observation {
            at: now,
            ..Observation::default()
        };
        let mut troubles: Vec<(String, String)> = Vec::new();
        match timeout(DEADLINE, self.pods(key)).await {
            Ok(Ok(pods)) => next.pods = pods,
            failed => {
                let message = match failed {
                    Ok(Err(error)) => plain(&error),
                    _ => format!("does not answer within {} s", DEADLINE.as_secs()),
                };
                troubles.push(("pods".to_owned(), message));
                if let Some(before) = before {
                    next.pods.clone_from(&before.pods);
                    next.at = before.at;
                }
            }
        }
        let addressed = |component| {
            let wanted = move |pod: &&PodSeen| pod.component == component && pod.phase == "Running";
            next.pods
                .iter()
                .filter(wanted)
                .filter_map(|pod| Some((pod.name.clone(), pod.address?)))
                .collect::<Vec<_>>()
        };
        let processors = addressed(Component::Processor);
        // During a rollout the newest speaks.
        let producer = addressed(Component::Producer).into_iter().next_back();
        let (said, published) = tokio::join!(
            join_all(
                processors
                    .iter()
                    .map(|(pod, address)| self.processor(key, pod, *address))
            ),
            async {
                match &producer {
                    Some((pod, address)) => Some(self.producer(pod, *address).await),
                    None => None,
                }
            },
        );
        let mut said_last = BTreeMap::new();
        for ((pod, _), answered) in processors_and(&processors, said) {
            let earlier = before.and_then(|before| before.processors.get(pod));
            let seen = match answered.answer {
                Ok((state, figures)) => Some(processor_seen(now, state, figures, earlier)),
                Err(error) => {
                    troubles.push((answered.source, error.to_string()));
                    earlier
                        .filter(|earlier| seconds_between(earlier.at, now) < FORGET)
                        .cloned()
                }
            };
            said_last.extend(seen.map(|seen| (pod.clone(), seen)));
        }
        next.processors = said_last;
        if let Some(answered) = published {
            let earlier = before.and_then(|before| before.producer.as_ref());
            match answered.answer {
                Ok((ready, figures)) => {
                    let mut seen = ProducerSeen {
                        at: now,
                        pod: producer.map(|(pod, _)| pod).unwrap_or_default(),
                        ready,
                        figures,
                        rates: None,
                    };
                    seen.rates = earlier.and_then(|earlier| rates::of_producer(&seen, earlier));
                    next.producer = Some(seen);
                }
                Err(error) => {
                    troubles.push((answered.source, error.to_string()));
                    next.producer = earlier
                        .filter(|earlier| seconds_between(earlier.at, now) < FORGET)
                        .cloned();
                }
            }
        }
        let parts = next.processors.values().map(|seen| seen.at);
        next.at = parts
            .chain(next.producer.as_ref().map(|seen| seen.at))
            .fold(next.at, Ord::min);
        next.problems = troubles
            .into_iter()
            .map(|(source, message)| {
                let earlier = before.and_then(|before| before.problems.get(&source));
                let since = earlier.map_or(now, |earlier| earlier.since);
                (source, Trouble { message, since })
            })
            .collect();
        next.count(before);
        next
    }

    /// With workers that listen elsewhere.
    #[cfg(test)]
    #[must_use]
    pub fn with_ports(mut self, producer: u16, processor: u16) -> Self {
        self.ports = [(Component::Producer, producer), (Component::Processor, processor)].into();
        self
    }

    fn port(&self, component: Component) -> u16 {
        self.ports
            .get(&component)
            .copied()
            .unwrap_or_else(|| component.port())
    }

    async fn pods(&self, key: &Key) -> Result<Vec<PodSeen>, kube::Error> {
        let selector = format!("{MANAGED_SELECTOR},app.kubernetes.io/instance={}", key.name);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let listed = api.list(&ListParams::default().labels(&selector)).await?;
        let mut pods: Vec<_> = listed.items.iter().filter_map(PodSeen::of).collect();
        pods.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
        Ok(pods)
    }

    async fn processor(
        &self,
        key: &Key,
        pod: &str,
        address: IpAddr,
    ) -> Answered<(processor::State, processor::Figures)> {
        let address = SocketAddr::new(address, self.port(Component::Processor));
        let asked = async {
            let (state, figures) = tokio::join!(
                self.json::<processor::State>(address, "/state?queues=true"),
                self.text(address, "/metrics")
            );
            let state = state?;
            // An address may be another pod's by now.
            if state.feed != key.to_string() || state.instance != pod {
                return Err(Error::Another);
            }
            Ok((state, processor::Figures::read(&figures?)))
        };
        Answered {
            source: format!("processor {pod}"),
            answer: asked.await,
        }
    }

    async fn producer(
        &self,
        pod: &str,
        address: IpAddr,
    ) -> Answered<(producer::Readiness, producer::Figures)> {
        let address = SocketAddr::new(address, self.port(Component::Producer));
        let asked = async {
            let (ready, figures) = tokio::join!(
                self.json::<producer::Readiness>(address, "/ready"),
                self.text(address, "/metrics")
            );
            Ok((ready?, producer::Figures::read(&figures?)))
        };
        Answered {
            source: format!("producer {pod}"),
            answer: asked.await,
        }
    }

    async fn json<T: DeserializeOwned>(&self, address: SocketAddr, path: &str) -> Result<T, Error> {
        let text = self.text(address, path).await?;
        serde_json::from_str(&text).map_err(|source| Error::Form { source })
    }

    async fn text(&self, address: SocketAddr, path: &str) -> Result<String, Error> {
        let asked = async {
            let _turn = self.turns.acquire().await;
            let request = self.http.get(format!("http://{address}{path}"));
            let mut response = request
                .send()
                .await
                .map_err(|source| Error::Unreachable { source })?;
            let status = response.status().as_u16();
            // A producer that is not ready says why with 503.
            if status != 200 && status != 503 {
                return Err(Error::Refused { status });
            }
            let mut body = Vec::new();
            while let Some(chunk) = response
                .chunk()
                .await
                .map_err(|source| Error::Unreachable { source })?
            {
                if body.len() + chunk.len() > MAX_ANSWER {
                    return Err(Error::TooLarge);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(String::from_utf8_lossy(&body).into_owned())
        };
        timeout(PATIENCE, asked).await.map_err(|_| Error::Slow)?
    }
}

fn processors_and<T>(
    pods: &[(String, IpAddr)],
    answers: Vec<Answered<T>>,
) -> impl Iterator<Item = ((&String, &IpAddr), Answered<T>)> {
    pods.iter().map(|(pod, address)| (pod, address)).zip(answers)
}

fn processor_seen(
    at: Timestamp,
    state: processor::State,
    figures: processor::Figures,
    earlier: Option<&ProcessorSeen>,
) -> ProcessorSeen {
    let mut seen = ProcessorSeen {
        at,
        state,
        figures,
        rates: BTreeMap::new(),
    };
    if let Some(earlier) = earlier {
        seen.rates = rates::of_processor(&seen, earlier);
    }
    seen
}

/// The API server's answer as a sentence; kube shows the whole of it.
#[must_use]
pub fn plain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("the API server answers: {}", status.message),
        error => format!("the API server cannot be asked: {error}"),
    }
}
