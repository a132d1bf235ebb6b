//! What has no feed any more goes.

use std::time::{Duration, Instant};

use contract::names::FeedName;
use kube::Api;
use superset::OVERVIEW_DATABASE;
use tracing::{info, warn};

use super::{
    super::{
        client::{self, Client},
        inventory::{Database, Inventory},
        removal::{Removed, remove},
        subject::{Subject, nameless, nowhere},
    },
    Round,
};
use crate::{api::StockFeed, status::chain};

impl Round {
    /// Removes what has no feed any more.
    pub(super) async fn sweep(
        &mut self,
        client: &Client,
        inventory: &Inventory,
        period: Duration,
    ) -> Result<(), client::Error> {
        self.kept.retain(|_, kept| kept.elapsed() < period);
        for database in inventory.databases.values() {
            if self.token.is_cancelled() || self.kept.contains_key(&database.uuid) {
                continue;
            }
            let (what, bundle) = match inventory.owners.get(&database.uuid) {
                Some(name) if !self.subjects.contains_key(&Subject::Feed(name.clone())) => {
                    if self.is_wanted(name).await {
                        continue;
                    }
                    (Subject::Feed(name.clone()).to_string(), nameless(name))
                }
                None if self.is_left_overview(database) => {
                    (Subject::Overview.to_string(), superset::overview(&[], &nowhere()))
                }
                _ => continue,
            };
            match remove(client, &what, &bundle, database, inventory).await? {
                Removed::All => info!("Removed {what}"),
                Removed::But { charts, datasets } => {
                    info!(
                        charts,
                        datasets, "Removed {what}, but for what charts and datasets of people need"
                    );
                    self.kept.insert(database.uuid.clone(), Instant::now());
                }
            }
        }
        Ok(())
    }

    fn is_left_overview(&self, database: &Database) -> bool {
        if self.subjects.contains_key(&Subject::Overview) || database.database_name != OVERVIEW_DATABASE {
            return false;
        }
        // While feeds are still being looked at for the first time, it is not known yet whether there is to be one.
        let feeds = self.ctx.children.feeds.all();
        let none = feeds
            .iter()
            .all(|feed| !feed.0.as_ref().is_ok_and(has_dashboards));
        let uuids = superset::overview(&[], &nowhere()).uuids_of("databases");
        none && uuids.iter().any(|uuid| uuid.to_string() == database.uuid)
    }

    /// Whether a feed has dashboards although it has not said so yet. What cannot be found out is not removed.
    async fn is_wanted(&self, name: &FeedName) -> bool {
        let namespace = name.namespace();
        let scope = &self.scope.namespaces;
        if !scope.is_empty() && scope.iter().all(|watched| watched != namespace) {
            return true;
        }
        let api = Api::<StockFeed>::namespaced(self.ctx.client.clone(), namespace);
        match api.get_opt(name.name()).await {
            Ok(feed) => feed.is_some_and(|feed| has_dashboards(&feed)),
            Err(error) => {
                warn!(error = %chain(&error), feed.namespace = namespace, feed.name = name.name(),
                    "Could not find out whether a feed is gone; its dashboards stay");
                true
            }
        }
    }
}

fn has_dashboards(feed: &StockFeed) -> bool {
    feed.metadata.deletion_timestamp.is_none() && feed.spec.dashboards.enabled
}
