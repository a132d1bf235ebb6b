//! Where things lie: the repository, the build's artefacts, the user's cache and the testbed's state.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use sha2::{Digest, Sha256};

/// Folders that the environment may move. They are options only so that clap reads the environment.
#[derive(Args, Debug)]
pub struct Places {
    /// Folder of this tool's sources, as cargo says when it runs it: the binary may have been compiled in another clone that
    /// shares the target folder
    #[arg(long, env = "CARGO_MANIFEST_DIR", hide = true, global = true, default_value = env!("CARGO_MANIFEST_DIR"))]
    sources: PathBuf,
    /// Folder of the user's caches
    #[arg(long, env = "XDG_CACHE_HOME", hide = true, global = true)]
    cache_home: Option<PathBuf>,
    /// The user's home folder
    #[arg(long, env = "HOME", hide = true, global = true)]
    home: Option<PathBuf>,
    /// Folder in which the testbed cluster keeps its programs and its state
    #[arg(
        long,
        env = "STATE",
        hide = true,
        global = true,
        default_value = "/var/lib/stockfeed-testbed"
    )]
    testbed_state: PathBuf,
    /// The caller's search path
    #[arg(
        long,
        env = "PATH",
        hide = true,
        global = true,
        default_value = "/usr/bin:/bin"
    )]
    search_path: String,
}

/// The resolved folders.
#[derive(Debug)]
pub struct Workspace {
    /// The repository.
    pub root: PathBuf,
    /// What this tool writes: images, logs, small programs. Always in the repository, wherever cargo builds.
    pub artefacts: PathBuf,
    /// What is costly to make and survives `cargo xtask down`.
    pub cache: PathBuf,
    /// The testbed cluster's programs and state.
    pub testbed_state: PathBuf,
    /// The caller's search path.
    pub search_path: String,
}

impl Workspace {
    /// Resolves the folders and makes those that are written to.
    pub fn new(places: Places) -> Result<Self> {
        let Places {
            sources,
            cache_home,
            home,
            testbed_state,
            search_path,
        } = places;
        let root = sources
            .parent()
            .context("the xtask crate does not lie in a workspace")?
            .to_path_buf();
        let workspace = Self {
            artefacts: root.join("target"),
            cache: cache_home
                .or_else(|| home.map(|home| home.join(".cache")))
                .unwrap_or_else(|| root.join("target/cache"))
                .join("stockfeed"),
            root,
            testbed_state,
            search_path,
        };
        for folder in [&workspace.artefacts, &workspace.cache] {
            fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
        }
        Ok(workspace)
    }

    /// A file or folder of the repository.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The first program of this name on the caller's search path.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        // System folders are searched as well: a user's path often lacks `/usr/sbin`, where iptables and others live.
        self.search_path
            .split(':')
            .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"])
            .map(|folder| Path::new(folder).join(name))
            // What `up` wrote for the user to call would find itself here.
            .filter(|candidate| !candidate.starts_with(&self.artefacts))
            .find(|candidate| candidate.is_file())
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// A short hash over names and contents of files; folders are read to the bottom, in order of name.
pub fn hash_files(paths: &[PathBuf]) -> Result<String> {
    let mut hasher = Sha256::new();
    for path in paths {
        hash_into(&mut hasher, path, path)?;
    }
    Ok(short(hasher))
}

/// A short hash of a text.
pub fn hash_text(text: &str) -> String {
    short(Sha256::new_with_prefix(text))
}

fn short(hasher: Sha256) -> String {
    hex(&hasher.finalize())[..12].to_owned()
}

/// Lowercase hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn hash_into(hasher: &mut Sha256, base: &Path, path: &Path) -> Result<()> {
    if path.is_dir() {
        let mut entries = fs::read_dir(path)
            .and_then(|entries| {
                entries
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<Result<Vec<_>, _>>()
            })
            .with_context(|| format!("failed to read {}", path.display()))?;
        entries.sort();
        return entries
            .iter()
            .try_for_each(|entry| hash_into(hasher, base, entry));
    }
    let content = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    let name = path
        .strip_prefix(base)
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned();
    hasher.update((name.len() as u64).to_le_bytes());
    hasher.update(name);
    hasher.update((content.len() as u64).to_le_bytes());
    hasher.update(content);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_of_files_follows_names_and_contents_but_not_the_folder() -> Result<()> {
        let base = std::env::temp_dir().join(format!("stockfeed-xtask-{}", std::process::id()));
        let hash_of = |folder: &str, name: &str, content: &str| {
            let folder = base.join(folder);
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(name), content)?;
            hash_files(&[folder])
        };
        let hash = hash_of("a", "name", "content")?;
        assert_eq!(hash_of("b", "name", "content")?, hash);
        assert_ne!(hash_of("c", "other", "content")?, hash);
        assert_ne!(hash_of("d", "name", "changed")?, hash);
        assert_ne!(hash_of("e", "namec", "ontent")?, hash);
        Ok(fs::remove_dir_all(&base)?)
    }
}
