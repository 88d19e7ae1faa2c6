//! What was deleted while the backend was not there, or before it had finished.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::binding::{self, Request};
use e2e::client;
use e2e::driver::{self, Settings};
use e2e::faultproxy::{Fault, Side};
use e2e::kcp::Claims;
use e2e::object::{self, core, kube_bind};
use e2e::provider::Provider;
use e2e::service::{self, Source};
use e2e::wait::{SOON, eventually};
use futures::FutureExt as _;
use kube::api::{DeleteParams, ListParams};
use tokio::time::timeout;

use super::{TOWN, Tenant, WIDE, export_is_gone, role_is_gone};
use crate::Test;
use crate::suite::place::{Place, cowboys, horses};

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("cleanup::what_was_deleted_while_the_backend_was_down_is_cleaned_at_start", || {
            meanwhile(Case::Deleted).boxed()
        }),
        (
            "cleanup::a_consumer_that_takes_the_name_of_one_removed_meanwhile_gets_nothing_of_it",
            || meanwhile(Case::Replaced).boxed(),
        ),
        ("cleanup::a_request_that_is_deleted_half_way_leaves_nothing", || half_way().boxed()),
    ]
}

#[derive(Clone, Copy)]
enum Case {
    Deleted,
    Replaced,
}

async fn meanwhile(case: Case) -> Result<()> {
    let mut place = Place::kcp("meanwhile", WIDE).await?;
    let outcome = match case {
        Case::Deleted => deleted_meanwhile(&mut place).await,
        Case::Replaced => replaced_meanwhile(&mut place).await,
    };
    place.end(outcome).await
}

/// An `APIServiceNamespace` and an export, then the last export, then a consumer.
pub(super) async fn deleted_meanwhile(place: &mut Place) -> Result<()> {
    let tenant = Tenant::settle(place, "meanwhile").await?;
    let contract = tenant.contract().to_owned();
    place.export(&tenant.bound, "horse", &horses(), &[]).await?;
    let ghost = tenant.cow.service_namespace("ghost-town").await?;
    let export = kube_bind("APIServiceExport");

    place.backend().stop().await?;
    place.delete(&kube_bind("APIServiceNamespace"), Some(&contract), "ghost-town").await?;
    place.delete(&export, Some(&contract), "horse").await?;
    place.standing(&ghost).await.context("deleted by somebody else")?;
    place.backend().restart().await?;
    place.gone(&core("Namespace"), None, &ghost).await?;
    export_is_gone(place, &contract, "horse", &horses().name()).await?;
    role_is_gone(place, &tenant.service, "horse").await?;
    tenant.keeps(place).await.context("rights of what stays")?;
    place.api(&core("Secret"), Some(&tenant.service)).get("theirs").await?;

    place.backend().stop().await?;
    place.delete(&export, Some(&contract), "cow").await?;
    // The server's garbage collector takes it, which is as good.
    place.gone(&kube_bind("APIServiceNamespace"), Some(&contract), TOWN).await?;
    place.standing(&tenant.service).await.context("deleted by somebody else")?;
    place.backend().restart().await?;
    place.gone(&core("Namespace"), None, &tenant.service).await?;
    export_is_gone(place, &contract, "cow", &cowboys().name()).await?;

    let cow = place.export(&tenant.bound, "cow", &cowboys(), &[]).await?;
    let service = cow.service_namespace(TOWN).await?;
    place.backend().stop().await?;
    place.delete(&core("Namespace"), None, &contract).await?;
    place.standing(&service).await.context("deleted by somebody else")?;
    place.backend().restart().await?;
    eventually(&format!("everything of {contract} to be gone"), SOON, async || {
        let left = place.objects_of(&contract).await?;
        ensure!(left.is_empty(), "{left:#?}");
        anyhow::Ok(())
    })
    .await
}

