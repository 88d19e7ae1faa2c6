//! Workspaces, from outside (`Workspace`) and from inside (`LogicalCluster`).

use kube::CustomResource;
use serde::{Deserialize, Deserializer, Serialize};

#[cfg(doc)]
use super::{LOGICAL_CLUSTER, PHASE_READY};
use crate::api::conditions::Condition;

/// A workspace as its parent sees it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenancy.kcp.io",
    version = "v1alpha1",
    kind = "Workspace",
    status = "WorkspaceStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
pub struct WorkspaceSpec {
    /// Its type; absent for the parent's default.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<WorkspaceType>,
    /// Its logical cluster; set by kcp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Its address; set by kcp.
    #[serde(rename = "URL", default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The type of a workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceType {
    /// Name of the type.
    pub name: String,
    /// Workspace that defines it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// State of a workspace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkspaceStatus {
    /// [`PHASE_READY`] when it can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Observations of kcp.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}

/// A workspace as seen from inside, named [`LOGICAL_CLUSTER`]. Its annotation `kcp.io/cluster` is
/// the logical cluster name, `kcp.io/path` the path.
#[derive(CustomResource, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[kube(
    group = "core.kcp.io",
    version = "v1alpha1",
    kind = "LogicalCluster",
    status = "LogicalClusterStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
pub struct LogicalClusterSpec {}

/// kcp omits an empty spec; only a type that asks for an option accepts an absent field.
impl<'de> Deserialize<'de> for LogicalClusterSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<serde::de::IgnoredAny>::deserialize(deserializer)?;
        Ok(Self {})
    }
}

/// State of a logical cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogicalClusterStatus {
    /// Its address; the last segment is the logical cluster name.
    #[serde(rename = "URL", default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// [`PHASE_READY`] when it can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
}
