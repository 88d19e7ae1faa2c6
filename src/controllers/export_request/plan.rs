//! What a request asks for and what is made of it, without any I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{Error, ExportSettings};
use crate::api::apiextensions::SourceSpec;
use crate::api::conditions::{EXPORTS_READY, get};
use crate::api::keys;
use crate::api::v1alpha2::{
    ApiServiceExport, ApiServiceExportRequest, ApiServiceExportRequestSpec, ApiServiceExportSpec,
    ApiServiceExportTemplate, ApiServiceNamespace, ApiServiceNamespaceSpec, BoundSchemaSpec,
    GroupResource, ResourceVersions, SchemaUpdatePolicy, Scope,
};
use crate::consumer::contract::annotation;
use crate::consumer::rights::{ExportName, is_claimable};
use crate::consumer::{names, ours, schema};

/// The `BoundSchema` of one resource, on its way.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The resource.
    pub resource: GroupResource,
    /// Scope of the source.
    pub source_scope: Scope,
    /// What the consumer gets.
    pub spec: BoundSchemaSpec,
    /// Which version of the source that is.
    pub source: String,
    /// What is missing.
    pub write: Write,
}

/// What has to be written of a `BoundSchema`.
#[derive(Debug)]
pub(super) enum Write {
    /// All of it.
    Create,
    /// One that no export uses becomes it, unless it is just that.
    Replace(Box<ObjectMeta>),
}

/// Refuses what cannot work whatever the provider does.
pub(super) fn check(spec: &ApiServiceExportRequestSpec) -> Result<(), Error> {
    let mut seen = Vec::new();
    for claim in &spec.permission_claims {
        // Not the form of other names: an empty group prints nothing (objects.md section 3).
        let name = format!("{}.{}", claim.resource, claim.group);
        if !is_claimable(claim) {
            return Err(Error::InvalidClaim(name));
        }
        if seen.contains(&&claim.resource) {
            return Err(Error::DuplicateClaim(name));
        }
        seen.push(&claim.resource);
    }
    if let Some(without) = spec.resources.iter().find(|resource| resource.versions.is_empty()) {
        return Err(Error::NoVersions(without.group_resource()));
    }
    let namespaces = spec.namespaces.iter().map(|namespace| &namespace.name);
    match namespaces.clone().find(|name| !names::is_dns_label(name)) {
        Some(name) => Err(Error::InvalidNamespace(name.chars().take(80).collect())),
        None => Ok(()),
    }
}

/// Whether an export is what a request asks for. The flags that went into it may have changed since.
pub(super) fn same_wish(
    request: &ApiServiceExportRequestSpec,
    export: &ApiServiceExportSpec,
) -> bool {
    request.resources == export.resources && request.permission_claims == export.permission_claims
}

/// A resource that both have.
pub(super) fn in_common(
    request: &ApiServiceExportRequestSpec,
    export: &ApiServiceExportSpec,
) -> Option<GroupResource> {
    let has = |resource: &GroupResource| {
        export.resources.iter().any(|other| other.group_resource() == *resource)
    };
    request.resources.iter().map(ResourceVersions::group_resource).find(has)
}

/// The templates that a consumer has bound; none where its requests are not limited by templates.
pub(super) fn bound_templates(namespace: &ObjectMeta) -> Option<Vec<&str>> {
    let any = annotation(namespace, keys::ANNOTATION_ALLOW_REQUESTS);
    let names = annotation(namespace, keys::ANNOTATION_TEMPLATES)?;
    let names: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
    (any != Some(keys::ALLOW_REQUESTS_ANY) && !names.is_empty()).then_some(names)
}

/// Whether the templates offer all that a request asks for; else what they do not. Selectors of claims
/// choose among the consumer's own objects, so any are fine.
pub(super) fn covered(
    request: &ApiServiceExportRequestSpec,
    templates: &[Arc<ApiServiceExportTemplate>],
) -> Result<(), String> {
    for wanted in &request.resources {
        let resource = wanted.group_resource();
        let offers = |offered: &ResourceVersions| {
            offered.group_resource() == resource
                && (offered.versions.is_empty()
                    || wanted.versions.iter().all(|version| offered.versions.contains(version)))
        };
        if !templates.iter().any(|template| template.spec.resources.iter().any(offers)) {
            return Err(format!("{resource} ({})", wanted.versions.join(", ")));
        }
    }
    for claim in &request.permission_claims {
        let claimed = claim.group_resource();
        let offers = |template: &Arc<ApiServiceExportTemplate>| {
            template.spec.permission_claims.iter().any(|offer| offer.group_resource() == claimed)
        };
        if !templates.iter().any(offers) {
            return Err(format!("the permission claim on {claimed}"));
        }
    }
    Ok(())
}

