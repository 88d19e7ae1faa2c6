//! Bindings to the export that are not as they should be.

use anyhow::{Context as _, Result, ensure};
use e2e::kcp::Claims;
use e2e::object::{self, kcp_apis};
use e2e::provider::{EXPORT, Provider};
use e2e::service::{self, Scope, Source, version};
use e2e::stack;
use kube::Client;
use serde_json::{Value, json};

use super::Clinic;

/// The group of the backend.
const OURS: &str = "kube-bind.io";

pub(super) async fn bindings() -> Result<()> {
    let provider = Provider::start("doctor-bindings", &[Source::Bindings.flag()]).await?;
    let workspace = provider.tenant("doctor-bindings", Claims::All).await?;
    let admin = provider.kcp.client(&workspace.cluster).await?;
    let clinic = Clinic::of(&provider, &admin)?;
    optional(&clinic).await?;
    outdated(&provider, &clinic).await?;
    unbound(&provider, &clinic).await
}

/// What can be done without: a note where the workspace rejects it, a warning where it has not answered.
async fn optional(clinic: &Clinic) -> Result<()> {
    let bindings = object::api(&clinic.admin, &kcp_apis("APIBinding"), None);
    let own = bindings.get(EXPORT).await?;
    let accepted = own.data["spec"]["permissionClaims"].as_array().context("no claims")?;
    let is_it = |resource: &str| resource == "apibindings" || resource == "events";
    let rejected = accepted.iter().cloned().map(|mut claim| {
        if claim["resource"].as_str().is_some_and(is_it) {
            claim["state"] = json!("Rejected");
        }
        claim
    });
    let rejected = json!({"spec": {"permissionClaims": rejected.collect::<Vec<_>>()}});
    object::merge_patch(&bindings, EXPORT, &rejected, false).await?;
    let found = clinic.tells("PermissionClaimsMissing", EXPORT).await?;
    ensure!(found["severity"] == "info", "{found}");
    clinic.heals("PermissionClaimsMissing", EXPORT).await?;

    let mut unanswered = accepted.clone();
    unanswered.retain(|claim| !claim["resource"].as_str().is_some_and(is_it));
    let unanswered = json!({"spec": {"permissionClaims": unanswered}});
    object::merge_patch(&bindings, EXPORT, &unanswered, false).await?;
    let found = clinic.tells("PermissionClaimsMissing", EXPORT).await?;
    ensure!(found["severity"] == "warning", "{found}");
    clinic.heals("PermissionClaimsMissing", EXPORT).await
}

/// A resource of that name that the workspace has itself.
async fn occupy(admin: &Client, plural: &str, kind: &str) -> Result<()> {
    let definition = service::crd(OURS, plural, kind, Scope::Cluster, &[version("v1alpha2", true)]);
    service::establish(admin, &[definition]).await
}

/// The export gets a resource of which a workspace has one already.
async fn outdated(provider: &Provider, clinic: &Clinic) -> Result<()> {
    let home = provider.kcp.client(&provider.export.cluster).await?;
    let exports = object::api(&home, &kcp_apis("APIExport"), None);
    let mut resources = exports.get(EXPORT).await?.data["spec"]["resources"].clone();
    let all = resources.as_array_mut().context("no resources")?;
    let at = all.iter().position(|one| one["name"] == "apiconversions").context("not exported")?;
    let taken = all.remove(at);
    let without = json!({"spec": {"resources": all}});
    object::merge_patch(&exports, EXPORT, &without, false).await?;
    clinic.tells("ExportOutdated", EXPORT).await?;
    let workspace = provider.tenant("outdated", Claims::All).await?;
    let admin = provider.kcp.client(&workspace.cluster).await?;
    occupy(&admin, "apiconversions", "APIConversion").await?;
    let mut all = all.clone();
    all.push(taken);
    let with = json!({"spec": {"resources": all}});
    object::merge_patch(&exports, EXPORT, &with, false).await?;
    let found = clinic.tells("BindingOutdated", EXPORT).await?;
    let message = found["message"].as_str().unwrap_or_default();
    ensure!(message.contains("apiconversions.kube-bind.io"), "{found}");
    ensure!(found["object"]["cluster"] == workspace.cluster.as_str(), "{found}");
    let (_, shown) = clinic.workspaces().await?;
    ensure!(health(&shown, &workspace.cluster) == Some("BindingOutdated"), "{shown}");
    Ok(())
}

/// What is said of a workspace.
fn health<'a>(shown: &'a Value, cluster: &str) -> Option<&'a str> {
    let row = shown["workspaces"].as_array()?.iter().find(|row| row["cluster"] == cluster)?;
    row["health"].as_str()
}

/// A workspace that has bound, and does not get what it binds.
async fn unbound(provider: &Provider, clinic: &Clinic) -> Result<()> {
    let workspace = provider.kcp.create_workspace("root", &stack::unique("occupied")).await?;
    let admin = provider.kcp.client(&workspace.cluster).await?;
    occupy(&admin, "clusters", "Cluster").await?;
    let manifest = json!({"metadata": {"name": EXPORT}, "spec": {
        "reference": {"export": {"path": provider.export.path, "name": EXPORT}},
    }});
    object::create(&admin, &kcp_apis("APIBinding"), None, manifest).await?;
    let found = clinic.tells("NotBound", EXPORT).await?;
    ensure!(found["object"]["cluster"] == workspace.cluster.as_str(), "{found}");
    let (_, shown) = clinic.workspaces().await?;
    ensure!(health(&shown, &workspace.cluster) == Some("NotBound"), "{shown}");
    object::delete(&object::api(&admin, &kcp_apis("APIBinding"), None), EXPORT).await?;
    clinic.lacks(&found).await
}
