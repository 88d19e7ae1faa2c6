//! A workspace: its claims, its consumers, and its end.

use anyhow::{Context as _, Result, ensure};
use e2e::binding::{self, Request};
use e2e::driver::Use;
use e2e::kcp::{Claims, Workspace};
use e2e::object::{self, core, kcp_apis, kube_bind};
use e2e::provider::{EXPORT, Provider};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::{Clinic, settled};

pub(super) async fn on_kcp() -> Result<()> {
    let (mut provider, clinic, bound, cow) = settled("doctor-kcp").await?;
    let admin = &clinic.admin;
    let contract = bound.consumer.namespace().to_owned();

    // The tenant rejects what it had accepted.
    let bindings = object::api(admin, &kcp_apis("APIBinding"), None);
    let own = bindings.get(EXPORT).await?;
    let mut claims = own.data["spec"]["permissionClaims"].clone();
    for claim in claims.as_array_mut().into_iter().flatten() {
        if claim["resource"] == "roles" {
            claim["state"] = json!("Rejected");
        }
    }
    let patch = json!({"spec": {"permissionClaims": claims}});
    object::merge_patch(&bindings, EXPORT, &patch, false).await?;
    clinic.heals("PermissionClaimsMissing", EXPORT).await?;
    // It accepts it for some objects only; kcp lets nobody change that.
    let roles = |claim: &Value| claim["resource"] == "roles";
    let patched = |claims: &Value| json!({"spec": {"permissionClaims": claims}});
    let mut claims = bindings.get(EXPORT).await?.data["spec"]["permissionClaims"].clone();
    let list = claims.as_array_mut().context("no claims")?;
    let mut claim = list.extract_if(.., |claim| roles(claim)).next().context("no such claim")?;
    object::merge_patch(&bindings, EXPORT, &patched(&claims), false).await?;
    claim["selector"] = json!({"matchLabels": {"team": "a"}});
    claims.as_array_mut().context("no claims")?.insert(0, claim);
    object::merge_patch(&bindings, EXPORT, &patched(&claims), false).await?;
    clinic.heals("PermissionClaimsMissing", EXPORT).await?;

    // From here on nobody repairs anything unasked.
    provider.backend.stop().await?;
    let namespaces = object::api(admin, &core("Namespace"), None);
    let unrecorded = json!({"metadata": {"annotations": {"backend.kube-bind.io/bound-by": null}}});
    object::merge_patch(&namespaces, &contract, &unrecorded, false).await?;
    let found = clinic.tells("NobodyRecorded", &contract).await?;
    // Whoever is named gets the credential, so only an admin can say who.
    let message = found["message"].as_str().unwrap_or_default();
    let both = message.contains("=namespace:<") && message.contains("=user:<issuer>#<subject>");
    ensure!(both && found.get("repair").is_none(), "{found}");

    let recorded = json!({"metadata": {"annotations": {"backend.kube-bind.io/bound-by": "namespace:default"}}});
    object::merge_patch(&namespaces, &contract, &recorded, false).await?;
    lost(&mut provider, &clinic, &contract, &cow).await?;
    leaving(&clinic).await
}

/// The workspace unbinds the API and binds it again, and with the objects of the API all of the consumer's are lost. What
/// is kept for it is not called an orphan, and no command would delete it.
async fn lost(provider: &mut Provider, clinic: &Clinic, contract: &str, cow: &Use) -> Result<()> {
    let admin = &clinic.admin;
    let requested = object::api(admin, &kube_bind("APIServiceNamespace"), Some(contract));
    let requested = requested.get("wild-west").await?;
    let service = requested.data["status"]["namespace"].as_str().context("no namespace")?;
    cow.create_object("wild-west", service, "bull", json!({"intent": "stay"})).await?;
    let cluster = provider.tenants().into_iter().next().context("no tenant")?;
    let workspace = Workspace { path: cluster.clone(), cluster };
    let bindings = object::api(admin, &kcp_apis("APIBinding"), None);
    object::delete(&bindings, EXPORT).await?;
    provider.kcp.bind_export(&workspace, &provider.export.path, EXPORT, Claims::All).await?;
    let found = clinic.tells("ContractWithoutBinding", contract).await?;
    ensure!(found["severity"] == "error" && found.get("repair").is_none(), "{found}");
    let report = clinic.look().await?;
    let deletes = |one: &Value| one["repair"].as_str().is_some_and(|text| text.contains("delete"));
    ensure!(!report.findings.iter().any(deletes), "{:#?}", report.findings);
    provider.backend.restart().await?;
    binding::bind(admin, &Request::new("again", "doctor-kcp")).await?;
    clinic.lacks(&found).await?;
    object::api(admin, &core("Namespace"), None).get(service).await?;
    provider.backend.stop().await
}

/// The workspace gives up the API; what it does not let go of yet is nothing that somebody has to repair.
async fn leaving(clinic: &Clinic) -> Result<()> {
    let bindings = object::api(&clinic.admin, &kcp_apis("APIBinding"), None);
    let held = "example.org/held";
    object::edit(&bindings, EXPORT, |binding| {
        binding.metadata.finalizers.get_or_insert_default().push(held.to_owned());
    })
    .await?;
    bindings.delete(EXPORT, &DeleteParams::default()).await?;
    let finding = clinic.tells("Leaving", EXPORT).await?;
    let report = clinic.look().await?;
    let quiet = finding["severity"] == "info" && finding.get("repair").is_none();
    ensure!(quiet && report.code == Some(0), "{:?}: {:#?}", report.code, report.findings);
    // kcp takes its own finalizer away meanwhile.
    object::edit(&bindings, EXPORT, |binding| {
        binding.metadata.finalizers.get_or_insert_default().retain(|one| one != held);
    })
    .await?;
    object::wait_gone(&bindings, EXPORT).await
}
