//! Where a feed's dashboards are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the feed's dashboards are in Superset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DashboardsStatus {
    /// The dashboard's path, below Superset's address.
    pub path: String,
    /// Which making of the dashboards was imported last: another one comes with another release, another spec or another password.
    pub revision: String,
}
