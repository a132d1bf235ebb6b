//! The loop that speaks with Superset, in the operator that leads.
//!
//! A round reads what Superset has, does what is missing, compares some, says who sees what, and removes what has no feed any more.
//! Rounds come a tenth of the check period apart, at once when a feed wants something else, and further apart when Superset has
//! trouble. Between two rounds at least four times as long passes as the last one took in comparing, so that many feeds take longer
//! and no more of Superset.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Dashboards,
    round::{Round, Trouble},
};
use crate::{context::Context, leader::NotLeading, scope::Scope, status::chain};

/// The first wait after trouble.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait after trouble.
const LONGEST: Duration = Duration::from_secs(60);
/// What changes together is done together.
const TOGETHER: Duration = Duration::from_millis(200);
/// How long a round that is under way may take to end. Less than the leader is given.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Runs until the token is cancelled, or this operator leads no more.
pub async fn run(ctx: &Arc<Context>, scope: &Scope, token: &CancellationToken) {
    let Some(dashboards) = &ctx.dashboards else {
        return;
    };
    if !ctx.children.ready().await {
        return;
    }
    info!(url = %dashboards.settings.url, "Feeds have their dashboards in Superset");
    let mut round = Round::new(Arc::clone(ctx), scope.clone(), token.clone());
    let mut failures = 0;
    while !token.is_cancelled() {
        let began = Instant::now();
        let too_long = async {
            token.cancelled().await;
            tokio::time::sleep(DRAIN_LIMIT).await;
        };
        let ended = tokio::select! {
            ended = ctx.leadership.guard(round.go(dashboards)) => ended,
            () = too_long => return,
        };
        let wait = match ended {
            Err(NotLeading) => return,
            Ok(Ok(more)) => {
                if failures > 0 {
                    info!("Superset can be used again");
                }
                failures = 0;
                match more {
                    true => TOGETHER,
                    false => pause(dashboards.settings.check_period, began.elapsed()),
                }
            }
            Ok(Err(trouble)) => {
                tell(dashboards, &trouble, failures);
                failures += 1;
                delay(failures)
            }
        };
        let slept = tokio::time::sleep(wait);
        let woken = async {
            // A Superset in trouble is not asked more often because many feeds want something.
            match failures {
                0 => dashboards.woken().await,
                _ => std::future::pending().await,
            }
            tokio::time::sleep(TOGETHER).await;
        };
        tokio::select! {
            () = token.cancelled() => return,
            () = slept => {}
            () = woken => {}
        }
    }
}

fn tell(dashboards: &Dashboards, trouble: &Trouble, failures: u32) {
    let error = chain(trouble);
    match failures {
        0 => warn!(error, "Superset cannot be used; feeds go on without it"),
        _ => debug!(error, failures, "Superset still cannot be used"),
    }
    dashboards.tell_all(&trouble.verdict());
}

/// How long until the next round.
fn pause(check_period: Duration, took: Duration) -> Duration {
    (check_period / 10)
        .clamp(Duration::from_secs(1), Duration::from_secs(30))
        .max(took * 4)
}

/// How long after so many failures.
fn delay(failures: u32) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(LONGEST)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::usual(300, 1, 30)]
    #[case::many_feeds(300, 20, 80)]
    #[case::often(5, 0, 1)]
    #[case::seldom(3_600, 0, 30)]
    fn rounds_take_at_most_a_fifth_of_the_time(
        #[case] period: u64,
        #[case] took: u64,
        #[case] expected: u64,
    ) {
        let seconds = Duration::from_secs;
        assert_eq!(pause(seconds(period), seconds(took)), seconds(expected));
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let waits: Vec<_> = (1..9).map(|failures| delay(failures).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(u32::MAX), LONGEST);
    }
}
