//! Connections as Secrets hold them: RabbitMQ's service-binding format and CloudNativePG's application format.

use std::{collections::BTreeMap, fmt};

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
    /// libpq's `sslmode`.
    pub sslmode: Option<String>,
    /// The certificate authority, in PEM.
    pub authority: Option<String>,
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
        } = self;
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
        ])
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
        } = self;
        fingerprint(&[
            host,
            &port.to_string(),
            dbname,
            username,
            password.expose_secret(),
            sslmode.as_deref().unwrap_or_default(),
            authority.as_deref().unwrap_or_default(),
        ])
    }
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
            authority: keys.optional("ca.crt")?,
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
        let sslmode = keys.optional("sslmode")?;
        let known = [
            "disable",
            "allow",
            "prefer",
            "require",
            "verify-ca",
            "verify-full",
        ];
        if sslmode.as_deref().is_some_and(|mode| !known.contains(&mode)) {
            return Err(keys.invalid("sslmode", "is not one of PostgreSQL's"));
        }
        Ok(Self {
            host: keys.host()?,
            port: keys.port("port")?.unwrap_or(5432),
            dbname: keys.required("dbname")?,
            username: keys.required("username")?,
            password: keys.required("password")?.into(),
            sslmode,
            authority: keys.optional("ca.crt")?,
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
