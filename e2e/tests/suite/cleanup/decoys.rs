//! Objects of somebody else with names, labels or annotations like ours.

use anyhow::{Result, ensure};
use e2e::object::{self, core, rbac};
use e2e::snapshot;
use kube::api::ApiResource;
use serde_json::{Value, json};

use crate::suite::place::Place;

const MANAGED: &str = "backend.kube-bind.io/managed";

/// What is somebody else's, as it was made.
pub(super) struct Decoys(Vec<Decoy>);

struct Decoy {
    kind: ApiResource,
    namespace: Option<String>,
    name: String,
    made: Value,
}

impl Decoys {
    /// Makes them, beside a consumer that is about to go and another that stays.
    pub(super) async fn seed(place: &Place, contract: &str, staying: &str) -> Result<Self> {
        let name = |suffix: &str| format!("{contract}-{suffix}");
        let role = |suffix: &str| format!("kube-binder-claims-{contract}-{suffix}");
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        let bound = |kind: &str, role: &str| {
            let group = "rbac.authorization.k8s.io";
            json!({
                "subjects": [{"kind": "User", "name": "somebody", "apiGroup": group}],
                "roleRef": {"kind": kind, "name": role, "apiGroup": group},
            })
        };
        let service = |suffix: &str| json!({"kube-bind.io/api-service-namespace": format!("{contract}/{suffix}")});
        // What it names is there, so that it is no leftover.
        let of_other = json!({
            "labels": {MANAGED: "true"},
            "annotations": {"backend.kube-bind.io/export": format!("{staying}/cow")},
        });
        let third = name("third");
        let here = Some(third.as_str());
        let named = "kube-binder-claims-cow";
        let all = [
            (core("Namespace"), None, third.clone(), json!({}), json!({})),
            (
                core("Namespace"),
                None,
                name("marked"),
                json!({"annotations": service("marked")}),
                json!({}),
            ),
            (
                core("Namespace"),
                None,
                name("labelled"),
                json!({"annotations": service("labelled"), "labels": {MANAGED: "true"}}),
                json!({}),
            ),
            (rbac("ClusterRole"), None, role("x"), json!({}), json!({"rules": rules})),
            (
                rbac("ClusterRoleBinding"),
                None,
                role("x"),
                json!({}),
                bound("ClusterRole", &role("x")),
            ),
            (rbac("ClusterRole"), None, role("y"), of_other.clone(), json!({"rules": rules})),
            (
                rbac("ClusterRoleBinding"),
                None,
                role("y"),
                of_other,
                bound("ClusterRole", &role("y")),
            ),
            (rbac("Role"), here, named.to_owned(), json!({}), json!({"rules": rules})),
            (rbac("RoleBinding"), here, named.to_owned(), json!({}), bound("Role", named)),
            (core("Secret"), here, "theirs".to_owned(), json!({}), json!({})),
        ];
        let mut decoys = Vec::new();
        for (kind, namespace, name, metadata, mut manifest) in all {
            manifest["metadata"] = metadata;
            manifest["metadata"]["name"] = Value::from(name.clone());
            object::create(&place.admin, &kind, namespace, manifest).await?;
            let made = snapshot::exact(&place.admin, &kind, namespace, &name).await?;
            decoys.push(Decoy { kind, namespace: namespace.map(str::to_owned), name, made });
        }
        Ok(Self(decoys))
    }

    /// Whether `<namespace>/<name>` is one of them or in one of them.
    pub(super) fn include(&self, object: &str) -> bool {
        let (namespace, name) = object.split_once('/').unwrap_or(("", object));
        let wide = self.0.iter().filter(|decoy| decoy.namespace.is_none());
        let mut names = wide.map(|decoy| decoy.name.as_str());
        names.any(|decoy| namespace == decoy || (namespace.is_empty() && name == decoy))
    }

    /// An error unless each is what it was.
    pub(super) async fn untouched(&self, place: &Place) -> Result<()> {
        for Decoy { kind, namespace, name, made } in &self.0 {
            let now = snapshot::exact(&place.admin, kind, namespace.as_deref(), name).await?;
            ensure!(now == *made, "{} {name} was {made} and is {now}", kind.kind);
        }
        Ok(())
    }
}
