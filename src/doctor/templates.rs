//! What is on offer and could not be had.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use super::finding::{Finding, Object, Severity};
use super::lists::{self, Listed};
use super::look::Look;
use super::reason::Reason;
use crate::api::apiextensions::CustomResourceDefinition;
use crate::api::kcp::{ApiResourceSchema, BoundResourceSchema};
use crate::api::keys;
use crate::api::v1alpha2::{ApiServiceExportTemplate, GroupResource, ResourceVersions};
use crate::cli::SchemaSource;
use crate::consumer::contract::annotation;
use crate::consumer::rights::is_claimable;
use crate::consumer::schema::is_reserved;
use crate::kinds::sources::chosen;
use crate::runtime::fleet::Cluster;

/// What is wrong with the templates and collections of all clusters.
pub(super) async fn findings(look: &mut Look) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut unoffered = Vec::new();
    for cluster in look.clusters.iter().filter(|cluster| !cluster.info.leaving) {
        for template in look.kinds.templates.list(cluster) {
            let name = template.name_any();
            for why in unusable(&template, |entry| served(look, cluster, entry)) {
                let object = Object::of(cluster, "APIServiceExportTemplate", "", &name);
                let reason = Reason::TemplateUnusable;
                all.push(Finding::new(Severity::Error, reason, object, why));
            }
            let resources = template.spec.resources.iter().map(ResourceVersions::group_resource);
            unoffered.extend(
                resources
                    .filter(|resource| !is_reserved(&resource.group) && look.shows_all(cluster))
                    .filter(|resource| look.kinds.sources.find(cluster, resource).is_none())
                    .map(|resource| (cluster.clone(), name.clone(), resource)),
            );
        }
        all.extend(collections(look, cluster));
    }
    let schemas = schemas(look, unoffered.iter().map(|(cluster, ..)| cluster)).await;
    for (cluster, template, resource) in &unoffered {
        all.push(without_schema(look, cluster, template, resource, &schemas));
    }
    all
}

/// The versions of a resource that its schema serves, where that is known without its body.
fn served(look: &Look, cluster: &Cluster, resource: &GroupResource) -> Option<Vec<String>> {
    let source = look.kinds.sources.find(cluster, resource)?;
    let schema = look.kinds.sources.api_resource_schemas()?.get(cluster, "", &source.name)?;
    let versions = annotation(&schema.metadata, keys::ANNOTATION_SERVED_VERSIONS)?;
    Some(versions.split(',').map(str::to_owned).collect())
}

/// Why every request for what a template offers would be refused.
fn unusable(
    template: &ApiServiceExportTemplate,
    served: impl Fn(&GroupResource) -> Option<Vec<String>>,
) -> Vec<String> {
    let mut all = Vec::new();
    for claim in template.spec.permission_claims.iter().filter(|claim| !is_claimable(claim)) {
        all.push(format!(
            "it claims {}, but only configmaps, secrets and serviceaccounts of the core group can be claimed; take the claim out",
            claim.group_resource()
        ));
    }
    for entry in &template.spec.resources {
        let resource = entry.group_resource();
        if is_reserved(&entry.group) {
            all.push(format!(
                "it offers {resource}, of a group that belongs to Kubernetes, kcp or kube-bind and is never exported; take it out"
            ));
            continue;
        }
        let Some(served) = served(&resource).filter(|_| !entry.versions.is_empty()) else {
            continue;
        };
        if !entry.versions.iter().any(|version| served.contains(version)) {
            all.push(format!(
                "it offers {resource} in {}, but its schema serves {}; offer one of those",
                entry.versions.join(", "),
                served.join(", ")
            ));
        }
    }
    all
}

