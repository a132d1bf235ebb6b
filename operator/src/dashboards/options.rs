//! Options of the dashboards in Superset. `rbac.md` lists them.

use std::{path::PathBuf, time::Duration};

use reqwest::Url;
use snafu::{OptionExt as _, ResultExt, Snafu};

use super::access::{self, Access};
use crate::dereference::SecretName;

/// The shortest period: a look at a feed's dashboards costs Superset a part of a second.
const MIN_PERIOD: Duration = Duration::from_secs(5);

/// Options of the dashboards in Superset.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Address of the Apache Superset that feeds get their dashboards in, as in <http://stockfeed-superset.system.svc:8080>. Without it
    /// there are no dashboards.
    #[arg(long, env = "STOCKFEED_SUPERSET_URL", value_parser = url)]
    pub superset_url: Option<Url>,

    /// Secret (namespace/name) with the operator's account in Superset: operatorUsername, operatorPassword; optional ca.crt.
    #[arg(long, env = "STOCKFEED_SUPERSET_SECRET")]
    pub superset_secret: Option<SecretName>,

    /// File with a YAML list of who sees what in Superset: role, feeds, symbols, sqlLab. Without it dashboards are seen by Superset's
    /// administrators only.
    #[arg(long, env = "STOCKFEED_SUPERSET_ACCESS")]
    pub superset_access: Option<PathBuf>,

    /// How often the dashboards of a feed are compared with what they have to be. With many feeds it takes longer: comparing takes at
    /// most a fifth of the time.
    #[arg(long, env = "STOCKFEED_SUPERSET_CHECK_PERIOD", default_value = "5m", value_parser = period)]
    pub superset_check_period: Duration,

    /// Secret (namespace/name) with key databasePassword. Given, the operator makes role and database superset in the installation's
    /// database server, and makes them again when they are lost: Superset keeps its own data there.
    #[arg(long, env = "STOCKFEED_SUPERSET_DATABASE_SECRET")]
    pub superset_database_secret: Option<SecretName>,
}

/// Which Superset, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superset {
    /// Its address.
    pub url: Url,
    /// The operator's account in it.
    pub secret: SecretName,
    /// Who sees what.
    pub access: Vec<Access>,
    /// How often the dashboards of a feed are compared.
    pub check_period: Duration,
    /// The password of its own database; `None`: the operator does not look after that.
    pub database_secret: Option<SecretName>,
}

/// Why the options cannot be used.
#[derive(Debug, Snafu)]
pub enum Error {
    /// An address without an account.
    #[snafu(display(
        "--superset-url needs --superset-secret: the Secret with operatorUsername and operatorPassword"
    ))]
    NoSecret,
    /// The file cannot be read.
    #[snafu(display("failed to read {} (--superset-access)", path.display()))]
    ReadAccess {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says what cannot be.
    #[snafu(display("{} (--superset-access) cannot be used", path.display()))]
    Access {
        /// Which.
        path: PathBuf,
        /// Why.
        source: access::Error,
    },
}

impl Options {
    /// Which Superset; `None` when there is none.
    ///
    /// # Errors
    /// When an option is missing, or the file of access cannot be used.
    pub fn superset(self) -> Result<Option<Superset>, Error> {
        // Taken apart completely: an option that nobody reads does not compile.
        let Self {
            superset_url,
            superset_secret,
            superset_access,
            superset_check_period,
            superset_database_secret,
        } = self;
        let Some(url) = superset_url else {
            return Ok(None);
        };
        Ok(Some(Superset {
            url,
            secret: superset_secret.context(NoSecretSnafu)?,
            access: match superset_access {
                Some(path) => {
                    let text = std::fs::read_to_string(&path).context(ReadAccessSnafu { path: &path })?;
                    access::parse(&text).context(AccessSnafu { path })?
                }
                None => Vec::new(),
            },
            check_period: superset_check_period,
            database_secret: superset_database_secret,
        }))
    }
}

/// Credentials belong into the Secret, and paths are appended to it.
fn url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|_| "it is no URL".to_owned())?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    match plain && url.has_host() && ["http", "https"].contains(&url.scheme()) {
        true => Ok(url),
        false => Err("it must be an http or https URL without user, query and fragment".to_owned()),
    }
}

fn period(text: &str) -> Result<Duration, String> {
    let period = contract::duration::parse(text).map_err(|error| error.to_string())?;
    match period >= MIN_PERIOD {
        true => Ok(period),
        false => Err("it must be at least 5s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rstest::rstest;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    fn read(options: &[&str]) -> Result<Option<Superset>, String> {
        let parsed = Program::try_parse_from(["program"].iter().chain(options));
        let program = parsed.map_err(|error| error.to_string())?;
        let superset = program.options.superset();
        superset.map_err(|error| crate::status::chain(&error))
    }

    #[test]
    fn without_an_address_there_is_no_superset() {
        assert_eq!(read(&["--superset-secret=system/superset"]), Ok(None));
    }

    #[test]
    fn an_address_and_an_account_suffice() {
        let superset = read(&[
            "--superset-url=http://superset.system.svc:8080",
            "--superset-secret=system/superset",
        ]);
        let superset = superset.unwrap().unwrap();
        assert_eq!(superset.check_period, Duration::from_secs(300));
        assert_eq!(superset.access, Vec::new());
    }

    #[rstest]
    #[case::no_account(&["--superset-url=http://superset:8080"], "--superset-secret")]
    #[case::credentials(&["--superset-url=http://a:b@superset:8080"], "without user")]
    #[case::another_scheme(&["--superset-url=ftp://superset"], "http or https")]
    #[case::all_the_time(&["--superset-check-period=1s"], "at least 5s")]
    #[case::no_file(&["--superset-url=http://superset", "--superset-secret=a/b", "--superset-access=/nowhere"], "/nowhere")]
    fn says_what_is_wrong_and_where(#[case] options: &[&str], #[case] words: &str) {
        let error = read(options).unwrap_err();
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("a:b@") || words == "without user", "{error}");
    }
}
