//! One Kubernetes cluster: its definitions, the backend's rights, and an object that cannot be decoded.

use anyhow::{Result, ensure};
use e2e::kubernetes::Kubernetes;
use e2e::object::{self, crd, kube_bind, rbac};
use e2e::wait::{SOON, eventually};
use e2e::{dirs, provider, stack};
use serde_json::json;

use super::Clinic;

pub(super) async fn on_kubernetes() -> Result<()> {
    let name = stack::unique("doctor-kubernetes");
    let kubernetes = Kubernetes::start(&dirs::fresh(&name)?).await?;
    let flags = provider::install(&kubernetes, &name).await?;
    let admin = kubernetes.client().await?;
    let kubeconfig = dirs::run()?.join(format!("{name}-admin.kubeconfig"));
    kubernetes.access()?.write(&kubeconfig)?;
    let clinic = Clinic { flags, kubeconfig, admin };
    let report = clinic.look().await?;
    ensure!(report.code == Some(0), "{:#?}", report.findings);

    let collections = "collections.kube-bind.io";
    object::delete(&object::api(&clinic.admin, &crd(), None), collections).await?;
    clinic.tells("NotReady", kubernetes.url()).await?;
    clinic.heals("DefinitionOutdated", collections).await?;
    let roles = object::api(&clinic.admin, &rbac("ClusterRole"), None);
    let mut granted = roles.get("kube-bind-backend").await?.data["rules"].clone();
    for rule in granted.as_array_mut().into_iter().flatten() {
        if rule["resources"].as_array().is_some_and(|all| all.contains(&json!("secrets"))) {
            rule["verbs"] = json!(["get", "list", "watch"]);
        }
    }
    object::merge_patch(&roles, "kube-bind-backend", &json!({"rules": granted}), false).await?;
    let found = clinic.tells("RightsMissing", "kube-bind-backend").await?;
    let message = "the backend may not create, update, patch, delete secrets.core";
    ensure!(found["severity"] == "error" && found["message"] == message, "{found}");
    clinic.heals("RightsMissing", "kube-bind-backend").await?;
    let mut granted = roles.get("kube-bind-backend").await?.data["rules"].clone();
    for rule in granted.as_array_mut().into_iter().flatten() {
        if rule["resources"].as_array().is_some_and(|all| all.contains(&json!("events"))) {
            rule["verbs"] = json!(["create"]);
        }
    }
    object::merge_patch(&roles, "kube-bind-backend", &json!({"rules": granted}), false).await?;
    let found = clinic.tells("RightsMissing", "kube-bind-backend").await?;
    ensure!(found["severity"] == "warning", "{found}");
    clinic.heals("RightsMissing", "kube-bind-backend").await?;
    unreadable(&clinic).await?;
    kubernetes.kill().await
}

/// Another definition lets in what nobody can read.
async fn unreadable(clinic: &Clinic) -> Result<()> {
    let name = "bindableresourcesrequests.kube-bind.io";
    object::accept_any_spec(&clinic.admin, name).await?;
    let kind = kube_bind("BindableResourcesRequest");
    eventually("the other definition to be in force", SOON, async || {
        let spec = json!({"clusterIdentity": 7, "author": ["nobody"]});
        let manifest = json!({"metadata": {"name": "bad"}, "spec": spec});
        object::create(&clinic.admin, &kind, Some("default"), manifest).await
    })
    .await?;
    let found = clinic.tells("ObjectUnreadable", "bad").await?;
    ensure!(found["object"]["kind"] == "BindableResourcesRequest", "{found}");
    object::delete(&object::api(&clinic.admin, &kind, Some("default")), "bad").await?;
    clinic.lacks(&found).await?;
    clinic.heals("DefinitionOutdated", name).await
}
