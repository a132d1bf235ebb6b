//! Container images without Docker: static binaries and server root file systems, written as docker archives.
//!
//! The archives are the same, byte for byte, whenever their content is: no times, fixed owners. An image's tag is
//! a hash of its content, so that unchanged code changes nothing in a cluster, and changed code rolls out.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::packages;
use crate::progress::{Log, Progress};
use crate::rootfs::{POSTGRES, RABBITMQ, SUPERSET, Server};
use crate::web;
use crate::workspace::{Workspace, hex};

/// Our programs that run in pods.
pub const PROGRAMS: &[&str] = &["operator", "producer", "processor", "dashboard", "fmp-simulator"];

/// The target of the static binaries. Static glibc is no choice: its resolver crashes in an empty image.
const TARGET: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-musl"
} else {
    "x86_64-unknown-linux-musl"
};

/// The architecture as images name it.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

/// The user in our images; it exists in no image and needs not to.
const PROGRAM_USER: &str = "65532:65532";

/// An image archive on disk.
#[derive(Clone, Debug)]
pub struct Image {
    /// What it holds, as the chart's values name it.
    pub name: &'static str,
    /// The repository part of its reference.
    pub repository: String,
    /// The tag: a hash of the content.
    pub tag: String,
    /// The docker archive.
    pub archive: PathBuf,
}

