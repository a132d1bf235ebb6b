//! Connecting to the broker.

use std::time::Duration;

use contract::names::FeedName;
use lapin::{
    Connection, ConnectionBuilder, ConnectionProperties,
    tcp::{OwnedIdentity, OwnedTLSConfig},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use secrecy::ExposeSecret as _;
use snafu::{ResultExt, Snafu};

use crate::credentials::BrokerCredentials;

/// How long the broker may take to answer a connection attempt.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds between heartbeats: a peer that is silent for two of them is taken for dead.
const HEARTBEAT_SECONDS: u16 = 10;
/// Bytes of the largest frame. The client keeps two buffers of 32 frames each; a larger body takes several frames.
const FRAME_MAX: u32 = 32 * 1024;

/// Why there is no connection.
#[derive(Debug, Snafu)]
pub enum Error {
    /// The broker refused, or cannot be reached.
    #[snafu(display("failed to connect to the broker at {host}:{port}"))]
    Connect {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// Why. Boxed: it is large.
        source: Box<lapin::Error>,
    },
    /// TLS failed.
    #[snafu(display("failed to connect to the broker at {host}:{port}: {meaning}"))]
    Tls {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// What that means, and what helps.
        meaning: &'static str,
        /// Why. Boxed: it is large.
        source: Box<lapin::Error>,
    },
    /// It did not answer within [`CONNECT_TIMEOUT`].
    #[snafu(display("the broker at {host}:{port} did not answer within {} s", CONNECT_TIMEOUT.as_secs()))]
    Timeout {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// Connects. The name is what RabbitMQ's UI shows: `<namespace>/<feed> <role>`.
///
/// There is no automatic recovery: the caller connects anew, because what it holds unacknowledged or unconfirmed must be
/// decided anew as well.
///
/// # Errors
/// When the broker refuses, cannot be reached, or does not answer in time.
pub async fn connect(
    credentials: &BrokerCredentials,
    feed: &FeedName,
    role: &str,
) -> Result<Connection, Error> {
    let BrokerCredentials {
        host,
        port,
        username,
        password,
        vhost,
        tls,
        authorities,
        client,
    } = credentials;
    let uri = AMQPUri {
        scheme: if *tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: username.clone(),
                password: password.expose_secret().to_owned(),
            },
            host: host.clone(),
            port: *port,
        },
        vhost: vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(HEARTBEAT_SECONDS),
            frame_max: Some(FRAME_MAX),
            ..AMQPQueryString::default()
        },
    };
    let properties = ConnectionProperties::default().with_connection_name(format!("{feed} {role}").into());
    let tls_config = OwnedTLSConfig {
        // As PEM, whatever its name says: keys of PKCS#1 and SEC1 are read too.
        identity: client.as_ref().map(|client| OwnedIdentity::PKCS8 {
            pem: client.certificate().as_bytes().to_vec(),
            key: client.key().expose_secret().as_bytes().to_vec(),
        }),
        cert_chain: authorities.clone(),
    };
    let builder = ConnectionBuilder::new()
        .map_err(Box::new)
        .context(ConnectSnafu { host, port: *port })?
        .with_uri(uri)
        .with_properties(properties)
        .with_tls_config(tls_config);
    match tokio::time::timeout(CONNECT_TIMEOUT, builder.connect()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => {
            let (host, port, source) = (host.clone(), *port, Box::new(error));
            Err(match certificates::meaning(source.as_ref()) {
                Some(meaning) => Error::Tls {
                    host,
                    port,
                    meaning,
                    source,
                },
                None => Error::Connect { host, port, source },
            })
        }
        Err(_) => TimeoutSnafu { host, port: *port }.fail(),
    }
}
