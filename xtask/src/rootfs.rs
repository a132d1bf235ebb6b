//! The servers that the testbed and the tests run: from Debian's packages, Superset from those of Python's index too.
//!
//! A root file system is made once (`testbed/rootfs`, `testbed/superset/rootfs`) and kept in the cache until its recipe changes. Small files of our
//! own (`testbed/postgres`, `testbed/rabbitmq`) lie over it, so that it behaves as the official image does.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::progress::Progress;
use crate::workspace::{Workspace, hash_files};
use crate::{packages, python};

/// A server, as its official image describes it.
#[derive(Debug)]
pub struct Server {
    /// Its name, in `testbed/rootfs` and in the image's reference.
    pub name: &'static str,
    /// The first part of the image's tag.
    pub version: &'static str,
    /// The script that makes its root file system, and the files that it reads.
    pub recipe: &'static [&'static str],
    /// Our files over the packages': source in `testbed/`, destination, mode.
    pub overlay: &'static [(&'static str, &'static str, u32)],
    /// The image's environment.
    pub environment: &'static [(&'static str, &'static str)],
    /// The program that the image's command is given to.
    pub entrypoint: Option<&'static str>,
    /// The image's default command.
    pub command: &'static str,
    /// The image's user, where it does not begin as root.
    pub user: Option<&'static str>,
    /// The signal that asks the server to end.
    pub stop_signal: &'static str,
}

/// PostgreSQL.
pub const POSTGRES: Server = Server {
    name: "postgres",
    version: "17",
    recipe: &["testbed/rootfs"],
    overlay: &[(
        "postgres/docker-entrypoint.sh",
        "usr/local/bin/docker-entrypoint.sh",
        0o755,
    )],
    environment: &[
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/lib/postgresql/17/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("LANG", "C.UTF-8"),
        ("PGDATA", "/var/lib/postgresql/data"),
    ],
    entrypoint: Some("docker-entrypoint.sh"),
    command: "postgres",
    user: None,
    stop_signal: "SIGINT",
};

