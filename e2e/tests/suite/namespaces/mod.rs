//! `APIServiceNamespace`s: which namespace stands for a consumer's, with which rights in it, and whose it is (contract
//! objects.md 6 and 7, with the differences of design section 5).

mod owners;
mod refused;
mod rights;

use anyhow::{Context as _, Result, ensure};
use e2e::driver::{Isolation, Settings, Use};
use e2e::object::{self, core};
use e2e::service::Scope;
use e2e::snapshot;
use e2e::wait::SOON;
use futures::FutureExt as _;
use kube::api::DeleteParams;
use serde_json::json;

use super::place::{Place, ask, cowboys, provided};
use crate::Test;

/// The consumer namespace.
const TOWN: &str = "wild-west";
/// The namespaces that were there before are used.
const BORROWING: Settings =
    Settings { informers: Scope::Cluster, isolation: Isolation::None, resource: Scope::Namespaced };

pub(crate) fn tests() -> Vec<Test> {
    let own: Vec<Test> = vec![
        ("namespaces::one_that_exists_is_used_where_the_flags_say_so_and_stays_as_it_was", || {
            borrowed().boxed()
        }),
        ("namespaces::one_that_the_konnector_asks_for_anew_keeps_what_is_in_it", || {
            asked_anew().boxed()
        }),
    ];
    [refused::tests(), owners::tests(), rights::tests(), own].concat()
}

async fn borrowed() -> Result<()> {
    let place = Place::kcp("borrowed", BORROWING).await?;
    let outcome = is_borrowed(&place).await;
    place.end(outcome).await
}

async fn is_borrowed(place: &Place) -> Result<()> {
    let existing = json!({"metadata": {"name": TOWN, "labels": {"team": "west"}}});
    object::create(&place.admin, &core("Namespace"), None, existing).await?;
    place.put_secret(TOWN, "theirs").await?;
    let usage = worker(place, "borrower").await?;
    let before = snapshot::exact(&place.admin, &core("Namespace"), None, TOWN).await?;

    let service = usage.service_namespace(TOWN).await?;
    let own = usage.service_namespace("new-town").await?;
    usage.check_borrowed_namespace(&place.admin, &service).await?;
    usage.create_claimed("Secret", TOWN, &service, "claimed").await?;
    let mark = place.mark()?;
    let api = usage.consumer.kube_bind("APIServiceNamespace");
    api.delete(TOWN, &DeleteParams::default()).await?;
    // The one that is ours goes, and by then the other would have gone too.
    usage.release(&place.admin, "new-town", &own).await?;

    let deletes = place.deletes(mark).await?;
    ensure!(deletes.len() == 1, "deletes:\n{}", e2e::audit::listing(&deletes));
    let after = snapshot::exact(&place.admin, &core("Namespace"), None, TOWN).await?;
    ensure!(after == before, "{TOWN} was {before} and is {after}");
    for secret in ["theirs", "claimed"] {
        place.api(&core("Secret"), Some(TOWN)).get(secret).await?;
    }
    Ok(())
}

async fn asked_anew() -> Result<()> {
    let place = Place::kcp("anew", Settings::APART).await?;
    let outcome = is_asked_anew(&place).await;
    place.end(outcome).await
}

/// What a konnector does when the namespace of the consumer goes and an object in it is still there.
async fn is_asked_anew(place: &Place) -> Result<()> {
    let usage = worker(place, "anew").await?;
    let service = usage.service_namespace(TOWN).await?;
    usage.create_object(TOWN, &service, "bull", json!({"intent": "stay"})).await?;
    usage.create_claimed("Secret", TOWN, &service, "claimed").await?;
    let uid = place.standing(&service).await?;
    let mark = place.mark()?;
    let requested = usage.consumer.kube_bind("APIServiceNamespace");
    for round in ["first", "second", "third"] {
        requested.delete(TOWN, &DeleteParams::default()).await?;
        let made = ask(&usage, TOWN).await?.metadata.uid.context("no UID")?;
        let what = format!("the namespace to be taken over the {round} time");
        object::wait_for(&place.namespaces(), &service, &what, SOON, |now| {
            let annotations = now.metadata.annotations.as_ref();
            let owner = annotations.and_then(|all| all.get("backend.kube-bind.io/owner-uid"));
            if owner == Some(&made) { Ok(()) } else { Err(format!("{owner:?}")) }
        })
        .await?;
        let admins = place.requested(usage.contract());
        object::wait_for(&admins, TOWN, "its name", SOON, |now| {
            (provided(now) == Some(&service)).then_some(()).ok_or_else(|| object::summary(now))
        })
        .await?;
    }
    place.deleted_nothing(mark).await?;
    ensure!(place.standing(&service).await? == uid, "the namespace was made anew");
    place.api(&usage.exported.resource(), Some(&service)).get("bull").await?;
    place.api(&core("Secret"), Some(&service)).get("claimed").await?;
    usage.check_rights_kept(&place.admin, &[&service]).await?;
    // It has not forgotten how to go.
    usage.release(&place.admin, TOWN, &service).await
}

/// A consumer with an export that claims Secrets.
async fn worker(place: &Place, identity: &str) -> Result<Use> {
    let bound = place.bind(identity).await?;
    place.export(&bound, "cow", &cowboys(), &["Secret"]).await
}
