//! Permission claims that an export makes and that the flags of the backend do not need.
//!
//! A backend with other flags may run on the same export, so none is taken away unasked.

use serde_json::Value;

use crate::api::claims::{CLAIMS, Claim};
use crate::cli::InitConfig;

/// The claims of ours in an export that are not needed, as their place in the list and their name.
pub(super) fn unneeded(export: &Value, needed: &[Claim]) -> Vec<(usize, String)> {
    let made = export["spec"]["permissionClaims"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is = |made: &Value, claim: &Claim| {
        let text = |field: &str| made[field].as_str().unwrap_or_default();
        text("group") == claim.group
            && text("resource") == claim.resource
            && text("identityHash").is_empty()
    };
    let of_ours = made.iter().enumerate().filter_map(|(at, made)| {
        let ours = CLAIMS.iter().find(|claim| is(made, claim))?;
        let needed = needed.iter().any(|claim| is(made, claim));
        (!needed).then(|| (at, ours.display()))
    });
    of_ours.collect()
}

/// What to say about them: how to take them away.
pub(super) fn notice(config: &InitConfig, unneeded: &[(usize, String)]) -> Option<String> {
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
         uses the export:\n\n  kubectl ws {} && kubectl patch apiexport {} --type=json --patch='[{}]'",
        names.join(", "),
        config.workspace,
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
        ]}});
        let needed: Vec<Claim> =
            CLAIMS.iter().filter(|claim| claim.group != "apis.kcp.io").copied().collect();
        let found = unneeded(&export, &needed);
        let expected = [
            (0, "apibindings.apis.kcp.io".to_owned()),
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
        };
        assert_eq!(
            notice(&config, &found).unwrap(),
            "\nThe APIExport also claims apibindings.apis.kcp.io, apiresourceschemas.apis.kcp.io, which these flags do not \
             need. To take that back, when no backend with other flags uses the export:\n\n  kubectl ws root:kube-bind && \
             kubectl patch apiexport kube-bind.io --type=json \
             --patch='[{\"op\":\"remove\",\"path\":\"/spec/permissionClaims/3\"},\
             {\"op\":\"remove\",\"path\":\"/spec/permissionClaims/0\"}]'"
        );
        assert_eq!(notice(&config, &[]), None);
    }
}
