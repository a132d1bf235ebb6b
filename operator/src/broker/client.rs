//! RabbitMQ's management API, as far as a feed needs it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use reqwest::{Method, StatusCode, Url};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use snafu::{OptionExt as _, ResultExt, ensure};

use super::{
    AddressSnafu, AnswerSnafu, AuthenticationSnafu, ClientSnafu, Error, ForbiddenSnafu, FormSnafu,
    NoVhostSnafu,
    diff::Action,
    password,
    snapshot::Snapshot,
    topology::{Binding, Exchange, Permissions, Queue, Topology, User},
};
use crate::{
    connection::BrokerConnection,
    http_client,
    metrics::requests::{Access, Requests, Server, answer_of},
};

/// How much of the broker's words is shown.
const MAX_ANSWER: usize = 200;
/// The most queues on one page; a feed has at most 64 in a generation.
const PAGE_SIZE: &str = "500";

/// A client with the right to manage.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    connection: BrokerConnection,
    requests: Requests,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Queue>,
    page_count: u32,
}

/// An entry of a list with its name.
#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(flatten)]
    thing: T,
}

impl<T> Named<T> {
    fn pair(self) -> (String, T) {
        (self.name, self.thing)
    }
}

/// A binding with the exchange that it leads from.
#[derive(Deserialize)]
struct FromExchange {
    source: String,
    #[serde(flatten)]
    binding: Binding,
}

/// Permissions with the user that has them.
#[derive(Deserialize)]
struct OfUser {
    user: String,
    #[serde(flatten)]
    permissions: Permissions,
}

/// An entry of a list: what of it is asked for.
trait Columns: DeserializeOwned {
    const COLUMNS: &str;
}

impl Columns for Named<Exchange> {
    const COLUMNS: &str = "name,type,durable";
}

impl Columns for Queue {
    const COLUMNS: &str = "name,durable,arguments,messages,messages_ready,messages_unacknowledged,consumers,\
        message_stats.publish,single_active_consumer_tag";
}

impl Columns for FromExchange {
    const COLUMNS: &str = "source,destination,destination_type,routing_key,properties_key";
}

impl Columns for Named<User> {
    const COLUMNS: &str = "name,password_hash,hashing_algorithm";
}

impl Columns for OfUser {
    const COLUMNS: &str = "user,configure,write,read";
}

impl Client {
    /// A client. `http` is used where the connection names neither an authority nor a certificate of its own.
    ///
    /// # Errors
    /// When the connection names an authority or a certificate that is none, or a host that is none.
    pub fn new(
        http: &reqwest::Client,
        connection: &BrokerConnection,
        requests: &Requests,
    ) -> Result<Self, Error> {
        let (authority, client) = (connection.authority.as_deref(), connection.client.as_ref());
        let http = match authority.is_some() || client.is_some() {
            true => http_client::build_with(authority, client, crate::context::HTTP_TIMEOUT)
                .context(ClientSnafu)?,
            false => http.clone(),
        };
        let host = &connection.host;
        // An IPv6 address in a URL has brackets.
        let bracketed = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        let text = format!(
            "{}://{bracketed}:{}/",
            connection.management_scheme, connection.management_port
        );
        let base = text.parse().ok().context(AddressSnafu { host })?;
        Ok(Self {
            http,
            base,
            connection: connection.clone(),
            requests: requests.clone(),
        })
    }

    /// Reads the whole virtual host, and the users of the broker.
    ///
    /// # Errors
    /// When the broker cannot be asked.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let read_at = Instant::now();
        let vhost = self.connection.vhost.as_str();
        // Whether the virtual host is there is asked first: without it every other answer is "not found" as well.
        let there: Option<Value> = self.read("look for the virtual host", &["vhosts", vhost]).await?;
        ensure!(there.is_some(), NoVhostSnafu { vhost });

