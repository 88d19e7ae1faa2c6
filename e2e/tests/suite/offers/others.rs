//! What belongs to others stays as it is: templates and schemas of the same names, the workspace's own schemas, and
//! everything where the tenant withdraws a claim or the API.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{Filter, Mark};
use e2e::kcp::Claims;
use e2e::object::{self, kcp_apis, kube_bind, rbac};
use e2e::provider::EXPORT;
use e2e::service::{self, Exported, GROUP, Offer, Scope};
use e2e::snapshot;
use e2e::wait::SOON;
use futures::FutureExt as _;
use serde_json::json;

use super::{COWBOYS, Place, READER, TEMPLATE};
use crate::Test;

/// Longer than any pause of the backend between two requests about what may have to go.
const QUIET: Duration = Duration::from_secs(5);

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("offers::a_template_of_somebody_else_is_left_alone_and_named_until_it_goes", || {
            foreign_template().boxed()
        }),
        ("offers::a_schema_of_somebody_else_is_left_alone_and_named_until_it_goes", || {
            foreign_schema().boxed()
        }),
        ("offers::a_schema_of_the_workspace_itself_is_labelled_and_never_owned", || {
            own_schema().boxed()
        }),
        ("offers::what_people_make_again_of_a_schema_of_theirs_is_never_deleted", || {
            made_again().boxed()
        }),
        ("offers::a_role_of_somebody_else_keeps_what_needs_no_role_on_offer", || {
            foreign_reader().boxed()
        }),
        ("offers::a_withdrawn_claim_takes_nothing_back_and_a_granted_one_goes_on", || {
            withdrawn().boxed()
        }),
        ("offers::a_workspace_that_unbinds_the_api_keeps_nothing_of_ours", || unbound().boxed()),
        ("offers::a_labelled_schema_of_somebody_else_has_to_be_what_is_bound", || {
            labelled_schema().boxed()
        }),
        ("offers::a_workspace_with_offers_can_be_deleted", || deleted().boxed()),
    ]
}

async fn foreign_template() -> Result<()> {
    let place = Place::new("offers-template").await?;
    let cowboys = Exported::of(GROUP, Scope::Namespaced);
    service::offer_template(&place.admin, TEMPLATE, &[&cowboys], &[]).await?;
    let kind = kube_bind("APIServiceExportTemplate");
    let theirs = snapshot::exact(&place.admin, &kind, None, TEMPLATE).await?;
    place.bind().await?;
    let message = place.said("ForeignTemplate").await?;
    ensure!(message.contains(TEMPLATE) && message.contains("delete it"), "{message}");
    // The other scope is offered all the same.
    place.template("wildwest.dev-cluster", &["sheriffs"]).await?;
    let now = snapshot::exact(&place.admin, &kind, None, TEMPLATE).await?;
    ensure!(now == theirs, "it was touched: {now}");

    place.clinic()?.heals("ForeignTemplate", "default").await?;
    place.template(TEMPLATE, &["cowboys"]).await?;
    place.healed().await
}

async fn foreign_schema() -> Result<()> {
    let place = Place::new("offers-schema").await?;
    let cowboys = Exported::of(GROUP, Scope::Namespaced);
    let schema = service::api_resource_schema(&cowboys.crd(), "today", false);
    object::create(&place.admin, &object::schemas(), None, schema).await?;
    let theirs = snapshot::exact(&place.admin, &object::schemas(), None, COWBOYS).await?;
    place.bind().await?;
    let message = place.said("ForeignSchema").await?;
    ensure!(message.contains(COWBOYS) && message.contains("delete it"), "{message}");
    let now = snapshot::exact(&place.admin, &object::schemas(), None, COWBOYS).await?;
    ensure!(now == theirs, "it was touched: {now}");

    place.clinic()?.heals("ForeignSchema", "default").await?;
    place.healed().await?;
    place.exported(COWBOYS).await.map(drop)
}

/// What people labelled is offered to consumers as it is.
async fn labelled_schema() -> Result<()> {
    let place = Place::new("offers-labelled").await?;
    let mut crd = Exported::of(GROUP, Scope::Namespaced).crd();
    let same =
        service::api_resource_schema(&Exported::of(GROUP, Scope::Cluster).crd(), "today", true);
    object::create(&place.admin, &object::schemas(), None, same).await?;
    crd["spec"]["names"]["shortNames"] = json!(["cow"]);
    let other = service::api_resource_schema(&crd, "today", true);
    object::create(&place.admin, &object::schemas(), None, other).await?;
    let kind = object::schemas();
    let exact = |name| snapshot::exact(&place.admin, &kind, None, name);
    let theirs = [exact(COWBOYS).await?, exact("today.sheriffs.wildwest.dev").await?];
    place.bind().await?;
    place.template("wildwest.dev-cluster", &["sheriffs"]).await?;
    let message = place.said("ForeignSchema").await?;
    ensure!(message.contains(COWBOYS) && !message.contains("sheriffs"), "{message}");
    let offered = place.templates().get_opt(TEMPLATE).await?;
    ensure!(offered.is_none(), "what is not bound is offered");
    let now = [exact(COWBOYS).await?, exact("today.sheriffs.wildwest.dev").await?];
    ensure!(now == theirs, "they were touched: {now:?}");

    object::delete(&place.schemas(), COWBOYS).await?;
    place.template(TEMPLATE, &["cowboys"]).await?;
    let copy = place.exported(COWBOYS).await?;
    ensure!(copy.data["spec"] == place.original(COWBOYS).await?.data["spec"], "{copy:?}");
    place.healed().await
}

