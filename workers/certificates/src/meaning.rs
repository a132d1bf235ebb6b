//! What errors of TLS mean to the person who has to mend them.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};

/// What an error of TLS means and what helps; `None` when it is about something else.
#[must_use]
pub fn meaning(error: &(dyn Error + 'static)) -> Option<&'static str> {
    of(find(error)?)
}

fn of(error: &rustls::Error) -> Option<&'static str> {
    Some(match error {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer => {
                "the server's certificate is not signed by an authority that is trusted: key ca.crt of the connection Secret must hold \
                 the server's"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is for another host: key host must be one of the names in it"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet"
            }
            _ => "the server's certificate cannot be used",
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                "the server asks for a client certificate: keys tls.crt and tls.key"
            }
            AlertDescription::CertificateExpired => {
                "the server says that the client certificate of key tls.crt has expired"
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate => {
                "the server refuses the client certificate of key tls.crt: its authority must be one that the server trusts"
            }
            // TLS 1.2 has no word of its own for a client certificate that is missing.
            AlertDescription::HandshakeFailure => {
                "the server refuses: it may ask for a client certificate, keys tls.crt and tls.key"
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An error of IO passes over the one that it wraps, and names that one's cause.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| find(wrapped)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::authority(CertificateError::UnknownIssuer.into(), Some("ca.crt"))]
    #[case::name(CertificateError::NotValidForName.into(), Some("another host"))]
    #[case::missing(
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired),
        Some("tls.crt and tls.key")
    )]
    #[case::expired(
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired),
        Some("has expired")
    )]
    #[case::refused(
        rustls::Error::AlertReceived(AlertDescription::UnknownCA),
        Some("refuses the client certificate")
    )]
    #[case::other(rustls::Error::HandshakeNotComplete, None)]
    fn an_error_is_found_however_deep_it_is(#[case] error: rustls::Error, #[case] words: Option<&str>) {
        let inner = io::Error::new(io::ErrorKind::InvalidData, error);
        let outer = sqlx::Error::Io(io::Error::other(sqlx::Error::Io(inner)));
        match (meaning(&outer), words) {
            (Some(meaning), Some(words)) => assert!(meaning.contains(words), "{meaning}"),
            (meaning, words) => assert_eq!(meaning, words),
        }
    }
}
