//! Connections as Secrets hold them: RabbitMQ's service-binding format and CloudNativePG's application format.

use std::{collections::BTreeMap, fmt};

use certificates::{AUTHORITY, CERTIFICATE, ClientCertificate, KEY, Unusable, postgres};
use k8s_openapi::ByteString;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use snafu::Snafu;

/// What a Secret holds.
pub type Data = BTreeMap<String, ByteString>;

/// How to reach RabbitMQ, with the right to manage it.
#[derive(Clone, Debug)]
pub struct BrokerConnection {
    /// Host name or address.
    pub host: String,
    /// AMQP port.
    pub port: u16,
    /// User.
    pub username: String,
    /// Password.
    pub password: SecretString,
    /// Virtual host.
    pub vhost: String,
    /// Port of the management API.
    pub management_port: u16,
    /// Scheme of the management API.
    pub management_scheme: Scheme,
    /// Whether AMQP is spoken over TLS.
    pub tls: bool,
    /// The certificate authority of both, in PEM.
    pub authority: Option<String>,
    /// What the operator shows to a broker that asks for it.
    pub client: Option<ClientCertificate>,
    /// What the workers show. The operator's own never goes to them: it may be worth a login.
    pub worker_client: Option<ClientCertificate>,
}

/// A scheme of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// How to reach PostgreSQL, with the right to make roles and schemas.
#[derive(Clone, Debug)]
pub struct DatabaseConnection {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub dbname: String,
    /// User.
    pub username: String,
    /// Password.
    pub password: SecretString,
    /// libpq's `sslmode`, as it was written.
    pub sslmode: Option<String>,
    /// The certificate authority, in PEM.
    pub authority: Option<String>,
    /// What the operator shows to a database that asks for it.
    pub client: Option<ClientCertificate>,
    /// What the workers show. The operator's own never goes to them: it may be worth a login.
    pub worker_client: Option<ClientCertificate>,
}

impl BrokerConnection {
    /// Tells connections apart, and gives nothing of them away.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let Self {
            host,
            port,
            username,
            password,
            vhost,
            management_port,
            management_scheme,
            tls,
            authority,
            client,
            worker_client: _,
        } = self;
        let (certificate, key) = texts(client.as_ref());
        fingerprint(&[
            host,
            &port.to_string(),
            username,
            password.expose_secret(),
            vhost,
            &management_port.to_string(),
            &management_scheme.to_string(),
            &tls.to_string(),
            authority.as_deref().unwrap_or_default(),
            certificate,
            key,
        ])
    }

    /// Takes what the connection's own Secret lacks from another one, in the form of `kubernetes.io/tls`, and the workers' certificate
    /// from it alone.
    ///
    /// # Errors
    /// When it holds nothing that is of use, or something that is none.
    pub fn with_tls_secret(mut self, secret: &str, data: &Data) -> Result<Self, Problem> {
        let (authority, client) = Keys { secret, data }.tls()?;
        self.authority = self.authority.or(authority);
        self.client = self.client.or_else(|| client.clone());
        self.worker_client = client;
        Ok(self)
    }
}

impl DatabaseConnection {
    /// Tells connections apart, and gives nothing of them away.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let Self {
            host,
            port,
            dbname,
            username,
            password,
            sslmode,
            authority,
            client,
            worker_client,
        } = self;
        let (certificate, key) = texts(client.as_ref());
        let (worker_certificate, worker_key) = texts(worker_client.as_ref());
        fingerprint(&[
            host,
            &port.to_string(),
            dbname,
            username,
            password.expose_secret(),
            sslmode.as_deref().unwrap_or_default(),
            authority.as_deref().unwrap_or_default(),
            certificate,
            key,
            // Whether the workers' role can log in is remembered with it.
            worker_certificate,
            worker_key,
        ])
    }

    /// What `sslmode` means here.
    ///
    /// # Errors
    /// When it is none, or checks nothing as it stands.
    pub fn mode(&self) -> Result<postgres::Mode, Unusable> {
        postgres::Mode::read(self.sslmode.as_deref(), self.authority.is_some())
    }

    /// Takes what the connection's own Secret lacks from another one, in the form of `kubernetes.io/tls`, and the workers' certificate
    /// from it alone.
    ///
    /// # Errors
    /// When it holds nothing that is of use, or something that is none.
    pub fn with_tls_secret(mut self, secret: &str, data: &Data) -> Result<Self, Problem> {
        let (authority, client) = Keys { secret, data }.tls()?;
        self.authority = self.authority.or(authority);
        self.client = self.client.or_else(|| client.clone());
        self.worker_client = client;
        Ok(self)
    }

    /// Checks what only both Secrets together say. `secret` is the connection's name, for messages.
    ///
    /// # Errors
    /// When `sslmode` is none, or checks nothing as it stands.
    pub fn checked(self, secret: &str) -> Result<Self, Problem> {
        let mode = self.mode();
        mode.map_err(|unusable| of_unusable(secret, unusable))
            .map(|_| self)
    }
}

