//! Children of feeds, and the feeds themselves, as the watches have them in memory.
//!
//! A watch runs a little behind, and sees only what carries our label. So what is read here suffices to find that all is as
//! wanted; before anything is written, and where nothing is found, the API server itself is asked.

use std::{
    fmt::Debug,
    sync::{Arc, PoisonError, RwLock},
};

use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Resource, ResourceExt as _,
    core::DeserializeGuard,
    runtime::reflector::{self, ObjectRef, Store, store::Writer},
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::OnceCell;

mod packed;

pub use packed::{Keep, Packed};

use crate::{
    api::StockFeed,
    labels::{Component, selector},
    secrets::Secrets,
};

/// What is watched, in all watched namespaces.
#[derive(Default)]
pub struct Children {
    /// The feeds. One that cannot be read is kept as well.
    pub feeds: Cache<DeserializeGuard<StockFeed>>,
    /// Workers.
    pub deployments: Cache<Packed<Deployment>>,
    /// Configurations.
    pub config_maps: Cache<Packed<ConfigMap>>,
    /// Addresses of workers.
    pub services: Cache<Packed<Service>>,
    /// Accounts of workers.
    pub service_accounts: Cache<Packed<ServiceAccount>>,
    /// Who may speak with whom.
    pub network_policies: Cache<Packed<NetworkPolicy>>,
    /// How many workers may be taken away at once.
    pub disruption_budgets: Cache<Packed<PodDisruptionBudget>>,
    /// Pods of workers.
    pub pods: Cache<Packed<Pod>>,
    /// Set when all of them have been listed.
    listed: OnceCell<()>,
}

/// Objects of one kind: a store for each watched namespace, or one for all.
pub struct Cache<K: Resource<DynamicType = ()> + 'static> {
    stores: RwLock<Vec<Store<K>>>,
}

impl<K: Resource<DynamicType = ()> + 'static> Default for Cache<K> {
    fn default() -> Self {
        Self {
            stores: RwLock::default(),
        }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + Debug + 'static> Cache<K> {
    /// Another store, and what fills it: for a watch.
    pub fn join(&self) -> (Store<K>, Writer<K>) {
        let (store, writer) = reflector::store();
        let mut stores = self.stores.write().unwrap_or_else(PoisonError::into_inner);
        stores.push(store.clone());
        (store, writer)
    }

    /// Waits until every watch has listed what is there. False when a watch has ended before that.
    pub async fn ready(&self) -> bool {
        for store in self.stores() {
            if store.wait_until_ready().await.is_err() {
                return false;
            }
        }
        true
    }

    /// One object.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = ObjectRef::new(name).within(namespace);
        self.stores().iter().find_map(|store| store.get(&key))
    }

    /// Those of a namespace that are as asked.
    #[must_use]
    pub fn of(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let stores = self.stores();
        let there = |object: &K| object.meta().namespace.as_deref() == Some(namespace);
        stores
            .iter()
            .flat_map(|store| store.state_filter(|object| there(object) && wanted(object)))
            .collect()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.stores().iter().flat_map(Store::state).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.stores().iter().map(Store::len).sum()
    }

    fn stores(&self) -> Vec<Store<K>> {
        let stores = self.stores.read().unwrap_or_else(PoisonError::into_inner);
        stores.clone()
    }
}

impl<K> Cache<Packed<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + 'static,
{
    /// One object, unpacked.
    #[must_use]
    pub fn unpacked(&self, namespace: &str, name: &str) -> Option<K> {
        self.get(namespace, name)?.unpack()
    }
}

impl Children {
    /// Waits until everything that is there has been listed once. False when a watch has ended before that.
    ///
    /// A store wakes one of those that wait for it, so that one waits for the stores and all others for that one.
    pub async fn ready(&self) -> bool {
        let listed = self
            .listed
            .get_or_try_init(async || match self.all_ready().await {
                true => Ok(()),
                false => Err(()),
            });
        listed.await.is_ok()
    }

    async fn all_ready(&self) -> bool {
        self.feeds.ready().await
            && self.deployments.ready().await
            && self.config_maps.ready().await
            && self.services.ready().await
            && self.service_accounts.ready().await
            && self.network_policies.ready().await
            && self.disruption_budgets.ready().await
            && self.pods.ready().await
    }

