//! What `kcp-init` of v0.8.1 left in the workspace of the export (contract kcp.md 1) and is better gone.
//!
//! Nothing of it is removed unasked: the old backend may still run.

use serde_json::Value;

use crate::cli::InitConfig;
use crate::init::connection::Workspace;
use crate::init::error::Error;
use crate::init::objects::{self, Kind, Target};

/// A binding that makes a service account an admin of the workspace which nobody made: whoever may create it is one.
const ADMIN: &str = "kube-bind-service-account-binding";
/// A service account without rights, and its token.
const UNUSED: [(Kind, &str, &str); 2] = [
    (Kind::Secret, "secret", "kube-bind-controller-secret"),
    (Kind::ServiceAccount, "serviceaccount", "kube-bind-controller"),
];
/// Where they are.
const NAMESPACE: &str = "default";

/// What is there of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// The `APIBinding` of the export in its own workspace accepts claims.
    reachable: bool,
    admin: bool,
    /// What has no rights, as kubectl takes it: `<kind>/<name>`.
    unused: Vec<String>,
}

impl Left {
    /// Looks for it.
    pub(super) async fn look(workspace: &Workspace, config: &InitConfig) -> Result<Self, Error> {
        let get = async |kind, namespace, name| {
            objects::get(workspace, &Target::new(kind, namespace, name)).await
        };
        let binding = get(Kind::ApiBinding, None, &config.export_name).await?;
        let admin = get(Kind::ClusterRoleBinding, None, ADMIN).await?;
        let mut unused = Vec::new();
        for (kind, called, name) in UNUSED {
            if get(kind, Some(NAMESPACE), name).await?.is_some() {
                unused.push(format!("{called}/{name}"));
            }
        }
        Ok(Self {
            reachable: !config.serves_export && binding.as_ref().is_some_and(accepts_claims),
            admin: admin.is_some_and(|admin| admin["roleRef"]["name"] == "cluster-admin"),
            unused,
        })
    }

    /// What to say about it: how to take it away. `kubectl` is the command with the way to the workspace.
    pub(super) fn notices(&self, config: &InitConfig, kubectl: &str) -> Vec<String> {
        let mut all = Vec::new();
        if self.admin {
            all.push(format!(
                "\nClusterRoleBinding {ADMIN}, which v0.8.1 left here, makes whoever may create ServiceAccount \
                 {NAMESPACE}/admin-service-account an admin of this workspace. To remove it:\n\n  {kubectl} delete \
                 clusterrolebinding {ADMIN}"
            ));
        }
        if !self.unused.is_empty() {
            let unused = self.unused.join(" ");
            all.push(format!(
                "\nv0.8.1 left {unused} in namespace {NAMESPACE}, which have no rights. Unless the old backend still uses \
                 them:\n\n  {kubectl} --namespace={NAMESPACE} delete {unused}"
            ));
        }
        if self.reachable {
            all.push(format!(
                "\nAPIBinding {export} of {workspace} itself accepts permission claims, so the backend reaches the Secrets of \
                 its own workspace. The backend does not serve that workspace without --serve-export-workspace; unless \
                 consumers are bound there, take that back:\n\n  {kubectl} patch apibindings.apis.kcp.io {export} \
                 --type=json --patch='[{{\"op\":\"remove\",\"path\":\"/spec/permissionClaims\"}}]'",
                export = config.export_name,
                workspace = config.workspace,
            ));
        }
        all
    }
}

fn accepts_claims(binding: &Value) -> bool {
    let claims = binding["spec"]["permissionClaims"].as_array();
    claims.into_iter().flatten().any(|claim| claim["state"] == "Accepted")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_accepted_claims_open_a_workspace() {
        let binding = |claims: Value| json!({ "spec": { "permissionClaims": claims } });
        assert!(!accepts_claims(&json!({ "spec": {} })));
        assert!(!accepts_claims(&binding(json!([{ "resource": "secrets", "state": "Rejected" }]))));
        assert!(accepts_claims(&binding(json!([{ "resource": "secrets", "state": "Accepted" }]))));
    }
}
