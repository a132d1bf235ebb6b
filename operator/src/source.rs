//! Asks a feed's producer how its source does: the producer is the one that speaks to it.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::CONNECTION;
use serde::Deserialize;
use tracing::debug;

use crate::{
    api::status::reason,
    build::WorkloadState,
    labels::Component,
    metrics::requests::{self, Access, Requests, Server},
    status::{Verdict, chain},
    validate::ValidatedFeed,
};

/// A producer answers from memory.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The longest reason that Kubernetes allows is longer; no word of the producer's is.
const MAX_REASON: usize = 64;

/// The part of the producer's `/ready` that is read here.
#[derive(Debug, Deserialize)]
struct Answer {
    source: Source,
    quota: Option<Calls>,
    broker: Option<Link>,
}

/// What the producer says of its connection to the broker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Link {
    /// Whether the connection stands.
    pub connected: bool,
    /// What is wrong, for people.
    #[serde(default)]
    pub message: Option<String>,
}

/// What the producer says of its calls.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Calls {
    /// Calls made today.
    pub used_today: u64,
    /// The interval that is kept; `None` while nothing is polled.
    pub effective_interval_seconds: Option<f64>,
    /// When today's calls are used up, should the interval of the spec be kept.
    pub exhausted_at: Option<Timestamp>,
    /// When the day ends.
    pub resets_at: Timestamp,
    /// The exchange.
    pub market: Market,
    /// Why calls cannot be counted, if so.
    problem: Option<Trouble>,
}

/// What the producer says of the exchange.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Market {
    /// When it is polled next; `None`: now.
    pub next_open: Option<Timestamp>,
}

/// How the source does, and how many calls that takes.
#[derive(Debug)]
pub struct Judged {
    /// Whether it gives quotes.
    pub verdict: Verdict,
    /// What the producer says of its calls; `None` when it does not answer.
    pub calls: Option<Calls>,
    /// What it says of its connection to the broker; `None` when it does not answer.
    pub link: Option<Link>,
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            calls: None,
            link: None,
        }
    }
}

/// How the source does, in the producer's words.
#[derive(Debug, Deserialize)]
struct Source {
    /// The last fetch gave quotes, at least of some symbols; true as well while none was due yet.
    ready: bool,
    problem: Option<Trouble>,
    last_attempt: Option<String>,
}

/// What was wrong with the last fetch.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Trouble {
    reason: String,
    message: String,
}

/// Whether the source gives quotes.
pub async fn judge(
    http: &reqwest::Client,
    requests: &Requests,
    feed: &ValidatedFeed,
    producer: &WorkloadState,
) -> Judged {
    if let Err(problem) = &feed.source.fingerprint {
        return Verdict::of_problem(problem).into();
    }
    if feed.suspend {
        return Verdict::unknown(
            reason::SUSPENDED,
            "the source is not polled while the feed is suspended",
        )
        .into();
    }
    let pods = producer
        .observed
        .as_ref()
        .and_then(|deployment| deployment.status.as_ref())
        .and_then(|status| status.replicas)
        .unwrap_or(0);
    if pods == 0 {
        return Verdict::unknown(reason::PENDING, "the producer does not run yet").into();
    }
    let answer = |answered: &Result<_, _>| match answered {
        Ok(_) => requests::Answer::Ok,
        Err(_) => requests::Answer::Failed,
    };
    let asked = ask(http, feed);
    match requests
        .timed(Server::Producer, Access::Read, asked, answer)
        .await
    {
        Ok(answer) => Judged {
            verdict: verdict(answer.source, answer.quota.as_ref()),
            calls: answer.quota,
            link: answer.broker,
        },
        Err(error) => {
            let message = format!("the producer does not answer: {}", chain(&error));
            Verdict::unknown(reason::PRODUCER_UNREACHABLE, message).into()
        }
    }
}

async fn ask(http: &reqwest::Client, feed: &ValidatedFeed) -> Result<Answer, reqwest::Error> {
    let service = Component::Producer.object_name(feed.name.name());
    let url = format!(
        "http://{service}.{}.svc:{}/ready",
        feed.name.namespace(),
        Component::Producer.port()
    );
    // Its body says how the source does whether the producer itself is ready or not, so the status code is not looked at.
    // Not over a connection of an earlier time: while a Service is new its address may lead elsewhere (out of the cluster, to
    // whatever answers there), and a connection that was kept would go on leading there.
    let request = http.get(url).header(CONNECTION, "close");
    let response = request.timeout(TIMEOUT).send().await;
    let answer = match response {
        Ok(response) => response.json().await,
        Err(error) => Err(error),
    };
    if let Err(error) = &answer {
        debug!(error = %error, "A producer does not answer");
    }
    answer.map_err(reqwest::Error::without_url)
}

