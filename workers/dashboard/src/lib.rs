//! The dashboard: shows every feed of the installation to people, and to what speaks Flink's REST API.
//!
//! ```text
//!  API server ──watch──► feeds ──┬──────────────► summary ─┐
//!                                │                         ├─► api (own JSON, events)   ─┐
//!  pods, /state, /metrics ──► observe ──► history, detail ─┤                             ├─► router ─► people
//!  (only while somebody looks)                             └─► flink (Flink's REST API) ─┘
//!  reader role ──► database (candles, quarantine)
//! ```
//!
//! `feeds` is all that is kept of every feed; everything else is bounded by how many are looked at (`observe::MAX_LOOKED_AT`).
//!
//! Architecture invariants:
//! - What is shown is read from somewhere or `null`: nothing is made up.
//! - A feed that does not answer costs a deadline of its own and a place in a semaphore, never another feed's answer.
//! - Only `actions` writes, after the API server has said that the user may.

mod actions;
mod api;
pub mod args;
#[expect(
    missing_docs,
    reason = "docs/dashboard-api.md describes the fields of answers"
)]
pub mod database;
mod detail;
#[expect(missing_docs, reason = "docs/dashboard-api.md describes the codes")]
pub mod error;
mod errors;
mod events;
pub mod feeds;
mod flink;
mod graph;
mod history;
mod observe;
mod page;
mod percentile;
mod router;
mod run;
mod security;
mod stream;
mod summary;
#[cfg(test)]
mod testing;
mod users;

pub use run::{run, serve};
