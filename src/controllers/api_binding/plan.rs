//! What an `APIBinding` offers (contract kcp.md 5 and 6), and how far what there is differs from that.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;
use serde_json::{Value, json};

use crate::api::kcp::{ApiBinding, ApiResourceSchemaSpec, BoundResource};
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
    // One that is being deleted takes what it owns with it.
    if binding.metadata.deletion_timestamp.is_some() || !binding.is_bound() || bound.is_empty() {
        return Standing::Held;
    }
    Standing::Offered
}

/// The resources of a binding that consumers may get: not those of Kubernetes, kcp and kube-bind.
pub(super) fn exportable(binding: &ApiBinding) -> impl Iterator<Item = &BoundResource> {
    binding.bound_resources().iter().filter(|bound| !schema::is_reserved(&bound.group))
}

/// What a template says about a resource. A schema never changes, so these hold for as long as it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// `spec.scope`.
    pub(super) scope: Scope,
    /// The served versions, in their order.
    pub(super) versions: Vec<String>,
}

impl Facts {
    pub(super) fn of_spec(spec: &ApiResourceSchemaSpec) -> Self {
        let served = spec.versions.iter().filter(|version| version.served);
        Self { scope: spec.scope, versions: served.map(|version| version.name.clone()).collect() }
    }

    /// What [`marks`] say.
    pub(super) fn of(meta: &ObjectMeta) -> Option<Self> {
        let scope = Scope::of_name(annotation(meta, keys::ANNOTATION_SCOPE)?)?;
        let versions = annotation(meta, keys::ANNOTATION_SERVED_VERSIONS)?;
        let versions = versions.split(',').filter(|version| !version.is_empty());
        Some(Self { scope, versions: versions.map(str::to_owned).collect() })
    }
}

/// The annotations of a schema that is offered because of a binding; `source` is the UID of the schema that is bound.
pub(super) fn marks(binding: &str, source: &str, facts: &Facts) -> BTreeMap<String, String> {
    [
        (keys::ANNOTATION_TEMPLATE_OWNER_BINDING, binding),
        (keys::ANNOTATION_SOURCE, source),
        (keys::ANNOTATION_SCOPE, facts.scope.as_str()),
        (keys::ANNOTATION_SERVED_VERSIONS, &facts.versions.join(",")),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The fields of a merge patch that takes [`marks`] and label from a schema that is not ours.
pub(super) fn without_marks() -> Value {
    json!({ "metadata": {
        "labels": { keys::LABEL_EXPORTED: null },
        "annotations": {
            keys::ANNOTATION_TEMPLATE_OWNER_BINDING: null,
            keys::ANNOTATION_SOURCE: null,
            keys::ANNOTATION_SCOPE: null,
            keys::ANNOTATION_SERVED_VERSIONS: null,
        },
    }})
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

/// The name of a template.
fn template_name(binding: &str, scope: Scope) -> String {
    match scope {
        Scope::Cluster => format!("{binding}-cluster"),
        Scope::Namespaced => format!("{binding}-namespaced"),
    }
}

/// The binding that a template of ours was made for.
pub(super) fn binding_of(meta: &ObjectMeta) -> &str {
    if let Some(binding) = annotation(meta, keys::ANNOTATION_TEMPLATE_OWNER_BINDING) {
        return binding;
    }
    let name = meta.name.as_deref().unwrap_or_default();
    name.strip_suffix("-cluster").or_else(|| name.strip_suffix("-namespaced")).unwrap_or(name)
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
        (!resources.is_empty()).then(|| Template {
            name: template_name(name, scope),
            scope,
            resources,
        })
    };
    [Scope::Cluster, Scope::Namespaced].into_iter().filter_map(of_scope).collect()
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
    ours::is_labelled(meta) || (owned && said == binding.metadata.name.as_deref())
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
