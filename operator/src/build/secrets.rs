//! What the feed's Secrets hold: broker credentials in the Service Binding format, database credentials as CloudNativePG writes them, so
//! that what knows those formats can use them.

use certificates::{AUTHORITY, CERTIFICATE, ClientCertificate, KEY};
use k8s_openapi::ByteString;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    connection::{BrokerConnection, Data, DatabaseConnection},
    token::ApiToken,
};

/// Of the broker's user. Keys as in <https://servicebinding.io/spec/core/1.1.0/>, with what RabbitMQ's cluster operator adds.
pub(super) fn broker(connection: &BrokerConnection, user: &str, password: &SecretString) -> Data {
    let scheme = if connection.tls { "amqps" } else { "amqp" };
    let uri = uri(
        scheme,
        &connection.host,
        connection.port,
        user,
        password,
        &connection.vhost,
    );
    let mut data = vec![
        ("type", "rabbitmq".to_owned()),
        ("provider", "stockfeed".to_owned()),
        ("host", connection.host.clone()),
        ("port", connection.port.to_string()),
        ("username", user.to_owned()),
        ("password", password.expose_secret().to_owned()),
        ("vhost", connection.vhost.clone()),
    ];
    data.extend(uri.map(|uri| ("uri", uri)));
    if connection.tls {
        data.push(("tls", "true".to_owned()));
    }
    data.extend(tls(
        connection.authority.as_ref(),
        connection.worker_client.as_ref(),
    ));
    encoded(data)
}

/// Of a role. Keys as in <https://cloudnative-pg.io/documentation/current/applications/>. `client` is what the role shows of itself.
pub(super) fn database(
    connection: &DatabaseConnection,
    role: &str,
    password: &SecretString,
    client: Option<&ClientCertificate>,
) -> Data {
    let DatabaseConnection {
        host, port, dbname, ..
    } = connection;
    let secret = password.expose_secret();
    let mut data = vec![
        ("type", "postgresql".to_owned()),
        ("provider", "stockfeed".to_owned()),
        ("host", host.clone()),
        ("port", port.to_string()),
        ("dbname", dbname.clone()),
        ("username", role.to_owned()),
        ("user", role.to_owned()),
        ("password", secret.to_owned()),
        ("pgpass", format!("{host}:{port}:{dbname}:{role}:{secret}\n")),
        (
            "jdbc-uri",
            format!("jdbc:postgresql://{host}:{port}/{dbname}?user={role}&password={secret}"),
        ),
    ];
    data.extend(uri("postgresql", host, *port, role, password, dbname).map(|uri| ("uri", uri)));
    // What it means, not what was written: other programs know no rule of ours. Where nothing was said, nothing is.
    if connection.sslmode.is_some() || connection.authority.is_some() {
        data.extend(
            connection
                .mode()
                .ok()
                .map(|mode| ("sslmode", mode.name().to_owned())),
        );
    }
    data.extend(tls(connection.authority.as_ref(), client));
    encoded(data)
}

fn tls(
    authority: Option<&String>,
    client: Option<&ClientCertificate>,
) -> impl Iterator<Item = (&'static str, String)> {
    let certificate = client.map(|client| (CERTIFICATE, client.certificate().to_owned()));
    let key = client.map(|client| (KEY, client.key().expose_secret().to_owned()));
    let authority = authority.map(|authority| (AUTHORITY, authority.clone()));
    [authority, certificate, key].into_iter().flatten()
}

/// Of the producer's API.
pub(super) fn token(token: &ApiToken) -> Data {
    let mut data = vec![("token", token.token.expose_secret().to_owned())];
    if let Some(previous) = &token.previous {
        data.push(("previous", previous.expose_secret().to_owned()));
    }
    encoded(data)
}

/// A URI with its parts escaped; `None` for a host that no URI can have.
fn uri(
    scheme: &str,
    host: &str,
    port: u16,
    user: &str,
    password: &SecretString,
    path: &str,
) -> Option<String> {
    let mut uri = Url::parse(&format!("{scheme}://host/")).ok()?;
    // An IPv6 address in a URI has brackets.
    let bracketed = match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    uri.set_host(Some(&bracketed)).ok()?;
    uri.set_port(Some(port)).ok()?;
    uri.set_username(user).ok()?;
    uri.set_password(Some(password.expose_secret())).ok()?;
    uri.path_segments_mut().ok()?.clear().push(path);
    Some(uri.into())
}

fn encoded(pairs: Vec<(&str, String)>) -> Data {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::name("amqp", "rabbitmq.system.svc", "/", "amqp://u:p@rabbitmq.system.svc:5672/%2F")]
    #[case::address("amqps", "10.0.0.1", "markets", "amqps://u:p@10.0.0.1:5672/markets")]
    #[case::long_address(
        "postgresql",
        "fd00::1",
        "fintech_data",
        "postgresql://u:p@[fd00::1]:5672/fintech_data"
    )]
    fn uris_are_escaped(
        #[case] scheme: &str,
        #[case] host: &str,
        #[case] path: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(
            uri(scheme, host, 5672, "u", &"p".into(), path).as_deref(),
            Some(expected)
        );
    }
}
