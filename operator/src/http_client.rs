//! HTTP clients with roots of their own: an image from scratch has no certificates to find.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use snafu::{ResultExt, Snafu};

/// Why a client cannot be made.
#[derive(Debug, Snafu)]
pub enum Error {
    /// The text is not a list of certificates.
    #[snafu(display("failed to read the certificate authority"))]
    Certificate {
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate cannot be a root.
    #[snafu(display("failed to trust the certificate authority"))]
    Trust {
        /// Why.
        source: rustls::Error,
    },
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
/// When the authority is not one.
pub fn build(authority: Option<&str>, timeout: Duration) -> Result<reqwest::Client, Error> {
    let mut roots = RootCertStore::empty();
    match authority {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots
                    .add(certificate.context(CertificateSnafu)?)
                    .context(TrustSnafu)?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context(TlsSnafu)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(Duration::from_secs(3))
        .timeout(timeout)
        // Cluster addresses are never behind a proxy, and a proxy variable in the environment must not see credentials.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context(BuildSnafu)
}
