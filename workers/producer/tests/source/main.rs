//! Both sources against everything that can go wrong, over real connections.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod budget;
mod faults;
mod fmp;
mod http;
mod server;
mod support;
