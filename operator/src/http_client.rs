//! HTTP clients with roots of their own: an image from scratch has no certificates to find.

use std::time::Duration;

use certificates::ClientCertificate;
use snafu::{ResultExt, Snafu};

/// How long a connection is kept that nobody uses: well below what servers allow (RabbitMQ a minute, the chart's Superset five seconds).
const IDLE: Duration = Duration::from_secs(3);

/// Why a client cannot be made.
#[derive(Debug, Snafu)]
pub enum Error {
    /// The TLS library refused.
    #[snafu(display("failed to set up TLS"))]
    Tls {
        /// Why.
        source: rustls::Error,
    },
    /// The HTTP library refused.
    #[snafu(display("failed to build an HTTP client"))]
    Build {
        /// Why.
        source: reqwest::Error,
    },
}

/// A client that trusts the public authorities, or only the one given in PEM.
///
/// # Errors
/// When the authority is none.
pub fn build(authority: Option<&str>, timeout: Duration) -> Result<reqwest::Client, Error> {
    build_with(authority, None, timeout)
}

/// As [`build`], and it shows a certificate to who asks for it.
///
/// # Errors
/// When the authority or the certificate is none.
pub fn build_with(
    authority: Option<&str>,
    client: Option<&ClientCertificate>,
    timeout: Duration,
) -> Result<reqwest::Client, Error> {
    let tls = certificates::client_config(authority, client).context(TlsSnafu)?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(Duration::from_secs(3))
        .timeout(timeout)
        // A request that is being sent on a connection just when the server closes it fails, and a feed is called not ready for it.
        .pool_idle_timeout(IDLE)
        // Cluster addresses are never behind a proxy, and a proxy variable in the environment must not see credentials.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context(BuildSnafu)
}
