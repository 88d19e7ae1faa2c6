//! The export, the rights on it, and the workspace that it is in.

use anyhow::{Context as _, Result, ensure};
use e2e::kcp::Claims;
use e2e::object::{self, core, kcp_apis, kube_bind, rbac};
use e2e::provider::{EXPORT, Provider};
use e2e::service::Source;
use kube::Client;
use serde_json::{Value, json};

use super::Clinic;

pub(super) async fn export() -> Result<()> {
    let mut provider = Provider::start("doctor-export", &[Source::Crds.flag()]).await?;
    let workspace = provider.tenant("doctor-export", Claims::All).await?;
    let clinic = Clinic::of(&provider, &provider.kcp.client(&workspace.cluster).await?)?;
    provider.backend.stop().await?;
    let home = provider.kcp.client(&provider.export.cluster).await?;
    outdated(&clinic, &home).await?;
    rights(&clinic, &home).await?;
    exposed(&clinic, &home).await?;
    consumers(&clinic, &home).await?;
    let report = clinic.look().await?;
    ensure!(report.reasons().is_empty(), "{:#?}", report.findings);
    Ok(())
}

async fn outdated(clinic: &Clinic, home: &Client) -> Result<()> {
    let exports = object::api(home, &kcp_apis("APIExport"), None);
    let mut export = exports.get(EXPORT).await?.data;
    let retain = |list: &mut Value, field: &str, not: &str| {
        if let Some(list) = list.as_array_mut() {
            list.retain(|one| one[field] != not);
        }
    };
    retain(&mut export["spec"]["permissionClaims"], "resource", "events");
    retain(&mut export["spec"]["resources"], "name", "apiconversions");
    object::merge_patch(&exports, EXPORT, &json!({"spec": export["spec"]}), false).await?;
    let found = clinic.tells("ClaimsNotMade", EXPORT).await?;
    ensure!(found["severity"] == "warning", "{found}");
    clinic.heals("ExportOutdated", EXPORT).await?;
    ensure!(clinic.look().await?.find("ClaimsNotMade", EXPORT).is_none(), "init made half of it");
    retain(&mut export["spec"]["permissionClaims"], "resource", "secrets");
    let claims = json!({"spec": {"permissionClaims": export["spec"]["permissionClaims"]}});
    object::merge_patch(&exports, EXPORT, &claims, false).await?;
    let found = clinic.tells("ClaimsNotMade", EXPORT).await?;
    ensure!(found["severity"] == "error", "{found}");
    clinic.heals("ClaimsNotMade", EXPORT).await
}

/// Without its rights the backend cannot read the export either; one command repairs both.
async fn rights(clinic: &Clinic, home: &Client) -> Result<()> {
    let roles = object::api(home, &rbac("ClusterRole"), None);
    let mut granted = roles.get("kube-bind-backend").await?.data["rules"].clone();
    for rule in granted.as_array_mut().into_iter().flatten() {
        if rule["resources"].as_array().is_some_and(|all| all.contains(&json!("apiexports"))) {
            rule["resources"] = json!(["apiexportendpointslices"]);
        }
    }
    object::merge_patch(&roles, "kube-bind-backend", &json!({"rules": granted}), false).await?;
    let unreadable = clinic.tells("ExportUnreadable", EXPORT).await?;
    let found = clinic.tells("RightsMissing", "kube-bind-backend").await?;
    let message = "the backend may not get, list, watch apiexports.apis.kcp.io";
    ensure!(found["message"] == message, "{found}");
    clinic.heals("RightsMissing", "kube-bind-backend").await?;
    clinic.lacks(&unreadable).await
}

/// As v0.8.1 makes it: the export's workspace has bound the export and accepts its claims.
async fn exposed(clinic: &Clinic, home: &Client) -> Result<()> {
    let bindings = object::api(home, &kcp_apis("APIBinding"), None);
    let accepted = json!({"spec": {"permissionClaims": [{
        "group": "", "resource": "secrets", "verbs": ["*"], "state": "Accepted",
        "selector": {"matchAll": true},
    }]}});
    object::merge_patch(&bindings, EXPORT, &accepted, false).await?;
    clinic.heals("ExportWorkspaceExposed", EXPORT).await
}

/// A consumer that v0.8.1 let bind there.
async fn consumers(clinic: &Clinic, home: &Client) -> Result<()> {
    let contract = json!({"metadata": {"name": "kube-bind-here"}});
    object::create(home, &core("Namespace"), None, contract).await?;
    let kind = kube_bind("ClusterBinding");
    let binding = json!({"metadata": {"name": "cluster"}, "spec": {
        "kubeconfigSecretRef": {"name": "kubeconfig", "key": "kubeconfig"},
        "providerPrettyName": "here",
    }});
    object::create(home, &kind, Some("kube-bind-here"), binding).await?;
    let found = clinic.tells("ExportWorkspaceNotServed", "cluster").await?;
    let message = found["message"].as_str().context("no message")?;
    ensure!(message.contains("--serve-export-workspace"), "{found}");
    object::delete(&object::api(home, &kind, Some("kube-bind-here")), "cluster").await?;
    clinic.lacks(&found).await
}