        let exchanges: Vec<Named<Exchange>> = self.list("list the exchanges", &["exchanges", vhost]).await?;
        let queues: Vec<Queue> = self.list("list the queues", &["queues", vhost]).await?;
        let bindings: Vec<FromExchange> = self.list("list the bindings", &["bindings", vhost]).await?;
        let users: Vec<Named<User>> = self.list("list the users", &["users"]).await?;
        let permissions: Vec<OfUser> = self
            .list("list the permissions", &["vhosts", vhost, "permissions"])
            .await?;
        let mut from: HashMap<String, Vec<Binding>> = HashMap::new();
        for FromExchange { source, binding } in bindings {
            // Every queue is bound to the default exchange; that says nothing.
            if !source.is_empty() {
                from.entry(source).or_default().push(binding);
            }
        }
        Ok(Snapshot {
            read_at,
            exchanges: exchanges.into_iter().map(Named::pair).collect(),
            queues: queues
                .into_iter()
                .map(|queue| (queue.name.clone(), queue))
                .collect(),
            bindings: from,
            users: users.into_iter().map(Named::pair).collect(),
            permissions: permissions
                .into_iter()
                .map(|OfUser { user, permissions }| (user, permissions))
                .collect(),
        })
    }

    async fn list<T: Columns>(&self, action: &str, path: &[&str]) -> Result<Vec<T>, Error> {
        let mut url = self.url(path);
        url.query_pairs_mut().append_pair("columns", T::COLUMNS);
        let answer = self.send(action, Method::GET, url, None).await?;
        let list = answer.map(|text| serde_json::from_str(&text).context(FormSnafu { action }));
        Ok(list.transpose()?.unwrap_or_default())
    }

    /// All queues of a feed, of whatever generation, with their counts.
    ///
    /// # Errors
    /// When the broker cannot be asked.
    pub async fn queues(&self, topology: &Topology) -> Result<BTreeMap<String, Queue>, Error> {
        let action = "list the queues";
        let mut queues = BTreeMap::new();
        let mut page = 1;
        loop {
            let mut url = self.url(&["queues", &self.connection.vhost]);
            url.query_pairs_mut()
                .append_pair("name", &topology.permission)
                .append_pair("use_regex", "true")
                .append_pair("page", &page.to_string())
                .append_pair("page_size", PAGE_SIZE)
                .append_pair("columns", Queue::COLUMNS);
            let answer = self.send(action, Method::GET, url, None).await?;
            let Some(text) = answer else { break };
            let Page { items, page_count } = serde_json::from_str(&text).context(FormSnafu { action })?;
            queues.extend(items.into_iter().map(|queue| (queue.name.clone(), queue)));
            if page >= page_count {
                break;
            }
            page += 1;
        }
        Ok(queues)
    }

    /// Performs one write.
    ///
    /// # Errors
    /// When the broker cannot be told.
    pub async fn perform(&self, topology: &Topology, action: &Action) -> Result<(), Error> {
        let vhost = self.connection.vhost.as_str();
        let exchange = topology.exchange.as_str();
        let user = topology.user.as_str();
        let (words, method, path, body) = match action {
            Action::DeclareExchange => (
                format!("declare exchange {exchange}"),
                Method::PUT,
                vec!["exchanges", vhost, exchange],
                json!({"type": "topic", "durable": true, "auto_delete": false, "internal": false, "arguments": {}}),
            ),
            Action::DeclareQueue(queue) => (
                format!("declare queue {}", queue.name),
                Method::PUT,
                vec!["queues", vhost, &queue.name],
                json!({"durable": true, "auto_delete": false, "arguments": queue.arguments}),
            ),
            Action::Bind { queue, key } => (
                format!("bind queue {queue}"),
                Method::POST,
                vec!["bindings", vhost, "e", exchange, "q", queue],
                json!({"routing_key": key, "arguments": {}}),
            ),
            Action::Unbind {
                queue,
                properties_key,
            } => return self.unbind(exchange, queue, properties_key).await,
            Action::PutUser => (
                format!("write user {user}"),
                Method::PUT,
                vec!["users", user],
                json!({
                    "password_hash": password::hash(&topology.password),
                    "hashing_algorithm": password::ALGORITHM,
                    "tags": "",
                }),
            ),
            Action::PutPermissions => (
                format!("write the permissions of user {user}"),
                Method::PUT,
                vec!["permissions", vhost, user],
                json!({
                    "configure": topology.permission,
                    "write": topology.permission,
                    "read": topology.permission,
                }),
            ),
        };
        let answer = self.send(&words, method, self.url(&path), Some(body)).await?;
        let status = StatusCode::NOT_FOUND.as_u16();
        ensure!(
            answer.is_some(),
            AnswerSnafu {
                action: words,
                status,
                answer: "what it belongs to does not exist"
            }
        );
        Ok(())
    }

    async fn unbind(&self, exchange: &str, queue: &str, properties_key: &str) -> Result<(), Error> {
        let vhost = self.connection.vhost.as_str();
        self.delete(
            format!("unbind queue {queue}"),
            &["bindings", vhost, "e", exchange, "q", queue, properties_key],
        )
        .await
    }

    /// Removes the exchange. Nothing can be published to the feed after that.
    ///
    /// # Errors
    /// When the broker cannot be told.
    pub async fn delete_exchange(&self, name: &str) -> Result<(), Error> {
        self.delete(
            format!("delete exchange {name}"),
            &["exchanges", &self.connection.vhost, name],
        )
        .await
    }

    /// Removes a queue with all it holds.
    ///
    /// # Errors
    /// When the broker cannot be told.
    pub async fn delete_queue(&self, name: &str) -> Result<(), Error> {
        self.delete(
            format!("delete queue {name}"),
            &["queues", &self.connection.vhost, name],
        )
        .await
    }

    /// Removes a user with its permissions.
    ///
    /// # Errors
    /// When the broker cannot be told.
    pub async fn delete_user(&self, name: &str) -> Result<(), Error> {
        self.delete(format!("delete user {name}"), &["users", name]).await
    }

    async fn delete(&self, action: String, path: &[&str]) -> Result<(), Error> {
        self.send(&action, Method::DELETE, self.url(path), None).await?;
        Ok(())
    }

    async fn read<T: DeserializeOwned>(&self, action: &str, path: &[&str]) -> Result<Option<T>, Error> {
        let answer = self.send(action, Method::GET, self.url(path), None).await?;
        answer
            .map(|text| serde_json::from_str(&text).context(FormSnafu { action }))
            .transpose()
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        // A URL with a host always has a path, so the segments are always there; they are percent-encoded here.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        url
    }

    /// Sends a request; `None` when the thing is not there.
    async fn send(
        &self,
        action: &str,
        method: Method,
        url: Url,
        body: Option<Value>,
    ) -> Result<Option<String>, Error> {
        let password = self.connection.password.expose_secret();
        let access = match method {
            Method::GET => Access::Read,
            _ => Access::Write,
        };
        let mut request = self
            .http
            .request(method, url)
            .basic_auth(&self.connection.username, Some(password));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let failed = |error: reqwest::Error| {
            let (action, source) = (action.to_owned(), error.without_url());
            match certificates::meaning(&source) {
                Some(meaning) => Error::Tls {
                    action,
                    meaning,
                    source,
                },
                None => Error::Request { action, source },
            }
        };
        let answer = |answered: &Result<reqwest::Response, _>| {
            answer_of(answered.as_ref().map(reqwest::Response::status))
        };
        let response = self
            .requests
            .timed(Server::Broker, access, request.send(), answer)
            .await
            .map_err(failed)?;
        let status = response.status();
        let text = response.text().await.map_err(failed)?;
        match status {
            status if status.is_success() => Ok(Some(text)),
            StatusCode::NOT_FOUND => Ok(None),
            // RabbitMQ answers 401 to a known user as well, when it may not do this.
            StatusCode::UNAUTHORIZED
                if ["administrator", "management user", "virtual host"]
                    .iter()
                    .any(|words| text.contains(words)) =>
            {
                ForbiddenSnafu { action }.fail()
            }
            StatusCode::UNAUTHORIZED => AuthenticationSnafu.fail(),
            StatusCode::FORBIDDEN => ForbiddenSnafu { action }.fail(),
            status => AnswerSnafu {
                action,
                status: status.as_u16(),
                answer: text.chars().take(MAX_ANSWER).collect::<String>(),
            }
            .fail(),
        }
    }
}
