//! Installs what a step needs and the machine lacks: Debian packages and Rust targets.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::progress::Progress;
use crate::workspace::{Workspace, is_root};

/// Something that must be there, and the Debian package that brings it.
pub struct Needed {
    /// A program's name, or the path of a file.
    pub what: &'static str,
    /// The Debian package.
    pub package: &'static str,
}

const fn needed(what: &'static str, package: &'static str) -> Needed {
    Needed { what, package }
}

/// For static binaries: the C parts of our dependencies.
pub const STATIC_BINARIES: &[Needed] = &[needed("musl-gcc", "musl-tools"), needed("cc", "gcc")];

/// For the root file systems of the servers.
pub const ROOT_FILE_SYSTEMS: &[Needed] = &[
    needed("mmdebstrap", "mmdebstrap"),
    needed(
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
    ),
    needed("unshare", "util-linux"),
    needed("tar", "tar"),
];

/// For the testbed cluster.
pub const TESTBED: &[Needed] = &[
    needed("containerd", "containerd"),
    needed("runc", "runc"),
    needed("/usr/lib/cni/bridge", "containernetworking-plugins"),
    needed("conntrack", "conntrack"),
    needed("iptables", "iptables"),
    needed("openssl", "openssl"),
    needed("ip", "iproute2"),
    needed("sysctl", "procps"),
    needed("musl-gcc", "musl-tools"),
];

/// For the dashboard's pages in a browser: without a font it shows boxes.
pub const BROWSER: &[Needed] = &[
    needed("chromium", "chromium"),
    needed(
        "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
        "fonts-dejavu-core",
    ),
];

/// For Python environments. Their files' names hold Python's version, so `python` finds out whether they are missing.
pub const PYTHON: &[&str] = &["python3", "python3-venv"];

/// Installs the packages whose files are missing; does nothing, quickly, when none is.
pub fn ensure(workspace: &Workspace, progress: &Progress, lists: &[&[Needed]]) -> Result<()> {
    let mut missing: Vec<&str> = lists
        .iter()
        .flat_map(|list| list.iter())
        .filter(|needed| match needed.what.starts_with('/') {
            true => !Path::new(needed.what).exists(),
            false => workspace.find_program(needed.what).is_none(),
        })
        .map(|needed| needed.package)
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    install(workspace, progress, &missing)
}

/// Installs packages.
pub fn install(workspace: &Workspace, progress: &Progress, missing: &[&str]) -> Result<()> {
    let names = missing.join(" ");
    if !is_root() || workspace.find_program("apt-get").is_none() {
        bail!("this machine lacks {names}; install them (Debian's names), or run this as root on Debian");
    }
    progress.step(
        &format!("Installing Debian packages: {names}"),
        "packages",
        |log| {
            log.run(apt_get().arg("update"))?;
            log.run(
                apt_get()
                    .args(["install", "--yes", "--no-install-recommends"])
                    .args(missing),
            )
        },
    )
}

/// Adds the Rust target of the static binaries when it is missing.
pub fn ensure_rust_target(workspace: &Workspace, progress: &Progress, target: &str) -> Result<()> {
    let sysroot = Command::new("rustc")
        .current_dir(&workspace.root)
        .args(["--print", "sysroot"])
        .output()?;
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    if Path::new(&sysroot).join("lib/rustlib").join(target).exists() {
        return Ok(());
    }
    progress.step(
        &format!("Adding the Rust target {target}"),
        "rust-target",
        |log| {
            log.run(
                Command::new("rustup")
                    .current_dir(&workspace.root)
                    .args(["target", "add", target]),
            )
        },
    )
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
    command
}
