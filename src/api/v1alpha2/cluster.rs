//! `Cluster`: the provider's cluster, a singleton named `default`. Contract objects.md section 9.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::conditions::Condition;

/// Nothing to say yet.
#[derive(
    CustomResource, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize,
)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "Cluster",
    doc = "The provider's cluster, a singleton named default.",
    root = "Cluster",
    status = "ClusterStatus",
    category = "kube-bind",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#
)]
pub struct ClusterSpec {}

/// Whether the backend can work in this cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterStatus {
    /// Observations of the backend.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}
