//! What an `APIBinding` offers (contract kcp.md 5 and 6), and how far what there is differs from that.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;
use serde_json::{Value, json};

use super::marks::Facts;
use crate::api::kcp::{ApiBinding, BoundResource};
use crate::api::keys;
use crate::api::v1alpha2::{
    ApiServiceExportTemplate, ApiServiceExportTemplateSpec, ResourceVersions, Scope,
};
use crate::consumer::contract::annotation;
use crate::consumer::{ours, schema};

/// What to do about an `APIBinding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// What it binds is offered.
    Offered,
    /// Nothing can be said of what it binds now; what was made stays.
    Held,
    /// It is not offered at all: our own, or one that a flag leaves out.
    Ignored,
}

/// The workspace's `APIBinding` to our own export, which is never offered as a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// Its name.
    name: String,
    /// Identity of the export. Another binding to it may have any name.
    identities: BTreeSet<String>,
}

impl Own {
    pub(super) fn of(name: &str, binding: Option<&ApiBinding>) -> Self {
        let bound = binding.map_or(&[][..], ApiBinding::bound_resources);
        let identities = bound.iter().map(|bound| bound.schema.identity_hash.clone());
        Self { name: name.to_owned(), identities: identities.filter(|id| !id.is_empty()).collect() }
    }
}

/// What to do about an `APIBinding`. `ignored` are prefixes of names.
pub(super) fn standing(binding: &ApiBinding, own: &Own, ignored: &[String]) -> Standing {
    let name = binding.metadata.name.as_deref().unwrap_or_default();
    let bound = binding.bound_resources();
    if name == own.name
        || ignored.iter().any(|prefix| name.starts_with(prefix.as_str()))
        || bound.iter().any(|bound| own.identities.contains(&bound.schema.identity_hash))
    {
        return Standing::Ignored;
    }
    // One that is being deleted takes what it owns with it, and without its cluster no schema is known for that of an
    // export.
    let is_known = binding.is_bound() && binding.export_cluster().is_some() && !bound.is_empty();
    if binding.metadata.deletion_timestamp.is_some() || !is_known {
        return Standing::Held;
    }
    Standing::Offered
}

/// The resources of a binding that consumers may get: not those of Kubernetes, kcp and kube-bind.
pub(super) fn exportable(binding: &ApiBinding) -> impl Iterator<Item = &BoundResource> {
    binding.bound_resources().iter().filter(|bound| !schema::is_reserved(&bound.group))
}

/// A template that a binding yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    /// `<binding>-cluster` or `<binding>-namespaced`.
    pub(super) name: String,
    /// Scope of its resources.
    pub(super) scope: Scope,
    /// In the order of the binding.
    pub(super) resources: Vec<ResourceVersions>,
}

const SCOPES: [Scope; 2] = [Scope::Cluster, Scope::Namespaced];

/// What follows the name of the binding in that of a template.
fn suffix(scope: Scope) -> &'static str {
    match scope {
        Scope::Cluster => "-cluster",
        Scope::Namespaced => "-namespaced",
    }
}

/// The names that the templates of a binding can have.
pub(super) fn template_names(binding: &ApiBinding) -> [String; 2] {
    let name = binding.metadata.name.as_deref().unwrap_or_default();
    SCOPES.map(|scope| format!("{name}{}", suffix(scope)))
}

/// The binding that a template of ours was made for; none for a copy that somebody made of one under another name.
pub(super) fn binding_of(meta: &ObjectMeta) -> Option<&str> {
    let name = meta.name.as_deref().unwrap_or_default();
    let binding = SCOPES.iter().find_map(|scope| name.strip_suffix(suffix(*scope)))?;
    let said = annotation(meta, keys::ANNOTATION_TEMPLATE_OWNER_BINDING);
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.kind == ApiBinding::kind(&()));
    let names = [said, owner.map(|owner| owner.name.as_str())];
    let is_of = names == [None, None] || names.contains(&Some(binding));
    (ours::is_labelled(meta) && is_of).then_some(binding)
}

/// Whether the server takes a template along when its binding goes.
pub(super) fn goes_with_its_binding(meta: &ObjectMeta) -> bool {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| {
        owner.kind == ApiBinding::kind(&()) && Some(owner.name.as_str()) == binding_of(meta)
    })
}

