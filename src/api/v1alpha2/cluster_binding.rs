//! `ClusterBinding`: one consumer's contract, the singleton `cluster` of its contract namespace.
//! Contract objects.md section 2.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;
use crate::api::conditions::Condition;

/// What the backend promises the consumer.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "ClusterBinding",
    doc = "The contract with one consumer, a singleton named cluster in its contract namespace.",
    root = "ClusterBinding",
    namespaced,
    status = "ClusterBindingStatus",
    category = "kube-bindings",
    derive = "PartialEq",
    derive = "Default",
    validation = Rule::new(r#"self.metadata.name == "cluster""#)
        .message("cluster binding name should be cluster"),
    printcolumn = r#"{"name":"Konnector Version","type":"string","jsonPath":".status.konnectorVersion"}"#,
    printcolumn = r#"{"name":"Last Heartbeat","type":"date","jsonPath":".status.lastHeartbeatTime"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterBindingSpec {
    /// Secret with the kubeconfig that the konnector uses.
    #[x_kube(validation = Rule::new("self == oldSelf").message("kubeconfigSecretRef is immutable"))]
    pub kubeconfig_secret_ref: SecretKeyRef,
    /// Name of the provider, shown to people on the consumer side.
    #[schemars(length(min = 1))]
    pub provider_pretty_name: String,
    /// Free-form data of the provider; unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::api::schema::free_object")]
    pub service_provider_spec: Option<serde_json::Value>,
}

/// What the konnector (heartbeat) and the backend (condition `Healthy`) observe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterBindingStatus {
    /// When the konnector was last seen.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::time_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub last_heartbeat_time: Option<Time>,
    /// How often the konnector means to be seen, as a Go duration. Kept as text: a bad value must
    /// become a condition, not an unreadable object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<String>,
    /// Version of the konnector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub konnector_version: Option<String>,
    /// Where the consumer keeps its copy of the kubeconfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer_secret_ref: Option<ConsumerSecretRef>,
    /// Observations of both.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}

/// A Secret on the consumer side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsumerSecretRef {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Its namespace.
    #[schemars(length(min = 1))]
    pub namespace: String,
}
