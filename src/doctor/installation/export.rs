//! In kcp: the export, the backend's rights on it, and the workspace that it is in.

use kube::ResourceExt as _;
use serde_json::Value;

use super::{is_answer, rights};
use crate::api::claims::Claim;
use crate::api::kcp::{ApiBinding, ApiExport};
use crate::api::keys;
use crate::cli::{SchemaSource, WorkspacePath};
use crate::doctor::finding::{Finding, Object, Severity};
use crate::doctor::look::{Error, Export, Look};
use crate::doctor::reason::Reason;
use crate::init::{is_written_by_init, shell_word};
use crate::manifests;
use crate::providers::ExportRef;
use crate::runtime::cache::Scope;
use crate::runtime::cluster::ClusterId;
use crate::runtime::error::Cause;

/// What is wrong with the exports and their workspace.
pub(super) async fn findings(look: &mut Look) -> Result<Vec<Finding>, Error> {
    let claims = look.config.claims();
    let wanted = manifests::kcp::api_export(&claims).map_err(Error::Manifests)?;
    let mut all = Vec::new();
    for Export { name, read } in &look.exports {
        let object = Object::installed("APIExport", name);
        match read {
            Ok(export) => {
                let repair = init(look, name, Some(export));
                all.extend(outdated(export, &wanted, &claims, &object, repair.as_ref()));
            }
            Err(err) => all.push(unreadable(object, err)),
        }
    }
    let answered = look.exports.iter().filter(|export| is_answer(&export.read));
    let commands = answered
        .map(|Export { name, read }| (name.clone(), init(look, name, read.as_ref().ok())))
        .collect::<Vec<_>>();
    for (name, repair) in commands {
        all.extend(rights::findings(look, rights::on_kcp(&name), repair).await?);
    }
    all.extend(workspace(look));
    Ok(all)
}

fn unreadable(object: Object, err: &kube::Error) -> Finding {
    let why = match err {
        kube::Error::Api(status) => Cause::from(kube::Error::Api(status.clone())).to_string(),
        other => other.to_string(),
    };
    let message = format!(
        "cannot read it in the workspace of the kubeconfig: {why}; check --kubeconfig and --context"
    );
    Finding::new(Severity::Error, Reason::ExportUnreadable, object, message)
}

/// The command that brings an export and the rights on it up to date, where it is known in which workspace that is. The
/// kubeconfig that `init` writes is the one in use, which it leaves alone where nothing in it changes; one that somebody
/// else made is never named.
fn init(look: &Look, name: &str, export: Option<&ApiExport>) -> Option<String> {
    let config = &look.config;
    let annotated = export.and_then(|export| export.annotations().get(keys::KCP_PATH).cloned());
    let url = look.client.cluster_url.to_string();
    let in_url =
        url.split_once("/clusters/").map(|(_, path)| path.trim_end_matches('/').to_owned());
    let path = annotated.or(in_url).filter(|path| WorkspacePath::parse(path).is_ok())?;
    let source = match config.schema_source {
        SchemaSource::CustomResourceDefinitions => "customresourcedefinitions",
        SchemaSource::ApiResourceSchemas => "apiresourceschemas",
    };
    let mut words = vec![
        "backend init".to_owned(),
        shell_word(&format!("--workspace={path}")),
        format!("--schema-source={source}"),
    ];
    if let Some(kubeconfig) = config.kubeconfig.as_ref().filter(|path| is_written_by_init(path)) {
        let absolute = std::path::absolute(kubeconfig).unwrap_or_else(|_| kubeconfig.clone());
        words.push(shell_word(&format!("--output={}", absolute.display())));
    }
    if name != keys::EXPORT {
        words.push(shell_word(&format!("--export-name={name}")));
    }
    if !config.templates_from_bindings {
        words.push("--templates-from-bindings=false".to_owned());
    }
    if let Some(address) = &config.external_address {
        words.push(shell_word(&format!("--external-address={address}")));
    }
    Some(words.join(" "))
}

/// What is wrong in the workspace of the export, as far as its virtual workspace shows it: v0.8.1 bound it to itself and
/// accepted all claims there, and served who bound it.
fn workspace(look: &Look) -> Vec<Finding> {
    let mut all = Vec::new();
    if look.config.serve_export_workspace {
        return all;
    }
    for endpoint in &look.endpoints {
        let Some(served) = ExportRef::of_url(endpoint.uri()) else { continue };
        let Ok(cluster) = ClusterId::parse(&served.cluster) else { continue };
        let scope = Scope { endpoint: endpoint.id(), cluster: cluster.clone() };
        let bindings = look.kinds.api_bindings.list_in(&scope);
        let path = bindings.iter().find_map(|one| one.annotations().get(keys::KCP_PATH).cloned());
        let of = |kind: &str, namespace: &str, name: &str| Object {
            path: path.clone(),
            cluster: cluster.to_string(),
            namespace: namespace.to_owned(),
            ..Object::installed(kind, name)
        };
        for binding in &bindings {
            let Some(message) = exposed(binding, &served) else { continue };
            let name = binding.name_any();
            let none = ["--type=merge", r#"--patch={"spec":{"permissionClaims":[]}}"#];
            let repair =
                look.kubectl(&cluster, "patch", ("apibindings.apis.kcp.io", "", &name), &none);
            let object = of("APIBinding", "", &name);
            let reason = Reason::ExportWorkspaceExposed;
            let found = Finding::new(Severity::Error, reason, object, message);
            all.push(found.repaired_by(repair));
        }
        for consumer in look.kinds.cluster_bindings.list_in(&scope) {
            let namespace = consumer.namespace().unwrap_or_default();
            let object = of("ClusterBinding", &namespace, &consumer.name_any());
            let message = "the workspace of the APIExport is not served, as it holds the token of the backend, so this consumer is \
                           not either; bind it in a workspace of its own, or start the backend with \
                           --serve-export-workspace=true";
            let reason = Reason::ExportWorkspaceNotServed;
            all.push(Finding::new(Severity::Error, reason, object, message));
        }
    }
    all
}

/// What the workspace of an export grants to whoever has the backend's credential.
fn exposed(binding: &ApiBinding, served: &ExportRef) -> Option<String> {
    let found = binding.status.as_ref().and_then(|status| status.api_export_cluster_name.as_ref());
    let reference = binding.spec.reference.export.as_ref()?;
    if reference.name != served.name || found != Some(&served.cluster) {
        return None;
    }
    let accepted = binding.spec.permission_claims.iter().filter(|claim| claim.is_accepted());
    let names: Vec<String> = accepted
        .map(|claim| {
            let claim = &claim.claim.claim;
            let group = if claim.group.is_empty() { "core" } else { &claim.group };
            format!("{}.{group}", claim.resource)
        })
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "v0.8.1 made the workspace of the APIExport accept its own claims: through the virtual workspace the backend's \
             credential reaches {} there, the token and the rights of the backend among them; nothing needs that",
            names.join(", ")
        )
    })
}