    /// The pods of a worker that have not ended: those that are on their way out still work.
    #[must_use]
    pub fn living_pods(&self, namespace: &str, feed: &str, component: Component) -> Vec<Pod> {
        let selector = selector(feed, component);
        let selected = self.pods.of(namespace, |pod| {
            let labels = pod.labels();
            selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        });
        let pods = selected.iter().filter_map(|pod| pod.unpack());
        pods.filter(is_living).collect()
    }
}

/// Whether a pod has not ended.
#[must_use]
pub fn is_living(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// A kind of child, and where it is kept.
pub trait Child:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Whether its values are never to be shown.
    const IS_SECRET: bool = false;

    /// Where the watch keeps it; `None` for a kind that is not watched.
    fn cache(children: &Children) -> Option<&Cache<Packed<Self>>>;

    /// Reads it by way of what is remembered of Secrets; `None` for other kinds.
    fn secret<'a>(
        _: &'a Secrets,
        _namespace: &'a str,
        _name: &'a str,
    ) -> Option<BoxFuture<'a, Result<Option<Self>, kube::Error>>> {
        None
    }

    /// It was written.
    fn wrote(&self, _: &Secrets, _namespace: &str) {}
}

macro_rules! watched {
    ($($kind:ty: $field:ident),* $(,)?) => {
        $(impl Child for $kind {
            fn cache(children: &Children) -> Option<&Cache<Packed<Self>>> {
                Some(&children.$field)
            }
        })*
    };
}

watched! {
    Deployment: deployments,
    ConfigMap: config_maps,
    Service: services,
    ServiceAccount: service_accounts,
    NetworkPolicy: network_policies,
    PodDisruptionBudget: disruption_budgets,
}

impl Child for Secret {
    const IS_SECRET: bool = true;

    /// Never listed or watched: to read all Secrets of a namespace is more than the operator needs.
    fn cache(_: &Children) -> Option<&Cache<Packed<Self>>> {
        None
    }

    fn secret<'a>(
        secrets: &'a Secrets,
        namespace: &'a str,
        name: &'a str,
    ) -> Option<BoxFuture<'a, Result<Option<Self>, kube::Error>>> {
        Some(secrets.read(namespace, name).boxed())
    }

    fn wrote(&self, secrets: &Secrets, namespace: &str) {
        secrets.wrote(namespace, self);
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str, component: &str, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": name, "labels": {
                "app.kubernetes.io/name": "stockfeed", "app.kubernetes.io/instance": "tech",
                "app.kubernetes.io/component": component,
            }},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_who_waits_for_the_first_lists_goes_on() {
        let children = Arc::new(Children::default());
        let (_, mut feeds) = children.feeds.join();
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let children = Arc::clone(&children);
                tokio::spawn(async move { children.ready().await })
            })
            .collect();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(waiting.iter().all(|waiter| !waiter.is_finished()));
        feeds.apply_watcher_event(&Event::Init);
        feeds.apply_watcher_event(&Event::InitDone);
        for waiter in waiting {
            let woken = tokio::time::timeout(std::time::Duration::from_secs(10), waiter).await;
            assert!(woken.expect("nobody woke it").unwrap());
        }
    }

    #[test]
    fn pods_are_found_over_all_stores_by_namespace_feed_component_and_phase() {
        let children = Children::default();
        let (_, mut one) = children.pods.join();
        let (_, mut two) = children.pods.join();
        for pod in [
            pod("a", "running", "producer", "Running"),
            pod("a", "ended", "producer", "Succeeded"),
            pod("a", "other", "processor", "Running"),
        ] {
            one.apply_watcher_event(&Packed::event(Event::Apply(pod), Keep::Labels));
        }
        let other = pod("b", "running", "producer", "Pending");
        two.apply_watcher_event(&Packed::event(Event::Apply(other), Keep::Labels));
        let names = |namespace: &str| -> Vec<String> {
            let pods = children.living_pods(namespace, "tech", Component::Producer);
            pods.iter().map(|pod| pod.name_any()).collect()
        };
        assert_eq!(names("a"), ["running"]);
        assert_eq!(names("b"), ["running"]);
        assert!(
            children
                .living_pods("a", "energy", Component::Producer)
                .is_empty()
        );
        assert_eq!(children.pods.count(), 4);
        assert!(children.pods.get("b", "running").is_some() && children.pods.get("b", "ended").is_none());
    }
}