/// Collections that show what is not there.
fn collections(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    if !look.shows_all(cluster) {
        return Vec::new();
    }
    let incomplete = look.kinds.collections.list(cluster).into_iter().filter_map(|collection| {
        let names = collection.spec.templates.iter().map(|template| template.name.as_str());
        let missing: Vec<&str> =
            names.filter(|name| !look.kinds.templates.is_known(cluster, "", name)).collect();
        (!missing.is_empty()).then(|| {
            Finding::new(
                Severity::Warning,
                Reason::CollectionIncomplete,
                Object::of(cluster, "Collection", "", &collection.name_any()),
                format!(
                    "it names APIServiceExportTemplates that are not there: {}; create them, or take them out",
                    missing.join(", ")
                ),
            )
        })
    });
    incomplete.collect()
}

/// All schemas behind the endpoints of some clusters, labelled or not.
async fn schemas<'a>(look: &mut Look, of: impl Iterator<Item = &'a Cluster>) -> Vec<Listed> {
    let mut all = Vec::new();
    let mut seen = HashSet::new();
    for cluster in of {
        let endpoint = &cluster.endpoint;
        if !seen.insert(endpoint.id()) {
            continue;
        }
        let kind = look.kinds.sources.called();
        let failed = match look.config.schema_source {
            SchemaSource::CustomResourceDefinitions => {
                lists::metadata::<CustomResourceDefinition>(kind, endpoint, &mut all).await
            }
            SchemaSource::ApiResourceSchemas => {
                lists::metadata::<ApiResourceSchema>(kind, endpoint, &mut all).await
            }
        };
        look.not_ready.extend(failed);
    }
    all
}

fn without_schema(
    look: &Look,
    cluster: &Cluster,
    template: &str,
    resource: &GroupResource,
    schemas: &[Listed],
) -> Finding {
    let called = look.kinds.sources.called();
    let bindings = look.kinds.api_bindings.list(cluster);
    let bound: Vec<&BoundResourceSchema> = bindings
        .iter()
        .flat_map(|binding| binding.bound_resources())
        .filter(|bound| bound.group == resource.group && bound.resource == resource.resource)
        .map(|bound| &bound.schema)
        .collect();
    let names: Vec<&str> = bound.iter().map(|schema| schema.name.as_str()).collect();
    // Where the API is bound, consumers may get the very schema that is bound and no other: its copy is the backend's to
    // make, or, where it makes none, that of whoever put it there.
    let by_hand = !look.config.offers_bindings();
    let may_be_offered = |meta: &ObjectMeta| {
        let is_it = |schema: &&BoundResourceSchema| {
            let is_copy = by_hand && meta.name.as_deref() == Some(&schema.name);
            is_copy || meta.uid.as_deref() == Some(&schema.uid)
        };
        bound.is_empty() || bound.iter().any(is_it)
    };
    let here = schemas.iter().filter(|listed| listed.cluster == cluster.id);
    let metas: Vec<&ObjectMeta> = here.map(|listed| &listed.metadata).collect();
    let label = format!("{}={}", keys::LABEL_EXPORTED, keys::TRUE);
    let (next, repair) = match schema(&metas, resource, &names, look.config.schema_source) {
        Some(meta) if may_be_offered(meta) => {
            let name = meta.name.as_deref().unwrap_or_default();
            let labels = meta.labels.as_ref();
            let other = labels.is_some_and(|labels| labels.contains_key(keys::LABEL_EXPORTED));
            let more: &[&str] = if other { &["--overwrite", &label] } else { &[&label] };
            let kind = called.to_lowercase();
            let repair = look.kubectl(&cluster.id, "label", (&kind, "", name), more);
            (format!("{name} does not have it"), repair)
        }
        _ if bound.is_empty() => {
            ("create it, or bind the API, or take it out of the template".to_owned(), None)
        }
        _ => {
            let next = "the one that is bound is in the workspace of its provider: put a labelled copy here, or accept the \
                        claim apibindings.apis.kcp.io, and the backend does so";
            (next.to_owned(), None)
        }
    };
    let object = Object::of(cluster, "APIServiceExportTemplate", "", template);
    let message = format!(
        "it offers {resource}, for which there is no {called} with the label {label}; {next}"
    );
    Finding::new(Severity::Error, Reason::TemplateWithoutSchema, object, message)
        .repaired_by(repair)
}

