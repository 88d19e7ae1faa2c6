//! What a workspace grants, offers, and has given out.

use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::finding::{Finding, Object, Severity};
use super::look::Look;
use crate::api::claims::Claim;
use crate::api::kcp::{ApiBinding, CLAIM_ACCEPTED};
use crate::api::keys;
use crate::api::v1alpha2::GroupResource;
use crate::cli::SchemaSource;
use crate::consumer::contract::annotation;
use crate::runtime::fleet::Cluster;

/// What is wrong with the claims, the templates and the consumers of a cluster.
pub(super) fn findings(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    let mut all: Vec<Finding> = claims(look, cluster).into_iter().collect();
    if cluster.info.leaving {
        return all;
    }
    all.extend(templates(look, cluster));
    all.extend(unbound(look, cluster));
    all
}

fn claims(look: &Look, cluster: &Cluster) -> Option<Finding> {
    let name = &cluster.info.binding;
    let object = Object::of(cluster, "APIBinding", "", name);
    if cluster.info.leaving {
        return Some(Finding {
            severity: Severity::Info,
            reason: "Leaving".to_owned(),
            object,
            message: "the workspace is letting go of this backend; nothing is done there any more"
                .to_owned(),
            repair: None,
        });
    }
    if cluster.info.missing.is_empty() {
        return None;
    }
    let binding = look.kinds.api_bindings.get(cluster, "", name)?;
    let needed = look.config.claims();
    let missing: Vec<&Claim> = needed
        .iter()
        .filter(|claim| !claim.optional && binding.is_asked(claim) && !binding.grants(claim))
        .collect();
    let patch = format!("--patch={}", Value::Array(accept(&binding, &missing)));
    Some(Finding {
        severity: Severity::Error,
        reason: "PermissionClaimsMissing".to_owned(),
        object,
        message: format!("the workspace does not grant {}", cluster.info.missing.join(", ")),
        repair: look.kubectl(
            cluster,
            "patch",
            ("apibindings.apis.kcp.io", "", name),
            &["--type=json", &patch],
        ),
    })
}

/// A JSON patch that makes a binding accept claims.
fn accept(binding: &ApiBinding, claims: &[&Claim]) -> Vec<Value> {
    let known = &binding.spec.permission_claims;
    let operation = |claim: &&Claim| {
        let value = json!({
            "group": claim.group, "resource": claim.resource, "verbs": ["*"],
            "selector": { "matchAll": true }, "state": CLAIM_ACCEPTED,
        });
        let at = known.iter().position(|one| {
            let one = &one.claim.claim;
            one.group == claim.group && one.resource == claim.resource
        });
        match at {
            Some(at) => json!({
                "op": "replace", "path": format!("/spec/permissionClaims/{at}"), "value": value,
            }),
            None if known.is_empty() && claims.first() == Some(claim) => {
                json!({ "op": "add", "path": "/spec/permissionClaims", "value": [value] })
            }
            None => json!({ "op": "add", "path": "/spec/permissionClaims/-", "value": value }),
        }
    };
    claims.iter().map(operation).collect()
}

/// Templates that offer what nobody could get.
fn templates(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    let mut all = Vec::new();
    for template in look.kinds.templates.list(cluster) {
        for entry in &template.spec.resources {
            let resource = entry.group_resource();
            if look.kinds.sources.find(cluster, &resource).is_some() {
                continue;
            }
            all.push(Finding {
                severity: Severity::Error,
                reason: "TemplateWithoutSchema".to_owned(),
                object: Object::of(cluster, "APIServiceExportTemplate", "", &template.name_any()),
                message: format!(
                    "it offers {resource}, for which there is no {} with the label {}=true",
                    look.kinds.sources.called(),
                    keys::LABEL_EXPORTED
                ),
                repair: label(look, cluster, &resource),
            });
        }
    }
    all
}

/// The command that labels the schema of a resource, where its name is known.
fn label(look: &Look, cluster: &Cluster, resource: &GroupResource) -> Option<String> {
    let (kind, name) = match look.config.schema_source {
        SchemaSource::CustomResourceDefinitions => ("crd", resource.to_string()),
        SchemaSource::ApiResourceSchemas => {
            let bindings = look.kinds.api_bindings.list(cluster);
            let bound = bindings.iter().flat_map(|binding| binding.bound_resources());
            let mut of_it = bound.filter(|bound| {
                bound.group == resource.group && bound.resource == resource.resource
            });
            ("apiresourceschema", of_it.next()?.schema.name.clone())
        }
    };
    let label = format!("{}=true", keys::LABEL_EXPORTED);
    look.kubectl(cluster, "label", (kind, "", &name), &[&label])
}

/// Contract namespaces of which the heart is gone, and those of which nobody knows who bound them.
fn unbound(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    let mut all = Vec::new();
    for namespace in look.kinds.namespaces.list(cluster) {
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let Some(contract) = look.kinds.contract(cluster, name) else { continue };
        let object = Object::of(cluster, "Namespace", "", name);
        if look.kinds.is_unbound(cluster, &contract.namespace) {
            all.push(Finding {
                severity: Severity::Error,
                reason: "ContractWithoutBinding".to_owned(),
                object,
                message: "this contract namespace has lost its ClusterBinding, so its consumer is not served; bind it again, \
                          or end it"
                    .to_owned(),
                repair: look.kubectl(cluster, "delete", ("namespace", "", name), &[]),
            });
        } else if [keys::ANNOTATION_BOUND_BY, keys::ANNOTATION_TRANSFER_TO]
            .iter()
            .all(|key| annotation(&namespace.metadata, key).is_none())
        {
            all.push(Finding {
                severity: Severity::Info,
                reason: "NobodyRecorded".to_owned(),
                object,
                message: "v0.8.1 did not record who bound this consumer, so nobody may bind it again until an admin says who; \
                          requests in namespace default may after this command"
                    .to_owned(),
                repair: look.kubectl(
                    cluster,
                    "annotate",
                    ("namespace", "", name),
                    &[&format!("{}=namespace:default", keys::ANNOTATION_TRANSFER_TO)],
                ),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::claims::CLAIMS;

    #[test]
    fn a_patch_accepts_what_is_rejected_and_adds_what_is_not_there() {
        let binding: ApiBinding = serde_json::from_value(json!({
            "apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIBinding", "metadata": {},
            "spec": { "permissionClaims": [
                { "resource": "secrets", "verbs": ["*"], "state": "Rejected",
                  "selector": { "matchAll": true } },
            ]},
        }))
        .unwrap();
        let claims: Vec<&Claim> = CLAIMS
            .iter()
            .filter(|claim| ["secrets", "namespaces"].contains(&claim.resource))
            .collect();
        let value = |resource: &str| {
            json!({ "group": "", "resource": resource, "verbs": ["*"],
                    "selector": { "matchAll": true }, "state": "Accepted" })
        };
        assert_eq!(
            accept(&binding, &claims),
            [
                json!({ "op": "add", "path": "/spec/permissionClaims/-", "value": value("namespaces") }),
                json!({ "op": "replace", "path": "/spec/permissionClaims/0", "value": value("secrets") }),
            ]
        );
    }
}
