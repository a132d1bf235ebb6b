//! Everything but the Deployments: `ServiceAccounts`, Secrets, `ConfigMaps`, Services.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret, Service, ServiceAccount, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::{config, secrets};
use crate::{
    connection::Data,
    dereference::OwnSecret,
    labels::{self, Component},
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
    let secret = |name: String, data: Data, annotations| Secret {
        metadata: ObjectMeta {
            annotations: Some(annotations),
            ..metadata(feed, name, labels::common(feed.name.name()))
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    let broker = feed.broker.is_ok().then(|| broker_data(feed)).flatten();
    let broker = broker.map(|data| secret(labels::broker_secret(name), data, origin(&feed.broker_secret)));
    let writer = feed.database.is_ok().then(|| writer_data(feed)).flatten();
    let writer = writer.map(|data| secret(labels::database_secret(name), data, origin(&feed.writer_secret)));
    let reader = feed.database.as_ref().ok().map(|connection| {
        let password = &feed.reader_secret.credential.password;
        let client = connection.worker_client.as_ref();
        let data = secrets::database(connection, &feed.name.reader_role(), password, client);
        secret(labels::reader_secret(name), data, origin(&feed.reader_secret))
    });
    let made = (labels::TOKEN_MADE.to_owned(), feed.token.made.to_string());
    let token = secret(
        labels::token_secret(name),
        secrets::token(&feed.token),
        [made].into(),
    );
    [broker, writer, reader, Some(token)]
        .into_iter()
        .flatten()
        .collect()
}

/// When a password was made, and what for.
fn origin(own: &OwnSecret) -> BTreeMap<String, String> {
    let credential = &own.credential;
    let made = (labels::PASSWORD_MADE.to_owned(), credential.made.to_string());
    let rotation = credential
        .rotation
        .clone()
        .map(|rotation| (labels::ROTATION.to_owned(), rotation));
    [made].into_iter().chain(rotation).collect()
}

/// What the feed's broker Secret holds: from the connection, or what it held before the connection was lost.
pub(super) fn broker_data(feed: &ValidatedFeed) -> Option<Data> {
    match &feed.broker {
        Ok(connection) => {
            let password = &feed.broker_secret.credential.password;
            Some(secrets::broker(connection, &feed.name.broker_user(), password))
        }
        Err(_) => feed.broker_secret.data.clone(),
    }
}

/// What the feed's database Secret holds: from the connection, or what it held before the connection was lost.
pub(super) fn writer_data(feed: &ValidatedFeed) -> Option<Data> {
    match &feed.database {
        Ok(connection) => {
            let password = &feed.writer_secret.credential.password;
            let client = connection.worker_client.as_ref();
            let role = feed.name.writer_role();
            Some(secrets::database(connection, &role, password, client))
        }
        Err(_) => feed.writer_secret.data.clone(),
    }
}
