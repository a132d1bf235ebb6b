//! Asks a feed's processors what they did: each knows what it committed, and how it spent its time.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use contract::event_time::EventTime;
use futures::future::join_all;
use reqwest::header::CONNECTION;
use serde::Deserialize;
use tracing::debug;

use crate::{
    metrics::requests::{self, Access, Requests, Server},
    rollout::Address,
};

/// A processor answers from memory.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The part of a processor's `/state` that is read here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Answer {
    /// The feed, `namespace/name`.
    pub feed: String,
    /// The pod.
    pub instance: String,
    /// Whether it is connected to the broker.
    pub broker_connected: bool,
    /// Whether its last attempt to use the database succeeded.
    pub database_ok: bool,
    /// The partitions that it owns, by `generation.partition`.
    pub partitions: BTreeMap<String, Partition>,
}

/// What a processor says of a partition that it owns.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Partition {
    /// Since when it owns it. The sums below count from there.
    pub claimed_at: EventTime,
    /// Sums over its commits.
    pub totals: Totals,
    /// What its time was spent on; absent from processors of earlier releases.
    #[serde(default)]
    pub spent: Option<Spent>,
}

/// Sums over commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Totals {
    /// Messages.
    pub messages: u64,
}

/// Seconds that were spent on something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Spent {
    /// Nothing to do.
    pub idle_seconds: f64,
    /// At work.
    pub busy_seconds: f64,
    /// Held up by the database.
    pub backpressured_seconds: f64,
}

impl Spent {
    /// Everything but idleness.
    #[must_use]
    pub fn at_work(self) -> f64 {
        self.busy_seconds + self.backpressured_seconds
    }

    /// All of it.
    #[must_use]
    pub fn whole(self) -> f64 {
        self.idle_seconds + self.at_work()
    }

    /// What was spent since an earlier time.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            idle_seconds: self.idle_seconds - earlier.idle_seconds,
            busy_seconds: self.busy_seconds - earlier.busy_seconds,
            backpressured_seconds: self.backpressured_seconds - earlier.backpressured_seconds,
        }
    }
}

/// What each pod answers; `None`: it does not.
pub async fn ask(
    http: &reqwest::Client,
    requests: &Requests,
    feed: &str,
    pods: &BTreeMap<String, Address>,
    port: u16,
) -> BTreeMap<String, Option<Answer>> {
    let asking = pods.iter().map(async |(pod, address)| {
        let asked = state(http, SocketAddr::new(address.ip, port));
        let answer = requests
            .timed(Server::Processor, Access::Read, asked, |answer| match answer {
                Ok(_) => requests::Answer::Ok,
                Err(_) => requests::Answer::Failed,
            })
            .await;
        let answer = answer.inspect_err(|error| debug!(pod, error = %error, "A processor does not answer"));
        // An address may be another pod's by now.
        let own = answer
            .ok()
            .filter(|answer| answer.feed == feed && answer.instance == *pod);
        (pod.clone(), own)
    });
    join_all(asking).await.into_iter().collect()
}

async fn state(http: &reqwest::Client, address: SocketAddr) -> Result<Answer, reqwest::Error> {
    // A pod is asked a few times and then gone: nothing is kept for it.
    let request = http
        .get(format!("http://{address}/state"))
        .header(CONNECTION, "close");
    let response = request.timeout(TIMEOUT).send().await?.error_for_status()?;
    response.json().await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::{Json, Router, routing::get};
    use serde_json::json;

    use super::*;
    use crate::http_client;

    /// As a processor answers, with more than what is read here.
    fn said() -> serde_json::Value {
        json!({
            "feed": "markets/tech", "instance": "tech-processor-1", "version": "0.1.0", "started_at": "2026-11-20T20:59:00Z",
            "broker_connected": true, "consuming": 2, "queues": 2, "database_ok": true,
            "partitions": {"1.0": {
                "claimed_at": "2026-11-20T21:00:00Z", "checkpoint": 7, "watermark": null, "prefetch": 64,
                "totals": {"messages": 12, "duplicates": 0, "ticks": 12},
                "time": {"idle": 0.5, "busy": 0.5, "backpressured": 0.0},
                "spent": {"idle_seconds": 4.0, "busy_seconds": 1.5, "backpressured_seconds": 0.5},
            }},
            "checkpoints": [], "errors": [],
        })
    }

    #[test]
    fn an_answer_is_read() {
        let answer: Answer = serde_json::from_value(said()).unwrap();
        let partition = &answer.partitions["1.0"];
        assert_eq!(partition.totals.messages, 12);
        let spent = partition.spent.unwrap();
        assert_eq!((spent.at_work(), spent.whole()), (2.0, 6.0));
    }

    #[test]
    fn a_processor_of_an_earlier_release_is_read_as_well() {
        let mut said = said();
        said["partitions"]["1.0"].as_object_mut().unwrap().remove("spent");
        let answer: Answer = serde_json::from_value(said).unwrap();
        assert_eq!(answer.partitions["1.0"].spent, None);
    }

    #[tokio::test]
    async fn a_pod_that_is_another_one_or_says_nothing_did_not_answer() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().route("/state", get(async || Json(said())));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let at = |ip: &str| Address {
            ip: ip.parse().unwrap(),
            uid: String::new(),
        };
        let pods = BTreeMap::from([
            ("tech-processor-1".to_owned(), at("127.0.0.1")),
            ("tech-processor-2".to_owned(), at("127.0.0.1")),
            ("tech-processor-3".to_owned(), at("127.0.0.9")),
        ]);
        let http = http_client::build(None, TIMEOUT).unwrap();
        let requests = Requests::default();
        let answered = ask(&http, &requests, "markets/tech", &pods, port).await;
        let said = |pod: &str| answered[pod].is_some();
        assert!(said("tech-processor-1"), "the pod itself");
        assert!(!said("tech-processor-2"), "another pod has the address now");
        assert!(!said("tech-processor-3"), "nobody listens");
        let of_other = ask(&http, &requests, "markets/other", &pods, port).await;
        assert!(of_other.values().all(Option::is_none), "another feed's");
        serving.abort();
    }
}
