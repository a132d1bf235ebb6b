//! The kubectl plugin, beside the cluster's kubectl.

use anyhow::{Context, Result};

use crate::cluster::Access;
use crate::images::{self, Profile};
use crate::progress::Progress;
use crate::tools;
use crate::workspace::Workspace;

const PLUGIN: &str = "kubectl-stockfeed";
/// What kubectl's own completion asks for the plugin's words.
const COMPLETION: &str = "kubectl_complete-stockfeed";

/// Compiles the plugin and puts it where kubectl finds it, once that folder is on the search path.
pub fn install(workspace: &Workspace, progress: &Progress, access: &Access) -> Result<()> {
    // With the profile of tests, which have compiled what it consists of: it waits for servers, and needs not to be fast.
    let program = progress.step(
        "Compiling the kubectl plugin (minutes when cold)",
        "plugin-compile",
        |log| {
            images::compile(workspace, log, Profile::Dev, None, &[(PLUGIN, PLUGIN)])?
                .pop()
                .context("cargo built no plugin")
        },
    )?;
    let wrapper = |name, argument| {
        tools::write_wrapper(
            &access.programs.join(name),
            &access.kubeconfig,
            &program,
            argument,
        )
    };
    wrapper(PLUGIN, "")?;
    wrapper(COMPLETION, "__complete")
}
