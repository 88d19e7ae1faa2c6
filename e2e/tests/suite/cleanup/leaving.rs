//! Tenants that take the API away under their consumers: what is theirs stays theirs.

use anyhow::{Context as _, Result, ensure};
use e2e::kcp::Claims;
use e2e::object::{self, core, kcp_apis, resource};
use e2e::provider::EXPORT;
use e2e::{dirs, manifest};
use futures::FutureExt as _;
use futures::future::try_join_all;
use kube::api::{ApiResource, ListParams};

use super::{TOWN, Tenant, WIDE};
use crate::Test;
use crate::suite::place::{Place, cowboys};

/// Without it, and with the others still there, it looks as if each consumer had given up its namespaces.
const FIRST: &str = "apiservicenamespaces.kube-bind.io";

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("cleanup::a_workspace_that_unbinds_and_binds_again_keeps_the_service_namespaces", || {
            unbound().boxed()
        }),
        ("cleanup::a_workspace_with_consumers_goes_and_the_backend_deletes_nothing_there", || {
            deleted().boxed()
        }),
        ("cleanup::a_kubernetes_without_the_crds_keeps_the_service_namespaces", || {
            without_crds().boxed()
        }),
    ]
}

async fn unbound() -> Result<()> {
    let mut place = Place::kcp("unbound", WIDE).await?;
    let outcome = is_unbound(&mut place).await;
    place.end(outcome).await
}

async fn is_unbound(place: &mut Place) -> Result<()> {
    let tenant = Tenant::settle(place, "unbound").await?;
    let mark = place.mark()?;
    place.delete(&kcp_apis("APIBinding"), None, EXPORT).await?;
    place.deleted_nothing(mark).await.context("unbound")?;
    let stays = Stays::of(place, &tenant).await?;

    let (provider, workspace) = place.on_kcp()?;
    provider.bind(workspace, Claims::All).await?;
    stays.check(place).await.context("bound again")?;
    // Its old request went with the API.
    taken_up(place, &tenant, &stays).await
}

/// The consumer comes back: what it had is there, and is its own again.
async fn taken_up(place: &mut Place, tenant: &Tenant, stays: &Stays) -> Result<()> {
    let mark = place.mark()?;
    let again = place.bind("unbound").await?;
    ensure!(again.kubeconfig == tenant.bound.kubeconfig, "another credential");
    // The look at everything that comes with a start leaves what is in the namespaces alone.
    place.backend().stop().await?;
    place.backend().restart().await?;
    let deletes = place.deletes(mark).await?;
    let lost = |request: &e2e::audit::Request| request.resource.starts_with("namespaces.");
    ensure!(!deletes.iter().any(lost), "deletes:\n{}", e2e::audit::listing(&deletes));
    stays.check(place).await.context("a consumer that bound again")?;

    let cow = place.export(&again, "cow", &cowboys(), &[]).await?;
    let service = cow.service_namespace(TOWN).await?;
    ensure!(service == tenant.service, "another namespace: {service}");
    stays.check(place).await.context("a namespace that was taken up again")?;
    cow.check_rights_kept(&place.admin, &[&service]).await?;
    // Now it is the consumer's own wish.
    cow.release(&place.admin, TOWN, &service).await
}

/// A service namespace and what is in it.
struct Stays {
    namespace: String,
    uid: String,
    objects: Vec<(ApiResource, &'static str, Option<String>)>,
}

impl Stays {
    async fn of(place: &Place, tenant: &Tenant) -> Result<Self> {
        let namespace = tenant.service.clone();
        let mut objects = Vec::new();
        for (kind, name) in [(core("Secret"), "theirs"), (cowboys().resource(), "bull")] {
            let found = place.api(&kind, Some(&namespace)).get(name).await?;
            ensure!(found.metadata.deletion_timestamp.is_none(), "{name} is terminating");
            objects.push((kind, name, found.metadata.uid));
        }
        Ok(Self { uid: place.standing(&namespace).await?, namespace, objects })
    }

    async fn check(&self, place: &Place) -> Result<()> {
        ensure!(place.standing(&self.namespace).await? == self.uid, "it was made anew");
        for (kind, name, uid) in &self.objects {
            let found = place.api(kind, Some(&self.namespace)).get(name).await?;
            ensure!(found.metadata.uid == *uid, "{name} was made anew");
        }
        Ok(())
    }
}

async fn deleted() -> Result<()> {
    let place = Place::kcp("deleted", WIDE).await?;
    let outcome = is_deleted(&place).await;
    place.end(outcome).await
}

async fn is_deleted(place: &Place) -> Result<()> {
    for identity in ["one", "two"] {
        Tenant::settle(place, identity).await?;
    }
    let (provider, workspace) = place.on_kcp()?;
    let staying = provider.tenant("staying", Claims::All).await?;
    let mark = place.mark()?;
    provider.kcp.delete_workspace(workspace).await?;
    let kind = resource("tenancy.kcp.io", "v1alpha1", "Workspace", "workspaces");
    let workspaces = object::api(&provider.kcp.client("root").await?, &kind, None);
    object::wait_gone(&workspaces, workspace.path.trim_start_matches("root:")).await?;
    place.deleted_nothing(mark).await?;
    let admin = provider.kcp.client(&staying.cluster).await?;
    e2e::binding::bind(&admin, &e2e::binding::Request::new("later", "later")).await?;
    Ok(())
}

async fn without_crds() -> Result<()> {
    let mut place = Place::kubernetes("uninstalled", WIDE).await?;
    let outcome = uninstalled(&mut place).await;
    place.end(outcome).await
}

/// The CRDs of kube-bind are deleted, one before the others, and come back.
async fn uninstalled(place: &mut Place) -> Result<()> {
    let tenant = Tenant::settle(place, "unbound").await?;
    let stays = Stays::of(place, &tenant).await?;
    let mark = place.mark()?;
    manifest::delete_crd(&place.admin, FIRST).await?;
    place.deleted_nothing(mark).await.context("without APIServiceNamespaces")?;
    let crds = place.api(&object::crd(), None);
    let ours: Vec<String> = crds
        .list(&ListParams::default())
        .await?
        .items
        .into_iter()
        .filter_map(|crd| crd.metadata.name)
        .filter(|name| name.ends_with(".kube-bind.io"))
        .collect();
    ensure!(ours.len() > 5, "the CRDs are {ours:?}");
    let all = ours.iter().map(|name| manifest::delete_crd(&place.admin, name));
    try_join_all(all).await?;
    place.deleted_nothing(mark).await.context("without CRDs")?;
    stays.check(place).await.context("without CRDs")?;

    place.backend().stop().await?;
    manifest::apply_dir(&place.admin, &dirs::project().join("manifests"), "default").await?;
    place.backend().restart().await?;
    stays.check(place).await.context("with new CRDs")?;
    taken_up(place, &tenant, &stays).await
}
