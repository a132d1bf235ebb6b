//! TLS with PostgreSQL.

use secrecy::ExposeSecret as _;
use snafu::Snafu;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::{ClientCertificate, Unusable, authorities::trusted, meaning};

/// The key of a Secret, or the file of a folder, with the mode.
pub const MODE: &str = "sslmode";

/// libpq's `sslmode`, without `allow`: it asks for plain text first, and nobody could say what it ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
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

impl Mode {
    /// What the text of `sslmode` means where an authority is named or is not. One that is named is checked: without a mode that is
    /// `verify-full`, and `require` is `verify-ca` then, as libpq has it.
    ///
    /// # Errors
    /// When it is no mode, or one that checks nothing without an authority.
    pub fn read(text: Option<&str>, has_authority: bool) -> Result<Self, Unusable> {
        let unusable = |problem| Err(Unusable { key: MODE, problem });
        Ok(match text {
            Some("disable") => Self::Disable,
            None if has_authority => Self::VerifyFull,
            None | Some("prefer") => Self::Prefer,
            Some("require") if !has_authority => Self::Require,
            Some("verify-ca") if !has_authority => {
                return unusable(
                    "is verify-ca, which needs key ca.crt: without it any certificate of a public authority would do",
                );
            }
            Some("require" | "verify-ca") => Self::VerifyCa,
            Some("verify-full") => Self::VerifyFull,
            Some(_) => return unusable("is none of disable, prefer, require, verify-ca, verify-full"),
        })
    }

    /// As libpq spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Options with TLS as it is wanted: `authority` is the only one that is trusted, or else the public ones are.
#[must_use]
pub fn secure(
    options: PgConnectOptions,
    mode: Mode,
    authority: Option<&str>,
    client: Option<&ClientCertificate>,
) -> PgConnectOptions {
    let options = match mode {
        Mode::Disable => return options.ssl_mode(PgSslMode::Disable),
        Mode::Prefer => options.ssl_mode(PgSslMode::Prefer),
        Mode::Require => options.ssl_mode(PgSslMode::Require),
        Mode::VerifyCa => options
            .ssl_mode(PgSslMode::VerifyCa)
            .ssl_root_cert_from_pem(trusted(authority).as_bytes().to_vec()),
        Mode::VerifyFull => options
            .ssl_mode(PgSslMode::VerifyFull)
            .ssl_root_cert_from_pem(trusted(authority).as_bytes().to_vec()),
    };
    match client {
        Some(client) => options
            .ssl_client_cert_from_pem(client.certificate())
            .ssl_client_key_from_pem(client.key().expose_secret()),
        None => options,
    }
}

/// An error with what it means in front, if it is one of TLS.
#[must_use]
pub fn explained(error: sqlx::Error) -> sqlx::Error {
    match meaning(&error) {
        Some(meaning) => sqlx::Error::Tls(Box::new(Explained {
            meaning,
            source: error,
        })),
        None => error,
    }
}

#[derive(Debug, Snafu)]
#[snafu(display("{meaning}"))]
struct Explained {
    meaning: &'static str,
    source: sqlx::Error,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(None, false, "prefer")]
    #[case(None, true, "verify-full")]
    #[case(Some("disable"), true, "disable")]
    #[case(Some("prefer"), true, "prefer")]
    #[case(Some("require"), false, "require")]
    #[case(Some("require"), true, "verify-ca")]
    #[case(Some("verify-ca"), true, "verify-ca")]
    #[case(Some("verify-full"), false, "verify-full")]
    #[case(Some("verify-full"), true, "verify-full")]
    fn an_authority_that_is_named_is_checked(
        #[case] text: Option<&str>,
        #[case] has_authority: bool,
        #[case] expected: &str,
    ) {
        assert_eq!(Mode::read(text, has_authority).map(Mode::name), Ok(expected));
    }

    #[rstest]
    #[case("allow", true, "none of")]
    #[case("hush", true, "none of")]
    #[case("verify-ca", false, "ca.crt")]
    fn what_would_check_nothing_is_refused(
        #[case] text: &str,
        #[case] has_authority: bool,
        #[case] words: &str,
    ) {
        let refused = Mode::read(Some(text), has_authority).unwrap_err();
        assert!(
            refused.key == "sslmode" && refused.problem.contains(words),
            "{refused}"
        );
        assert!(!refused.to_string().contains("hush"));
    }
}
