//! What is offered stays as it should be whoever edits it, and leaves nothing behind.

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::object::{self, kube_bind, rbac};
use e2e::service::{BY_HAND, Exported, GROUP, Scope};
use e2e::wait::{SOON, eventually};
use e2e::{service, snapshot, stack};
use futures::FutureExt as _;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};

use super::{COWBOYS, OWNER, Place, TEMPLATE, core_of};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("offers::what_somebody_edits_of_ours_is_put_right_and_a_copy_of_it_is_theirs", || {
            repaired().boxed()
        }),
        ("offers::where_schemas_can_be_read_already_no_role_is_made", || readable().boxed()),
        ("offers::without_the_flag_the_role_goes_and_what_was_generated_stays", || {
            switched_off().boxed()
        }),
        ("offers::after_an_api_was_bound_and_unbound_everything_is_as_it_was", || {
            nothing_left().boxed()
        }),
    ]
}

async fn repaired() -> Result<()> {
    let place = Place::new("offers-repaired").await?;
    place.bind().await?;
    let template = place.template(TEMPLATE, &["cowboys"]).await?;
    let copy = place.exported(COWBOYS).await?;
    let mark = |key: &str, value: Value| json!({"metadata": {"annotations": {key: value}}});
    let label = |key: &str| json!({"metadata": {"labels": {key: null}}});
    let disowned = json!({"metadata": {"ownerReferences": null}});
    let managed = label("backend.kube-bind.io/managed");
    for edit in [
        managed.clone(),
        mark(OWNER, json!(null)),
        mark(OWNER, json!("another")),
        disowned.clone(),
        json!({"spec": {"scope": "Cluster"}}),
        json!({"spec": {"resources": [
            {"group": GROUP, "resource": "horses", "versions": ["v1"]},
        ]}}),
    ] {
        put_right(&place, place.templates(), &template, &edit).await?;
    }
    for edit in [
        managed,
        label("kube-bind.io/exported"),
        mark(OWNER, json!(null)),
        mark(OWNER, json!("no such name")),
        mark("backend.kube-bind.io/source", json!("another")),
        mark("backend.kube-bind.io/scope", json!("Cluster")),
        mark("backend.kube-bind.io/served-versions", json!("v7")),
        mark("backend.kube-bind.io/marks-digest", json!(null)),
        disowned,
    ] {
        put_right(&place, place.schemas(), &copy, &edit).await?;
    }

    // A copy under another name, with all that the original has.
    let mut mine = serde_json::to_value(&template)?;
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
        mine["metadata"].as_object_mut().context("no metadata")?.remove(field);
    }
    mine["metadata"]["name"] = json!("mine");
    let kind = kube_bind("APIServiceExportTemplate");
    object::create(&place.admin, &kind, None, mine).await?;
    let theirs = snapshot::exact(&place.admin, &kind, None, "mine").await?;
    // What the backend does next comes after it has seen the copy.
    put_right(&place, place.templates(), &template, &json!({"spec": {"scope": "Cluster"}})).await?;
    let now = snapshot::exact(&place.admin, &kind, None, "mine").await?;
    ensure!(now == theirs, "it was touched: {now}");
    Ok(())
}

/// Makes an edit and waits until it is undone, on the same object.
async fn put_right(
    place: &Place,
    api: Api<DynamicObject>,
    object: &DynamicObject,
    edit: &Value,
) -> Result<()> {
    let name = object.metadata.name.as_deref().context("no name")?;
    object::merge_patch(&api, name, edit, false).await?;
    let expected = core_of(object);
    let what = format!("{name} after {edit}");
    let now = place.until(api, name, &what, |now| {
        let now = core_of(now);
        if now == expected { Ok(()) } else { Err(now.to_string()) }
    });
    ensure!(now.await?.metadata.uid == object.metadata.uid, "{name} was made anew after {edit}");
    Ok(())
}

