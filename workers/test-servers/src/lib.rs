//! The real PostgreSQL and RabbitMQ that tests run against: one database and one virtual host a test.
//!
//! `cargo xtask test` starts the servers and says where they are in the environment; `cargo xtask servers` does so for
//! somebody who runs a single test by hand. Only tests and the benchmark depend on this
//! crate.

mod broker;
mod database;

pub use broker::TestBroker;
pub use database::TestDatabase;

use anyhow::Context as _;

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment where the servers are"
)]
fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| {
        format!("{name} is not set: run `cargo xtask servers` and export what it prints, or run `cargo xtask test`")
    })
}

/// A name that no other test has.
fn unique() -> String {
    format!("test_{}", uuid::Uuid::now_v7().simple())
}
