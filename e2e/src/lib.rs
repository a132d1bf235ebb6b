//! What the end-to-end tests need of a cluster in which `cargo xtask up` has installed StockFeed.
//!
//! Every test works in a namespace of its own ([`namespace::run_in`]), which enforces the Pod Security Standard
//! "restricted" and is removed with everything outside the cluster that its feeds left. The tests find the cluster as kubectl
//! does (`KUBECONFIG`), and work the same on kind and on the testbed.
//!
//! Nothing here sleeps for a fixed time: [`wait::until`] asks until the answer is right or time is up.

pub mod amqp;
pub mod broker;
pub mod browser;
pub mod cluster;
pub mod database;
pub mod feed;
pub mod forward;
pub mod history;
pub mod live;
pub mod namespace;
pub mod operator;
pub mod process;
pub mod simulator;
pub mod superset;
pub mod ticks;
pub mod timeline;
pub mod wait;
pub mod workload;

/// The namespace that `cargo xtask up` installs into.
pub const SYSTEM: &str = "stockfeed-system";
/// The Helm release there.
pub const RELEASE: &str = "stockfeed";

/// Says what a test is doing, with the seconds since it began.
pub fn say(text: impl std::fmt::Display) {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let elapsed = START.get_or_init(std::time::Instant::now).elapsed();
    println!("{:>7.1}s  {text}", elapsed.as_secs_f64());
}
