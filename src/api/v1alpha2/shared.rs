//! Types that several kinds have in common.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::wire::open_string_enum;

/// What an API group may look like; empty is the core group.
pub(crate) const GROUP_PATTERN: &str =
    r"^(|[a-z0-9]([-a-z0-9]*[a-z0-9](\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?)$";
/// What a plural resource name may look like.
pub(crate) const RESOURCE_PATTERN: &str = "^[a-z][-a-z0-9]*[a-z0-9]$";
/// What an API version may look like.
pub(crate) const VERSION_PATTERN: &str = "^v[1-9][0-9]*([a-z]+[1-9][0-9]*)?$";

/// Whether something spans the whole cluster or one namespace.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum Scope {
    /// The whole cluster.
    Cluster,
    /// One namespace.
    #[default]
    Namespaced,
}

impl Scope {
    /// The value on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Namespaced => "Namespaced",
        }
    }

    /// The scope of this value on the wire.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Cluster, Self::Namespaced].into_iter().find(|scope| scope.as_str() == name)
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How objects of several consumers are kept apart in the provider's cluster.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum Isolation {
    /// Names are prefixed with the contract namespace.
    #[default]
    Prefixed,
    /// Cluster-scoped objects of the consumer are namespaced objects of the provider.
    Namespaced,
    /// Not at all; names are the same on both sides.
    None,
}

impl Isolation {
    /// The value on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prefixed => "Prefixed",
            Self::Namespaced => "Namespaced",
            Self::None => "None",
        }
    }
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a changed source schema reaches consumers that are already bound.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum SchemaUpdatePolicy {
    /// The schema of the first binding stays.
    #[default]
    Never,
    /// The consumer follows the provider.
    Always,
}

open_string_enum! {
    /// How far a request has come.
    #[derive(Default)]
    pub enum Phase {
        /// Not done yet; also the default of the API server.
        #[default]
        Pending = "Pending",
        /// Given up for good.
        Failed = "Failed",
        /// Done for good.
        Succeeded = "Succeeded",
    }
    schema = enumerated
}

impl Phase {
    /// True for the phases that are never left.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Failed | Self::Succeeded)
    }
}

/// A resource, whatever its versions.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct GroupResource {
    /// API group; empty for core.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(regex(pattern = GROUP_PATTERN), extend("default" = ""))]
    pub group: String,
    /// Plural resource name.
    #[schemars(regex(pattern = RESOURCE_PATTERN))]
    pub resource: String,
}

impl std::fmt::Display for GroupResource {
    /// `<resource>.<group>`, the name of `CustomResourceDefinition`s and `BoundSchema`s, with `core`
    /// for the empty group (objects.md section 0).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        write!(f, "{}.{group}", self.resource)
    }
}

/// A resource with the versions to export.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct ResourceVersions {
    /// API group; empty for core.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(regex(pattern = GROUP_PATTERN), extend("default" = ""))]
    pub group: String,
    /// Plural resource name.
    #[schemars(regex(pattern = RESOURCE_PATTERN))]
    pub resource: String,
    /// Versions to export; an entry without any exports nothing.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub versions: Vec<String>,
}

impl ResourceVersions {
    /// The resource without its versions.
    #[must_use]
    pub fn group_resource(&self) -> GroupResource {
        GroupResource { group: self.group.clone(), resource: self.resource.clone() }
    }
}

/// Objects of a core resource that the provider may read or write on the consumer side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PermissionClaim {
    /// API group; empty for core.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(regex(pattern = GROUP_PATTERN), extend("default" = ""))]
    pub group: String,
    /// Plural resource name.
    #[schemars(regex(pattern = RESOURCE_PATTERN))]
    pub resource: String,
    /// Which objects; evaluated by the konnector only.
    pub selector: Selector,
}

impl PermissionClaim {
    /// The claimed resource.
    #[must_use]
    pub fn group_resource(&self) -> GroupResource {
        GroupResource { group: self.group.clone(), resource: self.resource.clone() }
    }
}

/// Selects claimed objects by name, label or reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Objects with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::api::schema::label_selector")]
    pub label_selector: Option<LabelSelector>,
    /// Objects with these names.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub named_resources: Vec<NamedResource>,
    /// Objects that exported objects point at.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub references: Vec<SelectorReference>,
}

/// An object by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamedResource {
    /// Its name.
    pub name: String,
    /// Its namespace; absent for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A field of exported objects that names claimed objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectorReference {
    /// API group of the exported resource; empty for core.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(regex(pattern = GROUP_PATTERN), extend("default" = ""))]
    pub group: String,
    /// Plural name of the exported resource.
    #[schemars(regex(pattern = RESOURCE_PATTERN))]
    pub resource: String,
    /// Versions in which the field exists.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub versions: Vec<String>,
    /// Where the name and namespace are.
    pub json_path: JsonPath,
}

/// JSON paths to a name and a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JsonPath {
    /// Path to the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Path to the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Something by its name alone.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct NameRef {
    /// The name.
    pub name: String,
}

impl From<&str> for NameRef {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned() }
    }
}

/// A key of a Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Key in the Secret.
    pub key: String,
}

/// A key of a Secret in any namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamespacedSecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Key in the Secret.
    pub key: String,
    /// Namespace of the Secret.
    #[schemars(length(min = 1))]
    pub namespace: String,
}
