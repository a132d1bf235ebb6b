//! Credentials from mounted Secrets: a folder with one file a key, in the formats that other operators write
//! (RabbitMQ's service binding, CloudNativePG's application Secret).

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use snafu::{ResultExt, Snafu, ensure};

/// Why credentials cannot be used. Never holds a value, only names.
#[derive(Debug, Snafu)]
pub enum Error {
    /// A file of the folder cannot be read.
    #[snafu(display("failed to read {}", path.display()))]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is there but empty.
    #[snafu(display("{} is empty", path.display()))]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The port is not a number of 1 to 65535.
    #[snafu(display("{} does not hold a port", path.display()))]
    Port {
        /// Which.
        path: PathBuf,
    },
    /// A switch has another value than it may.
    #[snafu(display("{} must be one of {allowed}", path.display()))]
    Choice {
        /// Which.
        path: PathBuf,
        /// The values it may have.
        allowed: &'static str,
    },
}

/// How to reach the broker.
#[derive(Clone, Debug)]
pub struct BrokerCredentials {
    /// File `host`.
    pub host: String,
    /// File `port`; 5672, or 5671 with TLS, when there is none.
    pub port: u16,
    /// File `username`.
    pub username: String,
    /// File `password`.
    pub password: SecretString,
    /// File `vhost`; `/` when there is none.
    pub vhost: String,
    /// File `tls` is `true`.
    pub tls: bool,
    /// File `ca.crt`: authorities to trust beside the public ones, PEM.
    pub authorities: Option<String>,
}

/// How to reach the database.
#[derive(Clone, Debug)]
pub struct DatabaseCredentials {
    /// File `host`.
    pub host: String,
    /// File `port`; 5432 when there is none.
    pub port: u16,
    /// File `dbname`.
    pub database: String,
    /// File `username`.
    pub username: String,
    /// File `password`.
    pub password: SecretString,
    /// File `sslmode`, one of libpq's; `prefer` when there is none.
    pub ssl_mode: SslMode,
    /// File `ca.crt`: the authority to trust, PEM.
    pub authorities: Option<String>,
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS if the server has it.
    Prefer,
    /// TLS, whoever answers.
    Require,
    /// TLS, and the certificate is signed by a trusted authority.
    VerifyCa,
    /// The same, and it is the host's.
    VerifyFull,
}

impl BrokerCredentials {
    /// Reads a folder.
    ///
    /// # Errors
    /// When a file that must be there is missing or wrong; the error names the file.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let tls = match optional(directory, "tls")?.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                return ChoiceSnafu {
                    path: directory.join("tls"),
                    allowed: "true, false",
                }
                .fail();
            }
        };
        Ok(Self {
            host: required(directory, "host")?,
            port: port(directory, if tls { 5671 } else { 5672 })?,
            username: required(directory, "username")?,
            password: required(directory, "password")?.into(),
            vhost: optional(directory, "vhost")?.unwrap_or_else(|| "/".to_owned()),
            tls,
            authorities: optional(directory, "ca.crt")?,
        })
    }
}

impl DatabaseCredentials {
    /// Reads a folder.
    ///
    /// # Errors
    /// When a file that must be there is missing or wrong; the error names the file.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let ssl_mode = match optional(directory, "sslmode")?.as_deref() {
            Some("disable") => SslMode::Disable,
            None | Some("prefer") => SslMode::Prefer,
            Some("require") => SslMode::Require,
            Some("verify-ca") => SslMode::VerifyCa,
            Some("verify-full") => SslMode::VerifyFull,
            Some(_) => {
                let allowed = "disable, prefer, require, verify-ca, verify-full";
                return ChoiceSnafu {
                    path: directory.join("sslmode"),
                    allowed,
                }
                .fail();
            }
        };
        Ok(Self {
            host: required(directory, "host")?,
            port: port(directory, 5432)?,
            database: required(directory, "dbname")?,
            username: required(directory, "username")?,
            password: required(directory, "password")?.into(),
            ssl_mode,
            authorities: optional(directory, "ca.crt")?,
        })
    }
}

/// Reads a file that holds one secret, without the line end that editors put there.
///
/// # Errors
/// When the file cannot be read or is empty; the error names it.
pub fn secret_file(path: &Path) -> Result<SecretString, Error> {
    let text = std::fs::read_to_string(path).context(ReadSnafu { path })?;
    let text = text.trim_end_matches(['\r', '\n']);
    ensure!(!text.is_empty(), EmptySnafu { path });
    Ok(text.into())
}

fn optional(directory: &Path, key: &str) -> Result<Option<String>, Error> {
    let path = directory.join(key);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path, source }),
    }
}

fn required(directory: &Path, key: &str) -> Result<String, Error> {
    let path = directory.join(key);
    let text = std::fs::read_to_string(&path).context(ReadSnafu { path: &path })?;
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    ensure!(!text.is_empty(), EmptySnafu { path });
    Ok(text)
}

fn port(directory: &Path, default: u16) -> Result<u16, Error> {
    let Some(text) = optional(directory, "port")? else {
        return Ok(default);
    };
    let number = text.parse().ok().filter(|port| *port != 0);
    number.ok_or_else(|| Error::Port {
        path: directory.join("port"),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn defaults_are_those_of_the_servers() {
        let broker = folder(&[("host", "rabbit\n"), ("username", "u"), ("password", "p")]);
        let broker = BrokerCredentials::read(broker.path()).unwrap();
        assert_eq!(
            (
                broker.host.as_str(),
                broker.port,
                broker.vhost.as_str(),
                broker.tls
            ),
            ("rabbit", 5672, "/", false)
        );
        let files = [
            ("host", "postgres"),
            ("dbname", "d"),
            ("username", "u"),
            ("password", "p"),
        ];
        let database = DatabaseCredentials::read(folder(&files).path()).unwrap();
        assert_eq!((database.port, database.ssl_mode), (5432, SslMode::Prefer));
    }

    #[test]
    fn an_error_names_the_file_and_never_a_value() {
        let missing = folder(&[("host", "rabbit"), ("username", "u")]);
        assert!(
            BrokerCredentials::read(missing.path())
                .unwrap_err()
                .to_string()
                .contains("password")
        );
        let wrong = folder(&[
            ("host", "rabbit"),
            ("username", "u"),
            ("password", "hunter2"),
            ("port", "hunter2"),
        ]);
        let error = BrokerCredentials::read(wrong.path()).unwrap_err().to_string();
        assert!(error.contains("port") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn debug_output_hides_the_password() {
        let broker = folder(&[("host", "rabbit"), ("username", "u"), ("password", "hunter2")]);
        let broker = BrokerCredentials::read(broker.path()).unwrap();
        assert!(!format!("{broker:?}").contains("hunter2"));
    }
}
