//! `APIServiceBindingBundle`: binds whatever the provider exports to a consumer.
//! Created by HTTP `apply-binding`, kept by the konnector; contract objects.md section 11.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NamespacedSecretKeyRef;
use crate::api::conditions::Condition;

/// Which provider: the one behind this kubeconfig.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "APIServiceBindingBundle",
    doc = "A consumer's use of everything that a provider exports to it.",
    root = "ApiServiceBindingBundle",
    status = "ApiServiceBindingBundleStatus",
    category = "kube-bindings",
    shortname = "sbb",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Provider","type":"string","jsonPath":".status.providerPrettyName"}"#,
    printcolumn = r#"{"name":"Resources","type":"string","priority":1,"jsonPath":".metadata.annotations.kube-bind\\.io/resources"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ApiServiceBindingBundleSpec {
    /// Secret with the kubeconfig of the contract namespace.
    #[x_kube(validation = Rule::new("self == oldSelf").message("kubeconfigSecretRef is immutable"))]
    pub kubeconfig_secret_ref: NamespacedSecretKeyRef,
}

/// What the konnector observes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApiServiceBindingBundleStatus {
    /// Observations of the konnector.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}
