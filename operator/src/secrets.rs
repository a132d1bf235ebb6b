//! Reads Secrets one by one, and remembers each for a moment: the connection of an installation is that of all its feeds,
//! and a feed's own are read at the beginning of a reconciliation and compared at its end.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};

/// How old what is remembered may be. A rotated password is noticed as much later as this.
const MAX_AGE: Duration = Duration::from_secs(2);

/// By namespace and name: when it was asked for, and what was there.
type Kept = HashMap<(String, String), (Instant, Option<Secret>)>;

/// Secrets, as they were a moment ago.
pub struct Secrets {
    client: Client,
    kept: Mutex<Kept>,
}

impl Secrets {
    /// Nothing is remembered yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            kept: Mutex::default(),
        }
    }

    /// A Secret; `None` when it is not there.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn read(&self, namespace: &str, name: &str) -> Result<Option<Secret>, kube::Error> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some((read_at, secret)) = self.lock().get(&key)
            && read_at.elapsed() < MAX_AGE
        {
            return Ok(secret.clone());
        }
        let read_at = Instant::now();
        let secret = Api::<Secret>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await?;
        self.keep(key, read_at, secret.clone());
        Ok(secret)
    }

    /// Forgets what it was: it was written.
    pub fn wrote(&self, namespace: &str, secret: &Secret) {
        let key = (namespace.to_owned(), secret.name_any());
        self.keep(key, Instant::now(), Some(secret.clone()));
    }

    fn keep(&self, key: (String, String), read_at: Instant, secret: Option<Secret>) {
        let mut kept = self.lock();
        // Nothing is held for longer than it is used.
        kept.retain(|_, (read_at, _)| read_at.elapsed() < MAX_AGE);
        kept.insert(key, (read_at, secret));
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
