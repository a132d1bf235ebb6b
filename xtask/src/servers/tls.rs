//! TLS of the test servers: beside the plain ports, and only for who shows a certificate of this pair's authority.
//!
//! What tests connect with they make themselves, by the authority's key, which lies beside its certificate.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::ports::Ports;
use crate::workspace::is_root;

/// Where a server sees the files.
pub(super) const FOLDER: &str = "/run/stockfeed-tls";

/// Connections to databases whose names begin with `tls_` need TLS and a certificate of the authority. The superuser, who makes and
/// looks at them, needs neither.
const RULES: &str = "local all all trust
host all postgres all scram-sha-256
hostssl \"/^tls_\" all all scram-sha-256 clientcert=verify-ca
host \"/^tls_\" all all reject
host all all all scram-sha-256
";

/// PostgreSQL's settings.
pub(super) const POSTGRES: [&str; 5] = [
    "ssl=on",
    "ssl_ca_file=/run/stockfeed-tls/ca.crt",
    "ssl_cert_file=/run/stockfeed-tls/server.crt",
    "ssl_key_file=/run/stockfeed-tls/server.key",
    "hba_file=/run/stockfeed-tls/pg_hba.conf",
];

/// Makes an authority, a server's certificate for 127.0.0.1 and no other name, and the rules.
pub(super) fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "StockFeed test servers");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    fs::write(folder.join("ca.crt"), params.self_signed(&key)?.pem())?;
    fs::write(folder.join("ca.key"), key.serialize_pem())?;
    let authority = Issuer::new(params, key);

    let mut params = CertificateParams::new(["127.0.0.1".to_owned()])?;
    params
        .distinguished_name
        .push(DnType::CommonName, "a test server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    fs::write(
        folder.join("server.crt"),
        params.signed_by(&key, &authority)?.pem(),
    )?;
    let file = folder.join("server.key");
    fs::write(&file, key.serialize_pem())?;
    // PostgreSQL takes a key only from a file that is its user's and nobody else's.
    if is_root() {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        chown(&file, Some(999), Some(999))?;
    }
    fs::write(folder.join("pg_hba.conf"), RULES)?;
    Ok(())
}

/// More lines of `rabbitmq.conf`; `address` is what it listens on.
pub(super) fn rabbitmq(address: &str, ports: Ports) -> String {
    let Ports {
        amqps,
        management_tls,
        ..
    } = ports;
    let options = |of: &str| {
        format!(
            "{of}.cacertfile = {FOLDER}/ca.crt\n{of}.certfile = {FOLDER}/server.crt\n{of}.keyfile = {FOLDER}/server.key\n\
             {of}.verify = verify_peer\n{of}.fail_if_no_peer_cert = true\n"
        )
    };
    format!(
        "listeners.ssl.1 = {address}:{amqps}\n{}management.ssl.ip = {address}\nmanagement.ssl.port = {management_tls}\n{}",
        options("ssl_options"),
        options("management.ssl")
    )
}
