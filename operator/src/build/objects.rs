//! Everything but the Deployments: `ServiceAccounts`, Secrets, `ConfigMaps`, Services.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret, Service, ServiceAccount, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use secrecy::{ExposeSecret as _, SecretString};

use super::config;
use crate::{
    connection::{Data, DatabaseConnection},
    labels::{self, Component},
    token::ApiToken,
    validate::ValidatedFeed,
};

const COMPONENTS: [Component; 2] = [Component::Producer, Component::Processor];

/// Metadata of a child.
pub(super) fn metadata(feed: &ValidatedFeed, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(feed.name.namespace().to_owned()),
        labels: Some(labels),
        owner_references: Some(vec![feed.owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn component_metadata(feed: &ValidatedFeed, component: Component) -> ObjectMeta {
    let name = feed.name.name();
    let labels = labels::of_component(name, component);
    metadata(feed, component.object_name(name), labels)
}

pub(super) fn service_accounts(feed: &ValidatedFeed) -> Vec<ServiceAccount> {
    let account = |component| ServiceAccount {
        metadata: component_metadata(feed, component),
        // Workers never speak to the API server.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    COMPONENTS.map(account).to_vec()
}

/// None before it is known which queues there are: what is there for workers that run stays as it is.
pub(super) fn config_maps(feed: &ValidatedFeed) -> Vec<ConfigMap> {
    let (Some(newest), Some(generations)) = (feed.published(), &feed.generations) else {
        return Vec::new();
    };
    let map = |component, rendered| ConfigMap {
        metadata: component_metadata(feed, component),
        data: Some([(config::CONFIG_FILE.to_owned(), rendered)].into()),
        ..ConfigMap::default()
    };
    let mut processor = map(
        Component::Processor,
        config::processor(feed, generations.first()).render(),
    );
    // Not on the feed itself, where a user might take it for his own.
    processor.metadata.annotations = Some([(labels::LAST_VALID_SPEC.to_owned(), feed.spec.clone())].into());
    vec![
        map(Component::Producer, config::producer(feed, newest).render()),
        processor,
    ]
}

pub(super) fn services(feed: &ValidatedFeed) -> Vec<Service> {
    let service = |component: Component| Service {
        metadata: component_metadata(feed, component),
        spec: Some(ServiceSpec {
            selector: Some(labels::selector(feed.name.name(), component)),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: i32::from(component.port()),
                target_port: Some(IntOrString::String("http".to_owned())),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            // A producer whose source does not answer is not ready, and is the one that can say why.
            publish_not_ready_addresses: (component == Component::Producer).then_some(true),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    COMPONENTS.map(service).to_vec()
}

/// The Secrets whose content is known: those of connections that are there.
pub(super) fn secrets(feed: &ValidatedFeed) -> Vec<Secret> {
    let name = feed.name.name();
    let secret = |name: String, data: Data| Secret {
        metadata: metadata(feed, name, labels::common(feed.name.name())),
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    let broker = feed
        .broker
        .is_ok()
        .then(|| broker_data(feed))
        .flatten()
        .map(|data| secret(labels::broker_secret(name), data));
    let writer = feed
        .database
        .is_ok()
        .then(|| writer_data(feed))
        .flatten()
        .map(|data| secret(labels::database_secret(name), data));
    let reader = feed.database.as_ref().ok().map(|connection| {
        let password = &feed.reader_secret.password;
        let data = database_data(connection, feed.name.reader_role(), password);
        secret(labels::reader_secret(name), data)
    });
    let token = Secret {
        metadata: ObjectMeta {
            annotations: Some([(labels::TOKEN_MADE.to_owned(), feed.token.made.to_string())].into()),
            ..metadata(feed, labels::token_secret(name), labels::common(name))
        },
        type_: Some("Opaque".to_owned()),
        data: Some(token_data(&feed.token)),
        ..Secret::default()
    };
    [broker, writer, reader, Some(token)]
        .into_iter()
        .flatten()
        .collect()
}

fn token_data(token: &ApiToken) -> Data {
    let mut data = vec![("token", token.token.expose_secret().to_owned())];
    if let Some(previous) = &token.previous {
        data.push(("previous", previous.expose_secret().to_owned()));
    }
    encoded(data)
}

/// What the feed's broker Secret holds: from the connection, or what it held before the connection was lost.
pub(super) fn broker_data(feed: &ValidatedFeed) -> Option<Data> {
    let Ok(connection) = &feed.broker else {
        return feed.broker_secret.data.clone();
    };
    let mut data = vec![
        ("host", connection.host.clone()),
        ("port", connection.port.to_string()),
        ("username", feed.name.broker_user()),
        ("password", feed.broker_secret.password.expose_secret().to_owned()),
        ("vhost", connection.vhost.clone()),
    ];
    if connection.tls {
        data.push(("tls", "true".to_owned()));
    }
    if let Some(authority) = &connection.authority {
        data.push(("ca.crt", authority.clone()));
    }
    Some(encoded(data))
}

/// What the feed's database Secret holds: from the connection, or what it held before the connection was lost.
pub(super) fn writer_data(feed: &ValidatedFeed) -> Option<Data> {
    match &feed.database {
        Ok(connection) => {
            let password = &feed.writer_secret.password;
            Some(database_data(connection, feed.name.writer_role(), password))
        }
        Err(_) => feed.writer_secret.data.clone(),
    }
}

fn database_data(connection: &DatabaseConnection, role: String, password: &SecretString) -> Data {
    let mut data = vec![
        ("host", connection.host.clone()),
        ("port", connection.port.to_string()),
        ("dbname", connection.dbname.clone()),
        ("username", role),
        ("password", password.expose_secret().to_owned()),
    ];
    if let Some(mode) = &connection.sslmode {
        data.push(("sslmode", mode.clone()));
    }
    if let Some(authority) = &connection.authority {
        data.push(("ca.crt", authority.clone()));
    }
    encoded(data)
}

fn encoded(pairs: Vec<(&str, String)>) -> Data {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
        .collect()
}
