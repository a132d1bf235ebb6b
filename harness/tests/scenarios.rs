//! Scenarios of a feed's life against a real API server, broker and database, each with the conditions that are expected at every step.
//! `docs/testing.md` lists them by name. No pod runs here, so that a feed at rest waits for its workers.
//!
//! One test runs all, because they share the servers and the operator; `STOCKFEED_SCENARIO=text` runs those whose names hold the text.

use std::{sync::Arc, time::Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, future::LocalBoxFuture};

#[path = "scenarios/world.rs"]
mod world;

#[path = "scenarios/creation.rs"]
mod creation;
#[path = "scenarios/credentials.rs"]
mod credentials;
#[path = "scenarios/deletion.rs"]
mod deletion;
#[path = "scenarios/drift_broker.rs"]
mod drift_broker;
#[path = "scenarios/drift_cluster.rs"]
mod drift_cluster;
#[path = "scenarios/drift_database.rs"]
mod drift_database;
#[path = "scenarios/operator.rs"]
mod operator_ends;
#[path = "scenarios/trouble.rs"]
mod trouble;
#[path = "scenarios/update.rs"]
mod update;
#[path = "scenarios/upgrade.rs"]
mod upgrade;

use world::{Shared, World};

/// How many run at once.
const AT_ONCE: usize = 8;

type Run = fn(Arc<World>) -> LocalBoxFuture<'static, Result<()>>;

/// A scenario by its name.
pub struct Scenario {
    name: &'static str,
    run: Run,
}

/// Lists functions as scenarios.
#[macro_export]
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        pub fn all() -> Vec<$crate::Scenario> {
            vec![$($crate::Scenario {
                name: stringify!($name),
                run: |world| Box::pin($name(world)),
            }),*]
        }
    };
}

fn all() -> Vec<Scenario> {
    [
        creation::all(),
        update::all(),
        upgrade::all(),
        drift_broker::all(),
        drift_database::all(),
        drift_cluster::all(),
        trouble::all(),
        credentials::all(),
        deletion::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Those that stop or kill the operator: alone, one after the other.
fn alone() -> Vec<Scenario> {
    operator_ends::all()
}

#[test]
fn every_scenario_is_listed_in_the_documentation() {
    let page = include_str!("../../docs/testing.md");
    let names: Vec<_> = all()
        .into_iter()
        .chain(alone())
        .map(|scenario| scenario.name)
        .collect();
    assert!(names.len() >= 40, "{} scenarios", names.len());
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "not in docs/testing.md: {missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_scenarios() -> Result<()> {
    let wanted = std::env::var_os("STOCKFEED_SCENARIO")
        .map(|text| text.to_string_lossy().into_owned())
        .unwrap_or_default();
    let shared = Arc::new(Shared::make().await?);
    let run = |scenario: Scenario| {
        let world = Arc::new(World::new(Arc::clone(&shared)));
        async move {
            let began = Instant::now();
            let result = (scenario.run)(Arc::clone(&world)).await;
            let result = result.and(world.leave().await);
            let seconds = began.elapsed().as_secs_f64();
            match &result {
                Ok(()) => println!("scenario {} ... ok ({seconds:.1} s)", scenario.name),
                Err(error) => println!(
                    "scenario {} ... FAILED ({seconds:.1} s): {error:#}",
                    scenario.name
                ),
            }
            (scenario.name, result.is_ok())
        }
    };
    let chosen = |scenarios: Vec<Scenario>| {
        let wanted = wanted.clone();
        scenarios
            .into_iter()
            .filter(move |scenario| scenario.name.contains(wanted.as_str()))
    };
    let mut results: Vec<_> = futures::stream::iter(chosen(all()))
        .map(run)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    for scenario in chosen(alone()) {
        results.push(run(scenario).await);
    }
    let failed: Vec<_> = results
        .iter()
        .filter(|(_, passed)| !passed)
        .map(|(name, _)| name)
        .collect();
    println!("{} scenarios, {} failed", results.len(), failed.len());
    ensure!(!results.is_empty(), "no scenario has {wanted:?} in its name");
    ensure!(
        failed.is_empty(),
        "failed: {failed:?}; the operator's log: {}",
        shared.log()
    );
    Ok(())
}
