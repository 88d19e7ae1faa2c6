//! The export and the endpoints, or on Kubernetes the definitions and rights.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::Value;

use super::finding::{Finding, Object, Severity};
use super::look::{Error, Look};
use crate::api::claims::Claim;
use crate::api::kcp::ApiExport;
use crate::api::keys;
use crate::cli::{Config, ProviderKind, SchemaSource};
use crate::init::merge::merge;
use crate::init::shell_word;
use crate::manifests;
use crate::providers::ExportRef;
use crate::runtime::endpoint::connect;

/// What is wrong with the installation as a whole.
pub(super) async fn findings(look: &Look) -> Result<Vec<Finding>, Error> {
    let mut all = match look.config.provider {
        ProviderKind::Kcp => export(look).await?,
        ProviderKind::Kubernetes => kubernetes(look).await?,
    };
    all.extend(look.not_ready.iter().map(|why| Finding {
        severity: Severity::Error,
        reason: "NotReady".to_owned(),
        object: Object {
            kind: "Endpoint".to_owned(),
            name: why.split(": ").next().unwrap_or_default().to_owned(),
            ..Object::default()
        },
        message: why.clone(),
        repair: None,
    }));
    Ok(all)
}

/// The names of exports that the endpoints serve; without any, what their endpoint slices are called as a rule.
fn names(look: &Look) -> Vec<String> {
    let mut names: Vec<String> = look
        .endpoints
        .iter()
        .filter_map(|endpoint| ExportRef::of_url(endpoint.uri()))
        .map(|export| export.name)
        .collect();
    if names.is_empty() {
        names.clone_from(&look.config.endpoint_slice_names);
    }
    names.sort_unstable();
    names.dedup();
    names
}

async fn export(look: &Look) -> Result<Vec<Finding>, Error> {
    let client = connect(look.client.clone(), &look.metrics)?;
    let exports: Api<ApiExport> = Api::all(client);
    let mut all = Vec::new();
    for name in names(look) {
        let object =
            Object { kind: "APIExport".to_owned(), name: name.clone(), ..Object::default() };
        match exports.get(&name).await {
            Ok(export) => {
                let wanted = manifests::kcp::api_export(&look.config.claims());
                let wanted = wanted.map_err(Error::Manifests)?;
                let repair = init(&look.config, &export, &name);
                all.extend(outdated(&export, &wanted, &look.config.claims(), &object, &repair));
            }
            Err(err) => all.push(Finding {
                severity: Severity::Error,
                reason: "ExportUnreadable".to_owned(),
                object,
                message: format!(
                    "cannot read it in the workspace of the kubeconfig: {err}; check --kubeconfig and --context"
                ),
                repair: None,
            }),
        }
    }
    Ok(all)
}

/// The command that brings an export up to date.
fn init(config: &Config, export: &ApiExport, name: &str) -> String {
    let annotations = export.metadata.annotations.as_ref();
    let path = annotations.and_then(|all| all.get(keys::KCP_PATH));
    let source = match config.schema_source {
        SchemaSource::CustomResourceDefinitions => "customresourcedefinitions",
        SchemaSource::ApiResourceSchemas => "apiresourceschemas",
    };
    let path = path.map_or("<path of its workspace>", String::as_str);
    let mut words = vec![
        "backend init".to_owned(),
        format!("--workspace={path}"),
        format!("--schema-source={source}"),
        "--output=$(mktemp --dry-run)".to_owned(),
    ];
    if name != keys::EXPORT {
        words.push(shell_word(&format!("--export-name={name}")));
    }
    if !config.templates_from_bindings {
        words.push("--templates-from-bindings=false".to_owned());
    }
    if let Some(address) = &config.external_address {
        words.push(shell_word(&format!("--external-address={address}")));
    }
    words.join(" ")
}

/// How an export differs from what this binary with these flags needs.
fn outdated(
    export: &ApiExport,
    wanted: &Value,
    claims: &[Claim],
    object: &Object,
    repair: &str,
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
        all.push(Finding {
            severity: Severity::Error,
            reason: "ExportOutdated".to_owned(),
            object: object.clone(),
            message: format!("it does not export what this backend needs: {}", schemas.join(", ")),
            repair: Some(repair.to_owned()),
        });
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
        all.push(Finding {
            severity,
            reason: "ClaimsNotMade".to_owned(),
            object: object.clone(),
            message: format!(
                "it does not claim {}, which these flags need; afterwards each workspace has to accept that",
                names.join(", ")
            ),
            repair: Some(repair.to_owned()),
        });
    }
    all
}

