//! The schemas of what is offered: labelled copies of those that the provider's workspace has, or the label on those
//! that the workspace itself has.
//!
//! What a schema says never changes, so its annotations tell all that a template needs: a body is read once, to make the
//! copy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::PartialObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use super::Error;
use super::plan::{self, Facts};
use super::reader::Reader;
use crate::api::kcp::{ApiResourceSchema, ApiResourceSchemaSpec, BoundResource};
use crate::api::keys;
use crate::api::v1alpha2::ApiServiceExportTemplate;
use crate::consumer::contract::annotation;
use crate::consumer::ours;
use crate::kinds::sources::Metadata;
use crate::runtime::cluster::ClusterId;
use crate::runtime::error::{CallError, Cause};
use crate::runtime::fleet::Cluster;

/// A schema of which it is known what it offers, and what has to be done to it.
pub(super) struct Schema {
    pub(super) facts: Facts,
    todo: Todo,
}

enum Todo {
    /// Nothing: somebody else labelled it.
    Nothing,
    /// It is ours, or one that the workspace itself has and that we labelled: keep its marks right.
    Keep(Arc<PartialObjectMeta<ApiResourceSchema>>),
    /// Mark a copy that equals what is bound.
    Adopt(Box<ObjectMeta>),
    /// Make it, instead of the one that is in the way.
    Make(Box<ApiResourceSchemaSpec>, Option<Box<ObjectMeta>>),
}

/// Whether a schema is a copy that v0.8.1 made.
fn is_legacy_copy(meta: &ObjectMeta) -> bool {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| owner.kind == ApiServiceExportTemplate::kind(&()))
}

/// Whether the schema is the very one that is bound, and no copy.
fn is_original(meta: &ObjectMeta, bound: &BoundResource) -> bool {
    meta.uid.as_deref() == Some(bound.schema.uid.as_str())
}

fn is_labelled(meta: &ObjectMeta) -> bool {
    let label = meta.labels.as_ref().and_then(|labels| labels.get(keys::LABEL_EXPORTED));
    label.is_some_and(|value| value == keys::TRUE)
}

/// Reads and writes them.
pub(super) struct Schemas {
    pub(super) kind: Metadata<ApiResourceSchema>,
    pub(super) reader: Reader,
    foreign: Arc<Mutex<HashMap<(ClusterId, String), Foreign>>>,
}

/// What a schema says that somebody else labelled, kept while it has the label: we write nothing on it.
struct Foreign {
    uid: Option<String>,
    facts: Facts,
}

impl Schemas {
    pub(super) fn new(kind: Metadata<ApiResourceSchema>, reader: Reader) -> Self {
        let foreign = Arc::<Mutex<HashMap<_, Foreign>>>::default();
        let known = Arc::clone(&foreign);
        kind.subscribe(move |_, delta| {
            if let (Some(old), None) = (&delta.old, &delta.new) {
                let key = (delta.scope.cluster.clone(), old.name_any());
                known.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            }
        });
        Self { kind, reader, foreign }
    }

    /// What there is of the schema of a bound resource, without a request where we know it.
    pub(super) async fn resolve(
        &self,
        cluster: &Cluster,
        bound: &BoundResource,
    ) -> Result<Schema, Error> {
        let Some(known) = self.kind.get(cluster, "", &bound.schema.name) else {
            return self.missing(cluster, bound).await;
        };
        let meta = &known.metadata;
        let ours = ours::is_labelled(meta);
        let marked = annotation(meta, keys::ANNOTATION_SOURCE) == Some(bound.schema.uid.as_str());
        if marked
            && (ours || is_original(meta, bound))
            && let Some(facts) = Facts::of(meta)
        {
            return Ok(Schema { facts, todo: Todo::Keep(known) });
        }
        if ours || (is_legacy_copy(meta) && !is_original(meta, bound)) {
            return self.compare(cluster, bound).await;
        }
        let facts = self.foreign(cluster, meta).await?;
        Ok(Schema { facts, todo: Todo::Nothing })
    }

    /// The schema has no label, or there is none.
    async fn missing(&self, cluster: &Cluster, bound: &BoundResource) -> Result<Schema, Error> {
        let spec = match self.reader.read(cluster, bound).await {
            Ok(schema) => schema.spec,
            // An older kcp serves no schemas; the workspace's own can be read all the same.
            Err(err @ (Error::SchemaMissing { .. } | Error::Unserved(_))) => {
                let live = self.kind.get_live(cluster, "", &bound.schema.name).await?;
                let live = live.filter(|live| is_original(&live.metadata, bound));
                live.ok_or(err)?.spec
            }
            Err(err) => return Err(err),
        };
        Ok(Schema { facts: Facts::of_spec(&spec), todo: Todo::Make(Box::new(spec), None) })
    }

    /// A copy that does not say what it was made of, or was made of another schema of that name: it is taken over if it
    /// equals what is bound, and made anew if it is ours.
    async fn compare(&self, cluster: &Cluster, bound: &BoundResource) -> Result<Schema, Error> {
        let spec = self.reader.read(cluster, bound).await?.spec;
        let facts = Facts::of_spec(&spec);
        let todo = match self.kind.get_live(cluster, "", &bound.schema.name).await? {
            None => Todo::Make(Box::new(spec), None),
            Some(live) if live.spec == spec => Todo::Adopt(Box::new(live.metadata)),
            Some(live) if ours::is_labelled(&live.metadata) => {
                Todo::Make(Box::new(spec), Some(Box::new(live.metadata)))
            }
            Some(_) => return Err(Error::ForeignSchema { name: bound.schema.name.clone() }),
        };
        Ok(Schema { facts, todo })
    }

