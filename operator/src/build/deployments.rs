//! The Deployments of the workers.

use std::collections::BTreeMap;

use certificates::{AUTHORITY, CERTIFICATE, KEY};
use contract::config::QueueGeneration;
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
            EnvVarSource, HTTPGetAction, KeyToPath, ObjectFieldSelector, PersistentVolumeClaimVolumeSource,
            PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile, SecretVolumeSource,
            SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use sha2::{Digest as _, Sha256};

use super::{config, objects, template};
use crate::{
    connection::Data,
    dereference::hex,
    labels::{self, Component},
    validate::ValidatedFeed,
};

/// The user and group of our images.
const USER: i64 = 65_532;
/// Files of a Secret: read by owner and group only.
const SECRET_MODE: i32 = 0o440;

/// What differs between the workers.
struct Worker {
    component: Component,
    image: String,
    replicas: i32,
    strategy: DeploymentStrategy,
    /// How long it may take to finish what it holds.
    grace_seconds: i64,
    environment: Vec<EnvVar>,
    secrets: Vec<Volume>,
    /// How its pods are spread over nodes.
    spread: Option<Vec<TopologySpreadConstraint>>,
    /// What it writes to, and where that is mounted.
    writable: Option<(Volume, &'static str)>,
    hash: String,
    /// The generation of queues that it publishes to, or consumes.
    generation: u32,
}

/// The producer. One, and never two at once: each run numbers its messages from one and would poll the source again.
pub(super) fn producer(
    feed: &ValidatedFeed,
    queues: QueueGeneration,
    broker: &Data,
    api_key: &str,
) -> Deployment {
    // The database's credentials are no part of the hash: they are read for every connection, and there are few.
    let rendered = config::producer_at_start(feed, queues).render();
    let worker = Worker {
        component: Component::Producer,
        image: feed.images.producer.clone(),
        replicas: i32::from(!feed.suspend),
        strategy: DeploymentStrategy {
            type_: Some("Recreate".to_owned()),
            rolling_update: None,
        },
        grace_seconds: 30,
        environment: Vec::new(),
        secrets: producer_secrets(feed),
        spread: None,
        writable: Some((spool_volume(feed), config::SPOOL_DIRECTORY)),
        hash: hash(&rendered, &[broker], api_key),
        generation: queues.generation,
    };
    deployment(feed, worker)
}

/// Where a worker sends traces, and what they say that it is of; nothing where there are none.
fn tracing_environment(feed: &ValidatedFeed) -> Vec<EnvVar> {
    let Some(endpoint) = &feed.otlp_endpoint else {
        return Vec::new();
    };
    let (namespace, name) = (feed.name.namespace(), feed.name.name());
    let variable = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        ..EnvVar::default()
    };
    vec![
        variable("STOCKFEED_OTLP_ENDPOINT", endpoint.to_string()),
        variable(
            "OTEL_RESOURCE_ATTRIBUTES",
            format!("k8s.namespace.name={namespace},stockfeed.feed={name}"),
        ),
    ]
}

/// The processors. A rolling update starts the new one before the old one ends: every processor consumes every partition,
/// and the broker hands a partition over when its consumer leaves, so that no partition is ever without one.
pub(super) fn processor(
    feed: &ValidatedFeed,
    queues: QueueGeneration,
    broker: &Data,
    database: &Data,
) -> Deployment {
    let rendered = config::processor(feed, queues).render();
    let instance = EnvVar {
        name: "STOCKFEED_INSTANCE".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "metadata.name".to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let worker = Worker {
        component: Component::Processor,
        image: feed.images.processor.clone(),
        replicas: i32::from(feed.replicas),
        strategy: DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: Some(IntOrString::Int(1)),
                max_unavailable: Some(IntOrString::Int(0)),
            }),
        },
        grace_seconds: 60,
        environment: vec![instance],
        secrets: vec![
            secret_volume("broker", labels::broker_secret(feed.name.name()), None),
            secret_volume("database", labels::database_secret(feed.name.name()), None),
        ],
        spread: Some(vec![template::over_nodes(labels::selector(
            feed.name.name(),
            Component::Processor,
        ))]),
        writable: None,
        hash: hash(&rendered, &[broker, database], ""),
        generation: queues.generation,
    };
    deployment(feed, worker)
}

fn producer_secrets(feed: &ValidatedFeed) -> Vec<Volume> {
    let name = feed.name.name();
    let mut volumes = vec![
        secret_volume("broker", labels::broker_secret(name), None),
        // Calls to the source are counted there.
        secret_volume("database", labels::database_secret(name), None),
        secret_volume("token", labels::token_secret(name), None),
    ];
    if let Some(secret) = &feed.source.secret {
        volumes.push(secret_volume("source", secret.name.clone(), Some(&secret.key)));
    }
    volumes
}