/// Two-tier: the workspace binds its own export.
async fn own_schema() -> Result<()> {
    let place = Place::new("offers-own").await?;
    let kcp = &place.provider.kcp;
    let crds = Exported::all(GROUP).map(|exported| exported.crd()).to_vec();
    let own = Offer::create_in(kcp, &place.workspace, crds).await?;
    let theirs = place.schemas().get(COWBOYS).await?;
    own.serve(kcp, &place.workspace).await?;
    place.template(TEMPLATE, &["cowboys"]).await?;
    let labelled = place.exported(COWBOYS).await?;
    ensure!(labelled.metadata.owner_references.is_none(), "it is owned");
    ensure!(labelled.metadata.uid == theirs.metadata.uid, "it was made anew");
    place.no_role().await?;

    // The backend lets go of it with the binding, and it is as it was.
    place.unbind(GROUP).await?;
    place.gone(&kube_bind("APIServiceExportTemplate"), TEMPLATE).await?;
    let free = place.until(place.schemas(), COWBOYS, "no label", |schema| {
        let of = |map: Option<std::collections::BTreeMap<String, String>>| {
            map.unwrap_or_default().into_keys().filter(|key| key.contains("kube-bind.io")).count()
        };
        let left = of(schema.metadata.labels.clone()) + of(schema.metadata.annotations.clone());
        if left == 0 { Ok(()) } else { Err(format!("{:?}", schema.metadata)) }
    });
    let free = free.await?;
    ensure!(free.metadata.uid == theirs.metadata.uid, "it was made anew");
    Ok(())
}

/// A backup that is restored, or what is carried to the next stage: with all that the backend wrote on it.
async fn made_again() -> Result<()> {
    let place = Place::new("offers-again").await?;
    let kcp = &place.provider.kcp;
    let crds = Exported::all(GROUP).map(|exported| exported.crd()).to_vec();
    let own = Offer::create_in(kcp, &place.workspace, crds).await?;
    own.serve(kcp, &place.workspace).await?;
    place.template(TEMPLATE, &["cowboys"]).await?;
    let mut yaml = serde_json::to_value(place.exported(COWBOYS).await?)?;
    let metadata = yaml["metadata"].as_object_mut().context("no metadata")?;
    metadata.retain(|field, _| ["name", "labels", "annotations"].contains(&field.as_str()));

    let stage = place.provider.tenant("offers-stage", Claims::All).await?;
    let admin = kcp.client(&stage.cluster).await?;
    object::create(&admin, &object::schemas(), None, yaml.clone()).await?;
    let carried = snapshot::exact(&admin, &object::schemas(), None, COWBOYS).await?;

    object::delete(&place.schemas(), COWBOYS).await?;
    let restored = object::create(&place.admin, &object::schemas(), None, yaml).await?;
    place.unbind(GROUP).await?;
    let free = place.until(place.schemas(), COWBOYS, "no label", |schema| {
        let labels = schema.metadata.labels.clone().unwrap_or_default();
        let left = labels.contains_key("kube-bind.io/exported");
        if left { Err(format!("{labels:?}")) } else { Ok(()) }
    });
    ensure!(free.await?.metadata.uid == restored.metadata.uid, "it was made anew");

    // What may be deleted is looked for after two seconds.
    let (log, ours) = (kcp.audit(), Filter::backend().cluster(&stage.cluster));
    log.quiet(Mark::START, &ours, QUIET, SOON, |_| false).await?;
    let now = snapshot::exact(&admin, &object::schemas(), None, COWBOYS).await?;
    ensure!(now == carried, "it was touched: {now}");
    Ok(())
}

/// Of two bindings the first cannot be offered.
async fn foreign_reader() -> Result<()> {
    let place = Place::new("offers-reader").await?;
    let role = json!({"metadata": {"name": READER}, "rules": []});
    object::create(&place.admin, &rbac("ClusterRole"), None, role).await?;
    place.bind_as("aaa", &place.offer).await?;
    place.said("ForeignRole").await?;
    let kcp = &place.provider.kcp;
    let crds = Exported::all("zzz.dev").map(|exported| exported.crd()).to_vec();
    Offer::create_in(kcp, &place.workspace, crds).await?.serve(kcp, &place.workspace).await?;
    place.template("zzz.dev-namespaced", &["cowboys"]).await?;
    place.exported("today.cowboys.zzz.dev").await?;

    let clinic = place.clinic()?;
    let found = clinic.tells("ForeignRole", "default").await?;
    clinic.run(found["repair"].as_str().context("no command")?).await?;
    // Roles of others are not watched, so that this is seen after five minutes, or with the next change of what is offered.
    let change = json!({"spec": {"description": "the finest"}});
    object::merge_patch(&place.templates(), "zzz.dev-namespaced", &change, false).await?;
    place.template("aaa-namespaced", &["cowboys"]).await?;
    place.healed().await
}