/// RabbitMQ.
pub const RABBITMQ: Server = Server {
    name: "rabbitmq",
    version: "4",
    recipe: &["testbed/rootfs"],
    overlay: &[
        (
            "rabbitmq/docker-entrypoint.sh",
            "usr/local/bin/docker-entrypoint.sh",
            0o755,
        ),
        (
            "rabbitmq/10-defaults.conf",
            "etc/rabbitmq/conf.d/10-defaults.conf",
            0o644,
        ),
        ("rabbitmq/enabled_plugins", "etc/rabbitmq/enabled_plugins", 0o644),
    ],
    environment: &[
        // Before `/usr/sbin`, where Debian has wrappers that write to `/var/log`.
        (
            "PATH",
            "/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("LANG", "C.UTF-8"),
        ("HOME", "/var/lib/rabbitmq"),
        ("RABBITMQ_DATA_DIR", "/var/lib/rabbitmq"),
        ("RABBITMQ_LOGS", "-"),
    ],
    entrypoint: Some("docker-entrypoint.sh"),
    command: "rabbitmq-server",
    user: None,
    stop_signal: "SIGTERM",
};

/// Apache Superset. The chart says what is started in it.
pub const SUPERSET: Server = Server {
    name: "superset",
    version: "6.1.0",
    recipe: &[
        "testbed/superset/rootfs",
        "testbed/superset/install",
        python::SUPERSET,
    ],
    overlay: &[],
    environment: &[
        (
            "PATH",
            "/app/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("LANG", "C.UTF-8"),
        ("HOME", "/app/superset_home"),
        ("SUPERSET_HOME", "/app/superset_home"),
    ],
    entrypoint: None,
    command: "superset",
    user: Some("1000:1000"),
    stop_signal: "SIGTERM",
};

/// The user and group of PostgreSQL and RabbitMQ.
pub const SERVER_USER: &str = "999:999";

impl Server {
    /// Where the root file system's archive lies; its name changes with its recipe.
    fn archive(&self, workspace: &Workspace) -> Result<PathBuf> {
        let recipe = hash_files(&self.recipe(workspace))?;
        Ok(workspace.cache.join(format!("rootfs-{}-{recipe}.tar", self.name)))
    }

    /// A hash of everything that decides how the server behaves.
    pub fn hash(&self, workspace: &Workspace) -> Result<String> {
        let mut files = self.recipe(workspace);
        files.push(workspace.path("testbed").join(self.name));
        hash_files(&files)
    }

    fn recipe(&self, workspace: &Workspace) -> Vec<PathBuf> {
        self.recipe.iter().map(|file| workspace.path(file)).collect()
    }

    /// Makes the root file system's archive unless the cache has it.
    pub fn ensure_archive(&self, workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
        let archive = self.archive(workspace)?;
        if archive.exists() {
            return Ok(archive);
        }
        packages::ensure(workspace, progress, &[packages::ROOT_FILE_SYSTEMS])?;
        let installer = match self.recipe.contains(&python::SUPERSET) {
            true => Some(python::installer(workspace, progress)?),
            false => None,
        };
        let title = format!(
            "Making the root file system of {} from packages (a minute or two)",
            self.name
        );
        progress.step(&title, &format!("rootfs-{}", self.name), |log| {
            let lock = lock(workspace, self.name)?;
            if !archive.exists() {
                self.remove_from_cache(workspace, "rootfs-")?;
                let unfinished = archive.with_extension("tar.unfinished");
                let mut make = Command::new(workspace.path(self.recipe[0]));
                if let Some(uv) = &installer {
                    make.env("STOCKFEED_UV", uv).envs(python::sources(log, uv)?);
                }
                log.run(make.arg(self.name).arg(&unfinished))?;
                fs::rename(&unfinished, &archive)?;
            }
            drop(lock);
            Ok(archive.clone())
        })
    }

    /// Unpacks the root file system, with our files over it, unless the cache has it unpacked.
    pub fn ensure_folder(&self, workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
        let folder = workspace
            .cache
            .join(format!("server-{}-{}", self.name, self.hash(workspace)?));
        if folder.exists() {
            return Ok(folder);
        }
        let archive = self.ensure_archive(workspace, progress)?;
        progress.step(
            &format!("Unpacking {}", self.name),
            &format!("unpack-{}", self.name),
            |log| {
                let lock = lock(workspace, self.name)?;
                if !folder.exists() {
                    self.remove_from_cache(workspace, "server-")?;
                    let unfinished = folder.with_extension("unfinished");
                    fs::create_dir_all(&unfinished)?;
                    log.run(
                        Command::new("tar")
                            .arg("-xpf")
                            .arg(&archive)
                            .arg("-C")
                            .arg(&unfinished)
                            .arg("--numeric-owner"),
                    )?;
                    for (source, destination, mode) in self.overlay {
                        let destination = unfinished.join(destination);
                        fs::copy(workspace.path("testbed").join(source), &destination)
                            .with_context(|| format!("failed to copy {source}"))?;
                        set_mode(&destination, *mode)?;
                    }
                    fs::rename(&unfinished, &folder)?;
                }
                drop(lock);
                Ok(folder.clone())
            },
        )
    }

    /// Removes older versions, and what an interrupted run left.
    fn remove_from_cache(&self, workspace: &Workspace, prefix: &str) -> Result<()> {
        let prefix = format!("{prefix}{}-", self.name);
        for entry in fs::read_dir(&workspace.cache)? {
            let path = entry?.path();
            let matches = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
            match path.is_dir() {
                _ if !matches => {}
                // A running server holds a lock on its root folder, which then stays for another time.
                true if File::open(&path)?.try_lock().is_err() => {}
                true => fs::remove_dir_all(&path)?,
                false => fs::remove_file(&path)?,
            }
        }
        Ok(())
    }
}

fn set_mode(path: &std::path::Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// Two runs at once must not make the same thing; the lock ends with the file.
fn lock(workspace: &Workspace, name: &str) -> Result<File> {
    let path = workspace.cache.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("failed to lock {}", path.display()))?;
    Ok(file)
}