/// The schema of a resource that is in the cluster: of several the one that would be offered if it had the label.
fn schema<'a>(
    here: &[&'a ObjectMeta],
    resource: &GroupResource,
    bound: &[&str],
    source: SchemaSource,
) -> Option<&'a ObjectMeta> {
    let mut here = here.iter().copied();
    match source {
        SchemaSource::CustomResourceDefinitions => {
            let name = resource.to_string();
            here.find(|meta| meta.name.as_deref() == Some(name.as_str()))
        }
        SchemaSource::ApiResourceSchemas => chosen(here, resource, bound),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_is_unusable_by_its_claims_its_groups_and_its_versions() {
        let template: ApiServiceExportTemplate = serde_json::from_value(json!({
            "apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceExportTemplate",
            "metadata": { "name": "all" },
            "spec": {
                "scope": "Namespaced",
                "permissionClaims": [
                    { "group": "", "resource": "secrets", "selector": {} },
                    { "group": "", "resource": "pods", "selector": {} },
                ],
                "resources": [
                    { "group": "wildwest.dev", "resource": "cowboys", "versions": ["v1", "v2"] },
                    { "group": "wildwest.dev", "resource": "sheriffs", "versions": ["v1"] },
                    { "group": "wildwest.dev", "resource": "horses", "versions": ["v1"] },
                    { "group": "kube-bind.io", "resource": "clusters", "versions": ["v1"] },
                ],
            },
        }))
        .unwrap();
        let served = |resource: &GroupResource| match resource.resource.as_str() {
            "cowboys" => Some(vec!["v2".to_owned()]),
            "sheriffs" => Some(vec!["v3".to_owned(), "v4".to_owned()]),
            _ => None,
        };
        assert_eq!(
            unusable(&template, served),
            [
                "it claims pods.core, but only configmaps, secrets and serviceaccounts of the core group can be claimed; take the \
                 claim out",
                "it offers sheriffs.wildwest.dev in v1, but its schema serves v3, v4; offer one of those",
                "it offers clusters.kube-bind.io, of a group that belongs to Kubernetes, kcp or kube-bind and is never exported; \
                 take it out",
            ]
        );
    }

    #[test]
    fn of_the_schemas_of_a_resource_the_bound_one_is_labelled_else_the_newest_else_none() {
        let meta = |name: &str, created: &str| -> ObjectMeta {
            serde_json::from_value(json!({ "name": name, "creationTimestamp": created })).unwrap()
        };
        let old = meta("v1.cowboys.wildwest.dev", "2026-01-01T00:00:00Z");
        let new = meta("v2.cowboys.wildwest.dev", "2026-01-02T00:00:00Z");
        let crd = meta("cowboys.wildwest.dev", "2026-01-02T00:00:00Z");
        let cowboys = GroupResource { group: "wildwest.dev".into(), resource: "cowboys".into() };
        let found = |bound: &[&str], source| {
            schema(&[&old, &new, &crd], &cowboys, bound, source).and_then(|meta| meta.name.clone())
        };
        let schemas = SchemaSource::ApiResourceSchemas;
        assert_eq!(found(&[], schemas), Some("v2.cowboys.wildwest.dev".to_owned()));
        assert_eq!(
            found(&["v1.cowboys.wildwest.dev"], schemas),
            Some("v1.cowboys.wildwest.dev".to_owned())
        );
        let crds = SchemaSource::CustomResourceDefinitions;
        assert_eq!(found(&[], crds), Some("cowboys.wildwest.dev".to_owned()));
        assert_eq!(schema(&[&old], &cowboys, &[], crds), None);
    }
}