fn texts(client: Option<&ClientCertificate>) -> (&str, &str) {
    client.map_or(("", ""), |client| {
        (client.certificate(), client.key().expose_secret())
    })
}

fn of_unusable(secret: &str, Unusable { key, problem }: Unusable) -> Problem {
    InvalidSnafu { secret, key, problem }.build()
}

fn fingerprint(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    crate::dereference::hex(&digest.finalize())
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, Snafu)]
pub enum Problem {
    /// Neither the feed nor the installation names a Secret.
    #[snafu(display("neither the feed nor the operator's installation names a connection Secret"))]
    NotConfigured,
    /// The Secret does not exist.
    #[snafu(display("Secret {namespace}/{name} does not exist"))]
    SecretNotFound {
        /// Where.
        namespace: String,
        /// Which.
        name: String,
    },
    /// The Secret lacks a key.
    #[snafu(display("Secret {secret} has no key {key:?}"))]
    KeyNotFound {
        /// Which Secret, with its namespace.
        secret: String,
        /// Which key.
        key: String,
    },
    /// A value cannot be used.
    #[snafu(display("key {key:?} of Secret {secret} {problem}"))]
    Invalid {
        /// Which Secret, with its namespace.
        secret: String,
        /// Which key.
        key: String,
        /// What is wrong with it; never the value itself.
        problem: &'static str,
    },
}

impl BrokerConnection {
    /// Reads a Secret. `secret` is its name, for messages.
    ///
    /// # Errors
    /// When a key is missing or has a value that cannot be used.
    pub fn read(secret: &str, data: &Data) -> Result<Self, Problem> {
        let keys = Keys { secret, data };
        let management_scheme = match keys.optional("managementScheme")?.as_deref() {
            None | Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(_) => return Err(keys.invalid("managementScheme", "is neither http nor https")),
        };
        let tls = match keys.optional("tls")?.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(keys.invalid("tls", "is neither true nor false")),
        };
        Ok(Self {
            host: keys.host()?,
            port: keys.port("port")?.unwrap_or(if tls { 5671 } else { 5672 }),
            username: keys.required("username")?,
            password: keys.required("password")?.into(),
            vhost: keys.optional("vhost")?.unwrap_or_else(|| "/".to_owned()),
            management_port: keys.port("managementPort")?.unwrap_or(match management_scheme {
                Scheme::Http => 15672,
                Scheme::Https => 15671,
            }),
            management_scheme,
            tls,
            authority: keys.authority()?,
            client: keys.client()?,
            worker_client: None,
        })
    }
}

impl DatabaseConnection {
    /// Reads a Secret. `secret` is its name, for messages.
    ///
    /// # Errors
    /// When a key is missing or has a value that cannot be used.
    pub fn read(secret: &str, data: &Data) -> Result<Self, Problem> {
        let keys = Keys { secret, data };
        Ok(Self {
            host: keys.host()?,
            port: keys.port("port")?.unwrap_or(5432),
            dbname: keys.required("dbname")?,
            username: keys.required("username")?,
            password: keys.required("password")?.into(),
            sslmode: keys.optional(postgres::MODE)?,
            authority: keys.authority()?,
            client: keys.client()?,
            worker_client: None,
        })
    }
}

struct Keys<'a> {
    secret: &'a str,
    data: &'a Data,
}

