//! The schemas of what is offered: labelled copies of those that the provider's workspace has, or the label on those
//! that the workspace itself has.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use serde_json::json;

use super::Error;
use super::marks::{self, Facts, Whose};
use super::plan;
use super::reader::Reader;
use super::round::{Remembered, Round, Unresolved};
use crate::api::kcp::{ApiBinding, ApiResourceSchema, ApiResourceSchemaSpec, BoundResource};
use crate::api::keys;
use crate::consumer::contract::annotation;
use crate::consumer::ours;
use crate::kinds::sources::{Metadata, is_exported};
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
    /// Put its label, marks and owners right.
    PutRight(Box<ObjectMeta>, Whose),
    /// Make it; without a body where that was read before and could not be used.
    Make(Option<Box<ApiResourceSchemaSpec>>),
    /// Make it instead of this copy of ours, which is one of another schema.
    Replace(Box<ApiResourceSchemaSpec>, Box<ObjectMeta>),
}

/// A resource of a binding that is offered.
#[derive(Clone, Copy)]
pub(super) struct Offered<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) binding: &'a ApiBinding,
    pub(super) bound: &'a BoundResource,
}

impl Offered<'_> {
    fn name(&self) -> &str {
        &self.bound.schema.name
    }

    /// UID of the schema that is bound.
    fn source(&self) -> &str {
        &self.bound.schema.uid
    }

    fn whose(&self, meta: &ObjectMeta) -> Whose {
        Whose::of(meta, &self.cluster.id, self.binding)
    }

    fn is_original(&self, meta: &ObjectMeta) -> bool {
        meta.uid.as_deref() == Some(self.source())
    }

    fn missing(&self) -> Error {
        Error::SchemaMissing { name: self.name().to_owned() }
    }

    /// What it is that one of somebody else is there. One with the label is compared when its event comes.
    fn in_the_way(&self, meta: &ObjectMeta) -> Unresolved {
        if is_exported(meta) {
            return Unresolved::Unknown(None);
        }
        self.foreign(false).into()
    }

    fn foreign(&self, labelled: bool) -> Error {
        Error::ForeignSchema { name: self.name().to_owned(), labelled }
    }
}

/// Reads and writes them.
pub(super) struct Schemas {
    pub(super) kind: Metadata<ApiResourceSchema>,
    pub(super) reader: Reader,
    pub(super) memory: Remembered,
}

impl Schemas {
    /// What there is of the schema of a bound resource, without a request where we know it.
    pub(super) async fn resolve(
        &self,
        of: Offered<'_>,
        round: &mut Round,
    ) -> Result<Schema, Unresolved> {
        let known = self.kind.get(of.cluster, "", of.name());
        let Some(meta) = known.as_ref().map(|known| &known.metadata) else {
            return if of.binding.is_of(of.cluster.id.as_str()) {
                self.original(of, round).await
            } else {
                self.missing(of, round).await
            };
        };
        let whose = of.whose(meta);
        let marked = Facts::of_source(meta, &of.cluster.id, of.source());
        match (whose, marked) {
            (Whose::Ours, Some(facts)) => {
                Ok(Schema { facts, todo: Todo::PutRight(Box::new(meta.clone()), whose) })
            }
            (Whose::Workspace, Some(facts)) if of.is_original(meta) => {
                Ok(Schema { facts, todo: Todo::PutRight(Box::new(meta.clone()), whose) })
            }
            (Whose::Workspace, _) if annotation(meta, keys::ANNOTATION_SOURCE).is_none() => {
                self.by_hand(of, round).await
            }
            (Whose::Workspace, _) => self.original(of, round).await,
            (Whose::Ours | Whose::Legacy, _) => self.compare(of, round).await,
            (Whose::Somebody, _) => self.foreign(of, meta, round).await,
        }
    }

