//! What a client shows of itself.

use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{CERTIFICATE, KEY, Unusable};

/// A certificate with those between it and its authority, and its private key, all in PEM. They belong together.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    certificate: String,
    key: SecretString,
}

impl ClientCertificate {
    /// Reads the texts of `tls.crt` and `tls.key`, as a Secret of type `kubernetes.io/tls` has them; `None` when there is neither.
    ///
    /// # Errors
    /// When one is there without the other, one is no PEM, or they do not belong together.
    pub fn read(certificate: Option<String>, key: Option<SecretString>) -> Result<Option<Self>, Unusable> {
        let unusable = |key, problem| Err(Unusable { key, problem });
        let client = match (certificate, key) {
            (None, None) => return Ok(None),
            (Some(_), None) => {
                return unusable(
                    CERTIFICATE,
                    "has no tls.key beside it: add its private key, or remove it",
                );
            }
            (None, Some(_)) => {
                return unusable(KEY, "has no tls.crt beside it: add its certificate, or remove it");
            }
            (Some(certificate), Some(key)) => Self { certificate, key },
        };
        client.check()?;
        Ok(Some(client))
    }

    /// The certificate and those between it and its authority, in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The private key, in PEM.
    #[must_use]
    pub const fn key(&self) -> &SecretString {
        &self.key
    }

    fn check(&self) -> Result<(), Unusable> {
        let (chain, key) = self.der()?;
        let provider = ring::default_provider();
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|_| Unusable {
                key: KEY,
                problem: "is of no kind that can be used: it must be an RSA, ECDSA or Ed25519 key",
            })?;
        match CertifiedKey::new(chain, key).keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
            Err(rustls::Error::InconsistentKeys(_)) => Err(Unusable {
                key: KEY,
                problem: "is not the private key of tls.crt: replace both by a pair that was made together",
            }),
            Err(_) => Err(NO_CERTIFICATE),
        }
    }

    pub(crate) fn der(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Unusable> {
        let chain =
            CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or(NO_CERTIFICATE)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose_secret().as_bytes()).map_err(|_| Unusable {
            key: KEY,
            problem: "is no private key in PEM without a password: it begins with -----BEGIN PRIVATE KEY-----, or RSA or EC before \
                      PRIVATE",
        })?;
        Ok((chain, key))
    }
}

const NO_CERTIFICATE: Unusable = Unusable {
    key: CERTIFICATE,
    problem: "is no certificate in PEM: it begins with -----BEGIN CERTIFICATE-----",
};

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_that_belongs_together_is_taken_and_its_key_is_hidden() {
        let (certificate, key) = pair();
        let client = ClientCertificate::read(Some(certificate.clone()), Some(key.clone().into()))
            .unwrap()
            .unwrap();
        assert_eq!(
            (client.certificate(), client.key().expose_secret()),
            (certificate.as_str(), key.as_str())
        );
        let line = key.lines().nth(1).unwrap();
        assert!(!format!("{client:?}").contains(line));
        assert!(ClientCertificate::read(None, None).unwrap().is_none());
    }

    #[rstest]
    #[case::no_key(Some(pair().0), None, "tls.crt", "no tls.key")]
    #[case::no_certificate(None, Some(pair().1), "tls.key", "no tls.crt")]
    #[case::of_another(Some(pair().0), Some(pair().1), "tls.key", "not the private key of tls.crt")]
    #[case::certificate_is_no_pem(Some("hush".to_owned()), Some(pair().1), "tls.crt", "BEGIN CERTIFICATE")]
    #[case::certificate_is_no_x509(
        Some("-----BEGIN CERTIFICATE-----\naHVzaA==\n-----END CERTIFICATE-----".to_owned()), Some(pair().1), "tls.crt", "BEGIN"
    )]
    #[case::key_is_no_pem(Some(pair().0), Some("hush".to_owned()), "tls.key", "BEGIN PRIVATE KEY")]
    #[case::key_has_a_password(
        Some(pair().0),
        Some("-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVzaA==\n-----END ENCRYPTED PRIVATE KEY-----".to_owned()),
        "tls.key",
        "without a password"
    )]
    #[case::key_is_of_no_kind(
        Some(pair().0),
        Some("-----BEGIN PRIVATE KEY-----\naHVzaA==\n-----END PRIVATE KEY-----".to_owned()),
        "tls.key",
        "RSA, ECDSA or Ed25519"
    )]
    fn anything_else_is_refused_by_name(
        #[case] certificate: Option<String>,
        #[case] key: Option<String>,
        #[case] name: &str,
        #[case] words: &str,
    ) {
        let refused = ClientCertificate::read(certificate, key.map(Into::into)).unwrap_err();
        assert_eq!(refused.key, name);
        assert!(refused.problem.contains(words), "{refused}");
        assert!(!refused.to_string().contains("hush"), "{refused}");
    }
}
