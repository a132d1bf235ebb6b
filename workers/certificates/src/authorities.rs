//! Whom a client trusts.

use std::sync::{Arc, LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::{AUTHORITY, ClientCertificate, Unusable};

/// The public authorities, in PEM: an image from scratch has no file of them.
static PUBLIC: LazyLock<String> = LazyLock::new(|| {
    let block = |certificate: &CertificateDer<'_>| {
        let text = STANDARD.encode(certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(block)
        .collect()
});

/// Checks the text of `ca.crt`.
///
/// # Errors
/// When it is no list of certificates that others can be signed by.
pub fn authority(pem: String) -> Result<String, Unusable> {
    roots(&pem).map(|_| pem)
}

/// What to trust in PEM: the authorities given and no others, or the public ones.
pub(crate) fn trusted(given: Option<&str>) -> &str {
    given.unwrap_or_else(|| PUBLIC.as_str())
}

/// For a client that trusts the authorities given, or else the public ones, and shows a certificate if it has one.
///
/// # Errors
/// When something of it cannot be used.
pub fn client_config(
    authority: Option<&str>,
    client: Option<&ClientCertificate>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let general = |unusable: Unusable| rustls::Error::General(unusable.to_string());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(trusted(authority)).map_err(general)?);
    match client {
        None => Ok(builder.with_no_client_auth()),
        Some(client) => {
            let (chain, key) = client.der().map_err(general)?;
            builder.with_client_auth_cert(chain, key)
        }
    }
}

fn roots(pem: &str) -> Result<RootCertStore, Unusable> {
    let unusable = Unusable {
        key: AUTHORITY,
        problem: "is no certificate of an authority in PEM: it begins with -----BEGIN CERTIFICATE-----",
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let added = certificate
            .ok()
            .and_then(|certificate| roots.add(certificate).ok());
        added.ok_or(unusable)?;
    }
    match roots.is_empty() {
        true => Err(unusable),
        false => Ok(roots),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_authorities_are_those_of_the_crate() {
        let roots = roots(trusted(None)).unwrap();
        assert_eq!(roots.len(), webpki_root_certs::TLS_SERVER_ROOT_CERTS.len());
    }

    #[test]
    fn an_authority_that_is_given_is_the_only_one() {
        let own = rcgen::generate_simple_self_signed(["own".to_owned()]).unwrap();
        let pem = authority(own.cert.pem()).unwrap();
        assert_eq!(roots(trusted(Some(&pem))).unwrap().len(), 1);
        for text in [
            "",
            "no PEM",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert_eq!(authority(text.to_owned()).unwrap_err().key, "ca.crt", "{text}");
        }
    }
}
