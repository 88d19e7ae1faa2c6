//! The few kcp types the product reads or writes, with the fields it uses and no others.
//!
//! Names follow kcp's SDK (`apis.kcp.io`, `tenancy.kcp.io`, `core.kcp.io`). None of these is
//! installed by us, so no schemas are derived. Everything that is optional in Go may be absent.
//! Unknown fields are dropped: change such an object by patch, or make sure that its type keeps
//! what others write into it.

mod binding;
mod export;
mod workspace;

pub use binding::*;
pub use export::*;
pub use workspace::*;

/// Phase in which an [`ApiBinding`] serves its resources.
pub const PHASE_BOUND: &str = "Bound";
/// Phase in which a [`Workspace`] or [`LogicalCluster`] can be used.
pub const PHASE_READY: &str = "Ready";
/// [`AcceptableClaim::state`] of a claim the workspace granted.
pub const CLAIM_ACCEPTED: &str = "Accepted";
/// Name of the only [`LogicalCluster`] of a workspace.
pub const LOGICAL_CLUSTER: &str = "cluster";

#[cfg(test)]
mod tests {
    use super::*;
    use kube::Resource;
    use serde_json::json;

    #[test]
    fn a_binding_of_kcp_is_read_with_its_claims_and_resources() {
        let binding: ApiBinding = serde_json::from_value(json!({
            "apiVersion": "apis.kcp.io/v1alpha2",
            "kind": "APIBinding",
            "metadata": { "name": "kube-bind.io" },
            "spec": {
                "reference": { "export": { "path": "root:kube-bind", "name": "kube-bind.io" } },
                "permissionClaims": [{
                    "resource": "secrets", "verbs": ["*"], "state": "Accepted",
                    "selector": { "matchAll": true }
                }],
            },
            "status": {
                "apiExportClusterName": "abc",
                "phase": "Bound",
                "boundResources": [{
                    "group": "kube-bind.io", "resource": "clusters", "storageVersions": ["v1alpha2"],
                    "schema": { "name": "v1.clusters.kube-bind.io", "UID": "u", "identityHash": "h" },
                }],
            },
        }))
        .unwrap();
        let claim = PermissionClaim {
            resource: "secrets".into(),
            verbs: vec!["*".into()],
            ..PermissionClaim::default()
        };
        let selector = ClaimSelector { match_all: true, ..ClaimSelector::default() };
        let expected = AcceptableClaim {
            claim: ScopedClaim { claim, selector },
            state: CLAIM_ACCEPTED.into(),
        };
        assert_eq!(binding.spec.permission_claims, [expected].into());
        let status = binding.status.unwrap();
        assert_eq!(status.api_export_cluster_name.as_deref(), Some("abc"));
        assert_eq!(status.bound_resources[0].schema.identity_hash, "h");
        assert_eq!(status.bound_resources[0].schema.uid, "u");
    }

    #[test]
    fn an_empty_endpoint_slice_and_a_logical_cluster_without_spec_are_normal() {
        let slice: ApiExportEndpointSlice = serde_json::from_value(json!({
            "metadata": { "name": "kube-bind.io" },
            "spec": { "export": { "name": "kube-bind.io" } },
            "status": {},
        }))
        .unwrap();
        assert_eq!(slice.status.unwrap().endpoints, []);
        let cluster: LogicalCluster = serde_json::from_value(json!({
            "metadata": { "name": "cluster" },
            "status": { "URL": "https://host/clusters/abc", "phase": "Ready" },
        }))
        .unwrap();
        assert_eq!(cluster.status.unwrap().url.as_deref(), Some("https://host/clusters/abc"));
    }

    #[test]
    fn plurals_are_those_of_kcp() {
        assert_eq!(ApiBinding::plural(&()), "apibindings");
        assert_eq!(ApiExport::plural(&()), "apiexports");
        assert_eq!(ApiResourceSchema::plural(&()), "apiresourceschemas");
        assert_eq!(ApiExportEndpointSlice::plural(&()), "apiexportendpointslices");
        assert_eq!(Workspace::plural(&()), "workspaces");
        assert_eq!(LogicalCluster::plural(&()), "logicalclusters");
    }
}
