//! `cargo xtask scan`: judges the chart and the operator's children by the rules of others.
//!
//! kubeconform compares every object with the API's own schemas, kube-score and checkov know what is good practice. A finding is
//! mended, or stands in `helm/exceptions.yaml` with the reason why it stays; an exception that no finding needs fails as well.
//! The children are those of the operator's snapshots, which its unit tests compare with what it makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize as _;
use serde_json::Value;

use crate::progress::{Log, Progress};
use crate::workspace::Workspace;
use crate::{python, tools};

mod exceptions;
mod findings;
mod schemas;

use findings::Finding;

const CHART: &str = "helm/stockfeed";
/// The values with which the chart makes most objects.
const VALUES: &str = "helm/stockfeed/values-local.yaml";
const SNAPSHOTS: &str = "operator/src/build/snapshots";
const EXAMPLES: &str = "manifests/examples";
const EXCEPTIONS: &str = "helm/exceptions.yaml";
const REQUIREMENTS: &str = "xtask/scan/requirements.txt";
/// Kinds of other operators in the examples: whose schemas are not ours to keep.
const OTHERS: [&str; 2] = ["RabbitmqCluster", "Cluster"];
/// What kube-score takes for the cluster's version: that of `testbed/go.mod`.
const KUBERNETES: &str = "v1.34";

/// The programs.
struct Scanners {
    kubeconform: PathBuf,
    kube_score: PathBuf,
    checkov: PathBuf,
}

/// Scans everything; says how much, or fails with what was found.
pub fn run(workspace: &Workspace, progress: &Progress) -> Result<String> {
    let scanners = Scanners {
        kubeconform: tools::scanner(
            workspace,
            progress,
            "kubeconform",
            "github.com/yannh/kubeconform/cmd/kubeconform",
        )?,
        kube_score: tools::scanner(
            workspace,
            progress,
            "kube-score",
            "github.com/zegl/kube-score/cmd/kube-score",
        )?,
        checkov: python::environment(workspace, progress, REQUIREMENTS)?.join("checkov"),
    };
    let helm = tools::helm(workspace, progress)?;
    let swagger = tools::kubernetes_schemas(workspace, progress)?;
    progress.step("Scanning the chart and the operator's children", "scan", |log| {
        let folder = workspace.artefacts.join("scan");
        let manifests = render(workspace, log, &helm, &folder)?;
        let objects = conform(workspace, log, &scanners, &manifests, &swagger)?;
        let findings = judge(log, &scanners, &manifests)?;
        let text = fs::read_to_string(workspace.path(EXCEPTIONS))
            .with_context(|| format!("failed to read {EXCEPTIONS}"))?;
        let problems = exceptions::problems(&exceptions::parse(&text)?, &findings);
        if !problems.is_empty() {
            bail!(
                "{} problems; mend them, or write the reason into {EXCEPTIONS}:\n{}",
                problems.len(),
                problems.join("\n")
            );
        }
        Ok(format!(
            "{objects} objects, {} findings with a reason",
            findings.len()
        ))
    })
}

/// Everything that becomes an object, one file a source.
fn render(workspace: &Workspace, log: &Log, helm: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let chart = log.output(
        Command::new(helm)
            .current_dir(&workspace.root)
            .args(["template", "stockfeed", CHART, "--namespace", "stockfeed-system"])
            .args(["--include-crds", "--values", VALUES]),
    )?;
    let children = children(&workspace.path(SNAPSHOTS))?;
    [("chart.yaml", chart), ("children.yaml", children)]
        .into_iter()
        .map(|(name, text)| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
            Ok(path)
        })
        .collect()
}

/// The objects in the operator's snapshots, a document each.
fn children(folder: &Path) -> Result<String> {
    let mut documents = Vec::new();
    for path in files(folder, "snap")? {
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        // Before the second line of dashes stands where the snapshot comes from.
        let body = text.split("\n---\n").nth(1).unwrap_or_default();
        let objects: Vec<Value> = serde_yaml::from_str(body)
            .with_context(|| format!("{} is no list of objects", path.display()))?;
        for object in &objects {
            documents.push(serde_yaml::to_string(object)?);
        }
    }
    if documents.is_empty() {
        bail!("there is no snapshot with objects in {}", folder.display());
    }
    Ok(documents.join("---\n"))
}

/// Compares every object with its schema. Returns how many there are.
fn conform(
    workspace: &Workspace,
    log: &Log,
    scanners: &Scanners,
    manifests: &[PathBuf],
    swagger: &Path,
) -> Result<usize> {
    let mut paths = manifests.to_vec();
    paths.extend(files(&workspace.path(EXAMPLES), "yaml")?);
    let mut documents = Vec::new();
    for path in &paths {
        documents.extend(read(path)?);
    }
    let definition = read(&workspace.path("crds/stockfeeds.yaml"))?;
    let swagger = fs::read(swagger).with_context(|| format!("failed to read {}", swagger.display()))?;
    let swagger: Value = serde_json::from_slice(&swagger).context("the API's schemas are no JSON")?;
    let folder = workspace.artefacts.join("scan/schemas");
    let of_others = |document: &&Value| !OTHERS.contains(&document["kind"].as_str().unwrap_or_default());
    let ours: Vec<_> = documents.iter().filter(of_others).collect();
    schemas::write(&folder, &swagger, &definition, &ours)?;
    log.run(
        Command::new(&scanners.kubeconform)
            .args(["-strict", "-summary", "-skip", &OTHERS.join(",")])
            .arg("-schema-location")
            .arg(format!(
                "{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
                folder.display()
            ))
            .args(&paths),
    )
    .context("an object is not as the API has it; the log says which")?;
    Ok(ours.len())
}

/// Everything that the two others find.
fn judge(log: &Log, scanners: &Scanners, manifests: &[PathBuf]) -> Result<Vec<Finding>> {
    let scores = log.output_of_any_status(
        Command::new(&scanners.kube_score)
            .args([
                "score",
                "--output-format",
                "json",
                "--kubernetes-version",
                KUBERNETES,
            ])
            .args(manifests),
    )?;
    let mut findings = findings::of_kube_score(&scores)?;
    // Nothing is downloaded: what it would fetch are texts for people.
    let mut checkov = Command::new(&scanners.checkov);
    checkov
        .args([
            "--framework",
            "kubernetes",
            "--output",
            "json",
            "--compact",
            "--quiet",
        ])
        .args(["--skip-download", "--soft-fail"])
        .env("LOG_LEVEL", "ERROR");
    for path in manifests {
        checkov.arg("--file").arg(path);
    }
    findings.extend(findings::of_checkov(&log.output(&mut checkov)?)?);
    Ok(findings)
}

/// The documents of a YAML file.
fn read(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let documents = serde_yaml::Deserializer::from_str(&text).map(|document| {
        Value::deserialize(document).with_context(|| format!("{} is no YAML", path.display()))
    });
    let documents = documents.filter(|document| !matches!(document, Ok(Value::Null)));
    documents.collect()
}

/// The files of a folder with this ending, by name.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == ending) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