/// The templates of a binding, one for each scope among its resources. Those of which nothing is known are left out,
/// like those without a served version.
pub(super) fn templates(
    binding: &ApiBinding,
    facts: impl Fn(&BoundResource) -> Option<Facts>,
) -> Vec<Template> {
    let name = binding.metadata.name.as_deref().unwrap_or_default();
    let known: Vec<(Facts, &BoundResource)> =
        exportable(binding).filter_map(|bound| Some((facts(bound)?, bound))).collect();
    let of_scope = |scope: Scope| {
        let resources: Vec<ResourceVersions> = known
            .iter()
            .filter(|(facts, _)| facts.scope == scope && !facts.versions.is_empty())
            .map(|(facts, bound)| ResourceVersions {
                group: bound.group.clone(),
                resource: bound.resource.clone(),
                versions: facts.versions.clone(),
            })
            .collect();
        let name = format!("{name}{}", suffix(scope));
        (!resources.is_empty()).then_some(Template { name, scope, resources })
    };
    SCOPES.into_iter().filter_map(of_scope).collect()
}

/// What a template of ours says about a resource: for as long as its schema cannot be read, that stays.
pub(super) fn said(
    templates: &[&ApiServiceExportTemplate],
    bound: &BoundResource,
) -> Option<Facts> {
    templates.iter().find_map(|template| {
        let spec = &template.spec;
        let entry = spec
            .resources
            .iter()
            .find(|entry| entry.group == bound.group && entry.resource == bound.resource)?;
        Some(Facts { scope: spec.scope, versions: entry.versions.clone() })
    })
}

/// The binding as owner.
fn owner(binding: &ApiBinding) -> OwnerReference {
    OwnerReference {
        api_version: ApiBinding::api_version(&()).into_owned(),
        kind: ApiBinding::kind(&()).into_owned(),
        name: binding.metadata.name.clone().unwrap_or_default(),
        uid: binding.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

/// Whether a template was generated for this binding: by us, or by v0.8.1, which sets no label but the annotation and
/// the owner.
pub(super) fn is_generated(meta: &ObjectMeta, binding: &ApiBinding) -> bool {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let owned = owners.iter().any(|owner| Some(&owner.uid) == binding.metadata.uid.as_ref());
    let said = annotation(meta, keys::ANNOTATION_TEMPLATE_OWNER_BINDING);
    let name = binding.metadata.name.as_deref();
    binding_of(meta).is_some_and(|of| Some(of) == name) || (owned && said == name)
}

/// The object of a template.
pub(super) fn object(template: &Template, binding: &ApiBinding) -> ApiServiceExportTemplate {
    let name = binding.metadata.name.clone().unwrap_or_default();
    let mark = (keys::ANNOTATION_TEMPLATE_OWNER_BINDING.to_owned(), name);
    ApiServiceExportTemplate {
        metadata: ObjectMeta {
            annotations: Some([mark].into()),
            owner_references: Some(vec![owner(binding)]),
            ..ours::metadata(&template.name, None)
        },
        spec: ApiServiceExportTemplateSpec {
            scope: template.scope,
            resources: template.resources.clone(),
            ..ApiServiceExportTemplateSpec::default()
        },
        status: None,
    }
}

/// The fields in which a template of ours differs; none if it is as it should be. Only scope, resources, label,
/// annotation and owner are ours: claims, policy, description and namespaces belong to people.
pub(super) fn drift(
    known: &ApiServiceExportTemplate,
    template: &Template,
    binding: &ApiBinding,
) -> Option<Value> {
    let wanted = object(template, binding);
    let mut metadata = serde_json::Map::new();
    if !ours::is_labelled(&known.metadata) {
        metadata.insert("labels".to_owned(), json!(ours::labels()));
    }
    let mark = keys::ANNOTATION_TEMPLATE_OWNER_BINDING;
    if annotation(&known.metadata, mark) != annotation(&wanted.metadata, mark) {
        metadata.insert("annotations".to_owned(), json!(wanted.metadata.annotations));
    }
    if let Some(owners) = owners(&known.metadata, owner(binding)) {
        metadata.insert("ownerReferences".to_owned(), json!(owners));
    }
    let mut fields = serde_json::Map::new();
    if !metadata.is_empty() {
        fields.insert("metadata".to_owned(), Value::Object(metadata));
    }
    if (known.spec.scope, &known.spec.resources) != (template.scope, &template.resources) {
        let spec = json!({ "scope": template.scope, "resources": template.resources });
        fields.insert("spec".to_owned(), spec);
    }
    (!fields.is_empty()).then_some(Value::Object(fields))
}

/// The owners that an object of ours should have; none if it has them. An owner of that kind and name with another UID
/// is gone, and would take the object with it.
pub(super) fn owners(meta: &ObjectMeta, wanted: OwnerReference) -> Option<Vec<OwnerReference>> {
    let known = meta.owner_references.as_deref().unwrap_or_default();
    if known.iter().any(|owner| owner.uid == wanted.uid) {
        return None;
    }
    let stale = |owner: &&OwnerReference| owner.kind == wanted.kind;
    let mut owners: Vec<_> = known.iter().filter(|owner| !stale(owner)).cloned().collect();
    owners.push(wanted);
    Some(owners)
}

#[cfg(test)]
mod tests;
