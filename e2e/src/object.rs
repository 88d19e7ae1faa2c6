//! Untyped objects: the API resources of the kinds that tests touch, and short forms for common calls.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::FutureExt as _;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::wait::{GONE, eventually};

/// For a busy server to answer something else than 429.
const BUSY: Duration = Duration::from_secs(30);

/// `ApiResource` of a kind whose plural is `plural`. `group` is empty for the core group.
#[must_use]
pub fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version,
        kind: kind.into(),
        plural: plural.into(),
    }
}

/// `kube-bind.io/v1alpha2`: the version that every client of v0.8.1 uses (contract objects.md 0).
#[must_use]
pub fn kube_bind(kind: &str) -> ApiResource {
    resource("kube-bind.io", "v1alpha2", kind, &format!("{}s", kind.to_lowercase()))
}

/// A kind of the core group, such as `Secret`.
#[must_use]
pub fn core(kind: &str) -> ApiResource {
    resource("", "v1", kind, &format!("{}s", kind.to_lowercase()))
}

/// A kind of `rbac.authorization.k8s.io/v1`.
#[must_use]
pub fn rbac(kind: &str) -> ApiResource {
    resource("rbac.authorization.k8s.io", "v1", kind, &format!("{}s", kind.to_lowercase()))
}

/// A kind of kcp's `apis.kcp.io/v1alpha2`.
#[must_use]
pub fn kcp_apis(kind: &str) -> ApiResource {
    resource("apis.kcp.io", "v1alpha2", kind, &format!("{}s", kind.to_lowercase()))
}

/// The kind of kcp's schemas, which has a version of its own.
#[must_use]
pub fn schemas() -> ApiResource {
    resource("apis.kcp.io", "v1alpha1", "APIResourceSchema", "apiresourceschemas")
}

/// The kind that says where the virtual workspaces of an export are.
#[must_use]
pub fn endpoint_slices() -> ApiResource {
    resource("apis.kcp.io", "v1alpha1", "APIExportEndpointSlice", "apiexportendpointslices")
}

/// The kind of CRDs.
#[must_use]
pub fn crd() -> ApiResource {
    resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
}

