//! What somebody else changes in the cluster.

use std::sync::Arc;

use anyhow::{Result, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::ResourceExt as _;
use serde_json::json;

use crate::{
    scenarios,
    world::{AT_REST, Scene, World},
};

scenarios! {
    a_changed_deployment_is_set_back,
    a_removed_deployment_comes_back,
    a_changed_config_map_is_set_back,
    a_removed_config_map_comes_back,
    a_changed_service_is_set_back,
    a_removed_service_comes_back,
    a_removed_service_account_comes_back,
    a_changed_secret_is_set_back,
    a_removed_secret_comes_back_with_another_password,
    a_changed_network_policy_is_set_back,
    a_removed_network_policy_comes_back,
    a_removed_disruption_budget_comes_back,
    a_child_without_its_label_is_ours_again,
}

async fn a_changed_deployment_is_set_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "deployment").await?;
    let change =
        json!({"spec": {"replicas": 3, "template": {"spec": {"automountServiceAccountToken": true}}}});
    let is_healed = |live: &Deployment| {
        let spec = live.spec.as_ref();
        let pod = spec.and_then(|spec| spec.template.spec.as_ref());
        spec.and_then(|spec| spec.replicas) == Some(1)
            && pod.and_then(|pod| pod.automount_service_account_token) == Some(false)
    };
    scene
        .heals(
            "deployment-producer",
            change,
            "spec.replicas was 3, not 1",
            is_healed,
        )
        .await?;
    scene.expect("healed", AT_REST).await
}

async fn a_removed_deployment_comes_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "nodeployment").await?;
    scene.comes_back::<Deployment>("nodeployment-processor").await?;
    scene.expect("healed", AT_REST).await
}

async fn a_changed_config_map_is_set_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "configmap").await?;
    let change = json!({"data": {"config.json": "{}"}});
    let is_healed = |live: &ConfigMap| {
        live.data
            .as_ref()
            .is_some_and(|data| data["config.json"].len() > 2)
    };
    scene
        .heals("configmap-processor", change, "data.config.json", is_healed)
        .await
}

async fn a_removed_config_map_comes_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "noconfigmap").await?;
    scene.comes_back::<ConfigMap>("noconfigmap-producer").await
}

async fn a_changed_service_is_set_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "service").await?;
    let change = json!({"spec": {"selector": {"app.kubernetes.io/component": "nothing"}}});
    let is_healed = |live: &Service| {
        let selector = live.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| selector["app.kubernetes.io/component"] == "producer")
    };
    scene
        .heals("service-producer", change, "spec.selector", is_healed)
        .await
}

async fn a_removed_service_comes_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "noservice").await?;
    scene.comes_back::<Service>("noservice-producer").await
}

async fn a_removed_service_account_comes_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "noaccount").await?;
    scene.comes_back::<ServiceAccount>("noaccount-producer").await
}

async fn a_changed_secret_is_set_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "secret").await?;
    // "elsewhere" in base64. Secrets are not watched, so that it is seen at the next look.
    let change = json!({"data": {"host": "ZWxzZXdoZXJl"}});
    let is_healed = |live: &Secret| {
        live.data
            .as_ref()
            .is_some_and(|data| data["host"].0 != b"elsewhere")
    };
    scene
        .heals("secret-broker", change, "data.host was different", is_healed)
        .await
}

async fn a_removed_secret_comes_back_with_another_password(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "nosecret").await?;
    let password = async || -> Result<_> {
        let secret = world.api::<Secret>().get_opt("nosecret-database").await?;
        Ok(secret
            .and_then(|secret| secret.data)
            .and_then(|mut data| data.remove("password")))
    };
    let before = password().await?;
    scene.comes_back::<Secret>("nosecret-database").await?;
    let after = password().await?;
    ensure!(after.is_some() && after != before, "the password is the old one");
    scene.expect("the role has it too", AT_REST).await
}

async fn a_changed_network_policy_is_set_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "policy").await?;
    // Lets everything in.
    let change = json!({"spec": {"ingress": [{}]}});
    let is_healed = |live: &NetworkPolicy| {
        let rules = live.spec.as_ref().and_then(|spec| spec.ingress.as_ref());
        !rules
            .into_iter()
            .flatten()
            .any(|rule| rule.from.is_none() && rule.ports.is_none())
    };
    scene
        .heals(
            "policy-producer",
            change,
            "NetworkPolicy policy-producer had been changed",
            is_healed,
        )
        .await
}

async fn a_removed_network_policy_comes_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "nopolicy").await?;
    scene.comes_back::<NetworkPolicy>("nopolicy-default-deny").await
}

async fn a_removed_disruption_budget_comes_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "nobudget").await?;
    scene
        .comes_back::<PodDisruptionBudget>("nobudget-processor")
        .await
}

async fn a_child_without_its_label_is_ours_again(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "nolabel").await?;
    let change = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}});
    let is_healed = |live: &Deployment| live.labels().contains_key("app.kubernetes.io/managed-by");
    scene
        .heals("nolabel-producer", change, "managed-by", is_healed)
        .await
}
