//! Where the tests of the protocol end the process, as SIGKILL does: at exactly this step.
//!
//! Without feature `fault-points`, which only those tests switch on, a point is nothing at all. With it the environment
//! variable `FAILPOINTS` says which point ends the process at which pass: `after_copy=37*off->return`.

/// A step at which the process may be ended.
macro_rules! point {
    ($name:literal) => {
        fail::fail_point!($name, |_| $crate::fault::die())
    };
}

pub(crate) use point;

/// Ends this process by SIGKILL: no destructor runs, no buffer is flushed.
#[cfg(feature = "fault-points")]
pub(crate) fn die() -> ! {
    let process = std::process::id().to_string();
    loop {
        // A second attempt would only be needed if the program could not be started.
        drop(
            std::process::Command::new("kill")
                .args(["-KILL", &process])
                .status(),
        );
    }
}
