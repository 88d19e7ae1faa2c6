//! The five kinds that are also served at `v1alpha1`, for objects written by clients before v0.6.
//!
//! They generate schemas and nothing else: the product reads and writes the storage version, and
//! the API server only changes `apiVersion` between the two (contract objects.md section 0).

#![allow(
    unreachable_pub,
    reason = "KubeSchema derives the schema from a private copy of each struct, keyword included"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::conditions::Condition;
use crate::api::v1alpha2::shared::VERSION_PATTERN;
use crate::api::v1alpha2::{
    ApiServiceExportRequestStatus, ApiServiceNamespaceStatus, Isolation, Names, PrinterColumn,
    ResourceVersions, Scope, Subresources,
};

/// The only key that a referenced Secret may have in this version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KubeconfigKey {
    /// `kubeconfig`.
    #[default]
    #[serde(rename = "kubeconfig")]
    Kubeconfig,
}

/// A kubeconfig Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Key in the Secret.
    pub key: KubeconfigKey,
}

/// A kubeconfig Secret in any namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamespacedSecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Key in the Secret.
    pub key: KubeconfigKey,
    /// Namespace of the Secret.
    #[schemars(length(min = 1))]
    pub namespace: String,
}

/// What the backend promises the consumer.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha1",
    kind = "ClusterBinding",
    doc = "The contract with one consumer, a singleton named cluster in its contract namespace.",
    root = "ClusterBinding",
    namespaced,
    status = "ClusterBindingStatus",
    category = "kube-bindings",
    storage = false,
    derive = "PartialEq",
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

/// What the konnector and the backend observe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterBindingStatus {
    /// When the konnector was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<Time>,
    /// How often the konnector means to be seen, as a Go duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<String>,
    /// Version of the konnector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub konnector_version: Option<String>,
    /// Observations of both.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}

/// One exported resource with its schema, which `BoundSchema` holds today.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha1",
    kind = "APIServiceExport",
    doc = "Resources that a consumer may use.",
    root = "ApiServiceExport",
    namespaced,
    status = "ApiServiceExportStatus",
    category = "kube-bindings",
    storage = false,
    derive = "PartialEq",
    validation = Rule::new(r#"self.metadata.name == self.spec.names.plural+"."+self.spec.group"#)
        .message("informerScope is immutable"),
    printcolumn = r#"{"name":"Established","type":"string","priority":5,"jsonPath":".status.conditions[?(@.type==\"Established\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(r#"self.scope == "Namespaced" || self.informerScope == "Cluster""#)
        .message("informerScope must be Cluster for cluster-scoped resources"),
    validation = Rule::new(r#"self.scope == "Namespaced" || has(self.clusterScopedIsolation)"#)
        .message("clusterScopedIsolation must be defined for cluster-scoped resources"),
    validation = Rule::new(r#"self.scope == "Cluster" || !has(self.clusterScopedIsolation)"#)
        .message("clusterScopedIsolation is not relevant for namespaced resources")
)]
pub struct ApiServiceExportSpec {
    /// API group of the resource.
    pub group: String,
    /// Its names.
    pub names: Names,
    /// Its scope.
    pub scope: Scope,
    /// Its versions.
    #[schemars(length(min = 1))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub versions: Vec<ApiServiceExportVersion>,
    /// Whether the konnector watches the whole provider cluster or only its service namespaces.
    #[x_kube(validation = Rule::new("self == oldSelf").message("informerScope is immutable"))]
    pub informer_scope: Scope,
    /// How cluster-scoped objects of several consumers are kept apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_scoped_isolation: Option<Isolation>,
}

/// One version of the resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiServiceExportVersion {
    /// Name of the version.
    #[schemars(length(min = 1), regex(pattern = VERSION_PATTERN))]
    pub name: String,
    /// Whether it is served.
    #[schemars(extend("default" = true))]
    pub served: bool,
    /// Whether it is the stored one.
    pub storage: bool,
    /// Whether clients are warned about it.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "crate::api::wire::is_false"
    )]
    pub deprecated: bool,
    /// The warning, if not the standard one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecation_warning: Option<String>,
    /// Its schema.
    pub schema: VersionSchema,
    /// Its subresources.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    #[schemars(extend("default" = null))]
    pub subresources: Subresources,
    /// Columns for the command line.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub additional_printer_columns: Vec<PrinterColumn>,
}

/// The schema of a version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VersionSchema {
    /// The schema itself.
    #[serde(rename = "openAPIV3Schema")]
    #[schemars(schema_with = "crate::api::schema::atomic_free_object")]
    pub open_api_v3_schema: serde_json::Value,
}

/// What the consumer's API server made of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiServiceExportStatus {
    /// The names in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_names: Option<Names>,
    /// Versions that objects were stored in.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub stored_versions: Vec<String>,
    /// Observations of the konnector and the backend.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}

/// What the consumer asks for.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha1",
    kind = "APIServiceExportRequest",
    doc = "A consumer's wish for resources.",
    root = "ApiServiceExportRequest",
    namespaced,
    status = "ApiServiceExportRequestStatus",
    category = "kube-bindings",
    storage = false,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct ApiServiceExportRequestSpec {
    /// Free-form parameters; unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::api::schema::free_object")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("parameters are immutable"))]
    pub parameters: Option<serde_json::Value>,
    /// The wanted resources.
    #[schemars(length(min = 1))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("resources are immutable"))]
    pub resources: Vec<ResourceVersions>,
}

/// Nothing to say: the object's name is the consumer's namespace.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha1",
    kind = "APIServiceNamespace",
    doc = "A namespace of the consumer, of the same name, and its counterpart in the provider's cluster.",
    root = "ApiServiceNamespace",
    namespaced,
    status = "ApiServiceNamespaceStatus",
    category = "kube-bindings",
    storage = false,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Namespace","type":"string","jsonPath":".status.namespace"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct ApiServiceNamespaceSpec {}

/// Which export is bound: the one of the same name behind this kubeconfig.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha1",
    kind = "APIServiceBinding",
    doc = "A consumer's use of one export of a provider.",
    root = "ApiServiceBinding",
    status = "ApiServiceBindingStatus",
    category = "kube-bindings",
    shortname = "sb",
    storage = false,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Provider","type":"string","jsonPath":".status.providerPrettyName"}"#,
    printcolumn = r#"{"name":"Resources","type":"string","priority":1,"jsonPath":".metadata.annotations.kube-bind\\.io/resources"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ApiServiceBindingSpec {
    /// Secret with the kubeconfig of the contract namespace.
    #[x_kube(validation = Rule::new("self == oldSelf").message("kubeconfigSecretRef is immutable"))]
    pub kubeconfig_secret_ref: NamespacedSecretKeyRef,
}

/// What the konnector observes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiServiceBindingStatus {
    /// Name of the provider for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_pretty_name: Option<String>,
    /// Observations of the konnector.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}
