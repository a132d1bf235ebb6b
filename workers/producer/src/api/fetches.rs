//! The fetches that somebody may still ask about: those that were not finished when they were answered.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::{NoContext, Uuid};

use crate::api::{
    outcome::FetchAnswer,
    problem::{Problem, ProblemDocument},
};

/// How many are remembered. Far more than can run at once, so what is forgotten first has long ended.
pub const CAPACITY: usize = 100;
/// How long one is remembered, from its start.
pub const LIFETIME: Duration = Duration::from_secs(600);

/// What became of fetches, oldest first.
#[derive(Debug, Default)]
pub struct Fetches {
    inner: Mutex<VecDeque<FetchState>>,
}

/// What `GET /fetch-data/{id}` says of a fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FetchState {
    /// Which, as `POST /fetch-data` said.
    pub id: Uuid,
    /// Whether it has ended.
    pub state: Progress,
    /// When it was ordered.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    pub finished_at: Option<Timestamp>,
    /// What it brought: the body that `POST /fetch-data` answers with 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = FetchAnswer, required = false)]
    pub result: Option<FetchAnswer>,
    /// Why it brought nothing: the body that `POST /fetch-data` answers with another status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ProblemDocument, required = false)]
    pub problem: Option<ProblemDocument>,
}

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// It waits, or is under way.
    Running,
    /// It has ended: there is either a `result` or a `problem`.
    Finished,
}

impl Fetches {
    /// Remembers a fetch that runs, and gives it a name.
    pub fn begin(&self, now: Timestamp) -> Uuid {
        let id = new_id(now);
        let mut fetches = self.lock();
        forget_old(&mut fetches, now);
        while fetches.len() >= CAPACITY {
            fetches.pop_front();
        }
        fetches.push_back(FetchState {
            id,
            state: Progress::Running,
            started_at: now,
            finished_at: None,
            result: None,
            problem: None,
        });
        id
    }

    /// It has ended.
    pub fn finish(&self, id: Uuid, outcome: Result<FetchAnswer, Problem>, now: Timestamp) {
        let mut fetches = self.lock();
        // It may have been forgotten.
        let Some(fetch) = fetches.iter_mut().find(|fetch| fetch.id == id) else {
            return;
        };
        fetch.state = Progress::Finished;
        fetch.finished_at = Some(now);
        match outcome {
            Ok(answer) => fetch.result = Some(answer),
            Err(problem) => fetch.problem = Some(problem.document().clone()),
        }
    }

    /// What is known of it; `None` when there was none of that name, or it is forgotten.
    pub fn get(&self, id: Uuid, now: Timestamp) -> Option<FetchState> {
        let mut fetches = self.lock();
        forget_old(&mut fetches, now);
        fetches.iter().find(|fetch| fetch.id == id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<FetchState>> {
        // Nothing here stops half way: a panic elsewhere leaves it usable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_old(fetches: &mut VecDeque<FetchState>, now: Timestamp) {
    while let Some(oldest) = fetches.front() {
        let age = Duration::try_from(now.duration_since(oldest.started_at)).unwrap_or_default();
        if age < LIFETIME {
            return;
        }
        fetches.pop_front();
    }
}

/// Ordered by time, never used again, and not to be guessed.
fn new_id(now: Timestamp) -> Uuid {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_fetch_runs_and_then_has_ended() {
        let fetches = Fetches::default();
        let id = fetches.begin(at(0));
        assert_eq!(id.get_version_num(), 7);
        let state = fetches.get(id, at(1)).unwrap();
        assert_eq!((state.state, state.finished_at), (Progress::Running, None));
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "SpoolFull", "full");
        fetches.finish(id, Err(problem.clone()), at(2));
        let state = fetches.get(id, at(3)).unwrap();
        assert_eq!(
            (state.state, state.finished_at),
            (Progress::Finished, Some(at(2)))
        );
        assert_eq!(
            (state.result, state.problem.as_ref()),
            (None, Some(problem.document()))
        );
        assert_eq!(fetches.get(Uuid::nil(), at(3)), None, "another");
    }

    #[test]
    fn a_fetch_is_forgotten_after_ten_minutes() {
        let fetches = Fetches::default();
        let (first, second) = (fetches.begin(at(0)), fetches.begin(at(300)));
        assert!(fetches.get(first, at(599)).is_some());
        assert!(fetches.get(first, at(600)).is_none());
        assert!(fetches.get(second, at(600)).is_some());
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "SpoolFull", "full");
        fetches.finish(first, Err(problem), at(601));
        assert!(
            fetches.get(first, at(601)).is_none(),
            "its end does not bring it back"
        );
    }

    #[test]
    fn the_oldest_makes_room() {
        let fetches = Fetches::default();
        let ids: Vec<Uuid> = (0..=CAPACITY).map(|_| fetches.begin(at(0))).collect();
        assert!(fetches.get(ids[0], at(0)).is_none());
        assert!(ids[1..].iter().all(|id| fetches.get(*id, at(0)).is_some()));
    }

    #[test]
    fn a_clock_that_was_set_back_forgets_nothing() {
        let fetches = Fetches::default();
        let id = fetches.begin(at(1_000));
        assert!(fetches.get(id, at(0)).is_some());
    }
}
