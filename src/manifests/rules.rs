//! What the backend may do, as data: kinds of its own group and the RBAC rules made from them.

use serde_json::{Value, json};

use crate::api::claims::{CLAIMS, Claim};
use crate::api::keys;

const READ: &[&str] = &["get", "list", "watch"];
const STATUS: &[&str] = &["get", "update", "patch"];

/// Rights on one of our own kinds.
struct OwnKind {
    plural: &'static str,
    verbs: &'static [&'static str],
    /// The backend writes status.
    status: bool,
    /// The backend makes it the blocking owner of other objects, which some API servers allow only
    /// to those who may update its finalizers (admission `OwnerReferencesPermissionEnforcement`).
    owner: bool,
}

/// Kinds that the backend touches in a provider's cluster. `APIServiceBinding`, its bundle and
/// `APIConversion` belong to the consumer or to nobody.
const OWN_KINDS: &[OwnKind] = &[
    OwnKind {
        plural: "apiserviceexportrequests",
        verbs: &["get", "list", "watch", "create", "delete"],
        status: true,
        owner: false,
    },
    OwnKind {
        plural: "apiserviceexports",
        verbs: &["get", "list", "watch", "create", "update", "patch"],
        status: true,
        owner: true,
    },
    OwnKind { plural: "apiserviceexporttemplates", verbs: READ, status: false, owner: false },
    OwnKind {
        plural: "apiservicenamespaces",
        verbs: &["get", "list", "watch", "create", "update", "patch"],
        status: true,
        owner: false,
    },
    OwnKind {
        plural: "bindableresourcesrequests",
        verbs: &["get", "list", "watch", "delete"],
        status: true,
        owner: true,
    },
    OwnKind {
        plural: "boundschemas",
        verbs: &["get", "list", "watch", "create", "update", "patch", "delete"],
        status: false,
        owner: false,
    },
    OwnKind {
        plural: "clusterbindings",
        verbs: &["get", "list", "watch", "create", "update", "patch"],
        status: true,
        owner: false,
    },
    OwnKind {
        plural: "clusters",
        verbs: &["get", "list", "watch", "create"],
        status: true,
        owner: true,
    },
    OwnKind { plural: "collections", verbs: READ, status: false, owner: false },
];

/// One RBAC rule for API resources.
pub(super) fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({ "apiGroups": [group], "resources": resources, "verbs": verbs })
}

/// The rules of the backend on plain Kubernetes.
pub(super) fn backend() -> Vec<Value> {
    let mut rules = Vec::new();
    for kind in OWN_KINDS {
        rules.push(rule(keys::GROUP, &[kind.plural], kind.verbs));
        if kind.status {
            rules.push(rule(keys::GROUP, &[&format!("{}/status", kind.plural)], STATUS));
        }
        if kind.owner {
            rules.push(rule(keys::GROUP, &[&format!("{}/finalizers", kind.plural)], &["update"]));
        }
    }
    rules.extend(CLAIMS.iter().filter(|claim| !claim.kcp_only).map(claimed));
    // One workspace of kcp can be served like a Kubernetes cluster; elsewhere the kind does not exist,
    // which is told only to those who may look for it.
    rules.push(rule("apis.kcp.io", &["apiresourceschemas"], READ));
    // Consumers get Roles for the exported APIs, which are not known in advance, and users get
    // `bind` on templates. Kubernetes lets only those grant a right who have it or may escalate.
    let grants = ["bind", "escalate"];
    rules.push(rule(keys::RBAC_GROUP, &["clusterroles", "roles"], &grants));
    rules
}

fn claimed(claim: &Claim) -> Value {
    rule(claim.group, &[claim.resource], claim.verbs)
}

/// The rules for the peer Leases of the backend in its own namespace.
pub(super) fn leases() -> Vec<Value> {
    let verbs = ["get", "list", "watch", "create", "update", "patch", "delete"];
    vec![rule("coordination.k8s.io", &["leases"], &verbs)]
}

/// A reference to a role.
pub(super) fn role_ref(kind: &str, name: &str) -> Value {
    json!({ "apiGroup": keys::RBAC_GROUP, "kind": kind, "name": name })
}

/// The backend's service account as the subject of a binding.
pub(super) fn subject() -> Value {
    json!({
        "kind": "ServiceAccount",
        "name": keys::BACKEND_SERVICE_ACCOUNT,
        "namespace": keys::KUBE_BIND_NAMESPACE,
    })
}

/// A role or binding with its fields.
pub(super) fn rbac_object(kind: &str, namespace: Option<&str>, fields: &[(&str, Value)]) -> Value {
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": { "name": keys::BACKEND_NAME },
    });
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    for (name, value) in fields {
        object[*name] = value.clone();
    }
    object
}

/// The backend's namespace.
pub(super) fn namespace() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": keys::KUBE_BIND_NAMESPACE },
    })
}

/// The backend's service account.
pub(super) fn service_account() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": keys::BACKEND_SERVICE_ACCOUNT,
            "namespace": keys::KUBE_BIND_NAMESPACE,
        },
    })
}

/// Role and binding for the Leases.
pub(super) fn lease_role() -> [Value; 2] {
    let namespace = Some(keys::KUBE_BIND_NAMESPACE);
    [
        rbac_object("Role", namespace, &[("rules", json!(leases()))]),
        rbac_object(
            "RoleBinding",
            namespace,
            &[("roleRef", role_ref("Role", keys::BACKEND_NAME)), ("subjects", json!([subject()]))],
        ),
    ]
}

/// Cluster-wide role and binding with these rules.
pub(super) fn cluster_role(rules: &[Value]) -> [Value; 2] {
    [
        rbac_object("ClusterRole", None, &[("rules", json!(rules))]),
        rbac_object(
            "ClusterRoleBinding",
            None,
            &[
                ("roleRef", role_ref("ClusterRole", keys::BACKEND_NAME)),
                ("subjects", json!([subject()])),
            ],
        ),
    ]
}
