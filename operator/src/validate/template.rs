//! What of a worker's pod is other, checked: what comes out the API server takes.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{LocalObjectReference, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};
use snafu::{OptionExt as _, Snafu, ensure};

use crate::{
    api::template::{Amounts, PodTemplate, Resources, Spread, TaintEffect, TolerationOperator},
    labels::{self, Component},
    resources::{self, thousandths},
};

/// What is other in a worker's pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// The image.
    pub image: Option<String>,
    /// Secrets to pull it with.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Amounts requested, by resource.
    pub requests: BTreeMap<&'static str, Quantity>,
    /// Amounts at most, by resource.
    pub limits: BTreeMap<&'static str, Quantity>,
    /// More labels, none of them the operator's.
    pub labels: BTreeMap<String, String>,
    /// More annotations, none of them the operator's.
    pub annotations: BTreeMap<String, String>,
    /// Labels of nodes.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    pub tolerations: Vec<Toleration>,
    /// How pods are spread; none: as the operator does.
    pub spread: Vec<Spread>,
    /// The priority class.
    pub priority_class: Option<String>,
}

/// Why a pod cannot be made as it is asked for.
#[derive(Debug, PartialEq, Eq, Snafu)]
pub enum Error {
    /// A label or annotation that the operator needs.
    #[snafu(display("{field}: {key} is set by the operator and cannot be changed; remove it"))]
    Reserved {
        /// Where.
        field: String,
        /// Which.
        key: String,
    },
    /// No name of a label or annotation.
    #[snafu(display(
        "{field}: {key:?} is no key; it must be a name of at most 63 letters, digits, '.', '_' and '-', after a domain and '/' or not"
    ))]
    Key {
        /// Where.
        field: String,
        /// What was given.
        key: String,
    },
    /// No value of a label.
    #[snafu(display(
        "{field}: the value of {key} is no label's value; it must be at most 63 letters, digits, '.', '_' and '-'"
    ))]
    Value {
        /// Where.
        field: String,
        /// Whose value.
        key: String,
    },
    /// No image.
    #[snafu(display(
        "{field} is no image; write repository:tag or repository@sha256: and 64 hexadecimal digits"
    ))]
    Image {
        /// Where.
        field: String,
    },
    /// No name of an object.
    #[snafu(display("{field}: {name:?} is no name of an object"))]
    Name {
        /// Where.
        field: String,
        /// What was given.
        name: String,
    },
    /// No amount.
    #[snafu(display(
        "{field} is no amount; write a number, with m, k, M, G, T, Ki, Mi, Gi or Ti after it or not"
    ))]
    Amount {
        /// Where.
        field: String,
    },
    /// More is requested than may be used.
    #[snafu(display(
        "{field}.requests.{resource} is {request}, more than the limit of {limit}; raise limits.{resource} too"
    ))]
    OverLimit {
        /// Where.
        field: String,
        /// Of what.
        resource: &'static str,
        /// What is requested.
        request: String,
        /// What may be used.
        limit: String,
    },
    /// A toleration that contradicts itself.
    #[snafu(display("{field}: {problem}"))]
    Toleration {
        /// Where.
        field: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Pods cannot differ by less than one.
    #[snafu(display("{field}.maxSkew is {skew}, at least 1 is needed"))]
    Skew {
        /// Where.
        field: String,
        /// What was asked.
        skew: i32,
    },
}

/// Checks what is other in a worker's pod.
///
/// # Errors
/// When the API server would refuse the pod, or the operator lose sight of it; the message names the field.
pub fn overrides(component: Component, template: Option<&PodTemplate>) -> Result<Overrides, Error> {
    let Some(template) = template else {
        return Ok(Overrides::default());
    };
    // Taken apart completely: a field that nobody checks does not compile.
    let PodTemplate {
        image,
        image_pull_secrets,
        resources,
        labels,
        annotations,
        node_selector,
        tolerations,
        topology_spread_constraints,
        priority_class_name,
    } = template;
    let field = |name: &str| format!("spec.template.{}.{name}", component.name());
    for key in labels.keys() {
        let reserved = labels::is_reserved(key);
        ensure!(
            !reserved,
            ReservedSnafu {
                field: field("labels"),
                key
            }
        );
    }
    for key in annotations.keys() {
        let reserved = labels::is_ours(key);
        ensure!(
            !reserved,
            ReservedSnafu {
                field: field("annotations"),
                key
            }
        );
        ensure!(
            is_key(key),
            KeySnafu {
                field: field("annotations"),
                key
            }
        );
    }
    for (name, map) in [("labels", labels), ("nodeSelector", node_selector)] {
        for (key, value) in map {
            ensure!(
                is_key(key),
                KeySnafu {
                    field: field(name),
                    key
                }
            );
            ensure!(
                is_value(value),
                ValueSnafu {
                    field: field(name),
                    key
                }
            );
        }
    }
    if let Some(image) = image {
        ensure!(
            is_image(image),
            ImageSnafu {
                field: field("image")
            }
        );
    }
    let names = image_pull_secrets
        .iter()
        .map(|secret| ("imagePullSecrets", &secret.name))
        .chain(priority_class_name.iter().map(|name| ("priorityClassName", name)));
    for (place, name) in names {
        ensure!(
            is_object_name(name),
            NameSnafu {
                field: field(place),
                name
            }
        );
    }
    for spread in topology_spread_constraints {
        let (place, skew) = (field("topologySpreadConstraints"), spread.max_skew);
        ensure!(skew >= 1, SkewSnafu { field: place, skew });
        let key = &spread.topology_key;
        let place = field("topologySpreadConstraints.topologyKey");
        ensure!(is_key(key), KeySnafu { field: place, key });
    }
    let (requests, limits) = amounts(component, resources.as_ref(), &field("resources"))?;
    Ok(Overrides {
        image: image.clone(),
        image_pull_secrets: image_pull_secrets
            .iter()
            .map(|secret| LocalObjectReference {
                name: secret.name.clone(),
            })
            .collect(),
        requests,
        limits,
        labels: labels.clone(),
        annotations: annotations.clone(),
        node_selector: node_selector.clone(),
        tolerations: tolerations
            .iter()
            .map(|toleration| tolerated(toleration, &field("tolerations")))
            .collect::<Result<_, _>>()?,
        spread: topology_spread_constraints.clone(),
        priority_class: priority_class_name.clone(),
    })
}

