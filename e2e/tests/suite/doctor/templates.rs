//! What is on offer and cannot be had.

use anyhow::{Result, ensure};
use e2e::kcp::Claims;
use e2e::object::{self, crd, kube_bind, schemas};
use e2e::provider::Provider;
use e2e::service::{self, BY_HAND, Exported, GROUP, Scope, Source, claim};
use kube::api::ApiResource;
use serde_json::json;

use super::Clinic;

/// The copy of the schema that a tenant makes.
const COPY: &str = "today.cowboys.wildwest.dev";

pub(super) async fn templates() -> Result<()> {
    let of_crds = clinic("doctor-crds", Source::Crds).await?;
    let cowboys = Exported::of(GROUP, Scope::Namespaced);
    unlabelled(&of_crds, &crd(), &cowboys.name()).await?;
    unusable(&of_crds).await?;
    unlabelled(&clinic("doctor-schemas", Source::Schemas).await?, &schemas(), COPY).await
}

/// A workspace with an API that is on offer, and no backend.
async fn clinic(name: &str, source: Source) -> Result<Clinic> {
    let mut provider = Provider::start(name, &[source.flag(), BY_HAND]).await?;
    let workspace = provider.tenant(name, Claims::All).await?;
    provider.serve(&workspace, source).await?;
    let admin = provider.kcp.client(&workspace.cluster).await?;
    let cowboys = Exported::of(GROUP, Scope::Namespaced);
    service::offer_template(&admin, "cowboys", &[&cowboys], &[]).await?;
    provider.backend.stop().await?;
    let clinic = Clinic::of(&provider, &admin)?;
    let report = clinic.look().await?;
    ensure!(report.code == Some(0), "{:#?}", report.findings);
    Ok(clinic)
}

/// A schema without the label, with another one, and none.
async fn unlabelled(clinic: &Clinic, kind: &ApiResource, name: &str) -> Result<()> {
    let api = object::api(&clinic.admin, kind, None);
    for value in [json!(null), json!("false")] {
        let label = json!({"metadata": {"labels": {"kube-bind.io/exported": value}}});
        object::merge_patch(&api, name, &label, false).await?;
        clinic.heals("TemplateWithoutSchema", "cowboys").await?;
    }
    object::delete(&api, name).await?;
    let found = clinic.tells("TemplateWithoutSchema", "cowboys").await?;
    ensure!(found.get("repair").is_none(), "{found}");
    Ok(())
}

/// What every request would be refused for, and a group of templates that are not there.
async fn unusable(clinic: &Clinic) -> Result<()> {
    let sheriffs = Exported::of(GROUP, Scope::Cluster);
    service::offer_template(&clinic.admin, "pods", &[&sheriffs], &[claim("pods")]).await?;
    clinic.tells("TemplateUnusable", "pods").await?;
    let collection = json!({
        "metadata": {"name": "ranch"},
        "spec": {"templates": [{"name": "cowboys"}, {"name": "horses"}]},
    });
    object::create(&clinic.admin, &kube_bind("Collection"), None, collection).await?;
    let found = clinic.tells("CollectionIncomplete", "ranch").await?;
    let message = found["message"].as_str().unwrap_or_default();
    ensure!(message.contains("horses") && !message.contains("cowboys"), "{found}");
    Ok(())
}