    /// A schema that the workspace itself exports.
    async fn original(&self, of: Offered<'_>, round: &Round) -> Result<Schema, Unresolved> {
        round.may_ask()?;
        let live = self.kind.get_live(of.cluster, "", of.name()).await?;
        let Some(live) = live.filter(|live| of.is_original(&live.metadata)) else {
            return Err(of.missing().into());
        };
        if marks::is_withheld(&live.metadata) {
            return Err(Unresolved::Refused(Error::Withheld { name: of.name().to_owned() }));
        }
        let facts = Facts::of_spec(&live.spec);
        Ok(Schema { facts, todo: Todo::PutRight(Box::new(live.metadata), Whose::Workspace) })
    }

    /// The same where people labelled it, so that the label is theirs.
    async fn by_hand(&self, of: Offered<'_>, round: &mut Round) -> Result<Schema, Unresolved> {
        let facts = match round.facts(of.source()) {
            Some(facts) => facts,
            None => self.original(of, round).await?.facts,
        };
        round.remember(of.source(), &facts);
        Ok(Schema { facts, todo: Todo::Nothing })
    }

    /// There is none with the label.
    async fn missing(&self, of: Offered<'_>, round: &mut Round) -> Result<Schema, Unresolved> {
        if let Some(facts) = round.facts(of.source()) {
            return Ok(Schema { facts, todo: Todo::Make(None) });
        }
        let spec = self.reader.read(of.cluster, of.binding, of.bound, round).await?;
        let facts = Facts::of_spec(&spec);
        round.remember(of.source(), &facts);
        Ok(Schema { facts, todo: Todo::Make(Some(Box::new(spec))) })
    }

    /// A copy that does not say what it was made of, or was made of another schema of that name: it is taken over if it
    /// equals what is bound, and made anew if it is ours.
    async fn compare(&self, of: Offered<'_>, round: &mut Round) -> Result<Schema, Unresolved> {
        let spec = self.reader.read(of.cluster, of.binding, of.bound, round).await?;
        let facts = Facts::of_spec(&spec);
        let todo = match self.kind.get_live(of.cluster, "", of.name()).await? {
            None => Todo::Make(Some(Box::new(spec))),
            Some(live) if live.spec == spec => Todo::PutRight(Box::new(live.metadata), Whose::Ours),
            Some(live) if marks::is_deletable(&live.metadata) => {
                Todo::Replace(Box::new(spec), Box::new(live.metadata))
            }
            Some(_) => return Err(Unresolved::Refused(of.foreign(true))),
        };
        Ok(Schema { facts, todo })
    }

    /// One that somebody else labelled is looked at once: consumers get it, so it has to be what is bound.
    async fn foreign(
        &self,
        of: Offered<'_>,
        meta: &ObjectMeta,
        round: &mut Round,
    ) -> Result<Schema, Unresolved> {
        let uid = meta.uid.as_deref().unwrap_or_default();
        if round.compared(of.source(), uid).is_none() {
            let spec = match self.reader.read(of.cluster, of.binding, of.bound, round).await {
                Ok(spec) => Some(spec),
                // Where kcp shows no schemas, people are told to put them there.
                Err(Unresolved::Unknown(Some(Error::Unserved(_)))) => None,
                Err(err) => return Err(err),
            };
            let live = self.kind.get_live(of.cluster, "", of.name()).await?;
            let Some(live) = live else { return Err(of.missing().into()) };
            round.remember(of.source(), &Facts::of_spec(&live.spec));
            let same = spec.is_none_or(|spec| spec == live.spec);
            round.compare(of.source(), &live.metadata.uid.unwrap_or_default(), same);
        }
        match (round.compared(of.source(), uid), round.facts(of.source())) {
            (Some(true), Some(facts)) => Ok(Schema { facts, todo: Todo::Nothing }),
            (Some(false), _) => Err(Unresolved::Refused(of.foreign(true))),
            // Another one has taken its place, which the watch is about to tell.
            _ => Err(Unresolved::Unknown(None)),
        }
    }

