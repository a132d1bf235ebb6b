//! One TLS provider in the process.

/// Installs ring as the process's TLS provider. Call it first thing in `main`.
///
/// # Errors
/// When another provider is there already: two in one process make rustls panic at its first use.
pub fn install_provider() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("failed to install the TLS provider: another one is installed"))
}
