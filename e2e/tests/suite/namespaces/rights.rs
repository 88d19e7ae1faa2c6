//! Rights in service namespaces: there in time, and kept as they should be.

use anyhow::{Context as _, Result, ensure};
use e2e::driver::{Isolation, Settings, Watches};
use e2e::object::{self, core, kube_bind, rbac};
use e2e::service::Scope;
use e2e::snapshot;
use e2e::wait::{GONE, SOON};
use futures::FutureExt as _;
use kube::api::{ApiResource, DeleteParams, DynamicObject};
use serde_json::{Value, json};

use super::{TOWN, worker};
use crate::Test;
use crate::suite::place::{Place, provided};

/// Name of the Role and its binding in each service namespace.
const ROLE: &str = "kube-binder-claims-cow";
/// An export has a ClusterRole, and a Role in each service namespace.
const BOTH: Settings = Settings {
    informers: Scope::Cluster,
    isolation: Isolation::Prefixed,
    resource: Scope::Namespaced,
};

pub(super) fn tests() -> Vec<Test> {
    vec![("namespaces::rights_are_there_before_the_name_and_edits_of_others_are_repaired", || {
        repaired().boxed()
    })]
}

async fn repaired() -> Result<()> {
    let place = Place::kcp("repaired", BOTH).await?;
    let outcome = is_repaired(&place).await;
    place.end(outcome).await
}

async fn is_repaired(place: &Place) -> Result<()> {
    let usage = worker(place, "repaired").await?;
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
    edited(place, contract, &service).await?;
    deleted(place, contract, &service).await?;
    usage.check_rights_kept(&place.admin, &[&service]).await.context("after all repairs")?;

    // An admin deletes the namespace although the consumer still has its own.
    made_again(place, &core("Namespace"), None, &service).await?;
    for kind in ["Role", "RoleBinding"] {
        let api = place.api(&rbac(kind), Some(&service));
        object::wait_for(&api, ROLE, "the role of a namespace made again", SOON, |_| Ok(()))
            .await?;
    }
    usage.check_service_namespace(&place.admin, TOWN, &service).await?;
    usage.check_rights_kept(&place.admin, &[&service]).await
}

/// Name of the ClusterRole and its binding.
fn wide_role(contract: &str) -> String {
    format!("kube-binder-claims-{contract}-cow")
}

/// Somebody else gives the consumer more or less.
async fn edited(place: &Place, contract: &str, service: &str) -> Result<()> {
    let (here, wide) = (Some(service), wide_role(contract));
    let more = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let somebody =
        json!([{"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}]);
    for (kind, namespace, name, edit) in [
        (rbac("Role"), here, ROLE, json!({"rules": more})),
        (rbac("Role"), here, ROLE, json!({"rules": []})),
        (rbac("RoleBinding"), here, ROLE, json!({"subjects": somebody})),
        (rbac("RoleBinding"), here, ROLE, json!({"subjects": null})),
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
    Ok(())
}

/// Somebody else deletes them.
async fn deleted(place: &Place, contract: &str, service: &str) -> Result<()> {
    let (here, wide) = (Some(service), wide_role(contract));
    for (kind, namespace, name) in [
        (rbac("RoleBinding"), here, ROLE),
        (rbac("Role"), here, ROLE),
        (rbac("ClusterRoleBinding"), None, &wide),
        (rbac("ClusterRole"), None, &wide),
    ] {
        made_again(place, &kind, namespace, name).await?;
    }
    Ok(())
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
                    && event.object.metadata.name.as_deref() == Some(ROLE)
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
    object::wait_for(&api, name, &what, GONE, |now| {
        let other = now.metadata.uid != uid && now.metadata.deletion_timestamp.is_none();
        if other { Ok(()) } else { Err(object::summary(now)) }
    })
    .await?;
    let after = snapshot::exact(&place.admin, kind, namespace, name).await?;
    ensure!(essence(&after) == essence(&before), "it was {before} and is {after}");
    Ok(())
}
