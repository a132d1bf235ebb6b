//! The tests in the cluster: several programs at a time where they do not touch what all feeds share, one at a time otherwise.

use anyhow::{Result, bail};

use crate::cluster::{Access, Cluster};
use crate::programs::{self, Built, Program, closing_lines};
use crate::progress::Progress;
use crate::workspace::Workspace;
use crate::{flink, web};

/// Each of these has feeds of its own and leaves operator, broker and database as they are. The longest come first.
const BESIDE_OTHERS: [&str; 14] = [
    "superset",
    "dashboard",
    "deletion",
    "upgrade",
    "repartition",
    "isolation",
    "producer",
    "suspension",
    "plugin",
    "healing",
    "rotation",
    "security",
    "admission",
    "first_steps",
];
/// Most of the time they wait.
const LANES: usize = 3;

/// What the tests are told of the cluster.
pub fn environment(
    workspace: &Workspace,
    progress: &Progress,
    cluster: Cluster,
    access: &Access,
) -> Result<Vec<(&'static str, String)>> {
    let program = |name: &str| access.programs.join(name).display().to_string();
    let mut environment = web::browser_environment(workspace, progress)?;
    let page = flink::page(workspace, progress)?;
    environment.extend([
        ("FLINK_UI", page.display().to_string()),
        ("KUBECONFIG", access.kubeconfig.display().to_string()),
        ("STOCKFEED_KUBECTL", program("kubectl")),
        // kubectl looks for its plugins there.
        (
            "PATH",
            format!("{}:{}", access.programs.display(), workspace.search_path),
        ),
        ("STOCKFEED_HELM", program("helm")),
        (
            "STOCKFEED_ARTEFACTS",
            workspace.artefacts.join("test").display().to_string(),
        ),
    ]);
    if cluster == Cluster::Testbed {
        let log = workspace.testbed_state.join("audit.log");
        environment.push(("STOCKFEED_AUDIT_LOG", log.display().to_string()));
    }
    Ok(environment)
}

/// Runs all of them, also when one fails.
pub fn run(progress: &Progress, built: &Built, environment: &[(&str, String)]) -> Result<String> {
    let (beside, alone) = ordered(built.of("e2e"))?;
    let one = |program: &Program| {
        let name = &program.name;
        progress.step(
            &format!("Running the end-to-end tests of {name}"),
            &format!("e2e-{name}"),
            |log| {
                let mut command = program.command();
                command
                    .args(["--test-threads=1", "--nocapture"])
                    .envs(environment.iter().map(|(name, value)| (name, value)));
                let result = log.run(&mut command);
                closing_lines(log, name, result)
            },
        )
    };
    let groups = |programs: Vec<Program>| programs.into_iter().map(|program| vec![program]).collect();
    // The second run comes also when the first has failed.
    let outcomes = [
        programs::run(LANES, groups(beside), one),
        programs::run(1, groups(alone), one),
    ];
    let mut passed = 0;
    let mut errors = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(tests) => passed += tests,
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    if !errors.is_empty() {
        bail!("{}", errors.join("; "));
    }
    Ok(format!("{passed} tests"))
}

/// Those that run beside others in their order, then the rest by name.
fn ordered(programs: Vec<Program>) -> Result<(Vec<Program>, Vec<Program>)> {
    let place = |program: &Program| BESIDE_OTHERS.iter().position(|other| *other == program.name);
    let (mut beside, mut alone): (Vec<_>, Vec<_>) =
        programs.into_iter().partition(|program| place(program).is_some());
    beside.sort_by_key(place);
    alone.sort_by(|one, other| one.name.cmp(&other.name));
    for name in BESIDE_OTHERS {
        if !beside.iter().any(|program| program.name == name) {
            bail!("there is no end-to-end test {name}");
        }
    }
    Ok((beside, alone))
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn programs_are_ordered_and_none_is_forgotten() -> Result<()> {
        let mut programs: Vec<_> = ["zz_rbac", "e2e"].map(Program::named).into();
        programs.extend(BESIDE_OTHERS.iter().rev().map(|name| Program::named(name)));
        let names =
            |programs: Vec<Program>| -> Vec<_> { programs.into_iter().map(|program| program.name).collect() };
        let (beside, alone) = ordered(programs)?;
        assert_eq!(names(beside), BESIDE_OTHERS);
        assert_eq!(names(alone), ["e2e", "zz_rbac"]);
        let missing = ordered(Vec::new()).err().context("nothing is missing")?;
        assert!(missing.to_string().contains("superset"), "{missing}");
        Ok(())
    }
}
