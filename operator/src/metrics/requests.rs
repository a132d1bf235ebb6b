//! Requests to other programs: how many, how they ended, how long they took.

use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::time::Instant;

/// Upper bounds of the histogram, in seconds.
const BUCKETS: [f64; 9] = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Server {
    /// The Kubernetes API server.
    Kubernetes,
    /// RabbitMQ's management API.
    Broker,
    /// PostgreSQL. One look at a feed's side is one request, whatever it takes of statements.
    Database,
    /// The API of a producer.
    Producer,
    /// The API of a processor.
    Processor,
    /// Apache Superset.
    Superset,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Access {
    /// Something is read.
    Read,
    /// A watch is begun.
    Watch,
    /// Something is written.
    Write,
    /// The Lease of the election is read or written.
    Lease,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Answer {
    /// As asked.
    Ok,
    /// The thing is not there.
    NotFound,
    /// It was changed meanwhile, or is there already.
    Conflict,
    /// It is not allowed, or makes no sense to the server.
    Refused,
    /// The server has trouble of its own, or did not answer.
    Failed,
    /// It was not sent: this operator does not lead any more.
    HeldBack,
}

impl Answer {
    /// Of a status code.
    #[must_use]
    pub fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Self::NotFound,
            StatusCode::CONFLICT => Self::Conflict,
            // Too many requests: the server's trouble, not a fault of what was asked.
            StatusCode::TOO_MANY_REQUESTS => Self::Failed,
            status if status.is_server_error() => Self::Failed,
            status if status.is_client_error() => Self::Refused,
            _ => Self::Ok,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    server: Server,
    access: Access,
    answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    server: Server,
}

/// Counts requests. Copies count together.
#[derive(Clone, Debug)]
pub struct Requests {
    requests: Family<RequestLabels, Counter>,
    durations: Family<ServerLabels, Histogram>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        }
    }
}

impl Requests {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "Requests to other programs, by whom was asked, what for, and how it ended",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "How long requests took, up to the beginning of the answer; without watches",
            Unit::Seconds,
            self.durations.clone(),
        );
    }

    /// Counts a request that ended.
    pub fn ended(&self, server: Server, access: Access, answer: Answer, duration: Duration) {
        self.requests
            .get_or_create(&RequestLabels {
                server,
                access,
                answer,
            })
            .inc();
        if access != Access::Watch && answer != Answer::HeldBack {
            self.durations
                .get_or_create(&ServerLabels { server })
                .observe(duration.as_secs_f64());
        }
    }

    /// Sends a request and counts it.
    pub async fn timed<T>(
        &self,
        server: Server,
        access: Access,
        request: impl Future<Output = T>,
        answer: impl FnOnce(&T) -> Answer,
    ) -> T {
        let began = Instant::now();
        let answered = request.await;
        self.ended(server, access, answer(&answered), began.elapsed());
        answered
    }
}

/// How a request ended whose status code is known when it was answered at all.
pub fn answer_of<E>(status: Result<StatusCode, E>) -> Answer {
    status.map_or(Answer::Failed, Answer::of)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(200, Answer::Ok)]
    #[case(201, Answer::Ok)]
    #[case(404, Answer::NotFound)]
    #[case(409, Answer::Conflict)]
    #[case(422, Answer::Refused)]
    #[case(401, Answer::Refused)]
    #[case(429, Answer::Failed)]
    #[case(503, Answer::Failed)]
    fn status_codes_are_told_apart_by_who_has_the_trouble(#[case] code: u16, #[case] expected: Answer) {
        assert_eq!(Answer::of(StatusCode::from_u16(code).unwrap()), expected);
    }
}
