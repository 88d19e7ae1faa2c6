//! Source schemas: what a provider offers for export, by `--schema-source`.
//!
//! Only metadata of those labelled `kube-bind.io/exported=true` is watched and cached; bodies are read
//! when a consumer needs them.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;

use crate::api::apiextensions::{CustomResourceDefinition, SourceSpec};
use crate::api::kcp::{ApiBinding, ApiResourceSchema};
use crate::api::keys;
use crate::api::v1alpha2::GroupResource;
use crate::runtime::cache::Scope;
use crate::runtime::error::CallError;
use crate::runtime::fleet::{Cluster, Fleet, Source as Watch};
use crate::runtime::kind::{Kind, list_unwatched};
use crate::runtime::metrics::Metrics;
use crate::runtime::watch::Watched;

/// The label selector of what may be exported.
const EXPORTED: &str = "kube-bind.io/exported=true";

/// Where schemas come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SourceKind {
    /// The cluster's own definitions.
    #[default]
    CustomResourceDefinitions,
    /// Those of kcp.
    ApiResourceSchemas,
}

/// A source schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// `<UID>/<generation>`, which changes with its spec.
    pub version: String,
}

impl Source {
    fn of(meta: &ObjectMeta) -> Self {
        let uid = meta.uid.as_deref().unwrap_or_default();
        let generation = meta.generation.unwrap_or_default();
        Self { name: meta.name.clone().unwrap_or_default(), version: format!("{uid}/{generation}") }
    }
}

/// A kind of which only the metadata is known.
pub type Metadata<K> = Arc<Kind<K, PartialObjectMeta<K>>>;

/// The watched source schemas.
pub enum Sources {
    /// Named `<plural>.<group>`.
    CustomResourceDefinitions(Metadata<CustomResourceDefinition>),
    /// Named `<prefix>.<plural>.<group>`.
    ApiResourceSchemas(Schemas),
}

/// The `APIResourceSchema`s, and what says which of those of one resource is in use.
pub struct Schemas {
    kind: Metadata<ApiResourceSchema>,
    bindings: Arc<Kind<ApiBinding>>,
}

/// The names of the schemas of a resource that are bound.
fn bound<'a>(bindings: &'a [Arc<ApiBinding>], resource: &GroupResource) -> Vec<&'a str> {
    let all = bindings.iter().filter(|b| b.is_bound()).flat_map(|b| b.bound_resources());
    let of_it =
        all.filter(|bound| bound.group == resource.group && bound.resource == resource.resource);
    of_it.map(|bound| bound.schema.name.as_str()).collect()
}

/// Of several schemas the one of a resource that is among those bound, else the newest.
#[must_use]
pub fn chosen<'a>(
    schemas: impl Iterator<Item = &'a ObjectMeta>,
    resource: &GroupResource,
    bound: &[&str],
) -> Option<&'a ObjectMeta> {
    let resource = resource.to_string();
    let name = |meta: &'a ObjectMeta| meta.name.as_deref().unwrap_or_default();
    let best = |meta: &&'a ObjectMeta| {
        let created = meta.creation_timestamp.as_ref().map(|at| at.0);
        (bound.contains(&name(meta)), created, name(meta))
    };
    schemas.filter(|meta| resource_of(name(meta)) == resource).max_by_key(best)
}

/// The resource of a source of this name, as `<plural>.<group>`.
#[must_use]
pub fn resource_of(schema: &str) -> &str {
    schema.split_once('.').map_or("", |(_, resource)| resource)
}

/// The resources of which a workspace got another schema, as `<plural>.<group>`.
fn rebound(old: Option<&ApiBinding>, new: Option<&ApiBinding>) -> Vec<String> {
    let schemas = |binding: Option<&ApiBinding>| -> Vec<(String, String)> {
        let bound = binding.map_or(&[][..], ApiBinding::bound_resources);
        bound
            .iter()
            .map(|bound| (format!("{}.{}", bound.resource, bound.group), bound.schema.name.clone()))
            .collect()
    };
    let (old, new) = (schemas(old), schemas(new));
    let changed = old
        .iter()
        .filter(|one| !new.contains(one))
        .chain(new.iter().filter(|one| !old.contains(one)));
    let mut resources: Vec<String> = changed.map(|(resource, _)| resource.clone()).collect();
    resources.sort_unstable();
    resources.dedup();
    resources
}