impl Image {
    /// What a pod names.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// Compiles these programs and writes their images, as far as they have changed.
pub fn programs(workspace: &Workspace, progress: &Progress, names: &[&'static str]) -> Result<Vec<Image>> {
    let binaries = binaries(workspace, progress, names)?;
    progress.step("Writing the programs' images", "images-write", |log| {
        names
            .iter()
            .zip(binaries)
            .map(|(&name, binary)| {
                let layer = program_layer(name, &binary)?;
                let config =
                    json!({"Entrypoint": [format!("/{name}")], "User": PROGRAM_USER, "WorkingDir": "/"});
                write_image(
                    workspace,
                    log,
                    name,
                    &format!("localhost/stockfeed/{name}"),
                    "",
                    &config,
                    &[Layer::Bytes(layer)],
                )
            })
            .collect()
    })
}

/// Compiles these programs just as their images hold them, and says where they lie.
pub fn binaries(workspace: &Workspace, progress: &Progress, names: &[&'static str]) -> Result<Vec<PathBuf>> {
    let programs: Vec<_> = names.iter().map(|name| (*name, *name)).collect();
    static_programs(workspace, progress, &programs)
}

/// Compiles all programs just as their images hold them, which costs no more than one of them does, and says where one lies.
pub fn binary(workspace: &Workspace, progress: &Progress, name: &str) -> Result<PathBuf> {
    let binaries = binaries(workspace, progress, PROGRAMS)?;
    let found = PROGRAMS
        .iter()
        .zip(binaries)
        .find(|(program, _)| **program == name);
    found
        .map(|(_, binary)| binary)
        .with_context(|| format!("{name} is none of the programs in images"))
}

/// Compiles static binaries as the images have them, each a package and a binary.
pub fn static_programs(
    workspace: &Workspace,
    progress: &Progress,
    programs: &[(&str, &str)],
) -> Result<Vec<PathBuf>> {
    // It holds its page.
    if programs.iter().any(|(_, name)| *name == "dashboard") {
        web::build(workspace, progress)?;
    }
    packages::ensure(workspace, progress, &[packages::STATIC_BINARIES])?;
    packages::ensure_rust_target(workspace, progress, TARGET)?;
    let title = format!(
        "Compiling static binaries: {} (minutes when cold)",
        programs
            .iter()
            .map(|(_, name)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    );
    progress.step(&title, "images-compile", |log| {
        compile(workspace, log, Profile::Image, Some(TARGET), programs)
    })
}

/// The servers that the chart brings.
const SERVERS: [&Server; 3] = [&RABBITMQ, &POSTGRES, &SUPERSET];

/// Writes the images of the servers for the testbed, as far as they have changed.
pub fn servers(workspace: &Workspace, progress: &Progress) -> Result<Vec<Image>> {
    SERVERS
        .into_iter()
        .map(|server| server_image(workspace, progress, server))
        .collect()
}

fn server_image(workspace: &Workspace, progress: &Progress, server: &Server) -> Result<Image> {
    let archive = server.ensure_archive(workspace, progress)?;
    progress.step(
        &format!("Writing the image of {}", server.name),
        &format!("image-{}", server.name),
        |log| {
            let mut overlay = Vec::new();
            for (source, destination, mode) in server.overlay {
                let content = fs::read(workspace.path("testbed").join(source))
                    .with_context(|| format!("failed to read {source}"))?;
                overlay.push((*destination, *mode, content));
            }
            let environment: Vec<_> = server
                .environment
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let mut config = json!({
                "Env": environment,
                "Cmd": [server.command],
                "StopSignal": server.stop_signal,
            });
            if let Some(entrypoint) = server.entrypoint {
                config["Entrypoint"] = json!([entrypoint]);
            }
            if let Some(user) = server.user {
                config["User"] = json!(user);
            }
            let layers = [Layer::File(archive), Layer::Bytes(layer(&overlay)?)];
            let prefix = format!("{}-", server.version);
            write_image(
                workspace,
                log,
                server.name,
                &format!("localhost/{}", server.name),
                &prefix,
                &config,
                &layers,
            )
        },
    )
}

/// How programs are compiled.
#[derive(Clone, Copy, Debug)]
pub enum Profile {
    /// As the images hold them.
    Image,
    /// As tests run them.
    Dev,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Dev => "dev",
        }
    }
}

/// Compiles programs, each a package and a binary, for a target or for this machine.
pub fn compile(
    workspace: &Workspace,
    log: &Log,
    profile: Profile,
    target: Option<&str>,
    programs: &[(&str, &str)],
) -> Result<Vec<PathBuf>> {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(&workspace.root)
        .args(["build", "--locked", "--profile", profile.name()])
        .args(["--message-format", "json-render-diagnostics"]);
    if let Some(target) = target {
        cargo.args(["--target", target]);
    }
    for (package, binary) in programs {
        cargo.args(["--package", package, "--bin", binary]);
    }
    let messages = log.output(&mut cargo)?;
    // Cargo says where each binary lies, whatever folder its configuration builds in.
    let built: Vec<Value> = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    programs
        .iter()
        .map(|(_, name)| {
            built
                .iter()
                .filter(|message| message["target"]["name"] == **name)
                .find_map(|message| message["executable"].as_str())
                .map(PathBuf::from)
                .with_context(|| format!("cargo built no binary named {name}"))
        })
        .collect()
}

/// A layer of an image: a tar archive.
enum Layer {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Layer {
    fn open(&self) -> Result<(Box<dyn Read + '_>, u64)> {
        match self {
            Self::Bytes(bytes) => Ok((Box::new(bytes.as_slice()), bytes.len() as u64)),
            Self::File(path) => {
                let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
                let length = file.metadata()?.len();
                Ok((Box::new(file), length))
            }
        }
    }

    fn digest(&self) -> Result<String> {
        let mut hasher = Sha256::new();
        io::copy(&mut self.open()?.0, &mut hasher)?;
        Ok(hex(&hasher.finalize()))
    }
}

fn program_layer(name: &str, binary: &Path) -> Result<Vec<u8>> {
    let content = fs::read(binary).with_context(|| format!("failed to read {}", binary.display()))?;
    layer(&[(name, 0o755, content)])
}

/// A tar archive of these files: path, mode, content.
fn layer(files: &[(&str, u32, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        append(
            &mut builder,
            path,
            *mode,
            content.len() as u64,
            content.as_slice(),
        )?;
    }
    Ok(builder.into_inner()?)
}

fn append(
    builder: &mut tar::Builder<impl Write>,
    path: &str,
    mode: u32,
    length: u64,
    content: impl Read,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(length);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    builder
        .append_data(&mut header, path, content)
        .with_context(|| format!("failed to add {path} to an archive"))
}

/// Writes `target/images/<name>.tar`, unless it holds just this image already.
fn write_image(
    workspace: &Workspace,
    log: &Log,
    name: &'static str,
    repository: &str,
    tag_prefix: &str,
    config: &Value,
    layers: &[Layer],
) -> Result<Image> {
    let digests = layers.iter().map(Layer::digest).collect::<Result<Vec<_>>>()?;
    let diff_ids: Vec<_> = digests.iter().map(|digest| format!("sha256:{digest}")).collect();
    let config = json!({
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let id = hex(&Sha256::digest(&config));
    let folder = workspace.artefacts.join("images");
    fs::create_dir_all(&folder)?;
    let image = Image {
        name,
        repository: repository.to_owned(),
        tag: format!("{tag_prefix}{}", &id[..12]),
        archive: folder.join(format!("{name}.tar")),
    };
    // The stamp is written last: an archive with its stamp is whole.
    let stamp = folder.join(format!("{name}.tag"));
    if image.archive.exists() && fs::read_to_string(&stamp).is_ok_and(|tag| tag == image.tag) {
        log.note(&format!("{} is unchanged", image.reference()))?;
        return Ok(image);
    }
    let _ = fs::remove_file(&stamp);
    let mut builder = tar::Builder::new(BufWriter::new(File::create(&image.archive)?));
    let manifest = json!([{
        "Config": format!("{id}.json"),
        "RepoTags": [image.reference()],
        "Layers": digests.iter().map(|digest| format!("{digest}.tar")).collect::<Vec<_>>(),
    }])
    .to_string();
    append(
        &mut builder,
        "manifest.json",
        0o644,
        manifest.len() as u64,
        manifest.as_bytes(),
    )?;
    append(
        &mut builder,
        &format!("{id}.json"),
        0o644,
        config.len() as u64,
        config.as_bytes(),
    )?;
    for (layer, digest) in layers.iter().zip(&digests) {
        let (content, length) = layer.open()?;
        append(&mut builder, &format!("{digest}.tar"), 0o644, length, content)?;
    }
    builder.into_inner()?.flush()?;
    fs::write(&stamp, &image.tag)?;
    log.note(&format!(
        "wrote {} to {}",
        image.reference(),
        image.archive.display()
    ))?;
    Ok(image)
}

/// `cargo xtask images`: the named images, or all.
pub fn run(workspace: &Workspace, progress: &Progress, names: &[String]) -> Result<()> {
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let known = PROGRAMS.iter().copied().chain(SERVERS.map(|server| server.name));
    if let Some(unknown) = names
        .iter()
        .find(|name| !known.clone().any(|known| known == name.as_str()))
    {
        bail!(
            "no image is named {unknown:?}; there are {}",
            known.collect::<Vec<_>>().join(", ")
        );
    }
    let selected: Vec<&'static str> = PROGRAMS.iter().copied().filter(|name| wanted(name)).collect();
    let mut images = Vec::new();
    if !selected.is_empty() {
        images.extend(programs(workspace, progress, &selected)?);
    }
    for server in SERVERS {
        // On a machine with Docker the official images are used; these are made there only when asked for.
        if names.iter().any(|name| name == server.name) || (names.is_empty() && !crate::docker::answers()) {
            images.push(server_image(workspace, progress, server)?);
        }
    }
    println!();
    for image in images {
        println!("{}  {}", image.archive.display(), image.reference());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_the_same_bytes_each_time_and_holds_no_time_and_no_owner() -> Result<()> {
        let files = [("program", 0o755, b"binary".to_vec())];
        let bytes = layer(&files)?;
        assert_eq!(layer(&files)?, bytes);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let header = archive
            .entries()?
            .next()
            .context("the layer is empty")??
            .header()
            .clone();
        assert_eq!(header.path()?.to_str(), Some("program"));
        assert_eq!(
            (header.mode()?, header.mtime()?, header.uid()?, header.gid()?),
            (0o755, 0, 0, 0)
        );
        Ok(())
    }
}
