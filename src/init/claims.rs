//! Permission claims that an export makes and that the flags of the backend do not need.
//!
//! A backend with other flags may run on the same export, so none is taken away unasked.

use serde_json::{Value, json};

use crate::api::claims::{CLAIMS, Claim, LEGACY_CLAIMS, display};
use crate::cli::InitConfig;

/// A claim in an export that nobody needs who runs this backend with these flags.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unneeded {
    /// Its place in the list.
    at: usize,
    group: String,
    resource: String,
}

/// Those in an export. Claims that neither this backend nor v0.8.1 makes are somebody's own.
pub(super) fn unneeded(export: &Value, needed: &[Claim]) -> Vec<Unneeded> {
    let made = export["spec"]["permissionClaims"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_a_backend = made.iter().enumerate().filter_map(|(at, made)| {
        let text = |field: &str| made[field].as_str().unwrap_or_default();
        let (group, resource) = (text("group"), text("resource"));
        let is = |claim: &Claim| (claim.group, claim.resource) == (group, resource);
        let known = CLAIMS.iter().any(is) || LEGACY_CLAIMS.contains(&(group, resource));
        let unneeded = known && text("identityHash").is_empty() && !needed.iter().any(is);
        unneeded.then(|| Unneeded { at, group: group.to_owned(), resource: resource.to_owned() })
    });
    of_a_backend.collect()
}

/// What to say about them: how to take them away. `kubectl` is the command with the way to the workspace.
pub(super) fn notice(config: &InitConfig, kubectl: &str, unneeded: &[Unneeded]) -> Option<String> {
    if unneeded.is_empty() {
        return None;
    }
    let names: Vec<String> =
        unneeded.iter().map(|one| display(&one.group, &one.resource)).collect();
    // From the end, because each removal moves what follows. What has another place by then is not removed, and nothing is.
    let removals: Vec<Value> = unneeded.iter().rev().flat_map(removal).collect();
    Some(format!(
        "\nThe APIExport also claims {}, which these flags do not need. To take that back, when no backend with other flags \
         uses the export:\n\n  {kubectl} patch apiexport {} --type=json --patch='{}'",
        names.join(", "),
        config.export_name,
        Value::Array(removals),
    ))
}

/// The operations of a JSON patch that remove a claim from its place, if it is there.
fn removal(of: &Unneeded) -> Vec<Value> {
    let path = format!("/spec/permissionClaims/{}", of.at);
    let is = |field: &str, value: &str| {
        let is_core = field == "group" && value.is_empty();
        (!is_core).then(|| json!({"op": "test", "path": format!("{path}/{field}"), "value": value}))
    };
    let tests = [is("group", &of.group), is("resource", &of.resource)];
    let remove = json!({"op": "remove", "path": path});
    tests.into_iter().flatten().chain([remove]).collect()
}

#[cfg(test)]
mod tests {
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
            (0, "apis.kcp.io", "apibindings"),
            (2, "", "configmaps"),
            (3, "apis.kcp.io", "apiresourceschemas"),
        ]
        .map(|(at, group, resource)| Unneeded {
            at,
            group: group.to_owned(),
            resource: resource.to_owned(),
        });
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
             --patch='[\
             {\"op\":\"test\",\"path\":\"/spec/permissionClaims/3/group\",\"value\":\"apis.kcp.io\"},\
             {\"op\":\"test\",\"path\":\"/spec/permissionClaims/3/resource\",\"value\":\"apiresourceschemas\"},\
             {\"op\":\"remove\",\"path\":\"/spec/permissionClaims/3\"},\
             {\"op\":\"test\",\"path\":\"/spec/permissionClaims/2/resource\",\"value\":\"configmaps\"},\
             {\"op\":\"remove\",\"path\":\"/spec/permissionClaims/2\"},\
             {\"op\":\"test\",\"path\":\"/spec/permissionClaims/0/group\",\"value\":\"apis.kcp.io\"},\
             {\"op\":\"test\",\"path\":\"/spec/permissionClaims/0/resource\",\"value\":\"apibindings\"},\
             {\"op\":\"remove\",\"path\":\"/spec/permissionClaims/0\"}]'"
        );
        assert_eq!(notice(&config, "kubectl", &[]), None);
    }
}
