//! Takes the workers of a deleted feed away.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt as _, api::DeleteParams};
use snafu::ResultExt as _;

use super::{Deletion, DereferenceSnafu, Error, KubernetesSnafu, POD_TIME};
use crate::{dereference, labels::Component};

impl Deletion<'_> {
    /// Deletes a worker's Deployment, if it is there and ours.
    pub(super) async fn delete_worker(&self, component: Component) -> Result<(), Error> {
        let api = Api::<Deployment>::namespaced(self.ctx.client.clone(), self.name.namespace());
        let name = component.object_name(self.name.name());
        let action = "delete a worker's Deployment";
        let found = api.get_opt(&name).await.context(KubernetesSnafu { action })?;
        let ours = found.filter(|deployment| {
            let being_deleted = deployment.metadata.deletion_timestamp.is_some();
            let owners = deployment.owner_references();
            !being_deleted && owners.iter().any(|owner| owner.uid == self.uid)
        });
        if ours.is_some() {
            let deleted = api.delete(&name, &DeleteParams::background()).await;
            if let Err(error) = deleted
                && !matches!(&error, kube::Error::Api(status) if status.is_not_found())
            {
                return Err(error).context(KubernetesSnafu { action });
            }
        }
        Ok(())
    }

    /// Pods of a worker that are waited for: those that do not go in time are not.
    pub(super) async fn pods(&self, component: Component) -> Result<usize, Error> {
        if self.elapsed >= POD_TIME {
            return Ok(0);
        }
        let (namespace, name) = (self.name.namespace(), self.name.name());
        let pods = dereference::living_pods(&self.ctx.client, namespace, name, component).await;
        Ok(pods.context(DereferenceSnafu)?.len())
    }
}
