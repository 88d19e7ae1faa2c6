//! `BindableResourcesRequest`: a bind as an object, and as the body of `POST /api/bind`; with
//! [`BindingResourceResponse`], what comes back. Contract objects.md section 10, http.md.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ApiServiceExportRequest, NameRef, Phase, SecretKeyRef};
use crate::api::keys;

/// Who wants to bind what.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "BindableResourcesRequest",
    doc = "A wish to bind; its response holds what a consumer needs to connect.",
    root = "BindableResourcesRequest",
    namespaced,
    status = "BindableResourcesRequestStatus",
    category = "kube-bindings",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Template","type":"string","jsonPath":".spec.templateRef.name"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct BindableResourcesRequestSpec {
    /// The wanted template. The CLI writes an empty name for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<NameRef>,
    /// The consumer.
    pub cluster_identity: ClusterIdentity,
    /// Who asks; HTTP ignores it in favour of the session.
    pub author: String,
    /// Where to put the response; a default name without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret_ref: Option<SecretKeyRef>,
    /// How long the request lives after it finished, as a Go duration. Kept as text: a bad value
    /// must become a condition, not an unreadable object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_after_finished: Option<String>,
}

/// The consumer's cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterIdentity {
    /// Stable and unique: the UID of the consumer's `kube-system` namespace, as a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretty_name: Option<String>,
}

/// What became of the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {}))]
pub struct BindableResourcesRequestStatus {
    /// How far it has come.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub phase: Phase,
    /// The consumer's contract namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Where the response is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret_ref: Option<SecretKeyRef>,
    /// When it finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Observations of the backend.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "crate::api::schema::standard_conditions")]
    pub conditions: Vec<Condition>,
}

/// Kind of the response that a Secret holds.
pub const KIND_BINDING_RESOURCE_RESPONSE: &str = "BindingResourceResponse";
/// Kind of the response over HTTP.
pub const KIND_BINDING_RESPONSE: &str = "BindingResponse";

/// What the consumer needs to connect. Not an API object: it is the value of a Secret key and the
/// body of an HTTP response, which differ in their kind.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BindingResourceResponse {
    /// [`KIND_BINDING_RESOURCE_RESPONSE`] or [`KIND_BINDING_RESPONSE`].
    pub kind: String,
    /// [`keys::API_VERSION`].
    pub api_version: String,
    /// How the consumer proved who it is.
    #[serde(default)]
    pub authentication: BindingAuthentication,
    /// Base64 of the kubeconfig. It is a credential: `Debug` leaves it out.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub kubeconfig: String,
    /// Requests for the client to create; `null` in a Secret.
    #[serde(default)]
    pub requests: Option<Vec<ApiServiceExportRequest>>,
    /// The consumer's contract namespace; over HTTP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_namespace: Option<String>,
    /// Name of the request that was created; only where the backend created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding_name: Option<String>,
}

impl BindingResourceResponse {
    /// The response that goes into a Secret.
    #[must_use]
    pub fn for_secret(kubeconfig_base64: String) -> Self {
        Self {
            kind: KIND_BINDING_RESOURCE_RESPONSE.to_owned(),
            api_version: keys::API_VERSION.to_owned(),
            authentication: BindingAuthentication::default(),
            kubeconfig: kubeconfig_base64,
            requests: None,
            provider_namespace: None,
            binding_name: None,
        }
    }
}

impl std::fmt::Debug for BindingResourceResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BindingResourceResponse")
            .field("kind", &self.kind)
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

/// How the consumer proved who it is; empty where no browser was involved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingAuthentication {
    /// The session of an `OAuth2` code grant.
    #[serde(rename = "oauth2CodeGrant", default, skip_serializing_if = "Option::is_none")]
    pub oauth2_code_grant: Option<CodeGrantSession>,
}

/// The session of an `OAuth2` code grant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeGrantSession {
    /// Session id.
    #[serde(rename = "sid")]
    pub session_id: String,
    /// `<issuer>/<subject>`.
    pub id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_holds_the_bytes_of_the_contract() {
        let response = BindingResourceResponse::for_secret("Zm9v".into());
        let expected = concat!(
            r#"{"kind":"BindingResourceResponse","apiVersion":"kube-bind.io/v1alpha2","#,
            r#""authentication":{},"kubeconfig":"Zm9v","requests":null}"#
        );
        assert_eq!(serde_json::to_string(&response).unwrap(), expected);
        assert!(!format!("{response:?}").contains("Zm9v"));
    }
}
