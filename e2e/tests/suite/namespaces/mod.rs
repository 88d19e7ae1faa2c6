//! `APIServiceNamespace`s: which namespace stands for a consumer's, with which rights in it, and whose it is (contract
//! objects.md 6 and 7, with the differences of design section 5).

mod refused;

use anyhow::{Context as _, Result, ensure};
use e2e::driver::{Isolation, Settings, Use, Watches};
use e2e::object::{self, core, kube_bind, rbac};
use e2e::service::{Exported, Scope};
use e2e::{driver, snapshot};
use futures::FutureExt as _;
use kube::api::{ApiResource, DeleteParams, DynamicObject};
use serde_json::{Value, json};

use super::place::{Place, SOON, ask, cowboys, horses, provided};
use crate::Test;

/// The consumer namespace.
const TOWN: &str = "wild-west";
/// The namespaces that were there before are used.
const BORROWING: Settings =
    Settings { informers: Scope::Cluster, isolation: Isolation::None, resource: Scope::Namespaced };
/// An export has a ClusterRole, and a Role in each service namespace.
const BOTH: Settings = Settings {
    informers: Scope::Cluster,
    isolation: Isolation::Prefixed,
    resource: Scope::Namespaced,
};

pub(crate) fn tests() -> Vec<Test> {
    let own: Vec<Test> = vec![
        ("namespaces::one_that_exists_is_used_where_the_flags_say_so_and_stays_as_it_was", || {
            borrowed().boxed()
        }),
        ("namespaces::rights_are_there_before_the_name_and_edits_of_others_are_repaired", || {
            repaired().boxed()
        }),
        ("namespaces::one_belongs_to_all_exports_of_its_consumer_and_goes_with_the_last", || {
            shared().boxed()
        }),
        ("namespaces::one_that_the_konnector_asks_for_anew_keeps_what_is_in_it", || {
            asked_anew().boxed()
        }),
    ];
    [refused::tests(), own].concat()
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
    let bound = place.bind("borrower").await?;
    let usage = place.export(&bound, "cow", &cowboys(), &["Secret"]).await?;
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

async fn repaired() -> Result<()> {
    let place = Place::kcp("repaired", BOTH).await?;
    let outcome = is_repaired(&place).await;
    place.end(outcome).await
}

async fn is_repaired(place: &Place) -> Result<()> {
    let bound = place.bind("repaired").await?;
    let usage = place.export(&bound, "cow", &cowboys(), &["Secret"]).await?;
    let contract = usage.contract();
    let history = Watches::open(
        &place.admin,
        &[
            (rbac("Role"), None),
            (rbac("RoleBinding"), None),
            (kube_bind("APIServiceNamespace"), Some(contract)),
        ],
    )
    .await?;
    let service = usage.service_namespace(TOWN).await?;
    rights_first(&history, &service).await.context("the order of writes")?;

    let (role, wide) = ("kube-binder-claims-cow", format!("kube-binder-claims-{contract}-cow"));
    let here = Some(service.as_str());
    let more = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let somebody =
        json!([{"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}]);
    for (kind, namespace, name, edit) in [
        (rbac("Role"), here, role, json!({"rules": more})),
        (rbac("Role"), here, role, json!({"rules": []})),
        (rbac("RoleBinding"), here, role, json!({"subjects": somebody})),
        (rbac("RoleBinding"), here, role, json!({"subjects": null})),
        (rbac("ClusterRole"), None, &wide, json!({"rules": more})),
        (rbac("ClusterRoleBinding"), None, &wide, json!({"subjects": somebody})),
    ] {
        let before = snapshot::exact(&place.admin, &kind, namespace, name).await?;
        let api = place.api(&kind, namespace);
        let edited = object::merge_patch(&api, name, &edit, false).await?;
        let what = format!("{} {name} to be as it was before {edit}", kind.kind);
        object::wait_for(&api, name, &what, SOON, |now| {
            let same = ["rules", "subjects", "roleRef"]
                .iter()
                .all(|field| now.data.get(field) == before.get(field));
            if same && now.metadata.resource_version != edited.metadata.resource_version {
                Ok(())
            } else {
                Err(format!("{} {}", now.data["rules"], now.data["subjects"]))
            }
        })
        .await?;
    }
    for (kind, namespace, name) in [
        (rbac("RoleBinding"), here, role),
        (rbac("Role"), here, role),
        (rbac("ClusterRoleBinding"), None, &wide),
        (rbac("ClusterRole"), None, &wide),
    ] {
        made_again(place, &kind, namespace, name).await?;
    }
    usage.check_rights_kept(&place.admin, &[&service]).await.context("after all repairs")?;

    // An admin deletes the namespace although the consumer still has its own.
    made_again(place, &core("Namespace"), None, &service).await?;
    for kind in ["Role", "RoleBinding"] {
        let api = place.api(&rbac(kind), here);
        object::wait_for(&api, role, "the role of a namespace made again", SOON, |_| Ok(()))
            .await?;
    }
    usage.check_service_namespace(&place.admin, TOWN, &service).await?;
    usage.check_rights_kept(&place.admin, &[&service]).await
}

/// Versions of one server are in the order of its writes.
async fn rights_first(history: &Watches, service: &str) -> Result<()> {
    let named = history
        .wait_for(0, "APIServiceNamespace", "its name in a watch", SOON, |event| {
            provided(&event.object).is_some()
        })
        .await?;
    for kind in ["Role", "RoleBinding"] {
        let made = history
            .wait_for(0, kind, "the rights in a watch", SOON, |event| {
                event.object.metadata.namespace.as_deref() == Some(service)
                    && event.object.metadata.name.as_deref() == Some("kube-binder-claims-cow")
            })
            .await?;
        let (made, named) = (version(&made.object)?, version(&named.object)?);
        ensure!(made < named, "the {kind} is of version {made}, the name of version {named}");
    }
    Ok(())
}

fn version(object: &DynamicObject) -> Result<u64> {
    Ok(object.metadata.resource_version.as_deref().context("no version")?.parse()?)
}

/// Deletes an object, for which another of the same name and content has to come.
async fn made_again(
    place: &Place,
    kind: &ApiResource,
    namespace: Option<&str>,
    name: &str,
) -> Result<()> {
    let essence = |value: &Value| -> Vec<Value> {
        let fields = ["/metadata/labels", "/metadata/annotations", "/rules", "/subjects"];
        fields.iter().map(|field| value.pointer(field).cloned().unwrap_or_default()).collect()
    };
    let api = place.api(kind, namespace);
    let uid = api.get(name).await?.metadata.uid;
    let before = snapshot::exact(&place.admin, kind, namespace, name).await?;
    api.delete(name, &DeleteParams::default()).await?;
    let what = format!("{} {name} to be made again", kind.kind);
    object::wait_for(&api, name, &what, SOON, |now| {
        let other = now.metadata.uid != uid && now.metadata.deletion_timestamp.is_none();
        if other { Ok(()) } else { Err(object::summary(now)) }
    })
    .await?;
    let after = snapshot::exact(&place.admin, kind, namespace, name).await?;
    ensure!(essence(&after) == essence(&before), "it was {before} and is {after}");
    Ok(())
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

async fn is_shared(place: &Place) -> Result<()> {
    let bound = place.bind("shared").await?;
    let contract = bound.consumer.namespace();
    // One namespace is asked for in the request, one by the konnector.
    let mut spec = driver::spec(&cowboys(), &["Secret"]);
    spec["namespaces"] = json!([{"name": "asked-for"}]);
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
    let asked_for = format!("{contract}-asked-for");
    let made = object::wait_for(&requested, "asked-for", "the namespace asked for", SOON, |now| {
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
    cow.check_service_namespace(&place.admin, "asked-for", &asked_for).await?;
    let service = cow.service_namespace(TOWN).await?;
    let uids = [place.standing(&asked_for).await?, place.standing(&service).await?];
    cow.create_object(TOWN, &service, "bull", json!({"intent": "stay"})).await?;

    let horse = place.export(&bound, "horse", &horses(), &["ConfigMap"]).await?;
    let expected = vec![(uid_of(&cow), true), (uid_of(&horse), false)];
    for name in ["asked-for", TOWN] {
        owned_by(place, contract, name, &expected).await.context("with a second export")?;
    }
    for (name, namespace) in [("asked-for", &asked_for), (TOWN, &service)] {
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
    for name in ["asked-for", TOWN] {
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
    for name in ["asked-for", TOWN] {
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

async fn asked_anew() -> Result<()> {
    let place = Place::kcp("anew", Settings::APART).await?;
    let outcome = is_asked_anew(&place).await;
    place.end(outcome).await
}

/// What a konnector does when the namespace of the consumer goes and an object in it is still there.
async fn is_asked_anew(place: &Place) -> Result<()> {
    let bound = place.bind("anew").await?;
    let usage = place.export(&bound, "cow", &cowboys(), &["Secret"]).await?;
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

/// An export under these settings that its consumer works with.
async fn worker(place: &Place, identity: &str, exported: &Exported) -> Result<Use> {
    let bound = place.bind(identity).await?;
    place.export(&bound, "cow", exported, &["Secret"]).await
}
