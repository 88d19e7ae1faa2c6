//! The floor: the writes that a consumer consists of, issued raw in the same workspaces with the same concurrency.
//!
//! What is written is what the backend wrote for the first consumer of each workspace, under other names, and the
//! requests that it answered. It does not run meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::object::{self, core, kube_bind, rbac};
use e2e::provider::Provider;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Client;
use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use crate::Setting;
use crate::load::{self, AT_ONCE, Place};

/// What was measured.
pub(crate) struct Floor {
    /// Writes per consumer.
    pub(crate) writes: usize,
    /// Until all were done.
    pub(crate) taken: Duration,
}

/// Where the raw writes go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    /// To kcp itself, as an admin.
    Direct,
    /// Through the virtual workspace of the export with the credential of the backend, which has no other way: kcp
    /// handles each request twice there.
    Virtual,
}

/// One object of a consumer and how it came about.
struct Step {
    kind: ApiResource,
    namespace: Option<String>,
    object: Value,
    /// It was written once more, for its status.
    status: bool,
}

/// The objects of the first consumer, in the order of the backend.
fn objects(contract: &str, setting: Setting) -> Vec<(ApiResource, Option<String>, String, bool)> {
    let here = || Some(contract.to_owned());
    let default = || Some("default".to_owned());
    let role = format!("kube-binder-claims-{contract}-herd");
    let town = format!("{contract}-town");
    let bind = "consumer-0".to_owned();
    let mut all = vec![
        (kube_bind("BindableResourcesRequest"), default(), bind.clone(), true),
        (core("Namespace"), None, contract.to_owned(), false),
        (core("ServiceAccount"), here(), "kube-binder".into(), false),
        (rbac("RoleBinding"), here(), "kube-binder".into(), false),
        (core("Secret"), here(), "kube-binder".into(), false),
        (kube_bind("ClusterBinding"), here(), "cluster".into(), true),
        (core("Secret"), here(), "kubeconfig".into(), false),
        (core("Secret"), default(), format!("{bind}-binding-response"), false),
        (kube_bind("APIServiceExportRequest"), here(), "herd".into(), true),
    ];
    let schema = match setting {
        Setting::Cluster => "sheriffs.wildwest.dev",
        Setting::Namespaced => "cowboys.wildwest.dev",
    };
    all.push((kube_bind("BoundSchema"), here(), schema.into(), true));
    if setting == Setting::Cluster {
        all.push((rbac("ClusterRole"), None, role.clone(), false));
        all.push((rbac("ClusterRoleBinding"), None, role, false));
    }
    all.push((kube_bind("APIServiceExport"), here(), "herd".into(), true));
    if setting == Setting::Namespaced {
        let role = "kube-binder-claims-herd".to_owned();
        all.push((kube_bind("APIServiceNamespace"), here(), "town".into(), true));
        all.push((core("Namespace"), None, town.clone(), false));
        all.push((rbac("Role"), Some(town.clone()), role.clone(), false));
        all.push((rbac("RoleBinding"), Some(town), role, false));
    }
    all
}

/// Reads what is to be written again.
async fn template(place: &Place, setting: Setting) -> Result<(String, Vec<Step>)> {
    let binds = object::api(&place.admin, &kube_bind("BindableResourcesRequest"), Some("default"));
    let bind = binds.get("consumer-0").await?;
    let contract = bind.data["status"]["namespace"].as_str().context("no namespace")?.to_owned();
    let mut steps = Vec::new();
    for (kind, namespace, name, status) in objects(&contract, setting) {
        let api = object::api(&place.admin, &kind, namespace.as_deref());
        let object = api.get(&name).await.with_context(|| format!("reading {name}"))?;
        steps.push(Step { kind, namespace, object: plain(object)?, status });
    }
    Ok((contract, steps))
}

/// An object without what the server gave it.
fn plain(mut object: DynamicObject) -> Result<Value> {
    let meta = &mut object.metadata;
    meta.uid = None;
    meta.resource_version = None;
    meta.creation_timestamp = None;
    meta.generation = None;
    meta.managed_fields = None;
    meta.owner_references = None;
    if object.data["type"] == "kubernetes.io/service-account-token" {
        object.data["data"] = Value::Null;
        meta.annotations.get_or_insert_default().remove("kubernetes.io/service-account.uid");
    }
    Ok(serde_json::to_value(object)?)
}

pub(crate) async fn measure(
    provider: &Provider,
    places: &[Place],
    consumers: usize,
    setting: Setting,
    way: Way,
) -> Result<Floor> {
    let mut templates = Vec::new();
    for place in places {
        let (contract, steps) = template(place, setting).await?;
        templates.push((writer(provider, place, way).await?, contract, steps));
    }
    let writes = |(_, _, steps): &(_, _, Vec<Step>)| {
        steps.len() + steps.iter().filter(|step| step.status).count()
    };
    let writes = templates.first().map_or(0, writes);
    let all: Vec<_> =
        (0..consumers).flat_map(|index| templates.iter().map(move |t| (t, index))).collect();
    let since = Instant::now();
    stream::iter(all)
        .map(|((writer, contract, steps), index)| {
            let other = format!("{way:?}-{index}").to_lowercase();
            write(writer, contract, steps, other)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(Floor { writes, taken: since.elapsed() })
}

async fn writer(provider: &Provider, place: &Place, way: Way) -> Result<Client> {
    match way {
        Way::Direct => Ok(place.admin.clone()),
        Way::Virtual => {
            let (access, endpoint) = load::backend_access(provider).await?;
            access
                .at(format!("{endpoint}/clusters/{}", place.workspace.cluster))
                .client("bench")
                .await
        }
    }
}

/// Writes one consumer under another name.
async fn write(admin: &Client, contract: &str, steps: &[Step], other: String) -> Result<()> {
    let renamed = |text: &str| {
        text.replace(contract, &format!("{contract}-{other}")).replace("consumer-0", &other)
    };
    for Step { kind, namespace, object, status } in steps {
        let object: Value = serde_json::from_str(&renamed(&object.to_string()))?;
        let namespace = namespace.as_deref().map(renamed);
        let made = object::create(admin, kind, namespace.as_deref(), object.clone()).await?;
        if *status {
            let name = made.metadata.name.as_deref().unwrap_or_default();
            let api = object::api(admin, kind, namespace.as_deref());
            let version = json!({"resourceVersion": made.metadata.resource_version});
            // Of a BoundSchema it is the owner that is written later, as a change of metadata.
            let patch = match object.get("status") {
                Some(status) => json!({"metadata": version, "status": status}),
                None => json!({"metadata": {"annotations": {"bench": "true"}}}),
            };
            let status = object.get("status").is_some();
            object::patient(|| object::merge_patch(&api, name, &patch, status)).await?;
        }
    }
    Ok(())
}
