//! Step 2: what the issued identity may do, and what it may not.

use anyhow::{Result, bail};
use serde_json::json;

use super::Consumer;
use crate::object;

/// Verbs on a resource (with subresource) of a group.
type Rule = (&'static str, &'static str, &'static [&'static str]);

const KUBE_BIND: &str = "kube-bind.io";

/// What konnector and CLI use in the contract namespace (contract konnector.md 1.4).
const NEEDED: &[Rule] = &[
    ("", "namespaces", &["get"]),
    ("", "secrets", &["list", "watch"]),
    (KUBE_BIND, "clusterbindings", &["list", "watch", "get"]),
    (KUBE_BIND, "clusterbindings/status", &["patch"]),
    (KUBE_BIND, "apiserviceexports", &["list", "watch"]),
    (KUBE_BIND, "apiserviceexports/status", &["patch"]),
    (KUBE_BIND, "boundschemas", &["get"]),
    (KUBE_BIND, "boundschemas/status", &["update"]),
    (KUBE_BIND, "apiservicenamespaces", &["list", "watch", "create", "delete"]),
    (KUBE_BIND, "apiserviceexportrequests", &["create", "get"]),
];

/// What would let a consumer forge the contract, or widen its rights, even in its own namespace.
const FORBIDDEN: &[Rule] = &[
    ("", "secrets", &["create", "update", "patch", "delete"]),
    ("", "namespaces", &["update", "patch", "delete"]),
    ("", "serviceaccounts", &["create", "update", "patch", "delete"]),
    ("", "serviceaccounts/token", &["create"]),
    (KUBE_BIND, "clusterbindings", &["create", "update", "patch", "delete"]),
    (KUBE_BIND, "apiserviceexports", &["create", "update", "patch", "delete"]),
    (KUBE_BIND, "boundschemas", &["create", "update", "patch", "delete"]),
    (KUBE_BIND, "apiservicenamespaces/status", &["update", "patch"]),
    (KUBE_BIND, "apiserviceexportrequests/status", &["update", "patch"]),
    (KUBE_BIND, "bindableresourcesrequests", &["create", "update", "patch", "delete"]),
    ("rbac.authorization.k8s.io", "roles", &["create", "update", "patch", "bind", "escalate"]),
    ("rbac.authorization.k8s.io", "rolebindings", &["create", "update", "patch"]),
];

/// What nobody needs for all namespaces as long as no export asks for cluster-wide rights.
const NOT_CLUSTER_WIDE: &[Rule] = &[
    ("", "secrets", &["get", "list", "watch", "create"]),
    ("", "configmaps", &["get", "list", "watch", "create"]),
    ("", "namespaces", &["list", "watch", "create", "delete"]),
    (KUBE_BIND, "clusterbindings", &["list", "watch"]),
    (KUBE_BIND, "apiserviceexports", &["list", "watch"]),
    (KUBE_BIND, "apiserviceexporttemplates", &["create", "update", "delete"]),
    ("rbac.authorization.k8s.io", "clusterroles", &["create", "update", "bind", "escalate"]),
    ("rbac.authorization.k8s.io", "clusterrolebindings", &["create", "update"]),
];

impl Consumer {
    /// Checks table 1.4 in the contract namespace, and that nothing beyond it is granted there, for all namespaces, or
    /// in the namespaces of `others` (the contract namespaces of other consumers).
    ///
    /// To be called before there is an export: an export adds rights. The error lists every deviation.
    pub async fn check_rights(&self, others: &[&str]) -> Result<()> {
        let own = Some(self.namespace.as_str());
        let mut wrong = self.deviations(NEEDED, own, true).await?;
        wrong.extend(self.deviations(FORBIDDEN, own, false).await?);
        wrong.extend(self.deviations(NOT_CLUSTER_WIDE, None, false).await?);
        for other in others {
            for rules in [NEEDED, FORBIDDEN] {
                wrong.extend(self.deviations(rules, Some(other), false).await?);
            }
        }
        if !wrong.is_empty() {
            bail!("rights of the consumer of {}:\n  {}", self.namespace, wrong.join("\n  "));
        }
        Ok(())
    }

    /// Whether the issued identity may do something, by the server's own answer.
    pub async fn may(
        &self,
        verb: &str,
        group: &str,
        resource: &str,
        namespace: Option<&str>,
    ) -> Result<bool> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let mut attributes =
            json!({"verb": verb, "group": group, "resource": resource, "subresource": subresource});
        if let Some(namespace) = namespace {
            attributes["namespace"] = json!(namespace);
        }
        // A Namespace is asked for by its name, as the server does when it gets a request for one.
        if let (Some(namespace), "namespaces") = (namespace, resource) {
            attributes["name"] = json!(namespace);
        }
        let kind = object::resource(
            "authorization.k8s.io",
            "v1",
            "SelfSubjectAccessReview",
            "selfsubjectaccessreviews",
        );
        let spec = json!({"spec": {"resourceAttributes": attributes}});
        let review = object::create(&self.client, &kind, None, spec).await?;
        Ok(review.data["status"]["allowed"] == true)
    }

    async fn deviations(
        &self,
        rules: &[Rule],
        namespace: Option<&str>,
        expected: bool,
    ) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for &(group, resource, verbs) in rules {
            for verb in verbs {
                if self.may(verb, group, resource, namespace).await? != expected {
                    let word = if expected { "missing" } else { "too much" };
                    let place = namespace.unwrap_or("all namespaces");
                    wrong.push(format!("{word}: {verb} {resource}.{group} in {place}"));
                }
            }
        }
        Ok(wrong)
    }
}