/// The contract namespace is deleted, and its identity bound by somebody: the names are the same, and nothing else.
pub(super) async fn replaced_meanwhile(place: &mut Place) -> Result<()> {
    let old = Tenant::settle(place, "replaced").await?;
    let contract = old.contract().to_owned();
    let uid = place.standing(&old.service).await?;
    let secrets = place.api(&core("Secret"), Some(&old.service));
    let secret = secrets.get("theirs").await?.metadata.uid;

    place.backend().stop().await?;
    place.delete(&core("Namespace"), None, &contract).await?;
    binding::create(&place.admin, &Request::new("replacing", "replaced")).await?;
    place.backend().restart().await?;
    let bound = binding::finished(&place.admin, &Request::new("replacing", "replaced")).await?;
    ensure!(bound.consumer.namespace() == contract, "another contract namespace");
    // As soon as there is a credential.
    let client = bound.consumer.client();
    let read = object::api(client, &cowboys().resource(), Some(&old.service)).get("bull").await;
    match read {
        Err(kube::Error::Api(status)) if status.code == 403 => {}
        read => anyhow::bail!("the new consumer reads what the old one left: {read:?}"),
    }
    let wide = bound.consumer.may("list", &cowboys().group, cowboys().plural, None).await?;
    ensure!(!wide, "the new consumer has the rights of the old one");

    let cow = place.export(&bound, "cow", &cowboys(), &[]).await?;
    let service = cow.service_namespace(TOWN).await?;
    ensure!(service == old.service, "another name: {service}");
    ensure!(place.standing(&service).await? != uid, "the namespace was handed on");
    let objects = place.api(&cowboys().resource(), Some(&service));
    let found = objects.list(&ListParams::default()).await?.items;
    ensure!(found.is_empty(), "the new consumer has {} objects of the old one", found.len());
    let left = secrets.get_opt("theirs").await?.map(|left| left.metadata.uid);
    ensure!(left != Some(secret), "the new consumer has a Secret of the old one");
    cow.check_rights_kept(&place.admin, &[&service]).await?;
    place.delete(&core("Namespace"), None, &contract).await?;
    place.gone(&core("Namespace"), None, &service).await
}

/// The backend ends between the roles and the export, and does not find the request again.
async fn half_way() -> Result<()> {
    let settings = Settings::of(WIDE.informers, WIDE.isolation)[0];
    let [scope, isolation] = settings.flags();
    let flags = [scope.as_str(), &isolation, Source::Crds.flag()];
    let (mut provider, proxy) = Provider::start_proxied("half-way", &flags).await?;
    let workspace = provider.tenant("half-way", Claims::All).await?;
    provider.serve(&workspace, Source::Crds).await?;
    let admin = provider.kcp.access(&workspace.cluster)?.client(client::ADMIN).await?;
    service::establish(&admin, &[cowboys().crd()]).await?;
    let bound = binding::bind(&admin, &Request::new("half", "half")).await?;
    let contract = bound.consumer.namespace().to_owned();

    let exports = format!("/clusters/{}/apis/kube-bind.io/v1alpha2/namespaces/{contract}", {
        &workspace.cluster
    });
    let exports = format!("{exports}/apiserviceexports");
    let strike = proxy.arm(&exports, 1, Fault::Cut(Side::Before));
    let name = bound.consumer.submit("cow", &driver::spec(&cowboys(), &[])).await?;
    timeout(SOON, strike).await.context("the export was never created")??;
    provider.backend.kill().await?;
    let contents = |kind: &str| object::api(&admin, &kube_bind(kind), Some(&contract));
    let wide = format!("kube-binder-claims-{contract}-cow");
    let roles = object::api(&admin, &object::rbac("ClusterRole"), None);
    let schemas = contents("BoundSchema");
    schemas.get(&cowboys().name()).await.context("nothing was half done")?;
    roles.get(&wide).await.context("nothing was half done")?;
    ensure!(contents("APIServiceExport").get_opt("cow").await?.is_none(), "there is an export");
    contents("APIServiceExportRequest").delete(&name, &DeleteParams::default()).await?;
    proxy.reset();
    provider.backend.restart().await?;

    let done = async {
        object::wait_gone(&schemas, &cowboys().name()).await?;
        object::wait_gone(&roles, &wide).await?;
        let bindings = object::api(&admin, &object::rbac("ClusterRoleBinding"), None);
        object::wait_gone(&bindings, &wide).await?;
        // Nothing is in the way of a second attempt.
        let usage = bound.consumer.take_up("cow", settings, &cowboys(), &[]).await?;
        usage.service_namespace(TOWN).await.map(drop)
    };
    tokio::time::timeout(Duration::from_mins(4), done)
        .await
        .context("the second attempt")?
        .map_err(|error| provider.backend.fail(format!("{error:#}")))
}
