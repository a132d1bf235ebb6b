//! Objects as text. As a value, a Deployment is its few fields that are set and some hundreds that are not: a volume alone takes
//! three kilobytes, whatever is in it. A thousand feeds have ten thousand objects.

use std::{borrow::Cow, fmt::Debug, marker::PhantomData};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, runtime::watcher::Event};
use serde::{Serialize, de::DeserializeOwned};
use tracing::error;

/// An object that takes no more memory than its text.
#[derive(Clone, Debug)]
pub struct Packed<K> {
    /// Name, namespace and owners; labels where they are asked for.
    meta: ObjectMeta,
    text: Box<str>,
    kind: PhantomData<fn() -> K>,
}

/// What is kept of an object beside its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// By what it is found by name, and whose it is.
    Name,
    /// Labels as well, by which it is found among others.
    Labels,
}

impl<K> Packed<K>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    /// Packs an object. Who manages which of its fields is left out: it takes as much as the fields.
    #[must_use]
    pub fn new(mut object: K, keep: Keep) -> Self {
        let meta = object.meta_mut();
        meta.managed_fields = None;
        let meta = ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            owner_references: meta.owner_references.clone(),
            labels: meta.labels.clone().filter(|_| keep == Keep::Labels),
            ..ObjectMeta::default()
        };
        let text = serde_json::to_string(&object).unwrap_or_else(|error| {
            error!(%error, kind = %K::kind(&()), "An object cannot be written as text, and is asked for each time");
            String::new()
        });
        Self {
            meta,
            text: text.into(),
            kind: PhantomData,
        }
    }

    /// Packs what a watch says.
    #[must_use]
    pub fn event(event: Event<K>, keep: Keep) -> Event<Self> {
        match event {
            Event::Apply(object) => Event::Apply(Self::new(object, keep)),
            Event::Delete(object) => Event::Delete(Self::new(object, keep)),
            Event::Init => Event::Init,
            Event::InitApply(object) => Event::InitApply(Self::new(object, keep)),
            Event::InitDone => Event::InitDone,
        }
    }

    /// The object; `None` when it cannot be read again, which is as good as not to have seen it.
    #[must_use]
    pub fn unpack(&self) -> Option<K> {
        serde_json::from_str(&self.text).ok()
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Packed<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use serde_json::{Value, json};

    use super::*;

    fn deployment() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "tech-producer", "namespace": "markets", "uid": "1", "generation": 3,
                "labels": {"app.kubernetes.io/name": "stockfeed"}, "annotations": {"stockfeed.dev/applied": "x"},
                "ownerReferences": [{"apiVersion": "stockfeed.dev/v1alpha1", "kind": "StockFeed", "name": "tech", "uid": "2"}],
            },
            "spec": {
                "replicas": 2, "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                    "containers": [{"name": "producer", "image": "producer:1", "resources": {"limits": {"memory": "64Mi"}}}],
                    "volumes": [{"name": "spool", "emptyDir": {"sizeLimit": "1Gi"}}],
                }},
            },
            "status": {"observedGeneration": 3, "replicas": 2},
        })
    }

    fn typed(value: Value) -> Deployment {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_unpacked_is_what_was_packed_but_for_managers_of_fields() {
        let plain = typed(deployment());
        let mut managed = deployment();
        managed["metadata"]["managedFields"] =
            json!([{"manager": "stockfeed-operator", "fieldsV1": {"f:spec": {}}}]);
        for keep in [Keep::Name, Keep::Labels] {
            let packed = Packed::new(typed(managed.clone()), keep);
            assert_eq!(packed.unpack().as_ref(), Some(&plain));
            assert!(!packed.text.contains("f:spec"));
            assert_eq!(packed.meta().owner_references, plain.metadata.owner_references);
            assert_eq!(packed.meta().name.as_deref(), Some("tech-producer"));
        }
    }

    #[test]
    fn labels_are_kept_where_they_are_asked_for() {
        let labels = |keep| Packed::new(typed(deployment()), keep).meta.labels;
        assert_eq!(labels(Keep::Name), None);
        assert_eq!(labels(Keep::Labels), typed(deployment()).metadata.labels);
    }
}
