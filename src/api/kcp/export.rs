//! `APIExport`, its schemas and the addresses under which it is served.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::PermissionClaim;
use crate::api::conditions::Condition;
use crate::api::v1alpha2::{BoundSchemaVersion, Conversion, Names, Scope};

/// An [`ApiExport`] by path and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportReference {
    /// Workspace path or logical cluster name; absent for the same workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Name of the export.
    pub name: String,
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
    /// Where kcp keeps the export's identity; set by kcp and kept as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<serde_json::Value>,
    /// What those who bind may do at most; an admin's business and kept as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximal_permission_policy: Option<serde_json::Value>,
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
    pub names: Names,
    /// Its scope.
    pub scope: Scope,
    /// Its versions.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub versions: Vec<BoundSchemaVersion>,
    /// How object names are checked, `DNS1123Subdomain` (the default) or `PathSegmentName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_validation: Option<String>,
    /// How versions are converted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion: Option<Conversion>,
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
