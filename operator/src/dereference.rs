//! Step 1: reads what a feed refers to. Absence is not an error here: it becomes a condition.

use std::fmt;

use contract::{config::ProcessorConfig, symbol::Symbol};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Pod, Secret},
    },
};
use kube::{Api, Client, ResourceExt as _, api::ListParams, core::DeserializeGuard};
use rand::{
    TryRngCore as _,
    distr::{Alphanumeric, SampleString as _},
    rngs::OsRng,
};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use snafu::{ResultExt, Snafu};

use crate::{
    api::{Connection, StockFeed},
    build::config::CONFIG_FILE,
    clock,
    connection::{BrokerConnection, Data, DatabaseConnection, Problem},
    context::Defaults,
    labels::{self, Component},
    rollout::Rollout,
    token::ApiToken,
};

/// How long generated passwords are: 190 bits.
const PASSWORD_LENGTH: usize = 32;

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
    /// Its password, or a new one. A password is kept as long as its Secret is: a new one would cut off whoever uses it.
    pub password: SecretString,
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
    #[snafu(display("failed to look for feeds that share the API key"))]
    ListFeeds {
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

/// Reads everything a feed refers to.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn dereference(
    client: &Client,
    defaults: &Defaults,
    feed: &StockFeed,
) -> Result<References, Error> {
    let namespace = feed.namespace().unwrap_or_default();
    let name = feed.name_any();
    let own = |secret: String| own_secret(client, feed, secret);
    Ok(References {
        api_key: api_key(client, &namespace, feed).await?,
        broker: broker(client, defaults, &namespace, feed.spec.broker.as_ref()).await?,
        database: database(client, defaults, &namespace, feed.spec.database.as_ref()).await?,
        broker_secret: own(labels::broker_secret(&name)).await?,
        writer_secret: own(labels::database_secret(&name)).await?,
        reader_secret: own(labels::reader_secret(&name)).await?,
        token: token(client, feed).await?,
        sharing: sharing(client, &namespace, feed).await?,
        former_symbols: former_symbols(client, &namespace, &name).await?,
        producer: rollout(client, &namespace, &name, Component::Producer).await?,
        processor: rollout(client, &namespace, &name, Component::Processor).await?,
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
    let ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    Ok(pods.items.into_iter().filter(|pod| !ended(pod)).collect())
}

async fn rollout(
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
    client: &Client,
    defaults: &Defaults,
    namespace: &str,
    own: Option<&Connection>,
) -> Result<Result<BrokerConnection, Problem>, Error> {
    let default = defaults.broker_secret.as_ref().map(SecretName::parts);
    let found = connection(client, namespace, own, default).await?;
    Ok(found.and_then(|(secret, data)| BrokerConnection::read(&secret, &data)))
}

/// The database that a feed uses.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn database(
    client: &Client,
    defaults: &Defaults,
    namespace: &str,
    own: Option<&Connection>,
) -> Result<Result<DatabaseConnection, Problem>, Error> {
    let default = defaults.database_secret.as_ref().map(SecretName::parts);
    let found = connection(client, namespace, own, default).await?;
    Ok(found.and_then(|(secret, data)| DatabaseConnection::read(&secret, &data)))
}

/// A Secret of any namespace: `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    namespace: String,
    name: String,
}

impl SecretName {
    fn parts(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
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

async fn connection(
    client: &Client,
    namespace: &str,
    own: Option<&Connection>,
    default: Option<(&str, &str)>,
) -> Result<Result<(String, Data), Problem>, Error> {
    let own = own.map(|connection| (namespace, connection.secret_ref.name.as_str()));
    let Some((namespace, name)) = own.or(default) else {
        return Ok(Err(Problem::NotConfigured));
    };
    let secret = read(client, namespace, name).await?;
    Ok(match secret {
        Some(secret) => Ok((format!("{namespace}/{name}"), secret.data.unwrap_or_default())),
        None => Err(not_found(namespace, name)),
    })
}

async fn api_key(
    client: &Client,
    namespace: &str,
    feed: &StockFeed,
) -> Result<Result<String, Problem>, Error> {
    let Some(reference) = feed.spec.source.api_key() else {
        return Ok(Ok(String::new()));
    };
    let Some(secret) = read(client, namespace, &reference.name).await? else {
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
async fn sharing(client: &Client, namespace: &str, feed: &StockFeed) -> Result<u64, Error> {
    let Some(reference) = feed.spec.source.api_key() else {
        return Ok(1);
    };
    // One that cannot be read makes no calls either.
    let feeds = Api::<DeserializeGuard<StockFeed>>::namespaced(client.clone(), namespace)
        .list(&ListParams::default())
        .await
        .context(ListFeedsSnafu)?;
    let others = feeds.items.iter().filter_map(|guard| guard.0.as_ref().ok());
    let others = others.filter(|other| {
        other.name_any() != feed.name_any()
            && other.spec.source.api_key() == Some(reference)
            && !other.spec.suspend
            && other.metadata.deletion_timestamp.is_none()
    });
    Ok(1 + others.count() as u64)
}

/// The symbols in the processors' configuration, as it is in the cluster.
async fn former_symbols(client: &Client, namespace: &str, feed: &str) -> Result<Vec<Symbol>, Error> {
    let component = Component::Processor;
    let map = Api::<ConfigMap>::namespaced(client.clone(), namespace)
        .get_opt(&component.object_name(feed))
        .await
        .context(ReadWorkerSnafu {
            component: component.name(),
        })?;
    let data = map.and_then(|map| map.data).unwrap_or_default();
    // One that cannot be read is written anew.
    let config = data
        .get(CONFIG_FILE)
        .and_then(|text| ProcessorConfig::parse(text).ok());
    Ok(config.map(|config| config.symbols).unwrap_or_default())
}

async fn token(client: &Client, feed: &StockFeed) -> Result<ApiToken, Error> {
    let namespace = feed.namespace().unwrap_or_default();
    let secret = read(client, &namespace, &labels::token_secret(&feed.name_any())).await?;
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

async fn own_secret(client: &Client, feed: &StockFeed, name: String) -> Result<OwnSecret, Error> {
    let namespace = feed.namespace().unwrap_or_default();
    let secret = read(client, &namespace, &name).await?;
    // A Secret of the same name that is somebody else's is refused when it comes to applying; its password is not ours.
    let uid = feed.uid().unwrap_or_default();
    let ours = secret.filter(|secret| secret.owner_references().iter().any(|owner| owner.uid == uid));
    let data = ours.and_then(|secret| secret.data);
    let existing = data
        .as_ref()
        .and_then(|data| data.get("password"))
        .and_then(|ByteString(bytes)| String::from_utf8(bytes.clone()).ok())
        .filter(|password| !password.is_empty());
    let password =
        existing.unwrap_or_else(|| Alphanumeric.sample_string(&mut OsRng.unwrap_err(), PASSWORD_LENGTH));
    Ok(OwnSecret {
        data,
        password: password.into(),
    })
}

async fn read(client: &Client, namespace: &str, name: &str) -> Result<Option<Secret>, Error> {
    Api::<Secret>::namespaced(client.clone(), namespace)
        .get_opt(name)
        .await
        .context(ReadSecretSnafu { namespace, name })
}

fn not_found(namespace: &str, name: &str) -> Problem {
    Problem::SecretNotFound {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}
