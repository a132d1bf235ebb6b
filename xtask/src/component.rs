//! The tests without a cluster: units, programs against real servers, and the operator against an API server without nodes.

use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::cluster;
use crate::images;
use crate::programs::{self, Built, Program, closing_lines};
use crate::progress::{Progress, elapsed};
use crate::python;
use crate::servers::{Purpose, Servers};
use crate::test::Part;
use crate::workspace::Workspace;

/// What takes longest, and so comes first. Those of a line share something that bears one at a time: the operator sweeps the one
/// Superset of what it does not know.
const FIRST: [&[&str]; 8] = [
    &["harness/steady"],
    &["harness/scenarios"],
    &["processor/memory"],
    &["operator/dashboards", "superset/charts", "test-servers/superset"],
    &["processor/kill_matrix"],
    &["processor/hand_over"],
    &["producer/broker"],
    &["operator/drift"],
];
/// Most of the time they wait, for a server or for a time to pass.
const LANES: usize = 2;

/// Packages whose tests need a Kubernetes.
const KUBERNETES: [&str; 2] = ["e2e", "harness"];

/// Tests of all packages but those that need a Kubernetes.
pub fn unit_and_component(
    workspace: &Workspace,
    progress: &Progress,
    built: &Built,
    only: Option<Part>,
) -> Result<String> {
    let component = only != Some(Part::Unit);
    let python = component
        .then(|| python::environment(workspace, progress, python::API))
        .transpose()?;
    // The same programs as the images', so they are compiled once.
    let processor = component
        .then(|| images::binary(workspace, progress, "processor"))
        .transpose()?;
    // The servers end with this value, whatever happens to the tests.
    let servers = component
        .then(|| Servers::start(workspace, progress, Purpose::Tests { superset: true }))
        .transpose()?;
    let environment = servers.as_ref().map(Servers::environment).unwrap_or_default();
    let mut programs = built.without(&KUBERNETES);
    programs.retain(|program| match only {
        Some(Part::Unit) => !program.integration,
        Some(Part::Component) => program.integration,
        _ => true,
    });
    progress.step("Running unit and component tests", "tests", |all| {
        let passed = programs::run(LANES, groups(programs), |program| {
            let (label, started) = (program.label(), Instant::now());
            let log = progress.log(&format!("test-{}", label.replace('/', "-")))?;
            let mut command = program.command();
            command
                .envs(environment.iter().map(|(name, value)| (name, value)))
                .envs(python.iter().map(|programs| ("STOCKFEED_TEST_PYTHON", programs)))
                .envs(
                    processor
                        .iter()
                        .map(|program| ("STOCKFEED_TEST_PROCESSOR", program)),
                );
            let result = log.run(&mut command);
            all.note(&format!("{label} ended after {}", elapsed(started.elapsed())))?;
            closing_lines(&log, &label, result).with_context(|| format!("log: {}", log.path().display()))
        })?;
        Ok(format!("{passed} tests"))
    })
}

/// The programs in the order in which they are to be started.
fn groups(mut programs: Vec<Program>) -> Vec<Vec<Program>> {
    let mut groups = Vec::new();
    for labels in FIRST {
        let (first, others) = programs
            .into_iter()
            .partition(|program| labels.contains(&program.label().as_str()));
        groups.push(first);
        programs = others;
    }
    groups.extend(programs.into_iter().map(|program| vec![program]));
    groups
}

/// Tests of the operator with many feeds, against an API server of its own.
pub fn without_nodes(workspace: &Workspace, progress: &Progress, built: &Built) -> Result<String> {
    let kube = cluster::programs(workspace, progress)?;
    let operator = built.binary("operator")?;
    let servers = Servers::start(workspace, progress, Purpose::Tests { superset: false })?;
    let one = |program: &Program| {
        let title = match program.name.as_str() {
            "steady" => "Watching that 200 feeds at rest cause no write (11 minutes)",
            "scenarios" => "Running the scenarios of the operator (10 minutes)",
            _ => "Testing the tests' own parts",
        };
        progress.step(title, &format!("without-nodes-{}", program.name), |log| {
            let mut command = program.command();
            command
                .envs(servers.environment().iter().map(|(name, value)| (name, value)))
                .env("STOCKFEED_TEST_KUBE", &kube)
                .env("STOCKFEED_TEST_OPERATOR", operator);
            let result = log.run(&mut command);
            closing_lines(log, &program.label(), result)
        })
    };
    // Beside each other: each has an operator and an API server of its own, and mostly waits.
    let tests = programs::run(LANES, groups(built.of("harness")), one)?;
    Ok(format!("{tests} tests"))
}
