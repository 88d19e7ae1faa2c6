//! `APIServiceNamespace`: a consumer namespace and its counterpart in the provider's cluster.
//! Contract objects.md section 6.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::conditions::Condition;

/// Nothing to say: the object's name is the consumer's namespace.
#[derive(CustomResource, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "APIServiceNamespace",
    doc = "A namespace of the consumer, of the same name, and its counterpart in the provider's cluster.",
    root = "ApiServiceNamespace",
    namespaced,
    status = "ApiServiceNamespaceStatus",
    category = "kube-bindings",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Namespace","type":"string","jsonPath":".status.namespace"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct ApiServiceNamespaceSpec {}

/// The schema does not require `spec`, so an object without one must stay readable. Only a type
/// that asks for an option accepts an absent field.
impl<'de> Deserialize<'de> for ApiServiceNamespaceSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Nothing {}
        Option::<Nothing>::deserialize(deserializer)?;
        Ok(Self {})
    }
}

/// Where the counterpart is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApiServiceNamespaceStatus {
    /// Namespace in the provider's cluster; absent until it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Why there is no namespace. Not part of the v0.8.1 schema, where refusals were silent.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}
