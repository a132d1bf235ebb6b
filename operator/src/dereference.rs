//! Step 1: reads what a feed refers to. Absence is not an error here: it becomes a condition.

use std::fmt;

use contract::{config::ProcessorConfig, symbol::Symbol};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{Pod, Secret},
    },
};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use sha2::{Digest as _, Sha256};
use snafu::{ResultExt, Snafu};

use crate::{
    api::{Connection, SecretRef, StockFeed},
    build::config::CONFIG_FILE,
    children::{Children, is_living},
    clock,
    connection::{BrokerConnection, Data, DatabaseConnection, Problem},
    context::{Context, Defaults},
    credential::Credential,
    labels::{self, Component},
    rollout::Rollout,
    secrets::Secrets,
    token::ApiToken,
};

/// What was read.
#[derive(Clone, Debug)]
pub struct References {
    /// A fingerprint of the API key, or why there is none.
    pub api_key: Result<String, Problem>,
    /// The broker, with the right to manage it.
    pub broker: Result<BrokerConnection, Problem>,
    /// The database, with the right to manage it.
    pub database: Result<DatabaseConnection, Problem>,
    /// The feed's broker user.
    pub broker_secret: OwnSecret,
    /// The feed's writer role.
    pub writer_secret: OwnSecret,
    /// The feed's reader role.
    pub reader_secret: OwnSecret,
    /// The tokens of the producer's API.
    pub token: ApiToken,
    /// How many feeds use the API key, this one included.
    pub sharing: u64,
    /// The symbols that the feed's processors know.
    pub former_symbols: Vec<Symbol>,
    /// Which generations of queues the producer may publish to.
    pub producer: Rollout,
    /// Which generations of queues the processors may consume.
    pub processor: Rollout,
}

/// A Secret that the operator makes for a feed.
#[derive(Clone)]
pub struct OwnSecret {
    /// What it holds now; `None` when it is not there.
    pub data: Option<Data>,
    /// Its password: the one that it has, a new one, or one that takes the old one's place.
    pub credential: Credential,
}

impl fmt::Debug for OwnSecret {
    /// Shows keys and no values: what holds this may be logged one day.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.data.iter().flat_map(Data::keys).collect();
        formatter.debug_struct("OwnSecret").field("keys", &keys).finish()
    }
}

/// Why something could not be read.
#[derive(Debug, Snafu)]
pub enum Error {
    /// The API server refused or did not answer.
    #[snafu(display("failed to read Secret {namespace}/{name}"))]
    ReadSecret {
        /// Where.
        namespace: String,
        /// Which.
        name: String,
        /// Why.
        #[snafu(source(from(kube::Error, Box::new)))]
        source: Box<kube::Error>,
    },
    /// The API server refused or did not answer.
    #[snafu(display("failed to look for the {component}"))]
    ReadWorker {
        /// Which worker.
        component: &'static str,
        /// Why.
        #[snafu(source(from(kube::Error, Box::new)))]
        source: Box<kube::Error>,
    },
}

/// How workers are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As the watches have them, which may be a little behind.
    Watched,
    /// As they are: what is decided of them cannot be taken back.
    Exact,
}

/// Reads everything a feed refers to.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn dereference(ctx: &Context, feed: &StockFeed, fresh: Freshness) -> Result<References, Error> {
    let Context {
        children,
        secrets,
        defaults,
        ..
    } = ctx;
    let namespace = feed.namespace().unwrap_or_default();
    let name = feed.name_any();
    let own = |secret: String| own_secret(secrets, defaults, feed, secret);
    let rollout = async |component| match fresh {
        Freshness::Watched => Ok(watched_rollout(children, &namespace, &name, component)),
        Freshness::Exact => exact_rollout(&ctx.client, &namespace, &name, component).await,
    };
    Ok(References {
        api_key: api_key(secrets, &namespace, feed).await?,
        broker: broker(secrets, defaults, &namespace, feed.spec.broker.as_ref()).await?,
        database: database(secrets, defaults, &namespace, feed.spec.database.as_ref()).await?,
        broker_secret: own(labels::broker_secret(&name)).await?,
        writer_secret: own(labels::database_secret(&name)).await?,
        reader_secret: own(labels::reader_secret(&name)).await?,
        token: token(secrets, feed).await?,
        sharing: sharing(children, &namespace, feed),
        former_symbols: former_symbols(children, &namespace, &name),
        producer: rollout(Component::Producer).await?,
        processor: rollout(Component::Processor).await?,
    })
}