    /// What a schema says that somebody else labelled.
    async fn foreign(&self, cluster: &Cluster, meta: &ObjectMeta) -> Result<Facts, Error> {
        let name = meta.name.clone().unwrap_or_default();
        let key = (cluster.id.clone(), name.clone());
        let known = |of: &HashMap<_, Foreign>| {
            of.get(&key).filter(|known| known.uid == meta.uid).map(|known| known.facts.clone())
        };
        if let Some(facts) = known(&self.foreign.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(facts);
        }
        let Some(live) = self.kind.get_live(cluster, "", &name).await? else {
            return Err(Error::SchemaMissing { name });
        };
        let facts = Facts::of_spec(&live.spec);
        let known = Foreign { uid: live.metadata.uid, facts: facts.clone() };
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).insert(key, known);
        Ok(facts)
    }

    /// Does what has to be done to a schema, once the template that owns it exists.
    pub(super) async fn settle(
        &self,
        cluster: &Cluster,
        binding: &str,
        bound: &BoundResource,
        schema: Schema,
        template: &OwnerReference,
    ) -> Result<(), Error> {
        let marks = plan::marks(binding, &bound.schema.uid, &schema.facts);
        match schema.todo {
            Todo::Nothing => Ok(()),
            Todo::Keep(known) => {
                let mut fields = json!({ "metadata": {} });
                let meta = &known.metadata;
                if marks.iter().any(|(key, value)| annotation(meta, key) != Some(value)) {
                    fields["metadata"]["annotations"] = json!(marks);
                }
                if ours::is_labelled(meta)
                    && let Some(owners) = plan::owners(meta, template.clone())
                {
                    fields["metadata"]["ownerReferences"] = json!(owners);
                }
                if fields["metadata"].as_object().is_some_and(|fields| !fields.is_empty()) {
                    self.kind.patch(cluster, meta, fields).await?;
                }
                Ok(())
            }
            Todo::Adopt(meta) => {
                let fields = json!({ "metadata": {
                    "labels": labels(),
                    "annotations": marks,
                    "ownerReferences": [template],
                }});
                self.kind.patch(cluster, &meta, fields).await?;
                Ok(())
            }
            Todo::Make(spec, in_the_way) => {
                if let Some(meta) = in_the_way {
                    self.kind.delete(cluster, &meta).await?;
                }
                let mut metadata = ours::metadata(&bound.schema.name, None);
                metadata.labels = Some(labels());
                metadata.annotations = Some(marks);
                metadata.owner_references = Some(vec![template.clone()]);
                let object = ApiResourceSchema { metadata, spec: *spec };
                match self.kind.create(cluster, &object).await {
                    Ok(_) => Ok(()),
                    Err(CallError { cause: Cause::Exists, .. }) => {
                        self.label(cluster, bound, &object).await
                    }
                    Err(err) => Err(err.into()),
                }
            }
        }
    }

    /// A schema of that name without label: the very one that is bound, or a copy of ours that lost it.
    async fn label(
        &self,
        cluster: &Cluster,
        bound: &BoundResource,
        wanted: &ApiResourceSchema,
    ) -> Result<(), Error> {
        let Some(live) = self.kind.get_live(cluster, "", &bound.schema.name).await? else {
            return Err(Error::SchemaMissing { name: bound.schema.name.clone() });
        };
        let ours = ours::is_labelled(&live.metadata) && live.spec == wanted.spec;
        if !ours && !is_original(&live.metadata, bound) {
            return Err(Error::ForeignSchema { name: bound.schema.name.clone() });
        }
        let fields = json!({ "metadata": {
            "labels": { keys::LABEL_EXPORTED: keys::TRUE },
            "annotations": wanted.metadata.annotations,
        }});
        self.kind.patch(cluster, &live.metadata, fields).await?;
        Ok(())
    }

    /// The schemas that are offered because of a binding: copies of ours, and those that we labelled.
    pub(super) fn marked(
        &self,
        cluster: &Cluster,
    ) -> Vec<Arc<PartialObjectMeta<ApiResourceSchema>>> {
        let mut all = self.kind.list(cluster);
        all.retain(|schema| {
            annotation(&schema.metadata, keys::ANNOTATION_TEMPLATE_OWNER_BINDING).is_some()
                && annotation(&schema.metadata, keys::ANNOTATION_SOURCE).is_some()
        });
        all
    }

    /// Takes back what was done to a schema.
    pub(super) async fn take_back(
        &self,
        cluster: &Cluster,
        meta: &ObjectMeta,
    ) -> Result<(), Error> {
        if ours::is_labelled(meta) {
            self.kind.delete(cluster, meta).await?;
        } else if is_labelled(meta) {
            self.kind.patch(cluster, meta, plan::without_marks()).await?;
        }
        Ok(())
    }
}

/// The labels of a copy.
fn labels() -> std::collections::BTreeMap<String, String> {
    let mut labels = ours::labels();
    labels.insert(keys::LABEL_EXPORTED.to_owned(), keys::TRUE.to_owned());
    labels
}
