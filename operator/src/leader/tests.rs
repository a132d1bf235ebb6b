//! Several operators and an API server, in virtual time.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use kube::client::{Body, Client};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower::service_fn;

use super::{options::Candidacy, *};

const SECOND: Duration = Duration::from_secs(1);
/// The Lease, a look at its last renewal, and requests.
const TAKEN_OVER: Duration = Duration::from_millis(15_000 + 2_400 + 100);

/// An API server that knows one Lease.
#[derive(Clone, Default)]
struct Server {
    lease: Arc<Mutex<(Option<Value>, u64)>>,
}

impl Server {
    /// A client that reaches it while `reachable` says so, and hears nothing otherwise.
    fn client(&self, reachable: Arc<AtomicBool>) -> Client {
        let server = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let (server, reachable) = (server.clone(), Arc::clone(&reachable));
            async move {
                sleep(Duration::from_millis(20)).await;
                if !reachable.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(server.answer(request).await)
            }
        });
        Client::new(service, "system")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let leases = "/apis/coordination.k8s.io/v1/namespaces/system/leases";
        assert!(parts.uri.path().starts_with(leases), "{}", parts.uri);
        let sent = body.collect_bytes().await.unwrap();
        let sent: Value = serde_json::from_slice(&sent).unwrap_or_default();
        let mut lease = self.lock();
        let found = lease
            .0
            .as_ref()
            .map(|found| &found["metadata"]["resourceVersion"]);
        let refused = match (&parts.method, found) {
            (&Method::POST, Some(_)) => Some((StatusCode::CONFLICT, "AlreadyExists")),
            (&Method::GET | &Method::PUT, None) => Some((StatusCode::NOT_FOUND, "NotFound")),
            (&Method::PUT, Some(version)) if *version != sent["metadata"]["resourceVersion"] => {
                Some((StatusCode::CONFLICT, "Conflict"))
            }
            (&Method::GET | &Method::PUT | &Method::POST, _) => None,
            (method, _) => panic!("{method} is not expected"),
        };
        let (status, body) = match refused {
            Some((status, reason)) => {
                let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "",
                                  "metadata": {}, "reason": reason, "code": status.as_u16()});
                (status, body)
            }
            None => {
                if parts.method != Method::GET {
                    lease.1 += 1;
                    let mut written = sent;
                    written["metadata"]["resourceVersion"] = json!(lease.1.to_string());
                    lease.0 = Some(written);
                }
                (StatusCode::OK, lease.0.clone().unwrap())
            }
        };
        let mut response = Response::new(Body::from(body.to_string().into_bytes()));
        *response.status_mut() = status;
        response
    }

    fn holder(&self) -> String {
        let lease = self.lock();
        let holder = lease.0.as_ref().map(|lease| &lease["spec"]["holderIdentity"]);
        holder.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn lock(&self) -> MutexGuard<'_, (Option<Value>, u64)> {
        self.lease.lock().unwrap()
    }
}

/// An operator that works until it is asked to end.
struct Operator {
    leadership: Leadership,
    reachable: Arc<AtomicBool>,
    ending: CancellationToken,
    task: JoinHandle<Result<(), Loss>>,
}

impl Operator {
    fn start(server: &Server, name: &str) -> Self {
        Self::start_working(server, name, Duration::ZERO)
    }

    /// One whose work goes on for a while after it was asked to end.
    fn start_working(server: &Server, name: &str, longer: Duration) -> Self {
        let terms = Terms::new(15 * SECOND, 10 * SECOND, 2 * SECOND).unwrap();
        let candidacy = Candidacy {
            name: "stockfeed-operator".to_owned(),
            namespace: None,
            identity: name.to_owned(),
            terms,
        };
        let leadership = Leadership::candidate(terms.renew_deadline);
        let reachable = Arc::new(AtomicBool::new(true));
        let client = server.client(Arc::clone(&reachable));
        let elector = Elector::new(client, candidacy, leadership.clone());
        let ending = CancellationToken::new();
        let token = ending.clone();
        let task = tokio::spawn(async move {
            let work = || {
                let token = token.clone();
                async move {
                    token.cancelled().await;
                    sleep(longer).await;
                }
            };
            lead(elector, &token, work).await
        });
        Self {
            leadership,
            reachable,
            ending,
            task,
        }
    }

