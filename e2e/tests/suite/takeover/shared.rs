//! v0.8.1 lets two consumers of one cluster have what only one may have here: claims under consumer scope Cluster, by which
//! each reads the Secrets of both.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use e2e::driver::Use;
use e2e::object::{self, core, kube_bind, rbac};
use e2e::wait::SOON;
use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};

use super::super::place::Place;
use super::{Old, WIDE, downgrade, secrets, settle, uids};

/// The name of the second consumer's export, and the role that it would get.
const EXPORT: &str = "cow";

pub(super) async fn taken() -> Result<()> {
    let mut place = Place::kcp("takeover-two", WIDE).await?;
    let outcome = is_taken(&mut place).await;
    place.end(outcome).await
}

async fn is_taken(place: &mut Place) -> Result<()> {
    let first = settle(place).await?;
    let second = place.bind("second").await?;
    let contract = second.consumer.namespace().to_owned();
    place.backend().stop().await?;
    downgrade(place, &first).await.context("making it as v0.8.1 leaves it")?;
    for kind in ["APIServiceExport", "BoundSchema"] {
        give(place, kind, &first.cow, &contract).await?;
    }
    let secrets_of_first = secrets(place, &first).await?;
    let before = uids(place, &first).await?;

    place.backend().restart().await?;
    let exports = place.api(&kube_bind("APIServiceExport"), Some(&contract));
    let said = |condition: &'static str, status: &'static str| {
        object::wait_for(&exports, EXPORT, condition, SOON, move |export| {
            object::expect_condition(export, condition, status)
        })
    };
    let refused = said("RightsGranted", "False").await?;
    let condition = object::condition(&refused, "RightsGranted").context("no condition")?;
    ensure!(condition["reason"] == "SharedClusterScope", "{condition}");
    let role = format!("kube-binder-claims-{contract}-{EXPORT}");
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        let made = place.api(&rbac(kind), None).get_opt(&role).await?;
        ensure!(made.is_none(), "{kind} {role} was made");
    }
    let all = object::api(second.consumer.client(), &core("Secret"), None);
    let answer = all.list(&ListParams::default()).await;
    let forbidden = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 403);
    ensure!(forbidden, "the second consumer reads the Secrets of all: {answer:?}");
    unharmed(place, &first, &secrets_of_first, &before).await?;

    // The way out that the message names: the first consumer goes.
    object::delete(&place.namespaces(), first.contract()).await?;
    said("RightsGranted", "True").await?;
    place.api(&rbac("ClusterRole"), None).get(&role).await?;
    Ok(())
}

/// The first consumer notices nothing.
async fn unharmed(
    place: &Place,
    first: &Old,
    known: &BTreeMap<String, Value>,
    before: &[String],
) -> Result<()> {
    first.cow.check_rights_kept(&place.admin, &[&first.service]).await?;
    ensure!(secrets(place, first).await? == *known, "a Secret has changed");
    let now = uids(place, first).await?;
    let lost: Vec<_> = before.iter().filter(|object| !now.contains(object)).collect();
    ensure!(lost.is_empty(), "gone or made anew: {lost:#?}");
    Ok(())
}

/// Gives another consumer what the first one has of a kind, with nothing in it that v0.8.1 does not write.
async fn give(place: &Place, kind: &str, cow: &Use, contract: &str) -> Result<()> {
    let kind = kube_bind(kind);
    let name = if kind.kind == "BoundSchema" { cow.exported.name() } else { EXPORT.to_owned() };
    let DynamicObject { metadata, data, .. } =
        place.api(&kind, Some(cow.contract())).get(&name).await?;
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.retain(|key, _| key.starts_with("kube-bind.io/"));
    let manifest =
        json!({"metadata": {"name": name, "annotations": annotations}, "spec": data["spec"]});
    object::create(&place.admin, &kind, Some(contract), manifest).await.map(drop)
}
