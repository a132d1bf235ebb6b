//! The real PostgreSQL and RabbitMQ that tests run against: one database and one virtual host a test.
//!
//! `cargo xtask test` starts the servers and says where they are in the environment; `cargo xtask servers` does so for
//! somebody who runs a single test by hand. Only tests and the benchmark depend on this crate.
//!
//! All tests share these two servers, and a Superset, which only those wait for that ask for it: [`TestSuperset`]. A test that
//! kills servers asks for a pair of its own: [`OwnServers`].

mod addresses;
mod broker;
mod database;
mod own;
mod superset;
pub mod tls;

pub use addresses::Addresses;
pub use broker::TestBroker;
pub use database::TestDatabase;
pub use own::{OwnServers, Server};
pub use superset::TestSuperset;

/// A name that no other test has.
fn unique() -> String {
    format!("test_{}", uuid::Uuid::now_v7().simple())
}
