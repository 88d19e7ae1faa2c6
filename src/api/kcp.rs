//! The few kcp types the product reads or writes, with the fields it uses and no others.
//!
//! Names follow kcp's SDK (`apis.kcp.io`, `tenancy.kcp.io`, `core.kcp.io`). None of these is
//! installed by us, so no schemas are derived. Everything that is optional in Go may be absent;
//! nothing that is decoded here is written back whole, because unknown fields are dropped.

use std::collections::BTreeMap;

use kube::CustomResource;
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::conditions::Condition;

/// Phase in which an [`ApiBinding`] serves its resources.
pub const PHASE_BOUND: &str = "Bound";
/// Phase in which a [`Workspace`] or [`LogicalCluster`] can be used.
pub const PHASE_READY: &str = "Ready";
/// [`AcceptableClaim::state`] of a claim the workspace granted.
pub const CLAIM_ACCEPTED: &str = "Accepted";
/// Name of the only [`LogicalCluster`] of a workspace.
pub const LOGICAL_CLUSTER: &str = "cluster";

/// Binds an [`ApiExport`] into a workspace.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "apis.kcp.io",
    version = "v1alpha2",
    kind = "APIBinding",
    root = "ApiBinding",
    status = "ApiBindingStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct ApiBindingSpec {
    /// What is bound.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub reference: BindingReference,
    /// What the workspace thinks of the export's claims.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub permission_claims: Vec<AcceptableClaim>,
}

/// What a binding binds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingReference {
    /// An export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportReference>,
}

/// An [`ApiExport`] by path and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportReference {
    /// Workspace path or logical cluster name; absent for the same workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Name of the export.
    pub name: String,
}

/// A claim and what the workspace thinks of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AcceptableClaim {
    /// The claim and its selector.
    #[serde(flatten)]
    pub claim: ScopedClaim,
    /// [`CLAIM_ACCEPTED`] or `Rejected`.
    pub state: String,
}

impl AcceptableClaim {
    /// True if the workspace granted the claim.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.state == CLAIM_ACCEPTED
    }
}

/// A claim restricted to some objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScopedClaim {
    /// The claim.
    #[serde(flatten)]
    pub claim: PermissionClaim,
    /// Which objects.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub selector: ClaimSelector,
}

/// Access to a resource of another API group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PermissionClaim {
    /// API group; empty for core.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub group: String,
    /// Plural resource name.
    pub resource: String,
    /// Verbs, `*` for all.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub verbs: Vec<String>,
    /// Which export the resource comes from; absent for built-in ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_hash: Option<String>,
}

/// Objects that a claim covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSelector {
    /// All of them.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "crate::api::wire::is_false"
    )]
    pub match_all: bool,
    /// Those with these labels.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub match_labels: BTreeMap<String, String>,
}

/// State of a binding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiBindingStatus {
    /// Logical cluster of the export.
    #[serde(
        rename = "apiExportClusterName",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub api_export_cluster_name: Option<String>,
    /// The resources that the workspace got.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub bound_resources: Vec<BoundResource>,
    /// `Binding` or [`PHASE_BOUND`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Claims in force.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub applied_permission_claims: Vec<ScopedClaim>,
    /// Claims that the export makes.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub export_permission_claims: Vec<PermissionClaim>,
    /// Observations of kcp.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}

/// A resource that a workspace got from an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundResource {
    /// API group.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub group: String,
    /// Plural resource name.
    pub resource: String,
    /// Its schema.
    pub schema: BoundResourceSchema,
    /// Versions that objects were stored in.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub storage_versions: Vec<String>,
}

/// The schema of a bound resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundResourceSchema {
    /// Name of the [`ApiResourceSchema`] in the export's workspace.
    pub name: String,
    /// Its UID.
    #[serde(
        rename = "UID",
        default,
        deserialize_with = "crate::api::wire::or_default"
    )]
    pub uid: String,
    /// Identity of the export, which tells our own export from others.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub identity_hash: String,
}

/// APIs that other workspaces may bind.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "apis.kcp.io",
    version = "v1alpha2",
    kind = "APIExport",
    root = "ApiExport",
    status = "ApiExportStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct ApiExportSpec {
    /// The resources.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resources: Vec<ExportedResource>,
    /// What the provider wants in the workspaces that bind.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub permission_claims: Vec<PermissionClaim>,
}

/// A resource of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedResource {
    /// Plural resource name.
    pub name: String,
    /// API group.
    pub group: String,
    /// Name of its [`ApiResourceSchema`].
    pub schema: String,
    /// Where objects are kept.
    pub storage: ResourceStorage,
}

/// Where objects of an exported resource are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceStorage {
    /// In the workspace that binds, like those of a CRD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crd: Option<CrdStorage>,
}