fn definition() -> ApiResource {
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    ApiResource::from_gvk_with_plural(&gvk, "customresourcedefinitions")
}

async fn kubernetes(look: &Look) -> Result<Vec<Finding>, Error> {
    let client = connect(look.client.clone(), &look.metrics)?;
    // Untyped, because types write numbers in another form than the server.
    let definitions = Api::<DynamicObject>::all_with(client.clone(), &definition());
    let mut all = Vec::new();
    for wanted in manifests::crds::all().map_err(Error::Manifests)? {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let live = match definitions.get_opt(name).await {
            Ok(live) => live.and_then(|live| serde_json::to_value(live).ok()),
            Err(kube::Error::Api(_)) => continue, // Said by the rights below.
            Err(_) => return Ok(all),             // Nobody answers, which the endpoint says.
        };
        let same = live.as_ref().is_some_and(|live| merge(live, &wanted) == *live);
        if !same {
            all.push(Finding {
                severity: Severity::Error,
                reason: "DefinitionOutdated".to_owned(),
                object: Object {
                    kind: "CustomResourceDefinition".to_owned(),
                    name: name.to_owned(),
                    ..Object::default()
                },
                message: "it is missing, or not the one that this backend needs".to_owned(),
                repair: Some(format!(
                    "kubectl {} apply --filename=manifests/kube-bind.io_{}.yaml",
                    look.server(),
                    name.split('.').next().unwrap_or_default()
                )),
            });
        }
    }
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    for claim in look.config.claims().iter().filter(|claim| !claim.kcp_only) {
        let mut denied = Vec::new();
        for verb in claim.verbs {
            let review = review(claim, verb);
            let allowed = match reviews.create(&PostParams::default(), &review).await {
                Ok(answer) => answer.status.is_some_and(|status| status.allowed),
                Err(kube::Error::Api(_)) => false,
                Err(_) => return Ok(all),
            };
            if !allowed {
                denied.push(*verb);
            }
        }
        if !denied.is_empty() {
            all.push(Finding {
                severity: if claim.optional { Severity::Warning } else { Severity::Error },
                reason: "RightsMissing".to_owned(),
                object: Object {
                    kind: "ClusterRole".to_owned(),
                    name: keys::BACKEND_NAME.to_owned(),
                    ..Object::default()
                },
                message: format!("the backend may not {} {}", denied.join(", "), claim.display()),
                repair: Some(format!(
                    "kubectl {} apply --filename=manifests/rbac.yaml",
                    look.server()
                )),
            });
        }
    }
    Ok(all)
}

fn review(claim: &Claim, verb: &str) -> SelfSubjectAccessReview {
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(claim.group.to_owned()),
                resource: Some(claim.resource.to_owned()),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::claims::CLAIMS;

    #[test]
    fn an_export_is_outdated_by_its_schemas_and_by_its_claims() {
        let wanted = manifests::kcp::api_export(CLAIMS).unwrap();
        let export: ApiExport = serde_json::from_value(wanted.clone()).unwrap();
        let object = Object { kind: "APIExport".into(), ..Object::default() };
        assert_eq!(outdated(&export, &wanted, CLAIMS, &object, "init"), []);

        let mut old = export;
        old.spec.resources[0].schema = "v0.apiconversions.kube-bind.io".into();
        old.spec.permission_claims.retain(|claim| claim.resource != "secrets");
        old.spec.permission_claims.retain(|claim| claim.resource != "events");
        let found: Vec<_> = outdated(&old, &wanted, CLAIMS, &object, "init")
            .into_iter()
            .map(|finding| (finding.severity, finding.reason, finding.repair))
            .collect();
        let init = || Some("init".to_owned());
        assert_eq!(
            found,
            [
                (Severity::Error, "ExportOutdated".to_owned(), init()),
                (Severity::Error, "ClaimsNotMade".to_owned(), init()),
                (Severity::Warning, "ClaimsNotMade".to_owned(), init()),
            ]
        );
    }
}
