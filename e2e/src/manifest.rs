//! YAML files and folders of manifests.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Client, discovery};
use serde_json::{Value, json};

use crate::object;
use crate::wait::{GONE, SOON, eventually};

/// After so many looks a CRD that is still there is changed.
const LOOKS: u32 = 50;

/// The objects of a YAML text with any number of documents.
pub fn parse(text: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("no YAML")?;
    let objects = documents.into_iter().filter(|document| !document.is_null());
    objects
        .map(|document| serde_json::from_value(document).context("no Kubernetes object"))
        .collect()
}

/// Applies every `*.yaml` of a folder in the order of the file names, as `kubectl apply --server-side` does.
///
/// Waits until the CRDs among them are established. Objects without a namespace go to `namespace`.
pub async fn apply_dir(client: &Client, dir: &Path, namespace: &str) -> Result<()> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .with_context(|| format!("reading {}", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file)?;
        apply(client, &text, namespace)
            .await
            .with_context(|| format!("applying {}", file.display()))?;
    }
    Ok(())
}

/// Applies a YAML text; see [`apply_dir`].
pub async fn apply(client: &Client, text: &str, namespace: &str) -> Result<()> {
    let objects = parse(text)?;
    for object in &objects {
        apply_one(client, object, namespace).await?;
    }
    let crds = object::api(client, &object::crd(), None);
    for object in objects
        .iter()
        .filter(|o| o.types.as_ref().is_some_and(|types| types.kind == "CustomResourceDefinition"))
    {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        object::wait_for(&crds, name, "an established CRD", SOON, |crd| {
            object::expect_condition(crd, "Established", "True")
        })
        .await?;
    }
    Ok(())
}

/// Deletes a CRD and waits for its end.
///
/// The server's finalizer drops a CRD that another of its controllers changed at the same moment, and looks again only at
/// the next change; so that no CRD stays for ever, it gets one every few seconds.
pub async fn delete_crd(client: &Client, name: &str) -> Result<()> {
    let crds = object::api(client, &object::crd(), None);
    crds.delete(name, &DeleteParams::default()).await?;
    let looks = AtomicU32::new(0);
    eventually(&format!("CRD {name} to be gone"), GONE, async || {
        let Some(found) = crds.get_opt(name).await? else { return Ok(()) };
        let look = looks.fetch_add(1, Ordering::Relaxed);
        if look % LOOKS == LOOKS - 1 {
            let change = json!({"metadata": {"annotations": {"e2e/look": look.to_string()}}});
            crds.patch(name, &PatchParams::default(), &Patch::Merge(change)).await?;
        }
        Err(anyhow!("still there: {}", object::summary(&found)))
    })
    .await
}

async fn apply_one(client: &Client, object: &DynamicObject, namespace: &str) -> Result<()> {
    let types = object.types.as_ref().context("no kind")?;
    let gvk = GroupVersionKind::try_from(types)?;
    let name = object.metadata.name.clone().context("no name")?;
    let what = format!("{} {name} to be applied", types.kind);
    eventually(&what, SOON, async || {
        // Repeated, because a kind whose CRD is seconds old is not served everywhere yet.
        let (resource, capabilities) = discovery::pinned_kind(client, &gvk).await?;
        let namespace = object.metadata.namespace.as_deref().unwrap_or(namespace);
        let namespaced = capabilities.scope == discovery::Scope::Namespaced;
        object::api(client, &resource, namespaced.then_some(namespace))
            .patch(&name, &PatchParams::apply("kube-bind-e2e").force(), &Patch::Apply(object))
            .await
            .map(drop)
    })
    .await
}
