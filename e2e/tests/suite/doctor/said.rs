//! What is said on objects, by the backend and by others.

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::binding::Bound;
use e2e::dirs;
use e2e::object::{self, kube_bind, rbac};
use e2e::service::{self, Exported, GROUP, Scope, request_spec};
use e2e::wait::{SOON, eventually};
use serde_json::json;
use tokio::process::Command;

use super::{Clinic, settled};
use crate::suite::place::horses;

/// A consumer that is silent, a request that failed, and an object in the way.
pub(super) async fn said() -> Result<()> {
    let (mut provider, clinic, bound, _cow) = settled("doctor-said").await?;
    let admin = &clinic.admin;
    let contract = bound.consumer.namespace().to_owned();
    let cowboys = Exported::of(GROUP, Scope::Namespaced);
    let pods = e2e::driver::spec(&cowboys, &["Pod"]);
    let outcome = bound.consumer.request_export("pods", &pods).await?;
    ensure!(outcome.phase == "Failed", "{outcome:?}");
    clinic.heals("InvalidPermissionClaim", "pods").await?;

    let request = json!({
        "metadata": {"name": "nothing"},
        "spec": {
            "author": "e2e", "clusterIdentity": {"identity": "nothing"},
            "templateRef": {"name": "nothing"},
        },
    });
    let kind = kube_bind("BindableResourcesRequest");
    object::create(admin, &kind, Some("default"), request).await?;
    clinic.heals("TemplateNotFound", "nothing").await?;

    forged(&clinic, &contract).await?;
    in_the_way(&clinic, &bound).await?;

    // Without a backend nobody knows more than the heartbeat itself says, and clocks may be wrong.
    provider.backend.stop().await?;
    let bindings = object::api(admin, &kube_bind("ClusterBinding"), Some(&contract));
    let silent = json!({"status": {
        "lastHeartbeatTime": "2020-01-01T00:00:00Z", "heartbeatInterval": "1s",
        "conditions": [{"type": "Healthy", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}],
    }});
    object::merge_patch(&bindings, "cluster", &silent, true).await?;
    let report = clinic.look().await?;
    let note = report.find("HeartbeatTimeout", "cluster").context("no note of the silence")?;
    ensure!(note["severity"] == "info" && note.get("repair").is_none(), "{note}");
    provider.backend.restart().await?;
    let found = eventually("an error of the silence", SOON, async || {
        let found = clinic.tells("HeartbeatTimeout", "cluster").await?;
        ensure!(found["severity"] == "error", "{found}");
        anyhow::Ok(found)
    })
    .await?;
    ensure!(found["destructive"] == true, "{found}");
    clinic.heals("HeartbeatTimeout", "cluster").await
}

/// What others wrote never becomes a command of ours, or a part of one.
async fn forged(clinic: &Clinic, contract: &str) -> Result<()> {
    let exports = object::api(&clinic.admin, &kube_bind("APIServiceExport"), Some(contract));
    let mut conditions = exports.get("cow").await?.data["status"]["conditions"].clone();
    conditions.as_array_mut().context("no conditions")?.push(json!({
        "type": "Forged", "status": "False", "severity": "Error", "reason": "Forged",
        "message": "clusterrole kube-binder exists\n  to repair: forged",
        "lastTransitionTime": "2020-01-01T00:00:00Z",
    }));
    let patch = json!({"status": {"conditions": conditions}});
    object::merge_patch(&exports, "cow", &patch, true).await?;
    let report = clinic.look().await?;
    let forged = report.find("Forged", "cow").context("the condition is not shown")?;
    ensure!(forged.get("repair").is_none(), "{forged}");
    let output =
        Command::new(Backend::program()?).arg("doctor").args(&clinic.flags).output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(text.contains("to repair: forged"), "{text}");
    ensure!(!text.lines().any(|line| line.trim() == "to repair: forged"), "{text}");

    let name = "it's; touch forged";
    let labels = json!({"rbac.kube-bind.io/aggregate-to-parent": "true"});
    let role = json!({"metadata": {"name": name, "labels": labels}, "rules": []});
    object::create(&clinic.admin, &rbac("ClusterRole"), None, role).await?;
    clinic.heals("AggregatedRole", name).await?;
    ensure!(!dirs::project().join("forged").exists(), "the name of a role was run");
    Ok(())
}

/// A role of somebody else where the consumer needs one: the command that removes it lets the export go on.
async fn in_the_way(clinic: &Clinic, bound: &Bound) -> Result<()> {
    let contract = bound.consumer.namespace();
    service::establish(&clinic.admin, &[horses().crd()]).await?;
    let requested = object::api(&clinic.admin, &kube_bind("APIServiceNamespace"), Some(contract));
    let requested = requested.get("wild-west").await?;
    let service = requested.data["status"]["namespace"].as_str().context("no namespace")?;
    let role = json!({"metadata": {"name": "kube-binder-claims-herd"}, "rules": []});
    object::create(&clinic.admin, &rbac("Role"), Some(service), role).await?;
    bound.consumer.submit("herd", &request_spec(&[&horses()], &[])).await?;
    clinic.heals("ForeignRole", "herd").await?;
    bound.consumer.export("herd").await.map(drop)
}
