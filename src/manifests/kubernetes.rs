//! What the backend needs to run on plain Kubernetes: its rights and its Deployment.

use serde_json::{Value, json};

use super::rules::{backend, cluster_role, lease_role, namespace, service_account};
use crate::api::keys;

/// Port of the front end; with `--frontend-disabled` it serves health and metrics only.
const PORT: u16 = 8080;

/// The backend's namespace, service account and rights.
///
/// No rule has a wildcard. Secrets, Roles and Namespaces are cluster-wide because contract
/// namespaces come into being at run time.
#[must_use]
pub fn rbac() -> Vec<Value> {
    let mut objects = vec![namespace(), service_account()];
    objects.extend(cluster_role(&backend()));
    objects.extend(lease_role());
    objects
}

/// The Deployment, complete with its namespace so that each file applies on its own.
///
/// One replica that is replaced, not rolled: two backends at once would be safe but pointless. The
/// front end is off because it cannot work without an OIDC issuer; binding by
/// `BindableResourcesRequest` works at once.
#[must_use]
pub fn deployment() -> Vec<Value> {
    let labels = json!({ "app.kubernetes.io/name": keys::BACKEND_NAME });
    let probe = |path: &str| json!({ "httpGet": { "path": path, "port": "http" } });
    let container = json!({
        "name": "backend",
        "image": format!("ghcr.io/kube-bind/{}:v{}", keys::BACKEND_NAME, env!("CARGO_PKG_VERSION")),
        "args": [
            "--multicluster-runtime-provider=kubernetes",
            "--frontend-disabled=true",
            format!("--listen-address=0.0.0.0:{PORT}"),
        ],
        "env": [
            {
                "name": "POD_NAME",
                "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } },
            },
            {
                "name": "POD_NAMESPACE",
                "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } },
            },
        ],
        "ports": [{ "name": "http", "containerPort": PORT }],
        "livenessProbe": probe("/livez"),
        "readinessProbe": probe("/readyz"),
        "resources": {
            "requests": { "cpu": "50m", "memory": "64Mi" },
            "limits": { "memory": "256Mi" },
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
    });
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": keys::BACKEND_NAME,
            "namespace": keys::KUBE_BIND_NAMESPACE,
            "labels": labels,
        },
        "spec": {
            "replicas": 1,
            "strategy": { "type": "Recreate" },
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "serviceAccountName": keys::BACKEND_SERVICE_ACCOUNT,
                    "terminationGracePeriodSeconds": 30,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": 65532,
                        "runAsGroup": 65532,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "containers": [container],
                },
            },
        },
    });
    vec![namespace(), deployment]
}
