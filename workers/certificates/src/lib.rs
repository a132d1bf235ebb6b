//! TLS as operator and workers speak it with RabbitMQ and PostgreSQL: whom a client trusts, what it shows of itself, and what the
//! errors mean.
//!
//! Architecture invariant: reads no file and opens no connection. A private key is in a type that hides it.

mod authorities;
mod client;
mod meaning;
pub mod postgres;

pub use authorities::{authority, client_config};
pub use client::ClientCertificate;
pub use meaning::meaning;
use snafu::Snafu;

/// The key of a Secret, or the file of a folder, with the authorities to trust.
pub const AUTHORITY: &str = "ca.crt";
/// With the client's certificate, and those between it and its authority.
pub const CERTIFICATE: &str = "tls.crt";
/// With the private key of that certificate.
pub const KEY: &str = "tls.key";

/// Why what a Secret or a folder holds cannot be used. Never holds a value, only names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Snafu)]
#[snafu(display("{key} {problem}"))]
pub struct Unusable {
    /// The key or file.
    pub key: &'static str,
    /// What is wrong with it, and what helps.
    pub problem: &'static str,
}