/// The pods of a worker that have not ended: those that are on their way out still work.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn living_pods(
    client: &Client,
    namespace: &str,
    feed: &str,
    component: Component,
) -> Result<Vec<Pod>, Error> {
    let selector = labels::selector_text(feed, component);
    let pods = Api::<Pod>::namespaced(client.clone(), namespace)
        .list(&ListParams::default().labels(&selector))
        .await
        .context(ReadWorkerSnafu {
            component: component.name(),
        })?;
    Ok(pods.items.into_iter().filter(is_living).collect())
}

fn watched_rollout(children: &Children, namespace: &str, feed: &str, component: Component) -> Rollout {
    let deployment = children
        .deployments
        .unpacked(namespace, &component.object_name(feed));
    let pods = children.living_pods(namespace, feed, component);
    Rollout::new(deployment.as_ref(), &pods)
}

async fn exact_rollout(
    client: &Client,
    namespace: &str,
    feed: &str,
    component: Component,
) -> Result<Rollout, Error> {
    let context = ReadWorkerSnafu {
        component: component.name(),
    };
    // The Deployment first: once it is settled, no pod of an earlier form can come that the list would miss.
    let deployment = Api::<Deployment>::namespaced(client.clone(), namespace)
        .get_opt(&component.object_name(feed))
        .await
        .context(context)?;
    let pods = living_pods(client, namespace, feed, component).await?;
    Ok(Rollout::new(deployment.as_ref(), &pods))
}

/// The broker that a feed uses.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn broker(
    secrets: &Secrets,
    defaults: &Defaults,
    namespace: &str,
    own: Option<&Connection>,
) -> Result<Result<BrokerConnection, Problem>, Error> {
    let default = defaults.broker_secret.as_ref().map(SecretName::parts);
    let found = connection(secrets, namespace, own, default).await?;
    Ok(found.and_then(|Found { secret, tls }| {
        let connection = BrokerConnection::read(&secret.0, &secret.1)?;
        match tls {
            Some((name, data)) => connection.with_tls_secret(&name, &data),
            None => Ok(connection),
        }
    }))
}

/// The database that a feed uses.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn database(
    secrets: &Secrets,
    defaults: &Defaults,
    namespace: &str,
    own: Option<&Connection>,
) -> Result<Result<DatabaseConnection, Problem>, Error> {
    let default = defaults.database_secret.as_ref().map(SecretName::parts);
    let found = connection(secrets, namespace, own, default).await?;
    Ok(found.and_then(|Found { secret, tls }| {
        let connection = DatabaseConnection::read(&secret.0, &secret.1)?;
        let connection = match tls {
            Some((name, data)) => connection.with_tls_secret(&name, &data)?,
            None => connection,
        };
        connection.checked(&secret.0)
    }))
}

/// A Secret of any namespace: `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    namespace: String,
    name: String,
}

impl SecretName {
    /// Namespace and name.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, name) = self.parts();
        write!(formatter, "{namespace}/{name}")
    }
}

impl std::str::FromStr for SecretName {
    type Err = InvalidSecretName;

    fn from_str(text: &str) -> Result<Self, InvalidSecretName> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => InvalidSecretNameSnafu { text }.fail(),
        }
    }
}

/// Not the name of a Secret with its namespace.
#[derive(Debug, Snafu)]
#[snafu(display("{text:?} is not of the form namespace/name"))]
pub struct InvalidSecretName {
    text: String,
}

/// Secrets of a connection, each with its name and namespace.
struct Found {
    secret: (String, Data),
    /// What TLS needs beside it.
    tls: Option<(String, Data)>,
}

async fn connection(
    secrets: &Secrets,
    namespace: &str,
    own: Option<&Connection>,
    default: Option<(&str, &str)>,
) -> Result<Result<Found, Problem>, Error> {
    let named = |reference: &'_ Option<SecretRef>| reference.as_ref().map(|secret| secret.name.clone());
    let tls = own.and_then(|connection| named(&connection.tls_secret_ref));
    let own = own.and_then(|connection| named(&connection.secret_ref));
    let own = own.as_deref().map(|name| (namespace, name));
    let Some((place, name)) = own.or(default) else {
        return Ok(Err(Problem::NotConfigured));
    };
    let secret = match content(secrets, place, name).await? {
        Ok(secret) => secret,
        Err(problem) => return Ok(Err(problem)),
    };
    let tls = match tls {
        Some(name) => match content(secrets, namespace, &name).await? {
            Ok(tls) => Some(tls),
            Err(problem) => return Ok(Err(problem)),
        },
        None => None,
    };
    Ok(Ok(Found { secret, tls }))
}