impl Keys<'_> {
    fn invalid(&self, key: &str, problem: &'static str) -> Problem {
        InvalidSnafu {
            secret: self.secret,
            key,
            problem,
        }
        .build()
    }

    fn optional(&self, key: &str) -> Result<Option<String>, Problem> {
        let Some(ByteString(bytes)) = self.data.get(key) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(bytes).map_err(|_| self.invalid(key, "is not text"))?;
        // Files made with an editor or `echo` end with a newline that nobody meant.
        let text = text.trim_end_matches(['\n', '\r']);
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn required(&self, key: &str) -> Result<String, Problem> {
        self.optional(key)?.ok_or_else(|| {
            KeyNotFoundSnafu {
                secret: self.secret,
                key,
            }
            .build()
        })
    }

    fn authority(&self) -> Result<Option<String>, Problem> {
        let pem = self.optional(AUTHORITY)?.map(certificates::authority).transpose();
        pem.map_err(|unusable| of_unusable(self.secret, unusable))
    }

    fn client(&self) -> Result<Option<ClientCertificate>, Problem> {
        let key = self.optional(KEY)?.map(SecretString::from);
        ClientCertificate::read(self.optional(CERTIFICATE)?, key)
            .map_err(|unusable| of_unusable(self.secret, unusable))
    }

    /// Of a Secret that has nothing else.
    fn tls(&self) -> Result<(Option<String>, Option<ClientCertificate>), Problem> {
        match (self.authority()?, self.client()?) {
            (None, None) => KeyNotFoundSnafu {
                secret: self.secret,
                key: CERTIFICATE,
            }
            .fail(),
            found => Ok(found),
        }
    }

    fn host(&self) -> Result<String, Problem> {
        let host = self.required("host")?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        match host.bytes().all(allowed) {
            true => Ok(host),
            false => Err(self.invalid("host", "is not a host name or address")),
        }
    }

    fn port(&self, key: &str) -> Result<Option<u16>, Problem> {
        self.optional(key)?
            .map(|text| text.parse().map_err(|_| self.invalid(key, "is not a port")))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn data(pairs: &[(&str, &str)]) -> Data {
        let entry = |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
        pairs.iter().map(entry).collect()
    }

    const MINIMAL: [(&str, &str); 3] = [("host", "rabbit"), ("username", "admin"), ("password", "p\n")];

    #[test]
    fn a_minimal_broker_secret_gets_the_usual_ports() {
        let connection = BrokerConnection::read("s", &data(&MINIMAL)).unwrap();
        assert_eq!((connection.port, connection.management_port), (5672, 15672));
        assert_eq!(connection.vhost, "/");
        assert_eq!(connection.password.expose_secret(), "p");
    }

    #[test]
    fn tls_moves_the_ports() {
        let mut pairs = MINIMAL.to_vec();
        pairs.extend([("tls", "true"), ("managementScheme", "https")]);
        let connection = BrokerConnection::read("s", &data(&pairs)).unwrap();
        assert_eq!((connection.port, connection.management_port), (5671, 15671));
    }

    #[rstest]
    #[case::no_password(&[("host", "h"), ("username", "u")], "no key \"password\"")]
    #[case::empty_password(&[("host", "h"), ("username", "u"), ("password", "\n")], "no key \"password\"")]
    #[case::port(&[("host", "h"), ("username", "u"), ("password", "hush"), ("port", "99999")], "is not a port")]
    #[case::host(&[("host", "h/x"), ("username", "u"), ("password", "hush")], "is not a host")]
    #[case::tls(&[("host", "h"), ("username", "u"), ("password", "hush"), ("tls", "maybe")], "neither true nor false")]
    fn a_broker_secret_is_refused_without_showing_it(#[case] pairs: &[(&str, &str)], #[case] expected: &str) {
        let problem = BrokerConnection::read("system/rabbit", &data(pairs))
            .unwrap_err()
            .to_string();
        assert!(
            problem.contains(expected) && problem.contains("system/rabbit"),
            "{problem}"
        );
        assert!(!problem.contains("hush"), "{problem}");
    }

    const DATABASE: [(&str, &str); 4] = [
        ("host", "pg"),
        ("dbname", "app"),
        ("username", "u"),
        ("password", "p"),
    ];

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
        // Without the last line's end, as every text of a Secret is read.
        (
            made.cert.pem().trim_end().to_owned(),
            made.signing_key.serialize_pem().trim_end().to_owned(),
        )
    }

    #[test]
    fn the_operators_certificate_stays_with_it_and_the_workers_get_the_one_that_is_named() {
        let (own, workers) = (pair(), pair());
        let tls = data(&[
            ("ca.crt", &workers.0),
            ("tls.crt", &workers.0),
            ("tls.key", &workers.1),
        ]);
        let mut pairs = MINIMAL.to_vec();
        let plain = BrokerConnection::read("s/broker", &data(&pairs)).unwrap();
        pairs.extend([("tls.crt", own.0.as_str()), ("tls.key", own.1.as_str())]);
        let broker = BrokerConnection::read("s/broker", &data(&pairs)).unwrap();
        let certificate =
            |client: &Option<ClientCertificate>| client.as_ref().map(|it| it.certificate().to_owned());
        assert_eq!(
            (certificate(&broker.client), certificate(&broker.worker_client)),
            (Some(own.0.clone()), None)
        );

        let both = broker.clone().with_tls_secret("s/tls", &tls).unwrap();
        assert_eq!(certificate(&both.client), Some(own.0));
        assert_eq!(certificate(&both.worker_client), Some(workers.0.clone()));
        assert_eq!(both.authority.as_ref(), Some(&workers.0));

        let alone = plain.clone().with_tls_secret("s/tls", &tls).unwrap();
        assert_eq!(
            certificate(&alone.client),
            Some(workers.0),
            "its own Secret has none"
        );
        let fingerprints = [&plain, &broker, &both, &alone].map(BrokerConnection::fingerprint);
        let different: std::collections::BTreeSet<_> = fingerprints.iter().collect();
        assert_eq!(different.len(), 4, "a renewed certificate makes other clients");
    }

    #[rstest]
    #[case::no_key(&[("tls.crt", pair().0)], "s/tls", "\"tls.crt\"", "no tls.key")]
    #[case::no_certificate(&[("tls.key", pair().1)], "s/tls", "\"tls.key\"", "no tls.crt")]
    #[case::authority(&[("ca.crt", "hush".to_owned())], "s/tls", "\"ca.crt\"", "PEM")]
    #[case::nothing(&[("password", "hush".to_owned())], "s/tls", "\"tls.crt\"", "no key")]
    fn a_tls_secret_is_refused_by_the_key_that_is_wrong(
        #[case] pairs: &[(&str, String)],
        #[case] secret: &str,
        #[case] key: &str,
        #[case] words: &str,
    ) {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let connection = DatabaseConnection::read("s/database", &data(&DATABASE)).unwrap();
        let problem = connection
            .with_tls_secret(secret, &data(&pairs))
            .unwrap_err()
            .to_string();
        assert!(
            [secret, key, words].iter().all(|part| problem.contains(part)),
            "{problem}"
        );
        assert!(!problem.contains("hush"), "{problem}");
    }

    #[test]
    fn what_the_mode_means_follows_from_both_secrets() {
        let connection = |mode: Option<&str>| {
            let mode = mode.map(|mode| ("sslmode", mode));
            let pairs: Vec<_> = DATABASE.into_iter().chain(mode).collect();
            DatabaseConnection::read("s/database", &data(&pairs)).unwrap()
        };
        let refused = connection(Some("verify-ca"))
            .checked("s/database")
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("ca.crt") && refused.contains("s/database"),
            "{refused}"
        );
        let tls = data(&[("ca.crt", &pair().0)]);
        for (written, meant) in [
            (Some("verify-ca"), postgres::Mode::VerifyCa),
            (None, postgres::Mode::VerifyFull),
        ] {
            let connection = connection(written).with_tls_secret("s/tls", &tls).unwrap();
            assert_eq!(connection.checked("s/database").unwrap().mode(), Ok(meant));
        }
    }

    #[test]
    fn a_database_secret_of_cloud_native_pg_is_read() {
        let pairs = [
            ("host", "pg-rw"),
            ("port", "5432"),
            ("dbname", "app"),
            ("username", "u"),
            ("password", "p"),
            ("uri", "postgresql://u:p@pg-rw:5432/app"),
        ];
        let connection = DatabaseConnection::read("s", &data(&pairs)).unwrap();
        assert_eq!((connection.dbname.as_str(), connection.port), ("app", 5432));
    }
}