impl Sources {
    pub(super) fn new(kind: SourceKind, bindings: Arc<Kind<ApiBinding>>) -> Self {
        match kind {
            SourceKind::CustomResourceDefinitions => {
                let kind = Kind::metadata("CustomResourceDefinition", Some(EXPORTED));
                Self::CustomResourceDefinitions(Arc::new(kind))
            }
            SourceKind::ApiResourceSchemas => {
                let kind = Kind::metadata("APIResourceSchema", Some(EXPORTED));
                Self::ApiResourceSchemas(Schemas { kind: Arc::new(kind), bindings })
            }
        }
    }

    /// The kind, for people.
    #[must_use]
    pub fn called(&self) -> &'static str {
        match self {
            Self::CustomResourceDefinitions(_) => "CustomResourceDefinition",
            Self::ApiResourceSchemas(_) => "APIResourceSchema",
        }
    }

    pub(super) fn watch(&self, metrics: &Arc<Metrics>) -> Arc<dyn Watch> {
        let metrics = Arc::clone(metrics);
        match self {
            Self::CustomResourceDefinitions(kind) => Watched::new(Arc::clone(kind), metrics),
            Self::ApiResourceSchemas(of) => Watched::new(Arc::clone(&of.kind), metrics),
        }
    }

    /// The `APIResourceSchema`s, where schemas come from there.
    #[must_use]
    pub fn api_resource_schemas(&self) -> Option<&Metadata<ApiResourceSchema>> {
        match self {
            Self::CustomResourceDefinitions(_) => None,
            Self::ApiResourceSchemas(of) => Some(&of.kind),
        }
    }

    /// Tells of the resource, `<plural>.<group>`, of each source that changes.
    pub fn subscribe(&self, tell: impl Fn(&Arc<Fleet>, &Scope, &str) + Send + Sync + 'static) {
        match self {
            Self::CustomResourceDefinitions(kind) => kind.subscribe(move |fleet, delta| {
                let name = delta.object().and_then(|object| object.metadata.name.as_deref());
                tell(fleet, &delta.scope, name.unwrap_or_default());
            }),
            Self::ApiResourceSchemas(of) => {
                let tell = Arc::new(tell);
                let told = Arc::clone(&tell);
                of.kind.subscribe(move |fleet, delta| {
                    let name = delta.object().and_then(|object| object.metadata.name.as_deref());
                    told(fleet, &delta.scope, resource_of(name.unwrap_or_default()));
                });
                of.bindings.subscribe(move |fleet, delta| {
                    for resource in rebound(delta.old.as_deref(), delta.new.as_deref()) {
                        tell(fleet, &delta.scope, &resource);
                    }
                });
            }
        }
    }

    /// The source of a resource. Of several `APIResourceSchema`s of one resource the one that an `APIBinding` of
    /// the workspace binds, else the newest.
    #[must_use]
    pub fn find(&self, cluster: &Cluster, resource: &GroupResource) -> Option<Source> {
        match self {
            Self::CustomResourceDefinitions(kind) => {
                let object = kind.get(cluster, "", &resource.to_string())?;
                Some(Source::of(&object.metadata))
            }
            Self::ApiResourceSchemas(of) => {
                let labelled = of.kind.list(cluster);
                let labelled = labelled.iter().map(|object| &object.metadata);
                let bindings = of.bindings.list(cluster);
                chosen(labelled, resource, &bound(&bindings, resource)).map(Source::of)
            }
        }
    }

    /// The source of a resource as the server knows it, for whoever would say that there is none: the kinds of a workspace
    /// that comes, or comes by another endpoint, are seen one after the other.
    pub async fn find_live(
        &self,
        cluster: &Cluster,
        resource: &GroupResource,
    ) -> Result<Option<Source>, CallError> {
        match self {
            Self::CustomResourceDefinitions(_) => {
                let read = self.read(cluster, &resource.to_string(), resource).await?;
                Ok(read.map(|(source, _)| source))
            }
            Self::ApiResourceSchemas(of) => {
                let labelled = list_unwatched::<ApiResourceSchema>(cluster, EXPORTED).await?;
                let labelled = labelled.iter().map(|object| &object.metadata);
                let bindings = of.bindings.list(cluster);
                Ok(chosen(labelled, resource, &bound(&bindings, resource)).map(Source::of))
            }
        }
    }

    /// Whether anything may be exported at all.
    #[must_use]
    pub fn is_empty(&self, cluster: &Cluster) -> bool {
        match self {
            Self::CustomResourceDefinitions(kind) => kind.list(cluster).is_empty(),
            Self::ApiResourceSchemas(of) => of.kind.list(cluster).is_empty(),
        }
    }

    /// Reads a source of this resource, and which version of it that is; none where it is gone, no
    /// longer labelled, or not of this resource.
    pub async fn read(
        &self,
        cluster: &Cluster,
        name: &str,
        resource: &GroupResource,
    ) -> Result<Option<(Source, SourceSpec)>, CallError> {
        let (metadata, spec): (ObjectMeta, SourceSpec) = match self {
            Self::CustomResourceDefinitions(kind) => {
                match kind.get_live(cluster, "", name).await? {
                    Some(live) => (live.metadata.clone(), live.into()),
                    None => return Ok(None),
                }
            }
            Self::ApiResourceSchemas(of) => match of.kind.get_live(cluster, "", name).await? {
                Some(live) => (live.metadata.clone(), live.into()),
                None => return Ok(None),
            },
        };
        let same = spec.names.plural == resource.resource && spec.group == resource.group;
        let offered = is_exported(&metadata) && same;
        Ok(offered.then(|| (Source::of(&metadata), spec)))
    }
}