fn verdict(source: Source, calls: Option<&Calls>) -> Verdict {
    let Source {
        ready,
        problem,
        last_attempt,
    } = source;
    if let Some(Trouble { reason, message }) = calls.and_then(|calls| calls.problem.as_ref())
        && is_word(reason)
    {
        return Verdict::no(reason.clone(), message);
    }
    // Nothing is wrong, and nothing is asked: a feed that is made on a Sunday is as it should be.
    if let Some(calls) = calls.filter(|calls| calls.effective_interval_seconds.is_none())
        && ready
        && problem.is_none()
    {
        return match calls.market.next_open {
            Some(open) => Verdict::yes(
                reason::MARKET_CLOSED,
                format!("the exchange is closed; polled from {open} on"),
            ),
            None => Verdict::yes(
                reason::CALLS_USED_UP,
                format!(
                    "today's calls are used up; polled again from {} on",
                    calls.resets_at
                ),
            ),
        };
    }
    match (ready, problem) {
        (true, _) if last_attempt.is_none() => {
            Verdict::unknown(reason::PENDING, "the source was not asked yet")
        }
        (true, None) => Verdict::yes(reason::ANSWERING, "the source gives quotes"),
        // Quotes come in, so the feed works; what is wrong with the others is said all the same.
        (true, Some(Trouble { message, .. })) => Verdict::yes(
            reason::ANSWERING,
            format!("some symbols cannot be fetched: {message}"),
        ),
        (false, Some(Trouble { reason, message })) if is_word(&reason) => Verdict::no(reason, message),
        (false, Some(Trouble { message, .. })) => Verdict::no(reason::FAILED, message),
        (false, None) => Verdict::no(reason::FAILED, "the source gives no quotes"),
    }
}

/// A reason that is not one word of letters and digits would make the API server refuse the whole status.
fn is_word(reason: &str) -> bool {
    reason.starts_with(|first: char| first.is_ascii_alphabetic())
        && reason.len() <= MAX_REASON
        && reason.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::made_on_a_sunday(json!("2026-11-30T14:30:00Z"), None, Verdict::yes(reason::MARKET_CLOSED, "the exchange is closed; polled from 2026-11-30T14:30:00Z on"))]
    #[case::used_up(json!(null), None, Verdict::yes(reason::CALLS_USED_UP, "today's calls are used up; polled again from 2026-11-30T05:00:00Z on"))]
    #[case::closed_and_the_key_is_wrong(json!("2026-11-30T14:30:00Z"), Some("InvalidKey"), Verdict::no("InvalidKey", "m"))]
    fn a_source_that_is_not_to_be_asked_now_is_no_trouble(
        #[case] next_open: serde_json::Value,
        #[case] problem: Option<&str>,
        #[case] expected: Verdict,
    ) {
        let problem = problem.map(|reason| json!({"reason": reason, "message": "m"}));
        let text = json!({
            "source": {"ready": problem.is_none(), "problem": problem, "last_attempt": null},
            "quota": {
                "used_today": 0, "effective_interval_seconds": null, "exhausted_at": null, "problem": null,
                "resets_at": "2026-11-30T05:00:00Z", "market": {"next_open": next_open},
            },
        });
        let Answer { source, quota, .. } = serde_json::from_value(text).unwrap();
        assert_eq!(verdict(source, quota.as_ref()), expected);
    }

    #[rstest]
    #[case::calls_that_cannot_be_counted(
        json!({"reason": "CallsNotCounted", "message": "no database"}),
        Verdict::no("CallsNotCounted", "no database")
    )]
    fn what_keeps_it_from_asking_comes_first(#[case] problem: serde_json::Value, #[case] expected: Verdict) {
        let text = json!({
            "source": {"ready": true, "problem": null, "last_attempt": "t"},
            "quota": {
                "used_today": 0, "effective_interval_seconds": 60.0, "exhausted_at": null, "problem": problem,
                "resets_at": "2026-11-30T05:00:00Z", "market": {"next_open": null},
            },
        });
        let Answer { source, quota, .. } = serde_json::from_value(text).unwrap();
        assert_eq!(verdict(source, quota.as_ref()), expected);
    }

    #[rstest]
    #[case::not_asked(json!({"ready": true, "problem": null, "last_attempt": null}), Verdict::unknown(reason::PENDING, "the source was not asked yet"))]
    #[case::works(json!({"ready": true, "problem": null, "last_attempt": "t"}), Verdict::yes(reason::ANSWERING, "the source gives quotes"))]
    #[case::partly(
        json!({"ready": true, "problem": {"reason": "Timeout", "message": "m"}, "last_attempt": "t"}),
        Verdict::yes(reason::ANSWERING, "some symbols cannot be fetched: m")
    )]
    #[case::wrong_key(
        json!({"ready": false, "problem": {"reason": "InvalidKey", "message": "m"}, "last_attempt": "t"}),
        Verdict::no("InvalidKey", "m")
    )]
    #[case::a_sentence(
        json!({"ready": false, "problem": {"reason": "the key is wrong", "message": "m"}, "last_attempt": "t"}),
        Verdict::no(reason::FAILED, "m")
    )]
    fn the_producers_words_become_a_verdict(#[case] source: serde_json::Value, #[case] expected: Verdict) {
        // More than what is read here, as the producer sends it.
        let text =
            json!({"ready": false, "shutting_down": false, "broker": {"connected": true}, "source": source});
        let Answer { source, quota, .. } = serde_json::from_value(text).unwrap();
        assert_eq!(verdict(source, quota.as_ref()), expected);
    }
}
