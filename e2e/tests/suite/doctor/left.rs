//! What v0.8.1 leaves, and what is left when something goes while no backend runs.

use anyhow::{Context as _, Result, ensure};
use e2e::binding::{self, Request};
use e2e::driver::Use;
use e2e::object::{self, kube_bind, rbac};
use kube::api::DeleteParams;
use serde_json::json;

use super::{Clinic, settled};

pub(super) async fn left() -> Result<()> {
    let (mut provider, clinic, bound, cow) = settled("doctor-left").await?;
    let admin = &clinic.admin;
    let contract = bound.consumer.namespace().to_owned();
    let later = binding::bind(admin, &Request::new("later", "later")).await?;
    provider.backend.stop().await?;

    // As long as an export has no rights of its own, those of v0.8.1 are all that its consumer has.
    let service = service(&clinic, &contract).await?;
    let roles = object::api(admin, &rbac("Role"), Some(&service));
    object::delete(&roles, "kube-binder-claims-cow").await?;
    let part = legacy(&clinic, &contract).await?;
    provider.backend.restart().await?;
    // The role and its binding.
    for _ in 0..2 {
        clinic.heals("SharedExportRole", "kube-binder-exports").await?;
    }
    let found = clinic.objects("SharedExportRole").await?;
    ensure!(found.is_empty(), "{found:?}");
    clinic.heals("AggregatedRole", &part).await?;
    provider.backend.stop().await?;

    shared(&clinic, later.consumer.namespace(), &cow).await?;
    orphans(&clinic, &contract, &cow).await?;
    let report = clinic.look().await?;
    ensure!(report.reasons().is_empty(), "{:#?}", report.findings);
    Ok(())
}

/// The service namespace of a consumer.
async fn service(clinic: &Clinic, contract: &str) -> Result<String> {
    let requested = object::api(&clinic.admin, &kube_bind("APIServiceNamespace"), Some(contract));
    let requested = requested.get("wild-west").await?;
    requested.data["status"]["namespace"].as_str().map(str::to_owned).context("no namespace")
}

/// The consumer that came later has an export that v0.8.1 gives to all, and reads the Secrets of the first.
async fn shared(clinic: &Clinic, later: &str, cow: &Use) -> Result<()> {
    let mut spec = cow.export.object.data["spec"].clone();
    spec["informerScope"] = json!("Cluster");
    let exports = kube_bind("APIServiceExport");
    let export = json!({"metadata": {"name": "wide"}, "spec": spec});
    object::create(&clinic.admin, &exports, Some(later), export).await?;
    let found = clinic.tells("SharedClusterScope", "wide").await?;
    ensure!(found["object"]["namespace"] == later && found.get("repair").is_none(), "{found}");
    object::delete(&object::api(&clinic.admin, &exports, Some(later)), "wide").await?;
    clinic.lacks(&found).await
}

/// What v0.8.1 leaves.
async fn legacy(clinic: &Clinic, contract: &str) -> Result<String> {
    let aggregate = json!({"rbac.kube-bind.io/aggregate-to-parent": "true"});
    let part = format!("kube-binder-resources-{contract}-cow");
    for role in [
        json!({
            "metadata": {"name": "kube-binder-exports"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": aggregate}]},
            "rules": [],
        }),
        json!({"metadata": {"name": &part, "labels": aggregate}, "rules": []}),
    ] {
        object::create(&clinic.admin, &rbac("ClusterRole"), None, role).await?;
    }
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"name": "kube-binder-exports"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "kube-binder-exports"},
        "subjects": [{"kind": "ServiceAccount", "name": "kube-binder", "namespace": contract}],
    });
    object::create(&clinic.admin, &rbac("ClusterRoleBinding"), None, binding).await?;
    for name in ["kube-bind-oidc-user", "kube-bind-vw-apibinding-reader"] {
        let role = json!({"metadata": {"name": name}, "rules": []});
        object::create(&clinic.admin, &rbac("ClusterRole"), None, role).await?;
        clinic.heals("LegacyRole", name).await?;
    }
    let found = clinic.tells("SharedExportRole", "kube-binder-exports").await?;
    let message = found["message"].as_str().unwrap_or_default();
    ensure!(
        found.get("repair").is_none() && message.contains(&format!("{contract}/cow")),
        "{found}"
    );
    let found = clinic.tells("AggregatedRole", &part).await?;
    ensure!(found.get("repair").is_none(), "{found}");
    Ok(part)
}

/// What is left when something goes while no backend runs.
async fn orphans(clinic: &Clinic, contract: &str, cow: &Use) -> Result<()> {
    let admin = &clinic.admin;
    let requests = object::api(admin, &kube_bind("APIServiceExportRequest"), Some(contract));
    if requests.get_opt("cow").await?.is_some() {
        object::delete(&requests, "cow").await?;
    }
    // Its schema stays if nobody collects it.
    let schemas = object::api(admin, &kube_bind("BoundSchema"), Some(contract));
    let schema = cow.exported.name();
    let free = json!({"metadata": {"ownerReferences": null}});
    object::merge_patch(&schemas, &schema, &free, false).await?;
    let namespaces = object::api(admin, &kube_bind("APIServiceNamespace"), Some(contract));
    let requested = namespaces.get("wild-west").await?;
    let service = requested.data["status"]["namespace"].as_str().context("no namespace")?;
    object::delete(&object::api(admin, &kube_bind("APIServiceExport"), Some(contract)), "cow")
        .await?;
    clinic.heals("OrphanedBoundSchema", &schema).await?;
    for (kind, more) in [
        ("ClusterRole", json!({"rules": []})),
        (
            "ClusterRoleBinding",
            json!({"roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "gone",
            }}),
        ),
    ] {
        let mut object = json!({"metadata": {
            "name": "kube-binder-claims-gone",
            "labels": {"backend.kube-bind.io/managed": "true"},
            "annotations": {"backend.kube-bind.io/export": format!("{contract}/gone")},
        }});
        for (field, value) in more.as_object().into_iter().flatten() {
            object[field] = value.clone();
        }
        object::create(admin, &rbac(kind), None, object).await?;
    }
    let names = ["kube-binder-claims-cow", "kube-binder-claims-gone"];
    let expected = [
        format!("ClusterRole {}", names[1]),
        format!("ClusterRoleBinding {}", names[1]),
        format!("Role {}", names[0]),
        format!("RoleBinding {}", names[0]),
    ];
    let found = clinic.objects("OrphanedRights").await?;
    ensure!(found == expected.into(), "{found:?}");
    for name in names {
        clinic.heals("OrphanedRights", name).await?;
        clinic.heals("OrphanedRights", name).await?;
    }
    let found = clinic.objects("OrphanedRights").await?;
    ensure!(found.is_empty(), "{found:?}");
    // Its owner is gone, so that it may go by itself meanwhile.
    match namespaces.delete("wild-west", &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        deleted => drop(deleted?),
    }
    object::wait_gone(&namespaces, "wild-west").await?;
    clinic.heals("OrphanedNamespace", service).await
}
