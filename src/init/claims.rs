//! Permission claims that an export makes and that the flags of the backend do not need.
//!
//! A backend with other flags may run on the same export, so none is taken away unasked.

use serde_json::Value;

use crate::api::claims::{CLAIMS, Claim, LEGACY_CLAIMS, display};
use crate::cli::InitConfig;

/// The claims in an export that nobody needs who runs this backend with these flags, as their place in the list and their
/// name. Claims that neither this backend nor v0.8.1 makes are somebody's own.
pub(super) fn unneeded(export: &Value, needed: &[Claim]) -> Vec<(usize, String)> {
    let made = export["spec"]["permissionClaims"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_a_backend = made.iter().enumerate().filter_map(|(at, made)| {
        let text = |field: &str| made[field].as_str().unwrap_or_default();
        let (group, resource) = (text("group"), text("resource"));
        let is = |claim: &Claim| (claim.group, claim.resource) == (group, resource);
        let known = CLAIMS.iter().any(is) || LEGACY_CLAIMS.contains(&(group, resource));
        let unneeded = known && text("identityHash").is_empty() && !needed.iter().any(is);
        unneeded.then(|| (at, display(group, resource)))
    });
    of_a_backend.collect()
}

/// What to say about them: how to take them away. `kubectl` is the command with the way to the workspace.
pub(super) fn notice(
    config: &InitConfig,
    kubectl: &str,
    unneeded: &[(usize, String)],
) -> Option<String> {
    if unneeded.is_empty() {
        return None;
    }
    let names: Vec<&str> = unneeded.iter().map(|(_, name)| name.as_str()).collect();
    // From the end, because each removal moves what follows.
    let removals: Vec<String> = unneeded
        .iter()
        .rev()
        .map(|(at, _)| format!(r#"{{"op":"remove","path":"/spec/permissionClaims/{at}"}}"#))
        .collect();
    Some(format!(
        "\nThe APIExport also claims {}, which these flags do not need. To take that back, when no backend with other flags \
         uses the export:\n\n  {kubectl} patch apiexport {} --type=json --patch='[{}]'",
        names.join(", "),
        config.export_name,
        removals.join(","),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::WorkspacePath;

    #[test]
    fn what_is_not_needed_is_named_with_the_command_that_takes_it_back() {
        let export = json!({ "spec": { "permissionClaims": [
            { "group": "apis.kcp.io", "resource": "apibindings", "identityHash": "" },
            { "resource": "secrets" },
            { "resource": "configmaps" },
            { "group": "apis.kcp.io", "resource": "apiresourceschemas" },
            { "group": "example.org", "resource": "widgets", "identityHash": "somebody's" },
        ]}});
        let needed: Vec<Claim> =
            CLAIMS.iter().filter(|claim| claim.group != "apis.kcp.io").copied().collect();
        let found = unneeded(&export, &needed);
        let expected = [
            (0, "apibindings.apis.kcp.io".to_owned()),
            (2, "configmaps.core".to_owned()),
            (3, "apiresourceschemas.apis.kcp.io".to_owned()),
        ];
        assert_eq!(found, expected);
        let config = InitConfig {
            kubeconfig: None,
            context: None,
            workspace: WorkspacePath::parse("root:kube-bind").unwrap(),
            output: "out".into(),
            export_name: "kube-bind.io".into(),
            claims: needed,
            flags: vec![],
            http_api: false,
            serves_export: false,
        };
        assert_eq!(
            notice(&config, "kubectl --server=https://kcp/clusters/root:kube-bind", &found)
                .unwrap(),
            "\nThe APIExport also claims apibindings.apis.kcp.io, configmaps.core, apiresourceschemas.apis.kcp.io, which these \
             flags do not need. To take that back, when no backend with other flags uses the export:\n\n  kubectl \
             --server=https://kcp/clusters/root:kube-bind patch apiexport kube-bind.io --type=json \
             --patch='[{\"op\":\"remove\",\"path\":\"/spec/permissionClaims/3\"},\
             {\"op\":\"remove\",\"path\":\"/spec/permissionClaims/2\"},\
             {\"op\":\"remove\",\"path\":\"/spec/permissionClaims/0\"}]'"
        );
        assert_eq!(notice(&config, "kubectl", &[]), None);
    }
}
