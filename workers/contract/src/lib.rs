//! What the operator and the workers agree on: configuration, names, and the wire format.
//!
//! Architecture invariant: pure types. Nothing here reads a file, a clock, the network or the environment,
//! and nothing here depends on `kube`, `lapin` or `sqlx`.

pub mod config;
pub mod duration;
pub mod event_time;
pub mod names;
pub mod partition;
pub mod price;
pub mod symbol;
pub mod tick;
pub mod window;
