//! What `/readyz` says: whether the operator can do its work.

use std::sync::atomic::{AtomicBool, Ordering};

/// What must be true for that.
#[derive(Debug, Default)]
pub struct Readiness {
    installed: AtomicBool,
    reachable: AtomicBool,
    running: AtomicBool,
    standing_by: AtomicBool,
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

    /// Whether this operator waits for its turn to lead: then its controller need not run.
    pub fn set_standing_by(&self, standing_by: bool) {
        self.standing_by.store(standing_by, Ordering::Relaxed);
    }

    /// `ok` when the operator works, `standby` when it is ready to take over.
    ///
    /// # Errors
    /// With what is not true, for people.
    pub fn state(&self) -> Result<&'static str, &'static str> {
        match (self.problem(), self.standing_by.load(Ordering::Relaxed)) {
            (Some(problem), _) => Err(problem),
            (None, true) => Ok("standby"),
            (None, false) => Ok("ok"),
        }
    }

    /// What is not true, for people; `None` when the operator is ready.
    pub fn problem(&self) -> Option<&'static str> {
        let working = self.running.load(Ordering::Relaxed) || self.standing_by.load(Ordering::Relaxed);
        match () {
            () if !self.reachable.load(Ordering::Relaxed) => {
                Some("the Kubernetes API server does not answer")
            }
            () if !self.installed.load(Ordering::Relaxed) => {
                Some("the CustomResourceDefinition stockfeeds.stockfeed.dev is not installed")
            }
            () if !working => Some("the controller is not running"),
            () => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_is_ready_when_it_could_work() {
        let readiness = Readiness::default();
        readiness.set_standing_by(true);
        assert!(readiness.state().is_err(), "nobody has looked yet");
        readiness.set_reachable(true);
        assert!(
            readiness
                .state()
                .unwrap_err()
                .contains("CustomResourceDefinition")
        );
        readiness.set_installed(true);
        assert_eq!(readiness.state(), Ok("standby"));
        readiness.set_standing_by(false);
        assert_eq!(readiness.state(), Err("the controller is not running"));
        readiness.set_running(true);
        assert_eq!(readiness.state(), Ok("ok"));
        readiness.set_reachable(false);
        assert!(readiness.state().unwrap_err().contains("API server"));
    }
}
