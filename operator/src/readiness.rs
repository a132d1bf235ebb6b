//! What `/readyz` says: whether the operator can do its work.

use std::sync::atomic::{AtomicBool, Ordering};

/// Three things that must all be true.
#[derive(Debug, Default)]
pub struct Readiness {
    installed: AtomicBool,
    reachable: AtomicBool,
    running: AtomicBool,
}

impl Readiness {
    /// Whether the custom resource is installed, as of the last look.
    pub fn set_installed(&self, installed: bool) {
        self.installed.store(installed, Ordering::Relaxed);
    }

    /// Whether the API server answered the last look.
    pub fn set_reachable(&self, reachable: bool) {
        self.reachable.store(reachable, Ordering::Relaxed);
    }

    /// Whether the controller runs.
    pub fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::Relaxed);
    }

    /// What is not true, for people; `None` when the operator is ready.
    pub fn problem(&self) -> Option<&'static str> {
        match () {
            () if !self.reachable.load(Ordering::Relaxed) => {
                Some("the Kubernetes API server does not answer")
            }
            () if !self.installed.load(Ordering::Relaxed) => {
                Some("the CustomResourceDefinition stockfeeds.stockfeed.dev is not installed")
            }
            () if !self.running.load(Ordering::Relaxed) => Some("the controller is not running"),
            () => None,
        }
    }
}
