//! kubectl, helm, kind and scanners: found, or compiled with Go from the versions that `testbed/go.mod` and `xtask/scan/go.mod` pin.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::Progress;
use crate::workspace::{Workspace, hash_files};

/// The module of what the cluster needs.
const TESTBED: &str = "testbed";
/// The module of what `cargo xtask scan` needs.
const SCANNERS: &str = "xtask/scan";
const KUBERNETES: &str = "k8s.io/kubernetes";
/// Compiled without optimisations, which take longer than it ever runs.
const CARGO_DENY: &str = "0.20.2";
const KIND: &str = "sigs.k8s.io/kind@v0.30.0";

/// Helm, always of the version in `testbed/go.mod`, so that what it generates is the same on every machine.
pub fn helm(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    compiled(workspace, progress, TESTBED, "helm", "helm.sh/helm/v3/cmd/helm")
}

/// The caller's own kubectl, or else a compiled one.
pub fn kubectl(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    match workspace.find_program("kubectl") {
        Some(found) => Ok(found),
        None => compiled(
            workspace,
            progress,
            TESTBED,
            "kubectl",
            "k8s.io/kubernetes/cmd/kubectl",
        ),
    }
}

/// A program that scans manifests.
pub fn scanner(workspace: &Workspace, progress: &Progress, name: &str, package: &str) -> Result<PathBuf> {
    compiled(workspace, progress, SCANNERS, name, package)
}

/// The schemas of the Kubernetes that `testbed/go.mod` names, as its sources hold them.
pub fn kubernetes_schemas(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    require_go(workspace)?;
    progress.step(
        "Looking up the schemas of Kubernetes",
        "kubernetes-schemas",
        |log| {
            let go = |arguments: &[&str]| {
                let mut go = Command::new("go");
                go.current_dir(workspace.path(TESTBED)).args(arguments);
                go
            };
            log.run(&mut go(&["mod", "download", KUBERNETES]))?;
            let folder = log.output(&mut go(&["list", "-m", "-f", "{{.Dir}}", KUBERNETES]))?;
            Ok(Path::new(folder.trim()).join("api/openapi-spec/swagger.json"))
        },
    )
}

/// The caller's own kind, or else an installed one.
pub fn kind(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    if let Some(found) = workspace.find_program("kind") {
        return Ok(found);
    }
    let folder = workspace.cache.join("bin");
    let program = folder.join("kind");
    if !program.exists() {
        require_go(workspace)?;
        progress.step("Installing kind", "kind-install", |log| {
            log.run(
                Command::new("go")
                    .env("GOBIN", &folder)
                    .env("CGO_ENABLED", "0")
                    .args(["install", KIND]),
            )
        })?;
    }
    Ok(program)
}

/// The caller's own cargo-deny, or else an installed one.
pub fn cargo_deny(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    if let Some(found) = workspace.find_program("cargo-deny") {
        return Ok(found);
    }
    let folder = workspace.cache.join(format!("cargo-deny-{CARGO_DENY}"));
    let program = folder.join("bin/cargo-deny");
    if !program.exists() {
        progress.step(
            "Installing cargo-deny (minutes when cold)",
            "deny-install",
            |log| {
                let compiled = folder.join("target");
                log.run(
                    Command::new("cargo")
                        .args([
                            "install",
                            "--debug",
                            "--locked",
                            "--version",
                            CARGO_DENY,
                            "--root",
                        ])
                        .args([
                            folder.as_path(),
                            "cargo-deny".as_ref(),
                            "--target-dir".as_ref(),
                            &compiled,
                        ]),
                )?;
                Ok(fs::remove_dir_all(compiled)?)
            },
        )?;
    }
    Ok(program)
}

/// Says what to do when there is no Go.
pub fn require_go(workspace: &Workspace) -> Result<()> {
    if workspace.find_program("go").is_none() {
        bail!(
            "Go is not on the search path; Kubernetes and helm are compiled with it (1.25 or later, https://go.dev/dl)"
        );
    }
    Ok(())
}

/// A program of one of our Go modules, whose go.sum says what it is.
fn compiled(
    workspace: &Workspace,
    progress: &Progress,
    module: &str,
    name: &str,
    package: &str,
) -> Result<PathBuf> {
    let version = hash_files(&[workspace.path(module).join("go.sum")])?;
    let program = workspace.cache.join("bin").join(format!("{name}-{version}"));
    if program.exists() {
        return Ok(program);
    }
    require_go(workspace)?;
    progress.step(
        &format!("Compiling {name} (minutes when cold)"),
        &format!("{name}-compile"),
        |log| {
            let unfinished = program.with_extension("unfinished");
            log.run(
                Command::new("go")
                    .current_dir(workspace.path(module))
                    .env("CGO_ENABLED", "0")
                    .args(["build", "-trimpath", "-ldflags", "-s -w", "-o"])
                    .args([unfinished.as_os_str(), package.as_ref()]),
            )?;
            Ok(fs::rename(&unfinished, &program)?)
        },
    )?;
    Ok(program)
}

/// Writes a small program that runs another with the cluster's kubeconfig, unless the caller has set one.
pub fn write_wrapper(path: &Path, kubeconfig: &Path, program: &Path, argument: &str) -> Result<()> {
    let text = format!(
        "#!/bin/sh\n# Written by `cargo xtask up`.\n: \"${{KUBECONFIG:={}}}\"\nexport KUBECONFIG\nexec {} {argument} \"$@\"\n",
        kubeconfig.display(),
        program.display()
    );
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}