fn tolerated(toleration: &crate::api::template::Toleration, field: &str) -> Result<Toleration, Error> {
    let exists = toleration.operator == TolerationOperator::Exists;
    let problem = match toleration {
        one if one.key.is_none() && !exists => Some("one without a key needs operator Exists"),
        one if one.value.is_some() && exists => Some("one with operator Exists has no value"),
        one if one.toleration_seconds.is_some() && one.effect != Some(TaintEffect::NoExecute) => {
            Some("tolerationSeconds needs effect NoExecute")
        }
        _ => None,
    };
    if let Some(problem) = problem {
        return TolerationSnafu { field, problem }.fail();
    }
    if let Some(key) = &toleration.key {
        ensure!(is_key(key), KeySnafu { field, key });
    }
    if let Some(value) = &toleration.value {
        let key = toleration.key.clone().unwrap_or_default();
        ensure!(is_value(value), ValueSnafu { field, key });
    }
    Ok(Toleration {
        key: toleration.key.clone(),
        operator: Some(<&str>::from(toleration.operator).to_owned()),
        value: toleration.value.clone(),
        effect: toleration.effect.map(|effect| <&str>::from(effect).to_owned()),
        toleration_seconds: toleration.toleration_seconds,
    })
}

type ByResource = BTreeMap<&'static str, Quantity>;

/// Requests and limits that are named. No request may be above the limit that holds with it.
fn amounts(
    component: Component,
    given: Option<&Resources>,
    field: &str,
) -> Result<(ByResource, ByResource), Error> {
    let read = |amounts: Option<&Amounts>, kind: &str| -> Result<ByResource, Error> {
        let Some(Amounts { cpu, memory }) = amounts else {
            return Ok(BTreeMap::new());
        };
        let named = [("cpu", cpu), ("memory", memory)];
        let mut found = BTreeMap::new();
        for (resource, text) in named
            .into_iter()
            .filter_map(|(name, text)| Some((name, text.as_ref()?)))
        {
            let place = || format!("{field}.{kind}.{resource}");
            thousandths(text).with_context(|| AmountSnafu { field: place() })?;
            found.insert(resource, Quantity(text.clone()));
        }
        Ok(found)
    };
    let requests = read(given.and_then(|both| both.requests.as_ref()), "requests")?;
    let limits = read(given.and_then(|both| both.limits.as_ref()), "limits")?;
    for (resource, ours) in ["cpu", "memory"].into_iter().zip(resources::of(component)) {
        let text = |given: &ByResource, default: &str| {
            given
                .get(resource)
                .map_or_else(|| default.to_owned(), |amount| amount.0.clone())
        };
        let (request, limit) = (text(&requests, ours.request), text(&limits, ours.limit));
        ensure!(
            thousandths(&request) <= thousandths(&limit),
            OverLimitSnafu {
                field,
                resource,
                request,
                limit
            }
        );
    }
    Ok((requests, limits))
}

/// A key of a label or annotation.
fn is_key(key: &str) -> bool {
    let (domain, name) = match key.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, key),
    };
    !name.is_empty() && is_value(name) && domain.is_none_or(is_object_name)
}

/// A value of a label. It may be empty.
fn is_value(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let ends = [text.bytes().next(), text.bytes().last()];
    text.len() <= 63
        && text.bytes().all(allowed)
        && ends
            .into_iter()
            .flatten()
            .all(|byte| byte.is_ascii_alphanumeric())
}

/// A DNS subdomain.
fn is_object_name(text: &str) -> bool {
    let part = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// A repository, with a tag, a digest or both.
fn is_image(text: &str) -> bool {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
    let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let digest_is_one = digest.is_none_or(|digest| {
        digest
            .strip_prefix("sha256:")
            .is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hexadecimal))
    });
    let ends = [name.bytes().next(), name.bytes().last()];
    !name.is_empty()
        && name.bytes().all(allowed)
        && ends
            .into_iter()
            .flatten()
            .all(|byte| byte.is_ascii_alphanumeric())
        && digest_is_one
}

#[cfg(test)]
mod tests;
