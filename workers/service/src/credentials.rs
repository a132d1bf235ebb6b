//! Credentials from mounted Secrets: a folder with one file a key, in the formats that other operators write
//! (RabbitMQ's service binding, CloudNativePG's application Secret).

use std::{
    fs,
    path::{Path, PathBuf},
};

use certificates::{AUTHORITY, CERTIFICATE, ClientCertificate, KEY, Unusable, postgres};
use secrecy::SecretString;
use snafu::{ResultExt, Snafu, ensure};

pub use certificates::postgres::Mode as SslMode;

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
    /// What TLS needs cannot be used.
    #[snafu(display("{}: {source}", directory.display()))]
    Tls {
        /// Where it is.
        directory: PathBuf,
        /// What is wrong with which file.
        source: Unusable,
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
    /// Files `tls.crt` and `tls.key`: what is shown to a broker that asks for it.
    pub client: Option<ClientCertificate>,
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
    /// File `sslmode`, one of libpq's; when there is none `prefer`, or `verify-full` where there is an authority.
    pub ssl_mode: SslMode,
    /// File `ca.crt`: the authorities to trust instead of the public ones, PEM.
    pub authorities: Option<String>,
    /// Files `tls.crt` and `tls.key`: what is shown to a database that asks for it.
    pub client: Option<ClientCertificate>,
}

impl BrokerCredentials {
    /// Reads a folder.
    ///
    /// # Errors
    /// When a file that must be there is missing or wrong; the error names the file.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        at_once(directory, Self::read_files)
    }

    fn read_files(directory: &Path) -> Result<Self, Error> {
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
            authorities: authorities(directory)?,
            client: client(directory)?,
        })
    }
}

impl DatabaseCredentials {
    /// Reads a folder.
    ///
    /// # Errors
    /// When a file that must be there is missing or wrong; the error names the file.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        at_once(directory, Self::read_files)
    }

    fn read_files(directory: &Path) -> Result<Self, Error> {
        let authorities = authorities(directory)?;
        let mode = optional(directory, postgres::MODE)?;
        let ssl_mode =
            SslMode::read(mode.as_deref(), authorities.is_some()).context(TlsSnafu { directory })?;
        Ok(Self {
            host: required(directory, "host")?,
            port: port(directory, 5432)?,
            database: required(directory, "dbname")?,
            username: required(directory, "username")?,
            password: required(directory, "password")?.into(),
            ssl_mode,
            authorities,
            client: client(directory)?,
        })
    }
}

/// Reads a folder whose files belong together: a certificate and its key are no pair when another Secret comes between them. The
/// kubelet changes a mounted one by a single link that all files lie behind.
fn at_once<T>(directory: &Path, read: fn(&Path) -> Result<T, Error>) -> Result<T, Error> {
    let link = directory.join("..data");
    loop {
        let before = fs::read_link(&link).ok();
        let found = read(directory);
        if fs::read_link(&link).ok() == before {
            return found;
        }
    }
}

fn authorities(directory: &Path) -> Result<Option<String>, Error> {
    let pem = optional(directory, AUTHORITY)?;
    pem.map(certificates::authority)
        .transpose()
        .context(TlsSnafu { directory })
}

fn client(directory: &Path) -> Result<Option<ClientCertificate>, Error> {
    let certificate = optional(directory, CERTIFICATE)?;
    let key = optional(directory, KEY)?.map(SecretString::from);
    ClientCertificate::read(certificate, key).context(TlsSnafu { directory })
}

/// Reads a file that holds one secret, without the line end that editors put there.
///
/// # Errors
/// When the file cannot be read or is empty; the error names it.
pub fn secret_file(path: &Path) -> Result<SecretString, Error> {
    let text = fs::read_to_string(path).context(ReadSnafu { path })?;
    let text = text.trim_end_matches(['\r', '\n']);
    ensure!(!text.is_empty(), EmptySnafu { path });
    Ok(text.into())
}

fn optional(directory: &Path, key: &str) -> Result<Option<String>, Error> {
    let path = directory.join(key);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path, source }),
    }
}

fn required(directory: &Path, key: &str) -> Result<String, Error> {
    let path = directory.join(key);
    let text = fs::read_to_string(&path).context(ReadSnafu { path: &path })?;
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
    fn a_certificate_needs_its_key() {
        let pair = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
        let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let files = [
            ("host", "postgres"),
            ("dbname", "d"),
            ("username", "u"),
            ("password", "p"),
            ("ca.crt", &certificate),
            ("tls.crt", &certificate),
            ("tls.key", &key),
        ];
        let folder = folder(&files);
        let database = DatabaseCredentials::read(folder.path()).unwrap();
        assert_eq!(
            database.ssl_mode,
            SslMode::VerifyFull,
            "an authority is there to be checked"
        );
        assert!(database.client.is_some());
        fs::remove_file(folder.path().join("tls.key")).unwrap();
        let error = DatabaseCredentials::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("tls.crt has no tls.key"), "{error}");
    }

    /// As the kubelet does it: every file is a link through `..data`, and only that one changes.
    #[test]
    fn a_secret_that_changes_while_it_is_read_is_read_whole() {
        use std::os::unix::fs::symlink;

        let mounted = tempfile::tempdir().unwrap();
        let path = mounted.path();
        let generation = |number: usize| {
            let pair = rcgen::generate_simple_self_signed([format!("client-{number}")]).unwrap();
            let folder = path.join(format!("..generation-{number}"));
            fs::create_dir(&folder).unwrap();
            for (file, text) in [
                ("host", "rabbit".to_owned()),
                ("username", number.to_string()),
                ("password", "p".to_owned()),
                ("tls.crt", pair.cert.pem()),
                ("tls.key", pair.signing_key.serialize_pem()),
            ] {
                fs::write(folder.join(file), text).unwrap();
            }
        };
        (0..2).for_each(generation);
        for file in ["host", "username", "password", "tls.crt", "tls.key"] {
            symlink(format!("..data/{file}"), path.join(file)).unwrap();
        }
        symlink("..generation-0", path.join("..data")).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0.. {
                    if done.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    // No name comes again: the kubelet's have the time in them.
                    let own = format!("..{number}");
                    symlink(format!("..generation-{}", number % 2), path.join(&own)).unwrap();
                    let next = path.join("..next");
                    symlink(own, &next).unwrap();
                    fs::rename(next, path.join("..data")).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            });
            let mut seen = std::collections::BTreeSet::new();
            let read = (0..2_000).map(|_| BrokerCredentials::read(path));
            let wrong = read
                .filter_map(|read| read.map(|broker| seen.insert(broker.username)).err())
                .next();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(wrong.is_none(), "{wrong:?}");
            assert_eq!(seen.len(), 2, "it changed while it was read");
        });
    }

    #[test]
    fn debug_output_hides_the_password() {
        let broker = folder(&[("host", "rabbit"), ("username", "u"), ("password", "hunter2")]);
        let broker = BrokerCredentials::read(broker.path()).unwrap();
        assert!(!format!("{broker:?}").contains("hunter2"));
    }
}
