//! Files that are generated and committed: the CRD from the operator's types, the manifests from the chart, the chart's copies.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::Progress;
use crate::tools;
use crate::workspace::Workspace;

const CRD_COPIES: [&str; 2] = ["crds/stockfeeds.yaml", "helm/stockfeed/crds/stockfeeds.yaml"];
/// What the chart carries a copy of, since a chart holds all of itself: Superset's start program and settings.
const CHART_FILES: [[&str; 2]; 2] = [
    [
        "superset/server/start.py",
        "helm/stockfeed/files/superset/start.py",
    ],
    [
        "superset/server/superset_config.py",
        "helm/stockfeed/files/superset/superset_config.py",
    ],
];
const MANIFESTS: &str = "manifests/install.yaml";
const CHART: &str = "helm/stockfeed";

/// The chart makes passwords for the servers it brings, which nobody could commit: whoever installs without helm brings
/// the two connection Secrets.
const SETTINGS: &str = "rabbitmq.enabled=false,broker.existingSecret=stockfeed-rabbitmq,\
                        postgresql.enabled=false,database.existingSecret=stockfeed-postgresql";

const HEADER: &str = "\
# StockFeed's operator and its custom resource definition, for people without helm.
# Generated from helm/stockfeed by `cargo xtask manifests`; do not edit.
#
# It needs two Secrets in the namespace stockfeed-system, made by you or by the operators of RabbitMQ and PostgreSQL:
#   stockfeed-rabbitmq    host, port, username, password (RabbitMQ's service-binding format; an administrator)
#   stockfeed-postgresql  host, port, dbname, username, password (CloudNativePG's format; may create roles and schemas)
---
apiVersion: v1
kind: Namespace
metadata:
  name: stockfeed-system
";

/// Writes the CRD, or with `check` fails when it differs.
pub fn crds(workspace: &Workspace, progress: &Progress, check: bool) -> Result<()> {
    let crd = progress.step(
        "Generating the CRD from the operator's types",
        "crds-generate",
        |log| {
            log.output(Command::new("cargo").current_dir(&workspace.root).args([
                "run",
                "--quiet",
                "--locked",
                "--package",
                "operator",
                "--bin",
                "crdgen",
            ]))
        },
    )?;
    for copy in CRD_COPIES {
        put(&workspace.path(copy), &crd, check, "cargo xtask crds")?;
    }
    Ok(())
}

/// Fails when the chart's copy of something is not what it is a copy of.
pub fn copies(workspace: &Workspace) -> Result<()> {
    let all = [(CRD_COPIES, "crds")]
        .into_iter()
        .chain(CHART_FILES.map(|pair| (pair, "manifests")));
    for ([original, copy], task) in all {
        if read(workspace, original)? != read(workspace, copy)? {
            bail!("{copy} differs from {original}; run `cargo xtask {task}`");
        }
    }
    Ok(())
}

fn read(workspace: &Workspace, path: &str) -> Result<String> {
    fs::read_to_string(workspace.path(path)).with_context(|| format!("failed to read {path}"))
}

/// Writes the manifests for people without helm, or with `check` fails when they differ.
pub fn manifests(workspace: &Workspace, progress: &Progress, check: bool) -> Result<()> {
    for [original, copy] in CHART_FILES {
        let text = read(workspace, original)?;
        put(&workspace.path(copy), &text, check, "cargo xtask manifests")?;
    }
    let helm = tools::helm(workspace, progress)?;
    let manifests = progress.step(
        "Rendering the chart for people without helm",
        "manifests-generate",
        |log| {
            log.output(
                Command::new(helm)
                    .args(["template", "stockfeed"])
                    .arg(workspace.path(CHART))
                    .args([
                        "--namespace",
                        "stockfeed-system",
                        "--include-crds",
                        "--set",
                        SETTINGS,
                    ]),
            )
        },
    )?;
    let text = format!("{HEADER}{manifests}");
    put(&workspace.path(MANIFESTS), &text, check, "cargo xtask manifests")
}

fn put(path: &Path, text: &str, check: bool, command: &str) -> Result<()> {
    let present = fs::read_to_string(path).unwrap_or_default();
    if present == text {
        return Ok(());
    }
    if check {
        let line = present
            .lines()
            .zip(text.lines())
            .take_while(|(old, new)| old == new)
            .count()
            + 1;
        bail!(
            "{} is not up to date from line {line} on; run `{command}`",
            path.display()
        );
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    println!("    wrote {}", path.display());
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}
