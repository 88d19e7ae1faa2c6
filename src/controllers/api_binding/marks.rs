//! How the schemas of what is offered are marked, and whose they are.
//!
//! What a schema says never changes, so its marks tell all that a template needs, and its body is read once.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;
use serde_json::{Map, Value, json};

use super::plan;
use crate::api::kcp::{ApiBinding, ApiResourceSchemaSpec};
use crate::api::keys;
use crate::api::v1alpha2::{ApiServiceExportTemplate, Scope};
use crate::consumer::contract::annotation;
use crate::consumer::ours;
use crate::kinds::digest_of;
use crate::runtime::cluster::ClusterId;

/// What a template says about a resource.
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

    /// What [`marks`] say, and the UID that they name; none where somebody has edited them or they were made in another
    /// workspace.
    pub(super) fn of<'a>(meta: &'a ObjectMeta, cluster: &ClusterId) -> Option<(&'a str, Self)> {
        let of = |key| annotation(meta, key);
        let source = of(keys::ANNOTATION_SOURCE)?;
        let (scope, versions) =
            (of(keys::ANNOTATION_SCOPE)?, of(keys::ANNOTATION_SERVED_VERSIONS)?);
        if of(keys::ANNOTATION_MARKS_DIGEST)? != digest(cluster, source, scope, versions) {
            return None;
        }
        let scope = Scope::of_name(scope)?;
        let versions = versions.split(',').filter(|version| !version.is_empty());
        Some((source, Self { scope, versions: versions.map(str::to_owned).collect() }))
    }

    /// The same where the UID is this one.
    pub(super) fn of_source(meta: &ObjectMeta, cluster: &ClusterId, source: &str) -> Option<Self> {
        Self::of(meta, cluster).filter(|(uid, _)| *uid == source).map(|(_, facts)| facts)
    }
}

/// It guards against edits by mistake, and against what people carry from one workspace to another with all annotations;
/// whoever makes one on purpose deceives nobody but themselves.
fn digest(cluster: &ClusterId, source: &str, scope: &str, versions: &str) -> String {
    let digest = digest_of(format!("{cluster}/{source}/{scope}/{versions}").as_bytes());
    digest[..8].iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// The annotations of a schema in this workspace that is offered because of a binding; `source` is the UID of the schema
/// that is bound.
pub(super) fn marks(
    cluster: &ClusterId,
    binding: &str,
    source: &str,
    facts: &Facts,
) -> BTreeMap<String, String> {
    let (scope, versions) = (facts.scope.as_str(), facts.versions.join(","));
    [
        (keys::ANNOTATION_TEMPLATE_OWNER_BINDING, binding),
        (keys::ANNOTATION_SOURCE, source),
        (keys::ANNOTATION_SCOPE, scope),
        (keys::ANNOTATION_SERVED_VERSIONS, &versions),
        (keys::ANNOTATION_MARKS_DIGEST, &digest(cluster, source, scope, &versions)),
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
            keys::ANNOTATION_MARKS_DIGEST: null,
        },
    }})
}

/// Whose a schema is that has the name of one that is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The workspace's own, as one that it exports itself: labelled, and never owned or deleted.
    Workspace,
    /// A copy that we made.
    Ours,
    /// A copy that v0.8.1 made for one of the templates of the binding.
    Legacy,
    /// Somebody else's.
    Somebody,
}

impl Whose {
    pub(super) fn of(meta: &ObjectMeta, cluster: &ClusterId, binding: &ApiBinding) -> Self {
        if binding.is_of(cluster.as_str()) {
            return Self::Workspace;
        }
        if is_copy(meta, cluster) {
            return Self::Ours;
        }
        let names = plan::template_names(binding);
        if without_templates(meta, &names).is_some() { Self::Legacy } else { Self::Somebody }
    }
}

/// Whether we made a schema: our label or our marks, and they do not say that it is the very one that is bound.
pub(super) fn is_copy(meta: &ObjectMeta, cluster: &ClusterId) -> bool {
    (ours::is_labelled(meta) || Facts::of(meta, cluster).is_some()) && !is_original(meta)
}

/// Whether its marks say that a schema is the very one that is bound.
fn is_original(meta: &ObjectMeta) -> bool {
    meta.uid.is_some() && annotation(meta, keys::ANNOTATION_SOURCE) == meta.uid.as_deref()
}

/// Whether a schema may be deleted when nobody needs it: with our label, and not as one that people made again from the
/// YAML of one that we had marked.
pub(super) fn is_deletable(meta: &ObjectMeta) -> bool {
    ours::is_labelled(meta) && !is_original(meta)
}

/// Whether somebody set the label to say that a schema is not for export.
pub(super) fn is_withheld(meta: &ObjectMeta) -> bool {
    let label = meta.labels.as_ref().and_then(|labels| labels.get(keys::LABEL_EXPORTED));
    label.is_some_and(|value| value != keys::TRUE)
}

/// The binding because of which a schema is offered, by marks that were made in this workspace: what was carried here
/// with those of another one is whose who did that.
pub(super) fn binding_of<'a>(meta: &'a ObjectMeta, cluster: &ClusterId) -> Option<&'a str> {
    let is_of_here = is_original(meta) || Facts::of(meta, cluster).is_some();
    annotation(meta, keys::ANNOTATION_TEMPLATE_OWNER_BINDING).filter(|_| is_of_here)
}

/// Whether a schema goes with a template.
pub(super) fn is_owned_by_template(meta: &ObjectMeta) -> bool {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| owner.kind == ApiServiceExportTemplate::kind(&()))
}

/// The owners of a schema without these templates; none where none of them owns it.
pub(super) fn without_templates(
    meta: &ObjectMeta,
    names: &[String],
) -> Option<Vec<OwnerReference>> {
    let is_one = |owner: &OwnerReference| {
        owner.kind == ApiServiceExportTemplate::kind(&()) && names.contains(&owner.name)
    };
    let known = meta.owner_references.as_deref().unwrap_or_default();
    let others = || known.iter().filter(|owner| !is_one(owner)).cloned().collect();
    known.iter().any(is_one).then(others)
}

/// The labels of a copy.
pub(super) fn labels() -> BTreeMap<String, String> {
    let mut labels = ours::labels();
    labels.insert(keys::LABEL_EXPORTED.to_owned(), keys::TRUE.to_owned());
    labels
}

/// The fields in which a schema differs from one that is offered by this template; none if it is as it should be.
pub(super) fn drift(
    meta: &ObjectMeta,
    whose: Whose,
    marks: &BTreeMap<String, String>,
    template: &OwnerReference,
) -> Option<Value> {
    let (labels, owners) = if whose == Whose::Workspace {
        let label = [(keys::LABEL_EXPORTED.to_owned(), keys::TRUE.to_owned())];
        (label.into(), without_templates(meta, std::slice::from_ref(&template.name)))
    } else {
        (labels(), plan::owners(meta, template.clone()))
    };
    let has = |known: Option<&BTreeMap<String, String>>, wanted: &BTreeMap<String, String>| {
        wanted.iter().all(|(key, value)| known.is_some_and(|known| known.get(key) == Some(value)))
    };
    let mut fields = Map::new();
    if !has(meta.labels.as_ref(), &labels) {
        fields.insert("labels".to_owned(), json!(labels));
    }
    if !has(meta.annotations.as_ref(), marks) {
        fields.insert("annotations".to_owned(), json!(marks));
    }
    if let Some(owners) = owners {
        fields.insert("ownerReferences".to_owned(), json!(owners));
    }
    (!fields.is_empty()).then(|| json!({ "metadata": fields }))
}

#[cfg(test)]
mod tests;