    /// Does what has to be done to a schema, once the template that owns it exists.
    pub(super) async fn settle(
        &self,
        of: Offered<'_>,
        schema: Schema,
        template: &OwnerReference,
        round: &mut Round,
    ) -> Result<(), Unresolved> {
        match schema.todo {
            Todo::Nothing => return Ok(()),
            Todo::PutRight(meta, whose) => {
                self.put_right(of, &meta, whose, &schema.facts, template).await?;
            }
            Todo::Replace(spec, meta) => {
                self.kind.delete(of.cluster, &meta).await?;
                self.make(of, *spec, template).await?;
            }
            Todo::Make(Some(spec)) => self.make(of, *spec, template).await?,
            Todo::Make(None) => {
                let live = self.kind.get_live(of.cluster, "", of.name()).await?;
                if let Some(live) = live.filter(|live| of.whose(&live.metadata) == Whose::Somebody)
                {
                    return Err(of.in_the_way(&live.metadata));
                }
                let spec = self.reader.read(of.cluster, of.binding, of.bound, round).await?;
                self.make(of, spec, template).await?;
            }
        }
        round.forget(of.source());
        Ok(())
    }

    async fn put_right(
        &self,
        of: Offered<'_>,
        meta: &ObjectMeta,
        whose: Whose,
        facts: &Facts,
        template: &OwnerReference,
    ) -> Result<(), Error> {
        let binding = of.binding.metadata.name.as_deref().unwrap_or_default();
        let marks = marks::marks(&of.cluster.id, binding, of.source(), facts);
        if let Some(fields) = marks::drift(meta, whose, &marks, template) {
            self.kind.patch(of.cluster, meta, fields).await?;
        }
        Ok(())
    }

    async fn make(
        &self,
        of: Offered<'_>,
        spec: ApiResourceSchemaSpec,
        template: &OwnerReference,
    ) -> Result<(), Unresolved> {
        let binding = of.binding.metadata.name.as_deref().unwrap_or_default();
        let facts = Facts::of_spec(&spec);
        let metadata = ObjectMeta {
            labels: Some(marks::labels()),
            annotations: Some(marks::marks(&of.cluster.id, binding, of.source(), &facts)),
            owner_references: Some(vec![template.clone()]),
            ..ours::metadata(of.name(), None)
        };
        let object = ApiResourceSchema { metadata, spec };
        match self.kind.create(of.cluster, &object).await {
            Ok(_) => return Ok(()),
            Err(CallError { cause: Cause::Exists, .. }) => {}
            Err(err) => return Err(err.into()),
        }
        // A copy that lost its label is taken back.
        let Some(live) = self.kind.get_live(of.cluster, "", of.name()).await? else {
            return Err(of.missing().into());
        };
        if of.whose(&live.metadata) == Whose::Somebody || live.spec != object.spec {
            return Err(of.in_the_way(&live.metadata));
        }
        Ok(self.put_right(of, &live.metadata, Whose::Ours, &facts, template).await?)
    }

    /// Takes the templates of a binding off the schemas that they own and that the workspace itself exports: v0.8.1 owns
    /// those as well, so that they would go with the template. They are marked as those that we label.
    pub(super) async fn release(
        &self,
        cluster: &Cluster,
        binding: &ApiBinding,
    ) -> Result<(), Error> {
        let templates = plan::template_names(binding);
        for schema in self.kind.list(cluster) {
            let meta = &schema.metadata;
            let owners = marks::without_templates(meta, &templates);
            if let Some(owners) = owners.filter(|_| !ours::is_labelled(meta)) {
                let fields = json!({ "metadata": {
                    "ownerReferences": owners,
                    "annotations": {
                        keys::ANNOTATION_TEMPLATE_OWNER_BINDING: binding.metadata.name,
                        keys::ANNOTATION_SOURCE: meta.uid,
                    },
                }});
                self.kind.patch(cluster, meta, fields).await?;
            }
        }
        Ok(())
    }

    /// Takes back what was done to a schema.
    pub(super) async fn take_back(
        &self,
        cluster: &Cluster,
        meta: &ObjectMeta,
    ) -> Result<(), Error> {
        if marks::is_deletable(meta) {
            self.kind.delete(cluster, meta).await?;
        } else {
            self.kind.patch(cluster, meta, marks::without_marks()).await?;
        }
        Ok(())
    }
}
