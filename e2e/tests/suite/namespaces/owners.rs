//! Service namespaces that several exports of a consumer use.

use anyhow::{Context as _, Result, ensure};
use e2e::binding::Bound;
use e2e::driver::{self, Settings, Use};
use e2e::object::{self, core, kube_bind, rbac};
use e2e::wait::SOON;
use futures::FutureExt as _;
use kube::api::DynamicObject;
use serde_json::json;

use super::TOWN;
use crate::Test;
use crate::suite::place::{Place, cowboys, horses, provided};

/// A consumer namespace that the request names.
const ASKED_FOR: &str = "asked-for";

pub(super) fn tests() -> Vec<Test> {
    vec![("namespaces::one_belongs_to_all_exports_of_its_consumer_and_goes_with_the_last", || {
        shared().boxed()
    })]
}

async fn shared() -> Result<()> {
    let place = Place::kcp("shared", Settings::APART).await?;
    let outcome = is_shared(&place).await;
    place.end(outcome).await
}

/// The owners of an `APIServiceNamespace` by UID, and whether each is the controller.
fn owners(object: &DynamicObject) -> Vec<(String, bool)> {
    let owners = object.metadata.owner_references.iter().flatten();
    owners.map(|owner| (owner.uid.clone(), owner.controller == Some(true))).collect()
}

fn uid_of(usage: &Use) -> String {
    usage.export.object.metadata.uid.clone().unwrap_or_default()
}

/// An export whose request asks for the namespace [`ASKED_FOR`], which is the provider's wish then.
async fn asking(place: &Place, bound: &Bound) -> Result<Use> {
    let contract = bound.consumer.namespace();
    let mut spec = driver::spec(&cowboys(), &["Secret"]);
    spec["namespaces"] = json!([{"name": ASKED_FOR}]);
    bound.consumer.request_export("cow", &spec).await?.succeeded()?;
    let export = bound.consumer.export("cow").await?;
    bound.consumer.acknowledge(&export).await?;
    let cow = Use {
        consumer: bound.consumer.clone(),
        settings: place.settings,
        exported: cowboys(),
        claims: vec!["Secret"],
        export,
    };
    let requested = place.requested(contract);
    let asked_for = format!("{contract}-{ASKED_FOR}");
    let made = object::wait_for(&requested, ASKED_FOR, "the namespace asked for", SOON, |now| {
        (provided(now) == Some(&asked_for)).then_some(()).ok_or_else(|| object::summary(now))
    })
    .await?;
    let label = made.metadata.labels.as_ref().and_then(|labels| labels.get("kube-bind.io/owner"));
    ensure!(label.is_some_and(|label| label == "provider"), "labels {:?}", made.metadata.labels);
    ensure!(
        json!(made.metadata.owner_references) == json!([cow.export.owner()]),
        "owned by {:?}",
        made.metadata.owner_references
    );
    cow.check_service_namespace(&place.admin, ASKED_FOR, &asked_for).await?;
    Ok(cow)
}

async fn is_shared(place: &Place) -> Result<()> {
    let bound = place.bind("shared").await?;
    let contract = bound.consumer.namespace();
    let cow = asking(place, &bound).await?;
    // The other is the konnector's.
    let asked_for = format!("{contract}-{ASKED_FOR}");
    let service = cow.service_namespace(TOWN).await?;
    let uids = [place.standing(&asked_for).await?, place.standing(&service).await?];
    cow.create_object(TOWN, &service, "bull", json!({"intent": "stay"})).await?;

    let horse = place.export(&bound, "horse", &horses(), &["ConfigMap"]).await?;
    let expected = vec![(uid_of(&cow), true), (uid_of(&horse), false)];
    for name in [ASKED_FOR, TOWN] {
        owned_by(place, contract, name, &expected).await.context("with a second export")?;
    }
    for (name, namespace) in [(ASKED_FOR, &asked_for), (TOWN, &service)] {
        in_time(place, namespace, "kube-binder-claims-horse").await?;
        horse.check_service_namespace(&place.admin, name, namespace).await?;
        cow.check_service_namespace(&place.admin, name, namespace).await?;
    }
    horse.create_object(TOWN, &service, "mare", json!({"intent": "stay"})).await?;

    // The controller of both goes first.
    place.delete(&kube_bind("APIServiceExport"), Some(contract), "cow").await?;
    for namespace in [&asked_for, &service] {
        place.gone(&rbac("RoleBinding"), Some(namespace), "kube-binder-claims-cow").await?;
        place.gone(&rbac("Role"), Some(namespace), "kube-binder-claims-cow").await?;
    }
    for name in [ASKED_FOR, TOWN] {
        owned_by(place, contract, name, &[(uid_of(&horse), false)]).await.context("with one")?;
    }
    ensure!(
        uids == [place.standing(&asked_for).await?, place.standing(&service).await?],
        "a namespace was made anew"
    );
    horse.check_rights_kept(&place.admin, &[&service]).await.context("of the other export")?;
    for (exported, name) in [(cowboys(), "bull"), (horses(), "mare")] {
        place.api(&exported.resource(), Some(&service)).get(name).await?;
    }

    place.delete(&kube_bind("APIServiceExport"), Some(contract), "horse").await?;
    for name in [ASKED_FOR, TOWN] {
        place.gone(&kube_bind("APIServiceNamespace"), Some(contract), name).await?;
    }
    for namespace in [&asked_for, &service] {
        place.gone(&core("Namespace"), None, namespace).await?;
    }
    Ok(())
}

async fn owned_by(
    place: &Place,
    contract: &str,
    name: &str,
    expected: &[(String, bool)],
) -> Result<()> {
    let what = format!("the owners of {name} to be {expected:?}");
    object::wait_for(&place.requested(contract), name, &what, SOON, |now| {
        let owners = owners(now);
        if owners == expected { Ok(()) } else { Err(format!("{owners:?}")) }
    })
    .await
    .map(drop)
}

/// Waits for a role and its binding.
async fn in_time(place: &Place, namespace: &str, name: &str) -> Result<()> {
    for kind in ["Role", "RoleBinding"] {
        let api = place.api(&rbac(kind), Some(namespace));
        let what = format!("{kind} {name} in {namespace}");
        object::wait_for(&api, name, &what, SOON, |_| Ok(())).await?;
    }
    Ok(())
}
