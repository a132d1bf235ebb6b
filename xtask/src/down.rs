//! `cargo xtask down`: removes what `up` made.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// Removes the cluster and everything in it; with `all`, the compiled programs and the caches too.
pub fn run(workspace: &Workspace, progress: &Progress, cluster: Cluster, all: bool) -> Result<()> {
    cluster.down(workspace, progress)?;
    for name in ["bin", "images"] {
        remove(&workspace.artefacts.join(name))?;
    }
    if all {
        remove(&workspace.testbed_state)?;
        for entry in fs::read_dir(&workspace.cache)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            // Cargo's own folder may lie here as well; `cargo clean` is for that.
            if name == "bin"
                || ["rootfs-", "server-"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
            {
                remove(&path)?;
            }
        }
        println!("Removed the cluster, its compiled programs and the caches.");
    } else {
        println!(
            "Removed the cluster and everything in it. Kept for the next time: the compiled programs ({}) and the caches ({}). \
             `cargo xtask down --all` removes them too.",
            workspace.testbed_state.display(),
            workspace.cache.display()
        );
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = match path {
        _ if !path.exists() => Ok(()),
        _ if path.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    };
    removed.with_context(|| format!("failed to remove {}", path.display()))
}
