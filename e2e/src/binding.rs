//! Binds a consumer through a `BindableResourcesRequest`, the way without HTTP (contract objects.md 10).

use crate::wait::SOON;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::driver::Consumer;
use crate::object::{self, core, kube_bind};

/// Key of the response Secret unless the request names another.
const RESPONSE_KEY: &str = "binding-response";

/// Who binds what.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Where the request is made.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Identity of the consumer cluster.
    pub identity: &'a str,
    /// `spec.author`.
    pub author: &'a str,
    /// An `APIServiceExportTemplate`, if the request names one.
    pub template: Option<&'a str>,
}

/// The outcome of a binding.
#[derive(Debug)]
pub struct Bound {
    /// The request when it had succeeded.
    pub request: DynamicObject,
    /// The `BindingResourceResponse` of its Secret.
    pub response: Value,
    /// The kubeconfig as the response has it, byte for byte.
    pub kubeconfig: String,
    /// The consumer that uses it.
    pub consumer: Consumer,
}

impl<'a> Request<'a> {
    /// A request without template in the namespace `default`.
    #[must_use]
    pub fn new(name: &'a str, identity: &'a str) -> Self {
        Self { namespace: "default", name, identity, author: "e2e@example.org", template: None }
    }
}

/// Creates the request as `admin`, waits for phase Succeeded, and reads the response from its Secret.
pub async fn bind(admin: &Client, request: &Request<'_>) -> Result<Bound> {
    create(admin, request).await?;
    finished(admin, request).await
}

/// Only creates the request.
pub async fn create(admin: &Client, request: &Request<'_>) -> Result<DynamicObject> {
    let mut spec = json!({
        "clusterIdentity": {"identity": request.identity},
        "author": request.author,
    });
    if let Some(template) = request.template {
        spec["templateRef"] = json!({"name": template});
    }
    let manifest = json!({"metadata": {"name": request.name}, "spec": spec});
    object::create(admin, &kube_bind("BindableResourcesRequest"), Some(request.namespace), manifest)
        .await
}

/// Waits for the final phase of a request, which must be Succeeded, and reads the response from its Secret.
pub async fn finished(admin: &Client, request: &Request<'_>) -> Result<Bound> {
    let &Request { namespace, name, .. } = request;
    let requests = object::api(admin, &kube_bind("BindableResourcesRequest"), Some(namespace));
    let what = format!("BindableResourcesRequest {namespace}/{name} to end");
    let ended = object::wait_for(&requests, name, &what, SOON, |request| {
        let phase = request.data["status"]["phase"].as_str().unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") { Ok(()) } else { Err(object::summary(request)) }
    })
    .await?;
    if ended.data["status"]["phase"] != "Succeeded" {
        bail!("the binding failed: {}", object::summary(&ended));
    }
    let reference = &ended.data["status"]["kubeconfigSecretRef"];
    let secret_name =
        reference["name"].as_str().context("status.kubeconfigSecretRef has no name")?;
    let key = reference["key"].as_str().unwrap_or(RESPONSE_KEY);
    let secret = object::api(admin, &core("Secret"), Some(namespace))
        .get(secret_name)
        .await
        .with_context(|| format!("reading the response Secret {namespace}/{secret_name}"))?;
    let (response, kubeconfig) = decode(&object::secret_text(&secret, key)?)?;
    let consumer = Consumer::new(&kubeconfig).await.context("using the issued kubeconfig")?;
    ensure!(
        ended.data["status"]["namespace"] == consumer.namespace(),
        "status.namespace is {}, the kubeconfig's context says {}",
        ended.data["status"]["namespace"],
        consumer.namespace()
    );
    Ok(Bound { request: ended, response, kubeconfig, consumer })
}

impl Bound {
    /// The checks of konnector.md section 9 step 1 that need an admin: the provider's copy of the kubeconfig is the
    /// same bytes, type and key are right, the `ClusterBinding` names it. Returns the Secret.
    pub async fn check_secret(&self, admin: &Client) -> Result<DynamicObject> {
        let namespace = self.consumer.namespace();
        let secret = object::api(admin, &core("Secret"), Some(namespace)).get("kubeconfig").await?;
        ensure!(
            object::secret_text(&secret, "kubeconfig")? == self.kubeconfig,
            "Secret {namespace}/kubeconfig and the response differ"
        );
        let keys: Vec<_> =
            secret.data["data"].as_object().into_iter().flat_map(|data| data.keys()).collect();
        ensure!(keys == ["kubeconfig"], "Secret {namespace}/kubeconfig has the keys {keys:?}");
        ensure!(secret.data["type"] == "Opaque", "its type is {}", secret.data["type"]);
        let binding = object::api(admin, &kube_bind("ClusterBinding"), Some(namespace))
            .get("cluster")
            .await?;
        let reference = &binding.data["spec"]["kubeconfigSecretRef"];
        ensure!(
            *reference == json!({"name": "kubeconfig", "key": "kubeconfig"}),
            "ClusterBinding {namespace}/cluster refers to {reference}"
        );
        Ok(secret)
    }
}

/// A `BindingResourceResponse` and the kubeconfig in it.
fn decode(text: &str) -> Result<(Value, String)> {
    let response: Value = serde_json::from_str(text).context("the response is no JSON")?;
    ensure!(
        response["kind"] == "BindingResourceResponse"
            && response["apiVersion"] == "kube-bind.io/v1alpha2",
        "the response is a {} {}",
        response["apiVersion"],
        response["kind"]
    );
    let kubeconfig = response["kubeconfig"].as_str().context("the response has no kubeconfig")?;
    let kubeconfig = STANDARD.decode(kubeconfig).context("its kubeconfig is no base64")?;
    Ok((response, String::from_utf8(kubeconfig).context("its kubeconfig is no text")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_of_another_kind_is_refused() {
        let response = json!({"kind": "BindingResponse", "apiVersion": "kube-bind.io/v1alpha2"});
        let error = decode(&response.to_string()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the response is a \"kube-bind.io/v1alpha2\" \"BindingResponse\""
        );
    }

    #[test]
    fn the_kubeconfig_is_decoded() {
        let response = json!({
            "kind": "BindingResourceResponse", "apiVersion": "kube-bind.io/v1alpha2",
            "authentication": {}, "kubeconfig": STANDARD.encode("kind: Config"), "requests": null,
        });
        assert_eq!(decode(&response.to_string()).unwrap(), (response, "kind: Config".to_owned()));
    }
}