/// What waits for the broker, on a claim of the user's, or with the pod. The producer stops fetching long before the limit.
fn spool_volume(feed: &ValidatedFeed) -> Volume {
    let claim = feed
        .spool_claim
        .as_ref()
        .map(|name| PersistentVolumeClaimVolumeSource {
            claim_name: name.clone(),
            read_only: None,
        });
    let with_pod = EmptyDirVolumeSource {
        size_limit: Some(Quantity(format!("{}Mi", (feed.spool_bytes >> 20) * 3 + 64))),
        medium: None,
    };
    Volume {
        name: "spool".to_owned(),
        empty_dir: claim.is_none().then_some(with_pod),
        persistent_volume_claim: claim,
        ..Volume::default()
    }
}

fn deployment(feed: &ValidatedFeed, worker: Worker) -> Deployment {
    let name = feed.name.name();
    let labels = labels::of_component(name, worker.component);
    let object_name = worker.component.object_name(name);
    let component = worker.component;
    let mut annotations = BTreeMap::from([
        (labels::CONFIG_HASH.to_owned(), worker.hash.clone()),
        (labels::QUEUE_GENERATION.to_owned(), worker.generation.to_string()),
    ]);
    // Another value makes another template, and so other pods.
    let asked = feed.restarts.of_component(component);
    annotations.extend(asked.map(|asked| (component.restart_annotation().to_owned(), asked.to_owned())));
    let selector = labels::selector(name, component);
    let strategy = worker.strategy.clone();
    let replicas = worker.replicas;
    let mut pod_template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels.clone()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(feed, worker, object_name.clone())),
    };
    template::apply(feed.overrides.of(component), &selector, &mut pod_template);
    Deployment {
        metadata: objects::metadata(feed, object_name, labels),
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            revision_history_limit: Some(3),
            progress_deadline_seconds: Some(300),
            selector: LabelSelector {
                match_labels: Some(selector),
                ..LabelSelector::default()
            },
            strategy: Some(strategy),
            template: pod_template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod(feed: &ValidatedFeed, worker: Worker, object_name: String) -> PodSpec {
    let mount = |volume: &Volume| VolumeMount {
        name: volume.name.clone(),
        mount_path: format!("/etc/stockfeed/{}", volume.name),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let mut volumes = vec![Volume {
        name: "config".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: object_name.clone(),
            default_mode: Some(0o444),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }];
    volumes.extend(worker.secrets);
    let mut mounts: Vec<VolumeMount> = volumes.iter().map(mount).collect();
    if let Some((volume, path)) = worker.writable {
        mounts.push(VolumeMount {
            name: volume.name.clone(),
            mount_path: path.to_owned(),
            ..VolumeMount::default()
        });
        volumes.push(volume);
    }
    let mut environment = worker.environment;
    environment.extend(tracing_environment(feed));
    let container = Container {
        name: worker.component.name().to_owned(),
        image: Some(worker.image),
        image_pull_policy: Some(feed.images.pull_policy.clone()),
        args: Some(vec![
            "--config".to_owned(),
            format!("{}/{}", config::CONFIG_DIRECTORY, config::CONFIG_FILE),
        ]),
        env: (!environment.is_empty()).then_some(environment),
        ports: Some(vec![ContainerPort {
            name: Some("http".to_owned()),
            container_port: i32::from(worker.component.port()),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(template::amounts(
            feed.overrides.of(worker.component),
            worker.component,
        )),
        startup_probe: Some(probe("/health", 1, 60)),
        liveness_probe: Some(probe("/health", 10, 3)),
        readiness_probe: Some(probe("/ready", 3, 2)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    PodSpec {
        service_account_name: Some(object_name),
        automount_service_account_token: Some(false),
        // A namespace's Services as environment variables are of no use here, and there may be thousands.
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(worker.grace_seconds),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        topology_spread_constraints: worker.spread,
        containers: vec![container],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// A Secret as a folder: all its keys, or one of them under our own file name.
fn secret_volume(name: &str, secret: String, key: Option<&str>) -> Volume {
    let item = |key: &str| KeyToPath {
        key: key.to_owned(),
        path: config::API_KEY_FILE.to_owned(),
        mode: None,
    };
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(SECRET_MODE),
            items: key.map(|key| vec![item(key)]),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failures),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

/// A hash of everything that a worker reads once, when it starts. Passwords of ours have 190 random bits, so their hash
/// gives nothing away. Certificates are no part of it: they are renewed every few weeks, are read for each new connection, and a
/// connection that stands outlives its certificate.
fn hash(rendered: &str, secrets: &[&Data], api_key: &str) -> String {
    let mut digest = Sha256::new();
    let mut part = |bytes: &[u8]| {
        digest.update(bytes.len().to_be_bytes());
        digest.update(bytes);
    };
    part(rendered.as_bytes());
    part(api_key.as_bytes());
    for data in secrets {
        let read_once = data
            .iter()
            .filter(|(key, _)| ![AUTHORITY, CERTIFICATE, KEY].contains(&key.as_str()));
        for (key, ByteString(value)) in read_once {
            part(key.as_bytes());
            part(value);
        }
    }
    hex(&digest.finalize()[..16])
}