/// How an export differs from what this binary with these flags needs.
fn outdated(
    export: &ApiExport,
    wanted: &Value,
    claims: &[Claim],
    object: &Object,
    repair: Option<&String>,
) -> Vec<Finding> {
    let mut all = Vec::new();
    let schemas: Vec<&str> = wanted["spec"]["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|resource| resource["schema"].as_str())
        .filter(|schema| !export.spec.resources.iter().any(|known| known.schema == *schema))
        .collect();
    if !schemas.is_empty() {
        let message = format!("it does not export what this backend needs: {}", schemas.join(", "));
        let found = Finding::new(Severity::Error, Reason::ExportOutdated, object.clone(), message);
        all.push(found.repaired_by(repair.cloned()));
    }
    let asks = |claim: &Claim| {
        export.spec.permission_claims.iter().any(|known| {
            known.group == claim.group
                && known.resource == claim.resource
                && (known.verbs.iter().any(|verb| verb == "*")
                    || claim.verbs.iter().all(|verb| known.verbs.iter().any(|v| v == verb)))
        })
    };
    let (optional, required): (Vec<&Claim>, Vec<&Claim>) =
        claims.iter().filter(|claim| !asks(claim)).partition(|claim| claim.optional);
    for (severity, missing) in [(Severity::Error, required), (Severity::Warning, optional)] {
        if missing.is_empty() {
            continue;
        }
        let names: Vec<String> = missing.into_iter().map(Claim::display).collect();
        let message = format!(
            "it does not claim {}, which these flags need; afterwards each workspace has to accept that",
            names.join(", ")
        );
        let found = Finding::new(severity, Reason::ClaimsNotMade, object.clone(), message);
        all.push(found.repaired_by(repair.cloned()));
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::claims::CLAIMS;

    #[test]
    fn an_export_is_outdated_by_its_schemas_and_by_its_claims() {
        let wanted = manifests::kcp::api_export(CLAIMS).unwrap();
        let export: ApiExport = serde_json::from_value(wanted.clone()).unwrap();
        let object = Object::installed("APIExport", "kube-bind.io");
        let init = "init".to_owned();
        assert_eq!(outdated(&export, &wanted, CLAIMS, &object, Some(&init)), []);

        let mut old = export;
        old.spec.resources[0].schema = "v0.apiconversions.kube-bind.io".into();
        old.spec.permission_claims.retain(|claim| claim.resource != "secrets");
        old.spec.permission_claims.retain(|claim| claim.resource != "events");
        let found: Vec<_> = outdated(&old, &wanted, CLAIMS, &object, Some(&init))
            .into_iter()
            .map(|finding| (finding.severity, finding.reason, finding.repair))
            .collect();
        let repair = || Some(init.clone());
        assert_eq!(
            found,
            [
                (Severity::Error, "ExportOutdated".to_owned(), repair()),
                (Severity::Error, "ClaimsNotMade".to_owned(), repair()),
                (Severity::Warning, "ClaimsNotMade".to_owned(), repair()),
            ]
        );
    }

    #[test]
    fn the_workspace_of_an_export_is_exposed_by_the_claims_that_it_accepts_itself() {
        let served = ExportRef { cluster: "exp0rt".into(), name: "kube-bind.io".into() };
        let binding = |state: &str, cluster: &str| -> ApiBinding {
            serde_json::from_value(json!({
                "apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIBinding",
                "metadata": { "name": "kube-bind.io" },
                "spec": {
                    "reference": { "export": { "path": "root:kube-bind", "name": "kube-bind.io" } },
                    "permissionClaims": [
                        { "resource": "secrets", "verbs": ["*"], "state": state,
                          "selector": { "matchAll": true } },
                    ],
                },
                "status": { "phase": "Bound", "apiExportClusterName": cluster },
            }))
            .unwrap()
        };
        let found = |state, cluster| exposed(&binding(state, cluster), &served);
        assert!(
            found("Accepted", "exp0rt")
                .is_some_and(|text| text.contains("reaches secrets.core there"))
        );
        assert_eq!(found("Rejected", "exp0rt"), None);
        assert_eq!(found("Accepted", "other"), None);
    }
}