/// Marks storage in the workspace that binds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrdStorage {}

/// State of an export.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiExportStatus {
    /// Identity of the export in all workspaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_hash: Option<String>,
    /// Observations of kcp.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}

/// An immutable resource definition.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "apis.kcp.io",
    version = "v1alpha1",
    kind = "APIResourceSchema",
    root = "ApiResourceSchema",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct ApiResourceSchemaSpec {
    /// API group of the resource.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub group: String,
    /// Its names.
    pub names: crate::api::v1alpha2::Names,
    /// Its scope.
    pub scope: crate::api::v1alpha2::Scope,
    /// Its versions.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub versions: Vec<crate::api::v1alpha2::BoundSchemaVersion>,
    /// How object names are checked, `DNS1123Subdomain` (the default) or `PathSegmentName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_validation: Option<String>,
    /// How versions are converted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion: Option<crate::api::v1alpha2::Conversion>,
}

/// Where the virtual workspace of an export is served: one address per shard with bindings.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "apis.kcp.io",
    version = "v1alpha1",
    kind = "APIExportEndpointSlice",
    root = "ApiExportEndpointSlice",
    status = "ApiExportEndpointSliceStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
pub struct ApiExportEndpointSliceSpec {
    /// The export.
    pub export: ExportReference,
    /// Restricts the slice to the shards of a partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
}

/// The addresses. Empty until the first workspace has bound the export.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ApiExportEndpointSliceStatus {
    /// One for each shard with bindings.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub endpoints: Vec<ApiExportEndpoint>,
    /// Observations of kcp.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}

/// One shard's address of the virtual workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiExportEndpoint {
    /// `https://<shard>/services/apiexport/<export cluster>/<export>`.
    pub url: String,
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use kube::Resource;
    use serde_json::json;

    #[test]
    fn a_binding_of_kcp_is_read_with_its_claims_and_resources() {
        let binding: ApiBinding = serde_json::from_value(json!({
            "apiVersion": "apis.kcp.io/v1alpha2",
            "kind": "APIBinding",
            "metadata": { "name": "kube-bind.io" },
            "spec": {
                "reference": { "export": { "path": "root:kube-bind", "name": "kube-bind.io" } },
                "permissionClaims": [{
                    "resource": "secrets", "verbs": ["*"], "state": "Accepted",
                    "selector": { "matchAll": true }
                }],
            },
            "status": {
                "apiExportClusterName": "abc",
                "phase": "Bound",
                "boundResources": [{
                    "group": "kube-bind.io", "resource": "clusters", "storageVersions": ["v1alpha2"],
                    "schema": { "name": "v1.clusters.kube-bind.io", "UID": "u", "identityHash": "h" },
                }],
            },
        }))
        .unwrap();
        let claim = PermissionClaim {
            resource: "secrets".into(),
            verbs: vec!["*".into()],
            ..PermissionClaim::default()
        };
        let selector = ClaimSelector {
            match_all: true,
            ..ClaimSelector::default()
        };
        let expected = AcceptableClaim {
            claim: ScopedClaim { claim, selector },
            state: CLAIM_ACCEPTED.into(),
        };
        assert_eq!(binding.spec.permission_claims, [expected]);
        let status = binding.status.unwrap();
        assert_eq!(status.api_export_cluster_name.as_deref(), Some("abc"));
        assert_eq!(status.bound_resources[0].schema.identity_hash, "h");
        assert_eq!(status.bound_resources[0].schema.uid, "u");
    }

    #[test]
    fn an_empty_endpoint_slice_and_a_logical_cluster_without_spec_are_normal() {
        let slice: ApiExportEndpointSlice = serde_json::from_value(json!({
            "metadata": { "name": "kube-bind.io" },
            "spec": { "export": { "name": "kube-bind.io" } },
            "status": {},
        }))
        .unwrap();
        assert_eq!(slice.status.unwrap().endpoints, []);
        let cluster: LogicalCluster = serde_json::from_value(json!({
            "metadata": { "name": "cluster" },
            "status": { "URL": "https://host/clusters/abc", "phase": "Ready" },
        }))
        .unwrap();
        assert_eq!(
            cluster.status.unwrap().url.as_deref(),
            Some("https://host/clusters/abc")
        );
    }

    #[test]
    fn plurals_are_those_of_kcp() {
        assert_eq!(ApiBinding::plural(&()), "apibindings");
        assert_eq!(ApiExport::plural(&()), "apiexports");
        assert_eq!(ApiResourceSchema::plural(&()), "apiresourceschemas");
        assert_eq!(
            ApiExportEndpointSlice::plural(&()),
            "apiexportendpointslices"
        );
        assert_eq!(Workspace::plural(&()), "workspaces");
        assert_eq!(LogicalCluster::plural(&()), "logicalclusters");
    }
}
