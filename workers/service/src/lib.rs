//! The rim that every worker shares: arguments, telemetry, shutdown, HTTP, credentials and connections.
//!
//! Architecture invariant: of the workers' crates, only this one reads the clock, the environment and Secrets.

pub mod amqp;
pub mod arguments;
pub mod clock;
pub mod credentials;
pub mod http;
pub mod metrics;
pub mod postgres;
mod relay;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