async fn readable() -> Result<()> {
    let place = Place::new("offers-readable").await?;
    let user =
        format!("system:kcp:serviceaccount:{}:kube-bind:backend", place.provider.export.cluster);
    let role = json!({"metadata": {"name": "mine"}, "rules": [
        {"nonResourceURLs": ["/"], "verbs": ["access"]},
        {"apiGroups": ["apis.kcp.io"], "resources": ["apibindings"], "verbs": ["get"]},
    ]});
    object::create(&place.admin, &rbac("ClusterRole"), None, role).await?;
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"name": "mine"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "mine"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    });
    object::create(&place.admin, &rbac("ClusterRoleBinding"), None, binding).await?;
    place.bind().await?;
    place.template(TEMPLATE, &["cowboys"]).await?;
    place.template("wildwest.dev-cluster", &["sheriffs"]).await?;
    place.exported(COWBOYS).await?;
    place.exported("today.sheriffs.wildwest.dev").await?;
    place.no_role().await
}

async fn switched_off() -> Result<()> {
    let mut place = Place::new("offers-off").await?;
    // A condition that will mean nothing.
    let cowboys = Exported::of(GROUP, Scope::Namespaced);
    let schema = service::api_resource_schema(&cowboys.crd(), "today", false);
    object::create(&place.admin, &object::schemas(), None, schema).await?;
    place.bind().await?;
    let template = place.template("wildwest.dev-cluster", &["sheriffs"]).await?;
    let copy = place.exported("today.sheriffs.wildwest.dev").await?;
    place.said("ForeignSchema").await?;
    place.provider.backend.stop().await?;

    let flags = place.provider.flags.iter().map(String::as_str).chain([BY_HAND]);
    let flags: Vec<String> = flags.map(str::to_owned).collect();
    place.provider.backend = Backend::start(&stack::unique("offers-off-backend"), flags).await?;
    place.role_gone().await?;
    let clusters = place.api(&kube_bind("Cluster"));
    place
        .until(clusters, "default", "no ServicesOffered", |cluster| {
            if object::condition(cluster, "ServicesOffered").is_none() {
                Ok(())
            } else {
                Err(object::summary(cluster))
            }
        })
        .await?;
    for (api, before) in [(place.templates(), template), (place.schemas(), copy)] {
        let now = api.get(before.metadata.name.as_deref().context("no name")?).await?;
        ensure!(now.metadata.uid == before.metadata.uid, "{now:?}");
        ensure!(core_of(&now) == core_of(&before), "{:#}", core_of(&now));
    }
    Ok(())
}

async fn nothing_left() -> Result<()> {
    let place = Place::new("offers-nothing").await?;
    // What looks like ours and is not.
    let horses =
        Exported { plural: "horses", kind: "Horse", ..Exported::of(GROUP, Scope::Namespaced) };
    service::offer_template(&place.admin, "wildwest.dev", &[&horses], &[]).await?;
    let labelled = json!({"metadata": {"labels": {"backend.kube-bind.io/managed": "true"}}});
    object::merge_patch(&place.templates(), "wildwest.dev", &labelled, false).await?;
    let schema = service::api_resource_schema(&horses.crd(), "today", true);
    object::create(&place.admin, &object::schemas(), None, schema).await?;
    let mut kinds = snapshot::kinds(&place.admin).await?;
    kinds.push(object::schemas());
    let taken = || snapshot::take(&place.admin, &kinds, &[]);
    let before = eventually("all kinds to be listed", SOON, taken).await?;

    place.bind().await?;
    place.template(TEMPLATE, &["cowboys"]).await?;
    place.exported(COWBOYS).await?;
    place.unbind(GROUP).await?;
    let back = eventually("the state before", SOON, async || {
        let now = taken().await.map_err(|error| format!("{error:#}"))?;
        snapshot::difference(&before, &now).map_or(Ok(()), |text| Err(format!("\n{text}")))
    });
    back.await.map_err(|error| place.provider.backend.fail(error))
}
