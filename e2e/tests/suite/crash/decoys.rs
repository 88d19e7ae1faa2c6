//! Objects of somebody else with names like ours: the backend has no business with them.

use anyhow::{Result, ensure};
use e2e::faultproxy::{Logged, listing};
use e2e::object::{self, core, resource};
use e2e::snapshot;
use kube::Client;
use kube::api::ApiResource;
use serde_json::{Value, json};

use super::scenario::CONTRACT;

/// What is in the path of each request to one, for none of ours.
const NAMED: [&str; 2] = ["-third", "-others"];

/// The decoys of a workspace as they were made.
pub(super) struct Decoys(Vec<(ApiResource, Option<String>, String, Value)>);

impl Decoys {
    /// Makes them: a namespace named like one of the consumer's, cluster-wide and namespaced RBAC and a Secret.
    pub(super) async fn seed(admin: &Client) -> Result<Self> {
        let namespace = format!("{CONTRACT}-third");
        let rbac = |kind: &str| {
            let plural = format!("{}s", kind.to_lowercase());
            resource("rbac.authorization.k8s.io", "v1", kind, &plural)
        };
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        let subject =
            json!({"kind": "User", "name": "somebody", "apiGroup": "rbac.authorization.k8s.io"});
        let bound = |kind: &str, name: &str| {
            let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
            json!({"subjects": [subject], "roleRef": role})
        };
        let cluster_role = format!("kube-binder-resources-{CONTRACT}-others");
        let here = Some(namespace.as_str());
        let all = [
            (core("Namespace"), None, namespace.as_str(), json!({})),
            (rbac("ClusterRole"), None, &cluster_role, json!({"rules": rules})),
            (rbac("ClusterRoleBinding"), None, &cluster_role, bound("ClusterRole", &cluster_role)),
            (rbac("Role"), here, "kube-binder-claims-widgets", json!({"rules": rules})),
            (rbac("RoleBinding"), here, "kube-binder-claims-widgets", bound("Role", "others")),
            (rbac("RoleBinding"), here, "kube-binder", bound("ClusterRole", "view")),
            (core("Secret"), here, "kubeconfig", json!({"stringData": {"kubeconfig": "mine"}})),
        ];
        let mut decoys = Vec::new();
        for (kind, namespace, name, mut manifest) in all {
            manifest["metadata"] = json!({"name": name});
            object::create(admin, &kind, namespace, manifest).await?;
            let seeded = snapshot::exact(admin, &kind, namespace, name).await?;
            decoys.push((kind, namespace.map(str::to_owned), name.to_owned(), seeded));
        }
        Ok(Self(decoys))
    }

    /// An error unless each is what it was, but for what kcp itself does when an export is bound, and unless none of
    /// these requests names one.
    pub(super) async fn untouched(&self, admin: &Client, writes: &[Logged]) -> Result<()> {
        let named = |write: &&Logged| NAMED.iter().any(|name| write.path.contains(name));
        let named: Vec<Logged> = writes.iter().filter(named).cloned().collect();
        ensure!(named.is_empty(), "writes to objects of somebody else:\n{}", listing(&named));
        for (kind, namespace, name, before) in &self.0 {
            let after = snapshot::exact(admin, kind, namespace.as_deref(), name).await?;
            ensure!(after == *before, "{} {name} was {before} and is {after}", kind.kind);
        }
        Ok(())
    }
}
