//! What goes when something is deleted, and what does not: everything that was made for it, and nothing else (design
//! invariant 3).

mod away;
mod decoys;
mod leaving;

use anyhow::{Context as _, Result, ensure};
use e2e::audit;
use e2e::binding::Bound;
use e2e::driver::{Isolation, Settings, Use};
use e2e::object::{core, kube_bind, rbac};
use e2e::service::Scope;
use e2e::wait::{SOON, eventually};
use futures::FutureExt as _;
use serde_json::json;

use super::place::{Place, cowboys, horses};
use crate::Test;
use decoys::Decoys;

/// The consumer namespace.
const TOWN: &str = "wild-west";
/// Two consumers of one cluster with all that an export can have: a ClusterRole, and a Role in each service namespace.
const WIDE: Settings = Settings {
    informers: Scope::Cluster,
    isolation: Isolation::Prefixed,
    resource: Scope::Namespaced,
};

pub(crate) fn tests() -> Vec<Test> {
    let own: Vec<Test> = vec![
        ("cleanup::what_is_deleted_takes_its_own_with_it_and_nothing_of_others", || {
            on_kcp("cleanup-wide", WIDE).boxed()
        }),
        ("cleanup::what_is_deleted_takes_its_own_with_it_under_rights_in_namespaces", || {
            on_kcp("cleanup-apart", Settings::APART).boxed()
        }),
        ("cleanup::kubernetes", || on_kubernetes().boxed()),
    ];
    [own, away::tests(), leaving::tests()].concat()
}

async fn on_kcp(name: &str, settings: Settings) -> Result<()> {
    let place = Place::kcp(name, settings).await?;
    let outcome = takes_its_own(&place).await;
    place.end(outcome).await
}

async fn on_kubernetes() -> Result<()> {
    let mut place = Place::kubernetes("cleanup-kubernetes", WIDE).await?;
    let outcome = core_on_kubernetes(&mut place).await;
    place.end(outcome).await
}

async fn core_on_kubernetes(place: &mut Place) -> Result<()> {
    takes_its_own(place).await.context("beside others")?;
    away::deleted_meanwhile(place).await.context("while the backend was away")?;
    away::replaced_meanwhile(place).await.context("while the backend was away")
}

/// A consumer in the middle of its work.
struct Tenant {
    bound: Bound,
    cow: Use,
    service: String,
}

impl Tenant {
    /// Binds, exports, and has an object and a Secret of the provider's in a service namespace.
    async fn settle(place: &Place, identity: &str) -> Result<Self> {
        let bound = place.bind(identity).await?;
        let cow = place.export(&bound, "cow", &cowboys(), &[]).await?;
        let service = cow.service_namespace(TOWN).await?;
        cow.create_object(TOWN, &service, "bull", json!({"intent": "stay"})).await?;
        place.put_secret(&service, "theirs").await?;
        Ok(Self { bound, cow, service })
    }

    fn contract(&self) -> &str {
        self.bound.consumer.namespace()
    }

    async fn keeps(&self, place: &Place) -> Result<()> {
        self.cow.check_rights_kept(&place.admin, &[&self.service]).await
    }
}

/// Waits until the schema and the cluster-wide rights of an export are gone.
async fn export_is_gone(place: &Place, contract: &str, name: &str, schema: &str) -> Result<()> {
    let wide = format!("kube-binder-claims-{contract}-{name}");
    place.gone(&kube_bind("BoundSchema"), Some(contract), schema).await?;
    for kind in ["ClusterRoleBinding", "ClusterRole"] {
        place.gone(&rbac(kind), None, &wide).await?;
    }
    Ok(())
}

/// Waits until the rights of an export in a namespace are gone.
async fn role_is_gone(place: &Place, namespace: &str, name: &str) -> Result<()> {
    for kind in ["RoleBinding", "Role"] {
        place.gone(&rbac(kind), Some(namespace), &format!("kube-binder-claims-{name}")).await?;
    }
    Ok(())
}

async fn takes_its_own(place: &Place) -> Result<()> {
    let other = Tenant::settle(place, "staying").await?;
    let tenant = Tenant::settle(place, "going").await?;
    let (contract, service) = (tenant.contract(), tenant.service.as_str());
    let decoys = Decoys::seed(place, contract, other.contract()).await?;
    let theirs = place.objects_of(other.contract()).await?;
    let horse = place.export(&tenant.bound, "horse", &horses(), &[]).await?;
    horse.check_service_namespace(&place.admin, TOWN, service).await?;
    let mark = place.mark()?;

    let export = kube_bind("APIServiceExport");
    place.delete(&export, Some(contract), "horse").await?;
    export_is_gone(place, contract, "horse", &horses().name()).await?;
    role_is_gone(place, service, "horse").await?;
    place.standing(service).await?;
    tenant.keeps(place).await.context("rights of the export that stays")?;

    place.delete(&export, Some(contract), "cow").await?;
    export_is_gone(place, contract, "cow", &cowboys().name()).await?;
    place.gone(&kube_bind("APIServiceNamespace"), Some(contract), TOWN).await?;
    place.gone(&core("Namespace"), None, service).await?;
    let wide = tenant.bound.consumer.may("list", &cowboys().group, cowboys().plural, None).await?;
    ensure!(!wide, "rights of a consumer without exports");

    let again = place.export(&tenant.bound, "cow", &cowboys(), &[]).await.context("once more")?;
    ensure!(again.service_namespace(TOWN).await? == service, "another namespace");
    place.delete(&core("Namespace"), None, contract).await?;
    place.gone(&core("Namespace"), None, service).await?;
    eventually(&format!("everything of {contract} to be gone"), SOON, async || {
        let mut left = place.objects_of(contract).await?;
        left.retain(|line| !decoys.include(line.split(' ').nth(1).unwrap_or_default()));
        ensure!(left.is_empty(), "{left:#?}");
        anyhow::Ok(())
    })
    .await?;

    let deletes = place.deletes(mark).await?;
    let wrong: Vec<_> = deletes
        .iter()
        .filter(|delete| !delete.object.contains(contract) || decoys.include(&delete.object))
        .cloned()
        .collect();
    ensure!(wrong.is_empty(), "the backend deleted:\n{}", audit::listing(&wrong));
    let now = place.objects_of(other.contract()).await?;
    let lost: Vec<_> = theirs.difference(&now).collect();
    ensure!(lost.is_empty(), "the other consumer has lost {lost:#?}");
    other.keeps(place).await.context("rights of the other consumer")?;
    decoys.untouched(place).await?;
    Ok(())
}
