//! What v0.8.1 leaves is taken over: templates, copies, its role, and the schemas that it owns though it did not make
//! them.

use anyhow::{Result, ensure};
use e2e::object::{self, kcp_apis, kube_bind, rbac};
use e2e::service::{Exported, GROUP, Offer};
use futures::FutureExt as _;
use serde_json::json;

use super::{COWBOYS, Place, READER, TEMPLATE};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("offers::what_v0_8_1_generated_is_taken_over_and_not_made_anew", || taken_over().boxed()),
        ("offers::a_schema_of_the_workspace_that_v0_8_1_owned_outlives_its_template", || {
            released().boxed()
        }),
        ("offers::an_own_schema_that_is_not_for_export_is_left_so", || withheld().boxed()),
    ]
}

/// v0.8.1 leaves the same objects without the marks of this backend, and rights that are wider.
async fn taken_over() -> Result<()> {
    let mut place = Place::new("offers-taken").await?;
    place.bind().await?;
    let template = place.template(TEMPLATE, &["cowboys"]).await?;
    let copy = place.exported(COWBOYS).await?;
    place.provider.backend.stop().await?;

    let managed = json!({"backend.kube-bind.io/managed": null});
    let unmarked = json!({"metadata": {"labels": managed}});
    object::merge_patch(&place.templates(), TEMPLATE, &unmarked, false).await?;
    let unmarked = json!({"metadata": {"labels": managed, "annotations": {
        "apibindingtemplate.kube-bind.io/owner-binding": null,
        "backend.kube-bind.io/source": null,
        "backend.kube-bind.io/scope": null,
        "backend.kube-bind.io/served-versions": null,
        "backend.kube-bind.io/marks-digest": null,
    }}});
    object::merge_patch(&place.schemas(), COWBOYS, &unmarked, false).await?;
    let api = place.schemas();
    object::delete(&api, "today.sheriffs.wildwest.dev").await?;
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        let mut wide = json!({"metadata": {"labels": managed, "ownerReferences": null}});
        if kind == "ClusterRole" {
            wide["rules"] = json!([
                {"nonResourceURLs": ["/"], "verbs": ["access"]},
                {"apiGroups": ["apis.kcp.io"], "resources": ["apibindings"],
                 "verbs": ["get", "list", "watch"]},
            ]);
        } else {
            wide["subjects"] = json!([{
                "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "kcp-admin",
            }]);
        }
        object::merge_patch(&place.api(&rbac(kind)), READER, &wide, false).await?;
    }

    place.provider.backend.restart().await?;
    // This one cannot be read without the role.
    place.exported("today.sheriffs.wildwest.dev").await?;
    let is_marked = |object: &kube::api::DynamicObject| {
        let labels = object.metadata.labels.clone().unwrap_or_default();
        if labels.contains_key("backend.kube-bind.io/managed") {
            Ok(())
        } else {
            Err(format!("{labels:?}"))
        }
    };
    let now = place.until(place.templates(), TEMPLATE, "the mark", is_marked).await?;
    ensure!(now.metadata.uid == template.metadata.uid, "the template was made anew");
    let now = place.until(place.schemas(), COWBOYS, "the mark", is_marked).await?;
    ensure!(now.metadata.uid == copy.metadata.uid, "the copy was made anew");
    let roles = place.api(&rbac("ClusterRole"));
    let role = place.until(roles, READER, "the mark", is_marked).await?;
    ensure!(role.data["rules"][1]["verbs"] == json!(["get"]), "{}", role.data["rules"]);
    Ok(())
}

/// Two-tier: v0.8.1 makes its template the owner of the schema that the workspace exports.
async fn released() -> Result<()> {
    let mut place = Place::new("offers-released").await?;
    let own = two_tier(&place).await?;
    place.provider.backend.stop().await?;
    own.serve(&place.provider.kcp, &place.workspace).await?;
    let binding = place.api(&kcp_apis("APIBinding")).get(GROUP).await?;
    let template = json!({
        "metadata": {
            "name": TEMPLATE,
            "annotations": {"apibindingtemplate.kube-bind.io/owner-binding": GROUP},
            "ownerReferences": [{
                "apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIBinding", "name": GROUP,
                "uid": binding.metadata.uid,
            }],
        },
        "spec": {
            "scope": "Namespaced",
            "resources": [{"group": GROUP, "resource": "cowboys", "versions": ["v1alpha1"]}],
        },
    });
    let kind = kube_bind("APIServiceExportTemplate");
    let template = object::create(&place.admin, &kind, None, template).await?;
    let owned = json!({"metadata": {
        "labels": {"kube-bind.io/exported": "true"},
        "ownerReferences": [{
            "apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceExportTemplate",
            "name": TEMPLATE, "uid": template.metadata.uid,
        }],
    }});
    let theirs = object::merge_patch(&place.schemas(), COWBOYS, &owned, false).await?;

    place.provider.backend.restart().await?;
    place
        .until(place.schemas(), COWBOYS, "no owner", |schema| {
            if schema.metadata.owner_references.is_none() {
                Ok(())
            } else {
                Err(format!("{:?}", schema.metadata.owner_references))
            }
        })
        .await?;
    place.template("wildwest.dev-cluster", &["sheriffs"]).await?;
    place.no_role().await?;
    place.unbind(GROUP).await?;
    place.gone(&kind, TEMPLATE).await?;
    let now = place
        .until(place.schemas(), COWBOYS, "no label", |schema| {
            let labels = schema.metadata.labels.clone().unwrap_or_default();
            if labels.contains_key("kube-bind.io/exported") {
                return Err(format!("{labels:?}"));
            }
            Ok(())
        })
        .await?;
    ensure!(now.metadata.uid == theirs.metadata.uid, "it was made anew");
    Ok(())
}

async fn withheld() -> Result<()> {
    let place = Place::new("offers-withheld").await?;
    let own = two_tier(&place).await?;
    let label = |value: serde_json::Value| json!({"metadata": {"labels": {"kube-bind.io/exported": value}}});
    object::merge_patch(&place.schemas(), COWBOYS, &label(json!("false")), false).await?;
    own.serve(&place.provider.kcp, &place.workspace).await?;
    let message = place.said("SchemaNotExported").await?;
    ensure!(message.contains(COWBOYS), "{message}");
    place.template("wildwest.dev-cluster", &["sheriffs"]).await?;
    let offered = place.templates().get_opt(TEMPLATE).await?;
    ensure!(offered.is_none(), "it is offered");
    object::merge_patch(&place.schemas(), COWBOYS, &label(json!(null)), false).await?;
    place.template(TEMPLATE, &["cowboys"]).await?;
    place.healed().await
}

/// The workspace exports the API itself.
async fn two_tier(place: &Place) -> Result<Offer> {
    let crds = Exported::all(GROUP).map(|exported| exported.crd()).to_vec();
    Offer::create_in(&place.provider.kcp, &place.workspace, crds).await
}
