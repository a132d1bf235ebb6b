//! Whether Docker is there to be used.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Whether a Docker daemon answers; asked once.
pub fn answers() -> bool {
    static ANSWERS: OnceLock<bool> = OnceLock::new();
    *ANSWERS.get_or_init(|| {
        command()
            .arg("info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

/// A `docker` command line.
pub fn command() -> Command {
    Command::new("docker")
}