async fn content(
    secrets: &Secrets,
    namespace: &str,
    name: &str,
) -> Result<Result<(String, Data), Problem>, Error> {
    let secret = read(secrets, namespace, name).await?;
    Ok(match secret {
        Some(secret) => Ok((format!("{namespace}/{name}"), secret.data.unwrap_or_default())),
        None => Err(not_found(namespace, name)),
    })
}

async fn api_key(
    secrets: &Secrets,
    namespace: &str,
    feed: &StockFeed,
) -> Result<Result<String, Problem>, Error> {
    let Some(reference) = feed.spec.source.api_key() else {
        return Ok(Ok(String::new()));
    };
    let Some(secret) = read(secrets, namespace, &reference.name).await? else {
        return Ok(Err(not_found(namespace, &reference.name)));
    };
    let data = secret.data.unwrap_or_default();
    let problem = || Problem::KeyNotFound {
        secret: format!("{namespace}/{}", reference.name),
        key: reference.key.clone(),
    };
    let content = data
        .get(&reference.key)
        .filter(|ByteString(bytes)| !bytes.is_empty());
    let uid = feed.uid().unwrap_or_default();
    Ok(content
        .map(|ByteString(bytes)| fingerprint(&uid, bytes))
        .ok_or_else(problem))
}

/// How many feeds of the namespace use the API key of this one, itself included. Those that are suspended or being deleted make no
/// calls.
fn sharing(children: &Children, namespace: &str, feed: &StockFeed) -> u64 {
    let Some(reference) = feed.spec.source.api_key() else {
        return 1;
    };
    let name = feed.name_any();
    let others = children.feeds.of(namespace, |other| {
        // One that cannot be read makes no calls either.
        other.0.as_ref().is_ok_and(|other| {
            other.name_any() != name
                && other.spec.source.api_key() == Some(reference)
                && !other.spec.suspend
                && other.metadata.deletion_timestamp.is_none()
        })
    });
    1 + others.len() as u64
}

/// The symbols in the processors' configuration, as it is in the cluster.
fn former_symbols(children: &Children, namespace: &str, feed: &str) -> Vec<Symbol> {
    let name = Component::Processor.object_name(feed);
    let map = children.config_maps.unpacked(namespace, &name);
    // One that cannot be read is written anew.
    let config = map
        .as_ref()
        .and_then(|map| map.data.as_ref()?.get(CONFIG_FILE))
        .and_then(|text| ProcessorConfig::parse(text).ok());
    config.map(|config| config.symbols).unwrap_or_default()
}

async fn token(secrets: &Secrets, feed: &StockFeed) -> Result<ApiToken, Error> {
    let namespace = feed.namespace().unwrap_or_default();
    let secret = read(secrets, &namespace, &labels::token_secret(&feed.name_any())).await?;
    let uid = feed.uid().unwrap_or_default();
    let ours = secret.filter(|secret| secret.owner_references().iter().any(|owner| owner.uid == uid));
    Ok(ApiToken::current(ours.as_ref(), clock::now()))
}

/// A hash of a key that only says whether it is the same one. The feed's UID is hashed with it, so that two feeds do not
/// show that they share a key.
fn fingerprint(uid: &str, content: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update(uid)
        .chain_update([0])
        .chain_update(content)
        .finalize();
    hex(&digest[..8])
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn own_secret(
    secrets: &Secrets,
    defaults: &Defaults,
    feed: &StockFeed,
    name: String,
) -> Result<OwnSecret, Error> {
    let namespace = feed.namespace().unwrap_or_default();
    let secret = read(secrets, &namespace, &name).await?;
    // A Secret of the same name that is somebody else's is refused when it comes to applying; its password is not ours.
    let uid = feed.uid().unwrap_or_default();
    let ours = secret.filter(|secret| secret.owner_references().iter().any(|owner| owner.uid == uid));
    let asked = feed.annotations().get(labels::ROTATE).map(String::as_str);
    let credential = Credential::current(ours.as_ref(), asked, defaults.rotate_after, clock::now());
    Ok(OwnSecret {
        data: ours.and_then(|secret| secret.data),
        credential,
    })
}

async fn read(secrets: &Secrets, namespace: &str, name: &str) -> Result<Option<Secret>, Error> {
    secrets
        .read(namespace, name)
        .await
        .context(ReadSecretSnafu { namespace, name })
}

fn not_found(namespace: &str, name: &str) -> Problem {
    Problem::SecretNotFound {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}