/// Whether an object has the label by which sources are watched.
#[must_use]
pub fn is_exported(meta: &ObjectMeta) -> bool {
    let label = meta.labels.as_ref().and_then(|labels| labels.get(keys::LABEL_EXPORTED));
    label.is_some_and(|value| value == keys::TRUE)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn the_selector_names_the_label_of_the_contract() {
        assert_eq!(EXPORTED, format!("{}={}", keys::LABEL_EXPORTED, keys::TRUE));
    }

    #[test]
    fn the_schema_that_is_bound_wins_over_a_newer_one() {
        let meta = |name: &str, second: i64| ObjectMeta {
            name: Some(name.to_owned()),
            creation_timestamp: Some(Time(jiff::Timestamp::from_second(second).unwrap())),
            ..ObjectMeta::default()
        };
        let labelled = [
            meta("v2.cowboys.wildwest.dev", 2),
            meta("v3.cowboys.wildwest.dev", 3),
            meta("v1.cowboys.wildwest.dev", 1),
            meta("v4.horses.wildwest.dev", 4),
        ];
        let binding = |phase: &str| -> Arc<ApiBinding> {
            let bound = serde_json::json!({
                "apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIBinding",
                "metadata": { "name": "any" }, "spec": {},
                "status": { "phase": phase, "boundResources": [{
                    "group": "wildwest.dev", "resource": "cowboys",
                    "schema": { "name": "v2.cowboys.wildwest.dev" },
                }]},
            });
            Arc::new(serde_json::from_value(bound).unwrap())
        };
        let resource = GroupResource { group: "wildwest.dev".into(), resource: "cowboys".into() };
        for (bindings, expected) in [
            (vec![binding("Bound")], "v2.cowboys.wildwest.dev"),
            (vec![binding("Binding")], "v3.cowboys.wildwest.dev"),
            (vec![], "v3.cowboys.wildwest.dev"),
        ] {
            let found = chosen(labelled.iter(), &resource, &bound(&bindings, &resource));
            assert_eq!(found.and_then(|meta| meta.name.as_deref()), Some(expected));
        }
    }

    #[test]
    fn a_schema_is_found_by_what_follows_its_prefix() {
        assert_eq!(resource_of("today.cowboys.wildwest.dev"), "cowboys.wildwest.dev");
        assert_eq!(resource_of("plain"), "");
    }
}
