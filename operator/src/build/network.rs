//! `NetworkPolicies`: a feed's pods speak with whom they have to, and with nobody else.
//!
//! Policies add up: one forbids everything to every pod of the feed, and one for each worker allows what that worker needs.
//! Ports are those of pods, since that is where policies are enforced. A policy cannot name a host: what is known of one decides
//! how narrow its rule is (see [`destination`]).

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{Optional, objects};
use crate::{
    connection::Data,
    isolation::{Isolation, Labels, NAMESPACE_NAME, NameServers, NetworkClients},
    labels::{self, Component},
    validate::{SourceKind, ValidatedFeed},
};

/// Where name servers listen: 53, and 5353 in pods that may not open a port below 1024 (`OpenShift`).
const DNS: [(&str, u16); 4] = [("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353)];

/// The feed's policies, those that allow first: a running feed is never cut off meanwhile.
pub(super) fn policies(feed: &ValidatedFeed) -> Optional<NetworkPolicy> {
    let name = feed.name.name();
    let Some(isolation) = &feed.isolation else {
        return Optional {
            wanted: Vec::new(),
            unwanted: vec![
                Component::Producer.object_name(name),
                Component::Processor.object_name(name),
                labels::default_deny(name),
            ],
        };
    };
    Optional {
        wanted: vec![
            worker(feed, isolation, Component::Producer),
            worker(feed, isolation, Component::Processor),
            default_deny(feed),
        ],
        unwanted: Vec::new(),
    }
}

/// Forbids everything to every pod of the feed. The label of the manager keeps it off the chart's own pods, which have the same
/// name and, in a release called like the feed, the same instance.
fn default_deny(feed: &ValidatedFeed) -> NetworkPolicy {
    let labels = labels::common(feed.name.name());
    NetworkPolicy {
        metadata: objects::metadata(feed, labels::default_deny(feed.name.name()), labels.clone()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(labels)),
            policy_types: Some(both()),
            ..NetworkPolicySpec::default()
        }),
    }
}

fn worker(feed: &ValidatedFeed, isolation: &Isolation, component: Component) -> NetworkPolicy {
    let labels = labels::of_component(feed.name.name(), component);
    let name = component.object_name(feed.name.name());
    NetworkPolicy {
        metadata: objects::metadata(feed, name, labels.clone()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(labels)),
            policy_types: Some(both()),
            ingress: Some(vec![ingress(isolation, component)]),
            egress: Some(egress(feed, isolation, component)),
        }),
    }
}

/// The worker's one port, for the operator, the dashboard and the feed's clients. The node's own probes are never held back.
fn ingress(isolation: &Isolation, component: Component) -> NetworkPolicyIngressRule {
    let beside_the_operator = |labels: &Labels| NetworkPolicyPeer {
        // Without a namespace it would mean pods of the feed's own.
        namespace_selector: Some(
            isolation
                .operator
                .namespace
                .as_deref()
                .map_or_else(LabelSelector::default, named),
        ),
        pod_selector: Some(selector(labels.0.clone())),
        ip_block: None,
    };
    let mut from = vec![beside_the_operator(&isolation.operator.labels)];
    from.extend(isolation.dashboard.as_ref().map(beside_the_operator));
    let from = match isolation.clients {
        NetworkClients::None => Some(from),
        NetworkClients::SameNamespace => {
            from.push(same_namespace());
            Some(from)
        }
        NetworkClients::Any => None,
    };
    NetworkPolicyIngressRule {
        from,
        ports: Some(vec![port("TCP", component.port())]),
    }
}

/// Name servers, broker and database; for the producer also the source; and the collector of traces, if there is one.
fn egress(feed: &ValidatedFeed, isolation: &Isolation, component: Component) -> Vec<NetworkPolicyEgressRule> {
    let name_servers = match &isolation.name_servers {
        NameServers::Any => None,
        NameServers::Pods { namespace, labels } => Some(vec![NetworkPolicyPeer {
            namespace_selector: Some(named(namespace)),
            pod_selector: Some(selector(labels.0.clone())),
            ip_block: None,
        }]),
    };
    let mut rules = vec![NetworkPolicyEgressRule {
        to: name_servers,
        ports: Some(DNS.map(|(protocol, number)| port(protocol, number)).to_vec()),
    }];
    let servers = [objects::broker_data(feed), objects::writer_data(feed)];
    rules.extend(servers.iter().flatten().filter_map(server));
    if component == Component::Producer {
        rules.extend(source(&feed.source.kind));
    }
    rules.extend(
        feed.otlp_endpoint
            .as_ref()
            .and_then(|endpoint| http_server(&endpoint.to_string())),
    );
    rules
}

/// A server, as the Secret of the feed has it.
fn server(data: &Data) -> Option<NetworkPolicyEgressRule> {
    let text = |key: &str| std::str::from_utf8(&data.get(key)?.0).ok();
    let number = text("port")?.parse().ok()?;
    Some(NetworkPolicyEgressRule {
        to: destination(text("host")?),
        ports: Some(vec![port("TCP", number)]),
    })
}

/// The source.
fn source(kind: &SourceKind) -> Option<NetworkPolicyEgressRule> {
    http_server(match kind {
        SourceKind::Fmp { base_url, .. } => base_url,
        SourceKind::Http(http) => &http.url,
    })
}

/// What answers at a URL. A Service of HTTP often leads to another port of its pods, which its name does not tell: there the namespace is
/// the limit.
fn http_server(text: &str) -> Option<NetworkPolicyEgressRule> {
    let url: reqwest::Url = text.parse().ok()?;
    let to = destination(url.host_str()?);
    let ports = match to {
        Some(_) if url.host_str()?.parse::<IpAddr>().is_err() => None,
        _ => Some(vec![port("TCP", url.port_or_known_default()?)]),
    };
    Some(NetworkPolicyEgressRule { to, ports })
}

/// What is known of a host: an address is that address, the name of a Service is the pods of its namespace, and any other name
/// may be anything (`None`): there the port is the limit.
fn destination(host: &str) -> Option<Vec<NetworkPolicyPeer>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        return Some(vec![NetworkPolicyPeer {
            ip_block: Some(IPBlock {
                cidr: format!("{address}/{bits}"),
                except: None,
            }),
            ..NetworkPolicyPeer::default()
        }]);
    }
    let host = host.trim_end_matches('.');
    if !host.contains('.') {
        return Some(vec![same_namespace()]);
    }
    let service = host
        .strip_suffix(".svc")
        .or_else(|| host.strip_suffix(".svc.cluster.local"))?;
    let (_, namespace) = service.rsplit_once('.')?;
    Some(vec![NetworkPolicyPeer {
        namespace_selector: Some(named(namespace)),
        ..NetworkPolicyPeer::default()
    }])
}

fn same_namespace() -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(LabelSelector::default()),
        ..NetworkPolicyPeer::default()
    }
}

/// The namespace of this name.
fn named(namespace: &str) -> LabelSelector {
    selector([(NAMESPACE_NAME.to_owned(), namespace.to_owned())].into())
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    }
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(i32::from(number))),
        end_port: None,
    }
}

fn both() -> Vec<String> {
    ["Ingress", "Egress"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests;