/// An API of untyped objects, in a namespace or for the whole cluster.
#[must_use]
pub fn api(client: &Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

/// Creates the object that `manifest` describes. kind and apiVersion may be left out.
pub async fn create(
    client: &Client,
    resource: &ApiResource,
    namespace: Option<&str>,
    mut manifest: Value,
) -> Result<DynamicObject> {
    manifest["apiVersion"] = Value::from(resource.api_version.clone());
    manifest["kind"] = Value::from(resource.kind.clone());
    let object: DynamicObject = serde_json::from_value(manifest).context("no object")?;
    let name = object.metadata.name.clone().unwrap_or_default();
    let api = api(client, resource, namespace);
    let params = PostParams::default();
    patient(|| api.create(&params, &object))
        .await
        .with_context(|| format!("creating {} {name}", resource.kind))
}

/// As [`create`], but an object of that name that exists already is as good; it is not changed.
pub async fn create_once(
    client: &Client,
    resource: &ApiResource,
    namespace: Option<&str>,
    manifest: Value,
) -> Result<DynamicObject> {
    let name = manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    match create(client, resource, namespace, manifest).await {
        Err(error) if code(&error) == Some(409) => {
            let existing = api(client, resource, namespace).get(&name).await;
            existing.with_context(|| format!("reading {} {name}", resource.kind))
        }
        made => made,
    }
}

/// All objects of an API.
pub async fn list(api: &Api<DynamicObject>) -> Result<Vec<DynamicObject>> {
    let params = ListParams::default();
    Ok(patient(|| api.list(&params)).await?.items)
}

/// Again after 429, as client-go does: servers give it while the watch cache of a kind fills and when more requests are
/// in flight than they serve at once. Nothing was done then.
pub async fn patient<T, F>(mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    let answer = eventually("a server that is not busy", BUSY, || {
        attempt().map(|answer| match answer {
            Err(kube::Error::Api(status)) if status.code == 429 => Err(status.message),
            answer => Ok(answer),
        })
    });
    Ok(answer.await??)
}

/// The HTTP status of an API server's refusal.
#[must_use]
pub fn code(error: &anyhow::Error) -> Option<u16> {
    match error.downcast_ref() {
        Some(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

/// JSON merge patch of an object or, with `subresource`, of its status.
pub async fn merge_patch(
    api: &Api<DynamicObject>,
    name: &str,
    patch: &(impl serde::Serialize + Debug),
    status: bool,
) -> kube::Result<DynamicObject> {
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    if status {
        api.patch_status(name, &params, &patch).await
    } else {
        api.patch(name, &params, &patch).await
    }
}

/// Reads the object, edits it and writes it under the version that was read: again when somebody wrote in between, so that
/// nothing of theirs is undone, as a patch that holds a whole list would.
pub async fn edit(
    api: &Api<DynamicObject>,
    name: &str,
    edit: impl Fn(&mut DynamicObject),
) -> Result<DynamicObject> {
    let params = PostParams::default();
    let written = eventually("an object that nobody else writes", BUSY, async || {
        let mut object = match api.get(name).await {
            Ok(object) => object,
            Err(error) => return Ok(Err(error)),
        };
        edit(&mut object);
        match api.replace(name, &params, &object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Err(status.message),
            answer => Ok(answer),
        }
    });
    written.await?.with_context(|| format!("editing {name}"))
}

/// Lets the API server accept any spec of a kind that is defined by a CRD.
pub async fn accept_any_spec(admin: &Client, crd_name: &str) -> Result<()> {
    let definitions = api(admin, &crd(), None);
    edit(&definitions, crd_name, |definition| {
        let versions = definition.data["spec"]["versions"].as_array_mut();
        for version in versions.into_iter().flatten() {
            version["schema"]["openAPIV3Schema"]["properties"]["spec"] =
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        }
    })
    .await?;
    Ok(())
}

/// Waits until the object fulfils `condition`, which says what is missing. Returns the object.
pub async fn wait_for(
    api: &Api<DynamicObject>,
    name: &str,
    what: &str,
    deadline: Duration,
    condition: impl Fn(&DynamicObject) -> Result<(), String>,
) -> Result<DynamicObject> {
    eventually(what, deadline, async || {
        let object = api.get(name).await.map_err(|error| error.to_string())?;
        condition(&object).map(|()| object)
    })
    .await
}

/// Waits until there is no object of this name, [`GONE`] at most.
pub async fn wait_gone(api: &Api<DynamicObject>, name: &str) -> Result<()> {
    wait_without(api, name, |_| true).await
}

/// Deletes an object and waits for its end, [`GONE`] at most. Another of its name may be there at once.
pub async fn delete(api: &Api<DynamicObject>, name: &str) -> Result<()> {
    let deleted = api.delete(name, &DeleteParams::default()).await;
    let uid = deleted
        .with_context(|| format!("deleting {name}"))?
        .either(|object| object.metadata.uid, |status| status.details.map(|details| details.uid));
    wait_without(api, name, |found| found.metadata.uid == uid).await
}

async fn wait_without(
    api: &Api<DynamicObject>,
    name: &str,
    is_it: impl Fn(&DynamicObject) -> bool,
) -> Result<()> {
    eventually(&format!("{name} to be gone"), GONE, async || match api.get_opt(name).await {
        Ok(Some(object)) if is_it(&object) => Err(format!("still there: {}", summary(&object))),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await
}

/// Whether a condition has a status; else what the conditions are.
pub fn expect_condition(object: &DynamicObject, kind: &str, status: &str) -> Result<(), String> {
    let found = condition(object, kind);
    if found.is_some_and(|condition| condition["status"] == status) {
        return Ok(());
    }
    Err(format!("no condition {kind}={status}: {}", summary(object)))
}

/// Whether a condition is False for this reason; else what the conditions are. Something else may be said before, which
/// passes by itself.
pub fn expect_refusal(object: &DynamicObject, kind: &str, reason: &str) -> Result<(), String> {
    expect_condition(object, kind, "False")?;
    let found = condition(object, kind);
    if found.is_some_and(|condition| condition["reason"] == reason) {
        return Ok(());
    }
    Err(format!("{kind}=False not for {reason}: {}", summary(object)))
}

/// A condition by its type.
#[must_use]
pub fn condition<'a>(object: &'a DynamicObject, kind: &str) -> Option<&'a Value> {
    let conditions = object.data.get("status")?.get("conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// What a message says about an object: its phase and conditions, never its data.
#[must_use]
pub fn summary(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("object", |types| types.kind.as_str());
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let deleting = if object.metadata.deletion_timestamp.is_some() { ", terminating" } else { "" };
    let status = &object.data["status"];
    let phase =
        status["phase"].as_str().map(|phase| format!(", phase {phase}")).unwrap_or_default();
    let conditions: Vec<String> = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| {
            let text = |field: &str| c[field].as_str().unwrap_or_default().to_owned();
            format!("{}={} {} {}", text("type"), text("status"), text("reason"), text("message"))
                .trim_end()
                .to_owned()
        })
        .collect();
    format!("{kind} {name}{phase}{deleting}, conditions [{}]", conditions.join("; "))
}

/// One key of a Secret as text.
pub fn secret_text(secret: &DynamicObject, key: &str) -> Result<String> {
    use base64::Engine as _;
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let value = secret.data["data"][key]
        .as_str()
        .with_context(|| format!("Secret {name} has no key {key}"))?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(value)?;
    String::from_utf8(bytes).with_context(|| format!("key {key} of Secret {name} is no text"))
}
