//! Names that a consumer cannot have.

use anyhow::{Context as _, Result, ensure};
use e2e::driver::{Isolation, Settings, Use};
use e2e::object::{self, core, rbac};
use e2e::wait::{GONE, SOON};
use futures::FutureExt as _;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use serde_json::{Value, json};

use super::{BORROWING, TOWN, worker};
use crate::Test;
use crate::suite::place::{Place, ask, provided};

/// Names as on the consumer, and rights in single namespaces.
const NAMES: Settings = Settings { isolation: Isolation::None, ..Settings::APART };

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("namespaces::names_that_are_none_are_refused_with_prefix", || {
            impossible("impossible-p", Settings::APART).boxed()
        }),
        ("namespaces::names_that_are_none_are_refused_with_isolation_namespaced", || {
            let isolation = Isolation::Namespaced;
            impossible("impossible-n", Settings { isolation, ..Settings::APART }).boxed()
        }),
        ("namespaces::names_that_are_none_are_refused_without_isolation", || {
            impossible("impossible-o", NAMES).boxed()
        }),
        ("namespaces::those_of_others_are_refused_without_isolation", || kept(NAMES).boxed()),
        ("namespaces::those_of_others_are_refused_also_where_existing_ones_are_used", || {
            kept(BORROWING).boxed()
        }),
        ("namespaces::one_that_exists_is_taken_and_becomes_free_when_it_goes", || taken().boxed()),
    ]
}

/// Asks for a namespace that there cannot be, and waits for the reason. Its name is never given.
async fn refused(place: &Place, usage: &Use, name: &str, reason: &str) -> Result<DynamicObject> {
    ask(usage, name).await?;
    says(place, usage, name, reason).await
}

async fn says(place: &Place, usage: &Use, name: &str, reason: &str) -> Result<DynamicObject> {
    let what = format!("{name} to be refused as {reason}");
    let requested = place.requested(usage.contract());
    let object = object::wait_for(&requested, name, &what, SOON, |now| {
        let condition = object::condition(now, "NamespaceReady");
        let fits =
            |condition: &Value| condition["status"] == "False" && condition["reason"] == reason;
        if condition.is_some_and(fits) { Ok(()) } else { Err(object::summary(now)) }
    })
    .await?;
    ensure!(provided(&object).is_none(), "{name} stands for {:?}", provided(&object));
    Ok(object)
}

/// The Namespaces that say that they were made for a consumer.
async fn made_for(place: &Place, contract: &str) -> Result<Vec<String>> {
    let list = place.namespaces().list(&ListParams::default()).await?;
    let made = list.items.into_iter().filter(|object| {
        let annotations = object.metadata.annotations.as_ref();
        let mark = annotations.and_then(|all| all.get("kube-bind.io/api-service-namespace"));
        mark.is_some_and(|mark| mark.starts_with(&format!("{contract}/")))
    });
    Ok(made.filter_map(|object| object.metadata.name).collect())
}

/// The names of our roles and bindings for exports in a namespace.
async fn roles(place: &Place, namespace: &str) -> Result<Vec<String>> {
    let mut ours = Vec::new();
    for kind in ["Role", "RoleBinding"] {
        let list = place.api(&rbac(kind), Some(namespace)).list(&ListParams::default()).await?;
        let names = list.items.into_iter().filter_map(|object| object.metadata.name);
        ours.extend(names.filter(|name| name.starts_with("kube-binder-claims-")));
    }
    Ok(ours)
}

async fn impossible(name: &str, settings: Settings) -> Result<()> {
    let place = Place::kcp(name, settings).await?;
    let outcome = is_impossible(&place).await;
    place.end(outcome).await
}

async fn is_impossible(place: &Place) -> Result<()> {
    let usage = worker(place, "impossible").await?;
    let contract = usage.contract();
    let with_prefix = place.settings.isolation != Isolation::None;
    // 63 characters fit.
    let length = if with_prefix { 63 - contract.len() } else { 64 };
    let long = "w".repeat(length);
    refused(place, &usage, &long, "NamespaceNameTooLong").await?;
    refused(place, &usage, "wild.west", "NamespaceNameInvalid").await?;
    let made = made_for(place, contract).await?;
    ensure!(made.is_empty(), "made for names that cannot be: {made:?}");
    // They hold nobody up, and one that just fits is made.
    let fits = "w".repeat(length - 1);
    let service = usage.service_namespace(&fits).await?;
    ensure!(service.len() == 63, "{service} has {} characters", service.len());
    usage.check_service_namespace(&place.admin, &fits, &service).await?;
    for name in [long.as_str(), "wild.west"] {
        place.requested(contract).delete(name, &DeleteParams::default()).await?;
    }
    usage.release(&place.admin, &fits, &service).await
}

