//! A virtual host of one's own.

use std::fs;

use anyhow::{Context as _, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    Addresses,
    tls::{self, TestAuthority},
};

/// An empty virtual host in the test server, with the server's management API beside it.
#[derive(Clone, Debug)]
pub struct TestBroker {
    /// The AMQP host.
    pub host: String,
    /// The AMQP port.
    pub port: u16,
    /// A user that may do everything.
    pub username: String,
    /// Its password.
    pub password: String,
    /// The virtual host.
    pub vhost: String,
    /// Where the management API is.
    pub management: String,
    client: reqwest::Client,
}

impl TestBroker {
    /// Makes one in the server that all tests share.
    ///
    /// # Errors
    /// When the environment does not say where the server is, or it does not answer.
    pub async fn create() -> anyhow::Result<Self> {
        Self::create_at(&Addresses::shared()).await
    }

    /// Makes one in the server named.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn create_at(addresses: &Addresses) -> anyhow::Result<Self> {
        // Another test of this process may have been first; either way there is a provider.
        rustls::crypto::ring::default_provider().install_default().ok();
        let amqp = addresses.value("STOCKFEED_TEST_AMQP")?;
        let address = amqp
            .rsplit('@')
            .next()
            .unwrap_or_default()
            .trim_start_matches("amqp://");
        let (host, port) = address
            .trim_end_matches('/')
            .rsplit_once(':')
            .context("STOCKFEED_TEST_AMQP has no port")?;
        let broker = Self {
            host: host.to_owned(),
            port: port.parse().context("STOCKFEED_TEST_AMQP has no port")?,
            username: addresses.value("STOCKFEED_TEST_RABBITMQ_USER")?,
            password: addresses.value("STOCKFEED_TEST_RABBITMQ_PASSWORD")?,
            vhost: crate::unique(),
            management: addresses.value("STOCKFEED_TEST_RABBITMQ_MANAGEMENT")?,
            client: reqwest::Client::new(),
        };
        broker
            .management(Method::PUT, &format!("vhosts/{}", broker.vhost), Some(json!({})))
            .await?;
        let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
        let path = format!("permissions/{}/{}", broker.vhost, broker.username);
        broker.management(Method::PUT, &path, Some(everything)).await?;
        Ok(broker)
    }

    /// Asks the management API, `path` being what follows `/api/`. Null when the answer has no body.
    ///
    /// # Errors
    /// When it does not answer, or with a status that is not a success.
    pub async fn management(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let url = format!("{}/api/{path}", self.management);
        let mut request = self
            .client
            .request(method, &url)
            .basic_auth(&self.username, Some(&self.password));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request
            .send()
            .await
            .context("failed to reach the test RabbitMQ")?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "{url}: {status}: {text}");
        Ok(if status == StatusCode::NO_CONTENT || text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text)?
        })
    }

    /// Declares a queue with these arguments, bound to a topic exchange that it declares as well.
    ///
    /// # Errors
    /// When the management API refuses.
    pub async fn declare(
        &self,
        exchange: &str,
        queue: &str,
        binding_key: &str,
        arguments: Value,
    ) -> anyhow::Result<()> {
        let vhost = &self.vhost;
        let topic = json!({"type": "topic", "durable": true});
        self.management(Method::PUT, &format!("exchanges/{vhost}/{exchange}"), Some(topic))
            .await?;
        let durable = json!({"durable": true, "arguments": arguments});
        self.management(Method::PUT, &format!("queues/{vhost}/{queue}"), Some(durable))
            .await?;
        let key = json!({"routing_key": binding_key});
        self.management(
            Method::POST,
            &format!("bindings/{vhost}/e/{exchange}/q/{queue}"),
            Some(key),
        )
        .await?;
        Ok(())
    }

    /// Closes every connection of the virtual host, as a broken network would. Returns how many.
    ///
    /// # Errors
    /// When the management API refuses.
    pub async fn close_connections(&self) -> anyhow::Result<usize> {
        self.close_connections_of("").await
    }

    /// Closes the connections whose name, as the client gave it, contains a text. Returns how many.
    ///
    /// # Errors
    /// When the management API refuses.
    pub async fn close_connections_of(&self, client: &str) -> anyhow::Result<usize> {
        let path = format!("vhosts/{}/connections", self.vhost);
        let connections = self.management(Method::GET, &path, None).await?;
        let names: Vec<_> = connections
            .as_array()
            .into_iter()
            .flatten()
            .filter(|one| {
                client.is_empty()
                    || one["client_properties"]["connection_name"]
                        .as_str()
                        .is_some_and(|name| name.contains(client))
            })
            .filter_map(|one| one["name"].as_str())
            .collect();
        for name in &names {
            let encoded = name.replace(' ', "%20").replace('>', "%3E");
            self.management(Method::DELETE, &format!("connections/{encoded}"), None)
                .await?;
        }
        Ok(names.len())
    }

    /// A folder as a mounted Secret would be, for connections over TLS; without a client's certificate.
    ///
    /// # Errors
    /// When it cannot be written, or the environment does not say where the server is.
    pub fn tls_secret(&self, authority: &TestAuthority) -> anyhow::Result<tempfile::TempDir> {
        let folder = self.secret()?;
        fs::write(folder.path().join("tls"), "true")?;
        fs::write(folder.path().join("port"), tls::amqps_port()?.to_string())?;
        fs::write(folder.path().join("ca.crt"), authority.certificate())?;
        Ok(folder)
    }

    /// The names in the clients' certificates of the connections that the virtual host has now; empty for one without.
    ///
    /// # Errors
    /// When the management API refuses.
    pub async fn shown_by(&self, client: &str) -> anyhow::Result<Vec<String>> {
        let path = format!("vhosts/{}/connections", self.vhost);
        let connections = self.management(Method::GET, &path, None).await?;
        let of_client = connections.as_array().into_iter().flatten().filter(|one| {
            let name = one["client_properties"]["connection_name"].as_str();
            name.is_some_and(|name| name.contains(client))
        });
        Ok(of_client
            .map(|one| one["peer_cert_subject"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    /// A folder as a mounted Secret would be.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn secret(&self) -> anyhow::Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        let port = self.port.to_string();
        let files = [
            ("host", &self.host),
            ("port", &port),
            ("username", &self.username),
            ("password", &self.password),
            ("vhost", &self.vhost),
        ];
        for (file, text) in files {
            fs::write(folder.path().join(file), text)?;
        }
        Ok(folder)
    }
}