    /// Waits until it leads, and says how long that took.
    async fn leads(&self) -> Duration {
        let began = Instant::now();
        while !self.leadership.is_held() {
            assert!(began.elapsed() < 60 * SECOND, "it does not lead");
            sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_that_start_at_once_one_leads() {
    let server = Server::default();
    let operators = [Operator::start(&server, "a"), Operator::start(&server, "b")];
    sleep(60 * SECOND).await;
    let leading = operators.iter().filter(|one| one.leadership.is_held()).count();
    assert_eq!(leading, 1);
    assert!(operators.iter().all(|one| !one.task.is_finished()));
}

#[tokio::test(start_paused = true)]
async fn whoever_ends_finishes_its_work_and_gives_the_lease_back_at_once() {
    let server = Server::default();
    let first = Operator::start_working(&server, "first", 7 * SECOND);
    first.leads().await;
    let second = Operator::start(&server, "second");
    sleep(20 * SECOND).await;
    first.ending.cancel();
    sleep(6 * SECOND).await;
    assert!(first.leadership.is_held(), "its work is not done");
    let taken = second.leads().await;
    assert!(taken < 4 * SECOND, "{taken:?}");
    assert!(!first.leadership.is_held());
    assert_eq!(first.task.await.unwrap(), Ok(()));
    assert_eq!(server.holder(), "second");
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_end_is_given_up() {
    let server = Server::default();
    let first = Operator::start_working(&server, "first", 3_600 * SECOND);
    first.leads().await;
    first.ending.cancel();
    let began = Instant::now();
    assert_eq!(first.task.await.unwrap(), Ok(()));
    assert!(began.elapsed() < DRAIN_LIMIT + SECOND);
    assert_eq!(server.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_ends_leaves_the_lease_alone() {
    let server = Server::default();
    let first = Operator::start(&server, "first");
    first.leads().await;
    let second = Operator::start(&server, "second");
    sleep(5 * SECOND).await;
    second.ending.cancel();
    assert_eq!(second.task.await.unwrap(), Ok(()));
    assert_eq!(server.holder(), "first");
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_dies_the_next_takes_over_after_the_lease() {
    let server = Server::default();
    let first = Operator::start(&server, "first");
    first.leads().await;
    let second = Operator::start(&server, "second");
    sleep(31 * SECOND).await;
    first.task.abort();
    let taken = second.leads().await;
    assert!(
        taken > 12 * SECOND && taken <= TAKEN_OVER,
        "{taken:?}: neither early nor late"
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_stops_before_another_begins() {
    let server = Server::default();
    let first = Operator::start(&server, "first");
    first.leads().await;
    let second = Operator::start(&server, "second");
    sleep(31 * SECOND).await;
    first.reachable.store(false, Ordering::Relaxed);
    let cut = Instant::now();
    while first.leadership.is_held() {
        assert!(!second.leadership.is_held());
        sleep(Duration::from_millis(10)).await;
    }
    assert!(
        cut.elapsed() <= 10 * SECOND + Duration::from_millis(20),
        "{:?}",
        cut.elapsed()
    );
    let margin = second.leads().await;
    assert!(margin >= 2 * SECOND, "only {margin:?} between the two");
    assert_eq!(first.task.await.unwrap(), Err(Loss::RanOut));
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_of_the_api_server_changes_nothing() {
    let server = Server::default();
    let first = Operator::start(&server, "first");
    first.leads().await;
    for _ in 0..5 {
        first.reachable.store(false, Ordering::Relaxed);
        sleep(4 * SECOND).await;
        first.reachable.store(true, Ordering::Relaxed);
        sleep(6 * SECOND).await;
        assert!(first.leadership.is_held());
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_somebody_takes_ends() {
    let server = Server::default();
    let first = Operator::start(&server, "first");
    first.leads().await;
    {
        let mut lease = server.lock();
        lease.1 += 1;
        let version = json!(lease.1.to_string());
        let lease = lease.0.as_mut().unwrap();
        lease["spec"]["holderIdentity"] = json!("somebody");
        lease["metadata"]["resourceVersion"] = version;
    }
    let began = Instant::now();
    let holder = "somebody".to_owned();
    assert_eq!(first.task.await.unwrap(), Err(Loss::Taken { holder }));
    assert!(began.elapsed() < 3 * SECOND, "{:?}", began.elapsed());
    assert!(!first.leadership.is_held());
    assert_eq!(server.holder(), "somebody");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_removes_is_made_again_by_its_holder() {
    let server = Server::default();
    let first = Operator::start(&server, "first");
    first.leads().await;
    let second = Operator::start(&server, "second");
    sleep(7 * SECOND).await;
    server.lock().0 = None;
    sleep(60 * SECOND).await;
    assert!(first.leadership.is_held() && !second.leadership.is_held());
    assert_eq!(server.holder(), "first");
}

#[tokio::test(start_paused = true)]
async fn what_else_a_lease_has_is_kept() {
    let server = Server::default();
    server.lock().0 = Some(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "stockfeed-operator", "resourceVersion": "0", "labels": {"kept": "yes"}},
    }));
    let first = Operator::start(&server, "first");
    assert!(first.leads().await < SECOND, "nobody holds it");
    let lease = server.lock().0.clone().unwrap();
    assert_eq!(lease["metadata"]["labels"]["kept"], "yes");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 15);
    let renewed = lease["spec"]["renewTime"].as_str().unwrap();
    assert!(renewed.parse::<Timestamp>().is_ok(), "{renewed}");
}

/// Operators are cut off, come back, die and are replaced, at random times: never do two lead.
#[tokio::test(start_paused = true)]
async fn never_do_two_lead() {
    let mut led = 0;
    for seed in 0..8 {
        let mut random = StdRng::seed_from_u64(seed);
        let server = Server::default();
        let mut started = 3;
        let mut operators: Vec<_> = (0..started)
            .map(|number| Operator::start(&server, &format!("operator-{number}")))
            .collect();
        for _ in 0..60 {
            let chosen = random.random_range(0..operators.len());
            match random.random_range(0..5) {
                0 => operators[chosen].reachable.store(false, Ordering::Relaxed),
                1 | 2 => operators[chosen].reachable.store(true, Ordering::Relaxed),
                3 => operators[chosen].ending.cancel(),
                _ => operators[chosen].task.abort(),
            }
            for operator in &mut operators {
                if operator.task.is_finished() {
                    // What a process holds ends with it.
                    operator.leadership.end();
                    *operator = Operator::start(&server, &format!("operator-{started}"));
                    started += 1;
                }
            }
            let end = Instant::now() + Duration::from_millis(random.random_range(100..20_000));
            while Instant::now() < end {
                let leading = operators.iter().filter(|one| one.leadership.is_held()).count();
                assert!(leading <= 1, "seed {seed}: {leading} lead");
                led += leading;
                sleep(Duration::from_millis(400)).await;
            }
        }
        for operator in operators {
            operator.task.abort();
        }
    }
    assert!(led > 500, "somebody leads most of the time: {led}");
}
