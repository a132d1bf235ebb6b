//! What of the workers' pods a user may have otherwise. Kept small: what has to fit the cluster, and nothing that the operator's own
//! work depends on.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OBJECT_NAME, SecretRef};

/// An image: repository, with a tag, a digest or both.
const IMAGE: &str = r"^[a-z0-9]([A-Za-z0-9._:/-]*[A-Za-z0-9])?(@sha256:[0-9a-f]{64})?$";
/// A key of a label: a name, after a domain and a slash or not.
const LABEL_KEY: &str = r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";
/// A number, with a unit or not.
const QUANTITY: &str = r"^[0-9]{1,9}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$";

/// What is other than the operator would make it. A change replaces the pods that it is about.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// The producer's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<PodTemplate>,

    /// The processors' pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<PodTemplate>,
}

/// What is other in a worker's pod.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// The image to run instead of the installation's, best by digest (repository@sha256:...). It must be of the operator's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = IMAGE))]
    pub image: Option<String>,

    /// Secrets of the feed's namespace to pull the image with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<SecretRef>,

    /// CPU and memory; what is not named stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// More labels. Those that the operator sets (app.kubernetes.io/name, instance, component and managed-by, stockfeed.dev/...)
    /// cannot be changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('stockfeed.dev/') && !(key in ['app.kubernetes.io/name', 'app.kubernetes.io/instance', 'app.kubernetes.io/component', 'app.kubernetes.io/managed-by', 'pod-template-hash']))").message("labels that the operator sets cannot be changed"))]
    pub labels: BTreeMap<String, String>,

    /// More annotations. Those of stockfeed.dev/ are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('stockfeed.dev/'))").message("annotations of stockfeed.dev/ are the operator's"))]
    pub annotations: BTreeMap<String, String>,

    /// Labels of the nodes that it may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that it tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,

    /// How pods are spread, instead of the operator's own wish that processors are not all on one node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Vec<Spread>,

    /// The PriorityClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub priority_class_name: Option<String>,
}

/// CPU and memory.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What a node must have free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,

    /// What is used at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

/// Amounts of CPU and memory.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    /// Processors, as in 500m or 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = QUANTITY))]
    pub cpu: Option<String>,

    /// Bytes, as in 512Mi or 2Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = QUANTITY))]
    pub memory: Option<String>,
}

/// A taint that is tolerated.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.operator == 'Exists' || has(self.key)").message("a toleration without a key needs operator Exists"))]
#[x_kube(validation = Rule::new("self.operator != 'Exists' || !has(self.value)").message("a toleration with operator Exists has no value"))]
#[x_kube(validation = Rule::new("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')").message("tolerationSeconds needs effect NoExecute"))]
pub struct Toleration {
    /// The taint's key. Without, every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316), regex(pattern = LABEL_KEY))]
    pub key: Option<String>,

    /// Equal compares the value, Exists does not.
    #[serde(default)]
    pub operator: TolerationOperator,

    /// The taint's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,

    /// The taint's effect. Without, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,

    /// How long a pod stays where a taint of effect NoExecute comes up; without, for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub toleration_seconds: Option<i64>,
}

/// How a taint is compared.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr,
)]
pub enum TolerationOperator {
    /// Key and value.
    #[default]
    Equal,
    /// The key only.
    Exists,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
pub enum TaintEffect {
    /// No new pods.
    NoSchedule,
    /// No new pods where there is another place.
    PreferNoSchedule,
    /// No pods at all.
    NoExecute,
}

/// How pods are spread. Which pods, the operator says.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// The label of nodes whose values are the places, as in topology.kubernetes.io/zone.
    #[schemars(length(min = 1, max = 316), regex(pattern = LABEL_KEY))]
    pub topology_key: String,

    /// By how many pods two places may differ.
    #[serde(default = "default_skew")]
    #[schemars(range(min = 1, max = 64))]
    pub max_skew: i32,

    /// Whether a pod that would break this runs all the same, or waits.
    #[serde(default)]
    pub when_unsatisfiable: WhenUnsatisfiable,
}

/// What happens to a pod that cannot be placed well.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr,
)]
pub enum WhenUnsatisfiable {
    /// It runs all the same.
    #[default]
    ScheduleAnyway,
    /// It waits.
    DoNotSchedule,
}

fn default_skew() -> i32 {
    1
}
