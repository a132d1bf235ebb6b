//! Certificates that a test makes: of the authority that the servers trust, or of another one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

use crate::addresses;

/// The port of AMQP over TLS, where the broker takes only clients that show a certificate.
///
/// # Errors
/// When the environment does not say where the server is.
pub fn amqps_port() -> anyhow::Result<u16> {
    Ok(addresses::variable("STOCKFEED_TEST_AMQPS_PORT")?.parse()?)
}

/// The port of the management API over TLS, which takes only clients that show a certificate.
///
/// # Errors
/// When the environment does not say where the server is.
pub fn management_tls_port() -> anyhow::Result<u16> {
    Ok(addresses::variable("STOCKFEED_TEST_RABBITMQ_MANAGEMENT_TLS_PORT")?.parse()?)
}

/// Signs certificates.
pub struct TestAuthority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A client's certificate and its key, in PEM.
pub struct TestCertificate {
    /// As in `tls.crt`.
    pub certificate: String,
    /// As in `tls.key`.
    pub key: String,
}

impl TestCertificate {
    /// Puts it into a folder that is as a mounted Secret would be.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::write(folder.join("tls.crt"), &self.certificate)?;
        fs::write(folder.join("tls.key"), &self.key)?;
        Ok(())
    }
}

impl TestAuthority {
    /// The one that signed the servers' certificates, and those of the clients that they take.
    ///
    /// # Errors
    /// When the environment does not say where it lies.
    pub fn of_the_servers() -> anyhow::Result<Self> {
        let folder = PathBuf::from(addresses::variable("STOCKFEED_TEST_TLS")?);
        let read = |file: &str| {
            let path = folder.join(file);
            fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
        };
        let certificate = read("ca.crt")?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(&read("ca.key")?)?)?;
        Ok(Self { certificate, issuer })
    }

    /// One that nobody knows.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn unknown() -> anyhow::Result<Self> {
        let mut params = named("nobody knows it");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        Ok(Self {
            certificate: params.self_signed(&key)?.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// As in `ca.crt`.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A client's certificate.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn client(&self, name: &str) -> anyhow::Result<TestCertificate> {
        self.sign(named(name))
    }

    /// One that has expired.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn expired_client(&self, name: &str) -> anyhow::Result<TestCertificate> {
        let mut params = named(name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> anyhow::Result<TestCertificate> {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        Ok(TestCertificate {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