async fn kept(settings: Settings) -> Result<()> {
    let place = Place::kcp("kept", settings).await?;
    let outcome = are_kept(&place).await;
    place.end(outcome).await
}

async fn are_kept(place: &Place) -> Result<()> {
    let usage = worker(place, "kept").await?;
    let later = place.bind("later").await?;
    for name in ["kube-system", "cluster-of-mine"] {
        let manifest = json!({"metadata": {"name": name}});
        object::create_once(&place.admin, &core("Namespace"), None, manifest).await?;
    }
    let absent = "cluster-that-is-not-there";
    let there = ["kube-system", later.consumer.namespace(), usage.contract(), "cluster-of-mine"];
    let mut before = Vec::new();
    for name in there {
        before.push(roles(place, name).await?);
    }
    let mark = place.mark()?;
    for name in there.into_iter().chain([absent]) {
        refused(place, &usage, name, "NamespaceNotAllowed").await?;
    }
    let service = usage.service_namespace(TOWN).await?;
    for (name, before) in there.into_iter().zip(before) {
        ensure!(roles(place, name).await? == before, "there are new roles in {name}");
    }
    ensure!(place.namespaces().get_opt(absent).await?.is_none(), "{absent} was made");
    for name in there.into_iter().chain([absent]) {
        place.requested(usage.contract()).delete(name, &DeleteParams::default()).await?;
    }
    usage.release(&place.admin, TOWN, &service).await?;
    let deletes = place.deletes(mark).await?;
    ensure!(deletes.len() == 1, "deletes:\n{}", e2e::audit::listing(&deletes));
    for name in there {
        place.standing(name).await?;
    }
    Ok(())
}

async fn taken() -> Result<()> {
    let place = Place::kcp("taken", NAMES).await?;
    let outcome = is_taken(&place).await;
    place.end(outcome).await
}

async fn is_taken(place: &Place) -> Result<()> {
    let first = worker(place, "first").await?;
    let second = worker(place, "second").await?;
    let foreign = json!({"metadata": {"name": "foreign", "labels": {"team": "west"}}});
    object::create(&place.admin, &core("Namespace"), None, foreign).await?;
    place.put_secret("foreign", "theirs").await?;
    let uid = place.standing("foreign").await?;

    let mark = place.mark()?;
    refused(place, &first, "foreign", "NamespaceTaken").await?;
    ensure!(roles(place, "foreign").await?.is_empty(), "there are roles in foreign");
    let service = first.service_namespace(TOWN).await?;
    first.create_claimed("Secret", TOWN, &service, "claimed").await?;
    refused(place, &second, TOWN, "NamespaceTaken").await?;
    let theirs = first.consumer.belongings(&place.admin, &[&service]).await?;
    second.consumer.check_refused(&theirs).await.context("the second of the name")?;
    // The one who has no namespace gives up, and asks again.
    place.requested(second.contract()).delete(TOWN, &DeleteParams::default()).await?;
    place.requested(first.contract()).delete("foreign", &DeleteParams::default()).await?;
    place.deleted_nothing(mark).await?;
    first.check_rights_kept(&place.admin, &[&service]).await?;
    ensure!(
        place.standing("foreign").await? == uid,
        "the namespace of somebody else was made anew"
    );

    refused(place, &second, TOWN, "NamespaceTaken").await?;
    refused(place, &first, "foreign", "NamespaceTaken").await?;
    place.delete(&core("Namespace"), None, "foreign").await?;
    now_provided(place, &first, "foreign").await?;
    // The name is never given to both.
    let uid = place.standing(&service).await?;
    place.requested(first.contract()).delete(TOWN, &DeleteParams::default()).await?;
    now_provided(place, &second, TOWN).await?;
    second.check_service_namespace(&place.admin, TOWN, TOWN).await?;
    ensure!(place.standing(TOWN).await? != uid, "the second has the namespace of the first");
    second.check_rights_kept(&place.admin, &[TOWN]).await
}

/// Waits until the namespace of this name is the consumer's.
async fn now_provided(place: &Place, usage: &Use, name: &str) -> Result<()> {
    let what = format!("{name} to be free");
    object::wait_for(&place.requested(usage.contract()), name, &what, GONE, |now| {
        object::expect_condition(now, "NamespaceReady", "True")?;
        (provided(now) == Some(name)).then_some(()).ok_or_else(|| object::summary(now))
    })
    .await
    .map(drop)
}