async fn withdrawn() -> Result<()> {
    let place = Place::new("offers-withdrawn").await?;
    place.bind().await?;
    place.template(TEMPLATE, &["cowboys"]).await?;
    place.template("wildwest.dev-cluster", &["sheriffs"]).await?;
    place.exported(COWBOYS).await?;
    let edit = json!({"spec": {"description": "the finest"}});
    let edited = object::merge_patch(&place.templates(), TEMPLATE, &edit, false).await?;
    let bindings = place.api(&kcp_apis("APIBinding"));
    let own = bindings.get(EXPORT).await?;
    let state = |state: &str| {
        let mut claims = own.data["spec"]["permissionClaims"].clone();
        for claim in claims.as_array_mut().into_iter().flatten() {
            if claim["resource"] == "apibindings" {
                claim["state"] = json!(state);
            }
        }
        json!({"spec": {"permissionClaims": claims}})
    };
    let mark = place.provider.kcp.audit().mark()?;
    object::merge_patch(&bindings, EXPORT, &state("Rejected"), false).await?;
    let message = place.said("PermissionClaimsMissing").await?;
    ensure!(message.contains(TEMPLATE), "{message}");
    place.role_gone().await?;
    // By then the binding has vanished from the view of the backend, and it would be time to act on that.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let filter = e2e::audit::Filter::backend().cluster(&place.workspace.cluster);
    let kept = || {
        let requests = place.provider.kcp.audit().requests(mark, &filter)?;
        // The role is none of what is offered.
        let deleted = |request: &e2e::audit::Request| {
            request.verb == "delete" && !request.object.ends_with(READER)
        };
        let listing = e2e::audit::listing(&requests);
        ensure!(!requests.iter().any(deleted), "{listing}");
        anyhow::Ok(())
    };
    kept()?;
    place.templates().get(TEMPLATE).await?;
    place.schemas().get(COWBOYS).await?;

    object::merge_patch(&bindings, EXPORT, &state("Accepted"), false).await?;
    place.healed().await?;
    // What it sees of the bindings comes back one by one, and it may look for what is missing only after a while.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    kept()?;
    let now = place.templates().get(TEMPLATE).await?;
    ensure!(now.metadata.uid == edited.metadata.uid, "the template was made anew");
    ensure!(now.data["spec"] == edited.data["spec"], "{}", now.data["spec"]);
    place.unbind(GROUP).await?;
    place.gone(&kube_bind("APIServiceExportTemplate"), TEMPLATE).await?;
    place.gone(&object::schemas(), COWBOYS).await
}

async fn unbound() -> Result<()> {
    let place = Place::new("offers-unbound").await?;
    // Somebody's own, with the same labels: the label alone makes nothing ours.
    let decoy = json!({"metadata": {"name": "decoy", "labels": {"kube-bind.io/exported": "true"}}, "rules": []});
    object::create(&place.admin, &rbac("ClusterRole"), None, decoy).await?;
    place.bind().await?;
    place.template(TEMPLATE, &["cowboys"]).await?;
    place.exported(COWBOYS).await?;
    place.unbind(EXPORT).await?;
    // Nobody of ours may act there any more: the owner takes what it owns along.
    for name in [COWBOYS, "today.sheriffs.wildwest.dev"] {
        place.gone(&object::schemas(), name).await?;
    }
    place.role_gone().await?;
    place.api(&rbac("ClusterRole")).get("decoy").await?;
    let stays = place.api(&kcp_apis("APIBinding")).get(GROUP).await?;
    ensure!(stays.data["status"]["phase"] == "Bound", "{}", object::summary(&stays));

    place.provider.bind(&place.workspace, Claims::All).await?;
    place.template(TEMPLATE, &["cowboys"]).await.map(drop)
}

async fn deleted() -> Result<()> {
    let place = Place::new("offers-deleted").await?;
    place.bind().await?;
    place.template(TEMPLATE, &["cowboys"]).await?;
    place.exported(COWBOYS).await?;
    let kcp = &place.provider.kcp;
    kcp.delete_workspace(&place.workspace).await?;
    let kind = object::resource("tenancy.kcp.io", "v1alpha1", "Workspace", "workspaces");
    let workspaces = object::api(&kcp.client("root").await?, &kind, None);
    object::wait_gone(&workspaces, place.workspace.path.trim_start_matches("root:")).await
}