/// Refuses a source of which no version that was asked for is served.
pub(super) fn check_versions(wanted: &ResourceVersions, source: &SourceSpec) -> Result<(), Error> {
    let mut served = source.versions.iter().filter(|version| version.served);
    if source.versions.is_empty() || served.any(|served| wanted.versions.contains(&served.name)) {
        return Ok(());
    }
    Err(Error::NotServed(wanted.group_resource()))
}

/// Refuses resources of both scopes in one export.
pub(super) fn check_scopes(all: &[Prepared]) -> Result<(), Error> {
    let Some((first, others)) = all.split_first() else {
        return Ok(());
    };
    // For the consumer they may be of one scope all the same.
    match others.iter().find(|other| other.source_scope != first.source_scope) {
        Some(other) => Err(Error::DifferentScopes(other.source_scope)),
        None => Ok(()),
    }
}

/// Whether a request was made before another; of the same second the lower name was.
pub(super) fn is_older(one: &ObjectMeta, other: &ObjectMeta) -> bool {
    let age = |meta: &ObjectMeta| {
        (meta.creation_timestamp.as_ref().map(|created| created.0), meta.name.clone())
    };
    age(one) < age(other)
}

/// The policy of a request, as it is remembered on its export.
pub(super) fn policy(request: &ApiServiceExportRequest) -> &'static str {
    match request.spec.schema_update_policy {
        SchemaUpdatePolicy::Never => "Never",
        SchemaUpdatePolicy::Always => "Always",
    }
}

/// The export that a request asks for.
pub(super) fn new_export(
    name: &ExportName,
    request: &ApiServiceExportRequest,
    settings: &ExportSettings,
    schemas: &[Prepared],
) -> ApiServiceExport {
    let mut annotations = BTreeMap::from([
        (
            keys::ANNOTATION_SOURCE_SPEC_HASH.to_owned(),
            schema::hash(schemas.iter().map(|schema| &schema.spec)),
        ),
        (keys::ANNOTATION_SCHEMA_UPDATE_POLICY.to_owned(), policy(request).to_owned()),
    ]);
    if schemas.len() > 1 {
        let hashes: Vec<String> =
            schemas.iter().map(|schema| schema::hash([&schema.spec])).collect();
        let digest = crate::consumer::bound_schema::digest(hashes.iter().map(String::as_str));
        annotations.insert(keys::ANNOTATION_SCHEMAS_DIGEST.to_owned(), digest);
    }
    ApiServiceExport {
        metadata: ObjectMeta {
            annotations: Some(annotations),
            ..ours::metadata(&name.name, Some(&name.namespace))
        },
        spec: ApiServiceExportSpec {
            resources: request.spec.resources.clone(),
            permission_claims: request.spec.permission_claims.clone(),
            informer_scope: settings.informer_scope,
            isolation: settings.isolation,
            cluster_scoped_isolation: None,
        },
        status: None,
    }
}

/// An `APIServiceNamespace` that a request asks for. Without the label the konnector would delete it
/// until the consumer's namespace exists (konnector.md section 8, 6).
pub(super) fn new_service_namespace(
    namespace: &str,
    name: &str,
    owner: OwnerReference,
) -> ApiServiceNamespace {
    let mut metadata = ours::metadata(name, Some(namespace));
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(keys::LABEL_OWNER.to_owned(), keys::OWNER_PROVIDER.to_owned());
    metadata.owner_references = Some(vec![owner]);
    ApiServiceNamespace { metadata, spec: ApiServiceNamespaceSpec {}, status: None }
}

/// What is left of the life of a request that succeeded.
pub(super) fn time_left(
    request: &ApiServiceExportRequest,
    retention: Duration,
    now: Timestamp,
) -> Duration {
    let conditions = request.status.as_ref().map(|status| status.conditions.as_slice());
    let since = get(conditions.unwrap_or_default(), EXPORTS_READY)
        .map(|condition| condition.last_transition_time.0)
        .or(request.metadata.creation_timestamp.as_ref().map(|created| created.0))
        .unwrap_or(now);
    // A time in the future (a clock that was off) only makes the request live longer.
    let lived = now.duration_since(since);
    let ahead = Duration::try_from(-lived).unwrap_or_default();
    let lived = Duration::try_from(lived).unwrap_or_default();
    retention.saturating_add(ahead).saturating_sub(lived)
}

#[cfg(test)]
mod tests;
