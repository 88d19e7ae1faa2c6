//! `APIServiceExport`: resources that a consumer may use. Contract objects.md section 4.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Isolation, PermissionClaim, ResourceVersions, Scope};
use crate::api::conditions::Condition;

/// What is exported and how. Everything is immutable; a change needs another export.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "APIServiceExport",
    doc = "Resources that a consumer may use.",
    root = "ApiServiceExport",
    namespaced,
    status = "ApiServiceExportStatus",
    category = "kube-bindings",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Established","type":"string","priority":5,"jsonPath":".status.conditions[?(@.type==\"Established\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ApiServiceExportSpec {
    /// The exported resources, each with a `BoundSchema` of the same name.
    #[schemars(length(min = 1))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("resources are immutable"))]
    pub resources: Vec<ResourceVersions>,
    /// Consumer objects that the provider may use.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("permissionClaims are immutable"))]
    pub permission_claims: Vec<PermissionClaim>,
    /// Whether the konnector watches the whole provider cluster or only its service namespaces.
    #[x_kube(validation = Rule::new("self == oldSelf").message("informerScope is immutable"))]
    pub informer_scope: Scope,
    /// How cluster-scoped objects of several consumers are kept apart.
    #[x_kube(validation = Rule::new("self == oldSelf").message("isolation is immutable"))]
    pub isolation: Isolation,
    /// Former name of `isolation`; never set, never read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("clusterScopedIsolation is immutable"))]
    pub cluster_scoped_isolation: Option<Isolation>,
}

impl ApiServiceExport {
    /// What is said of it; nothing where it has no status yet.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

/// What the konnector and the backend observe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApiServiceExportStatus {
    /// `ProviderInSync` by the backend, `Connected` and `ConsumerInSync` by the konnector.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}
