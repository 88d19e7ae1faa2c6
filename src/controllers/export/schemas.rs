//! Keeps the `BoundSchema`s of an export in step with their sources.
//!
//! Whether a source has changed is seen in metadata alone: a `BoundSchema` records UID and generation
//! of the source that it equals. Bodies are read only where these differ and the policy lets the
//! consumer follow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;
use serde_json::json;
use tokio::time::Instant;

use crate::api::conditions::{self, SOURCE_IN_SYNC};
use crate::api::keys;
use crate::api::v1alpha2::{ApiServiceExport, BoundSchema, BoundSchemaSpec, GroupResource};
use crate::consumer::bound_schema::{self, Facts};
use crate::consumer::contract::annotation;
use crate::consumer::ours;
use crate::consumer::rights::ExportName;
use crate::consumer::schema::{self, Problem};
use crate::kinds::Kinds;
use crate::kinds::sources::Source;
use crate::runtime::cluster::ObjKey;
use crate::runtime::error::{CallError, Cause};
use crate::runtime::fleet::Cluster;

/// Why a `BoundSchema` does not follow its source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Held {
    /// There is no source any more.
    #[error(
        "there is no {0} for {1} with the label kube-bind.io/exported=true any more; consumers keep \
         the schema they have until there is"
    )]
    NoSource(&'static str, GroupResource),
    /// The change cannot be given to a running konnector.
    #[error("{0}")]
    Problem(String, &'static str),
    /// Somebody else's object has the name.
    #[error(
        "BoundSchema {0} exists and was not made by this backend; delete it, and it is made as it \
         should be"
    )]
    Foreign(GroupResource),
    /// The API server does not take the change.
    #[error(
        "the changed schema of {0} cannot be given to consumers: {1}; make it smaller or correct it"
    )]
    Refused(GroupResource, String),
}

impl Held {
    /// Whether it may pass without a change of the source.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Refused(..))
    }

    /// The reason of the condition.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoSource(..) => "SchemaNotFound",
            Self::Problem(_, reason) => reason,
            Self::Foreign(_) => "ForeignBoundSchema",
            Self::Refused(..) => "BoundSchemaRefused",
        }
    }
}

impl From<Problem> for Held {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem.to_string(), problem.reason())
    }
}

/// How it stands with one resource of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// The resource.
    pub(super) resource: GroupResource,
    /// Its `BoundSchema`; none where there is none.
    pub(super) facts: Option<Facts>,
    /// Why that does not follow its source.
    pub(super) held: Option<Held>,
}

/// When to try again what a server refused: its policies may have changed.
pub(super) const REFUSED_AGAIN: Duration = Duration::from_mins(5);

/// Why a version of a source was not followed, and when that was found.
struct Memory {
    version: String,
    held: Held,
    at: Instant,
}

/// Keeps `BoundSchema`s in step.
pub(super) struct Schemas {
    kinds: Arc<Kinds>,
    /// The versions of sources that cannot be followed, so that they are not read at every event.
    held: Mutex<HashMap<ObjKey, Memory>>,
}

impl Schemas {
    pub(super) fn new(kinds: Arc<Kinds>) -> Self {
        Self { kinds, held: Mutex::default() }
    }

    /// Brings the `BoundSchema`s of an export as far as they may go; their states come back in the
    /// order of its resources. With `adopts` the export becomes the owner of those without one.
    pub(super) async fn sync(
        &self,
        cluster: &Cluster,
        name: &ExportName,
        export: &ApiServiceExport,
        adopts: bool,
    ) -> Result<Vec<State>, CallError> {
        let owner = export.controller_owner_ref(&());
        let owner = owner.map(|owner| OwnerReference { block_owner_deletion: Some(true), ..owner });
        let mut states = Vec::new();
        for resource in &export.spec.resources {
            let one = One {
                schemas: self,
                cluster,
                name,
                export,
                owner: owner.as_ref(),
                adopts,
                resource: resource.group_resource(),
            };
            states.push(one.sync().await?);
        }
        Ok(states)
    }

    /// Forgets what was held in a contract namespace and is no longer there.
    pub(super) fn forget(&self, cluster: &Cluster, namespace: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|key, _| {
            (&key.cluster, key.namespace.as_str()) != (&cluster.id, namespace)
                || self.kinds.bound_schemas.get(cluster, namespace, &key.name).is_some()
        });
    }

    fn remembered(&self, key: &ObjKey, version: &str) -> Option<Held> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = held.get(key).filter(|memory| memory.version == version)?;
        let stale = memory.held.may_pass() && memory.at.elapsed() >= REFUSED_AGAIN;
        (!stale).then(|| memory.held.clone())
    }

    fn remember(&self, key: ObjKey, version: &str, why: Option<&Held>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            // A source that is missed for a moment comes back as it was.
            None | Some(Held::NoSource(..)) => held.remove(&key),
            Some(why) => {
                let (version, why) = (version.to_owned(), why.clone());
                held.insert(key, Memory { version, held: why, at: Instant::now() })
            }
        };
    }
}

/// One resource of one export.
struct One<'a> {
    schemas: &'a Schemas,
    cluster: &'a Cluster,
    name: &'a ExportName,
    export: &'a ApiServiceExport,
    owner: Option<&'a OwnerReference>,
    adopts: bool,
    resource: GroupResource,
}

impl One<'_> {
    fn state(&self, facts: Option<Facts>, held: Option<Held>) -> State {
        State { resource: self.resource.clone(), facts, held }
    }

    fn no_source(&self) -> Held {
        Held::NoSource(self.schemas.kinds.sources.called(), self.resource.clone())
    }

    /// The source. Unless it was said already that there is none, the server is asked before that is believed.
    async fn source(&self) -> Result<Option<Source>, CallError> {
        let sources = &self.schemas.kinds.sources;
        let seen = sources.find(self.cluster, &self.resource);
        let said = conditions::get(self.export.conditions(), SOURCE_IN_SYNC);
        let why = said.and_then(|said| said.reason.as_deref());
        if seen.is_some() || why == Some(self.no_source().reason()) {
            return Ok(seen);
        }
        sources.find_live(self.cluster, &self.resource).await
    }

    async fn sync(&self) -> Result<State, CallError> {
        let kinds = &self.schemas.kinds;
        let schema = self.resource.to_string();
        let Some(known) = kinds.bound_schemas.get(self.cluster, &self.name.namespace, &schema)
        else {
            return self.make().await;
        };
        if !bound_schema::is_ours(&known.metadata) {
            return Ok(self.state(None, Some(Held::Foreign(self.resource.clone()))));
        }
        let (facts, refused) = match self.own(&known.metadata).await {
            Ok(facts) => (facts, None),
            // A schema that just fitted: it can only become smaller.
            Err(CallError { cause: Cause::Invalid(why), .. }) => {
                (Facts::of(&known.metadata), Some(self.refused(why)))
            }
            Err(err) => return Err(err),
        };
        let Some(facts) = facts else {
            return Ok(self.state(None, refused));
        };
        let source = match self.source().await {
            // What the workspace does not show is not known to be gone.
            Err(CallError { cause: Cause::Forbidden(_) | Cause::Unserved, .. }) => {
                return Ok(self.state(Some(facts), refused));
            }
            asked => asked?,
        };
        let Some(source) = source else {
            return Ok(self.state(Some(facts), Some(self.no_source())));
        };
        let always = annotation(&self.export.metadata, keys::ANNOTATION_SCHEMA_UPDATE_POLICY)
            == Some("Always");
        // What is refused now was never whole, so that it may follow whatever the policy.
        let follows = always || refused.is_some();
        if !follows || source.version == facts.source {
            return Ok(self.state(Some(facts), refused));
        }
        self.follow(&source, facts).await
    }

    /// Makes a `BoundSchema` that is missing.
    async fn make(&self) -> Result<State, CallError> {
        let kinds = &self.schemas.kinds;
        let Some(source) = self.source().await? else {
            return Ok(self.state(None, Some(self.no_source())));
        };
        let schema = self.resource.to_string();
        let key = ObjKey::new(&self.cluster.id, &self.name.namespace, &schema);
        if let Some(held) = self.schemas.remembered(&key, &source.version) {
            return Ok(self.state(None, Some(held)));
        }
        let version = source.version.clone();
        let refuse = |held: Held| {
            self.schemas.remember(key, &version, Some(&held));
            self.state(None, Some(held))
        };
        let (source, spec) = match self.read(&source).await? {
            Ok(read) => read,
            Err(held) => return Ok(refuse(held)),
        };
        let mut object = bound_schema::object(self.name, &schema, spec, &source.version);
        object.metadata.owner_references = self.owner.map(|owner| vec![owner.clone()]);
        match kinds.bound_schemas.create(self.cluster, &object).await {
            Ok(made) => Ok(self.state(Facts::of(&made.metadata), None)),
            Err(err) => match err.cause {
                Cause::Invalid(why) => Ok(refuse(self.refused(why))),
                _ => Err(err),
            },
        }
    }

    fn refused(&self, why: String) -> Held {
        Held::Refused(self.resource.clone(), why)
    }

    /// Makes sure that a `BoundSchema` belongs to the export and says what is in it: an interrupted run
    /// may not have come that far, and v0.8.1 did not say.
    async fn own(&self, meta: &ObjectMeta) -> Result<Option<Facts>, CallError> {
        if meta.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let kind = &self.schemas.kinds.bound_schemas;
        let mut fields = json!({ "metadata": {} });
        let mut facts = Facts::of(meta);
        if facts.is_none() {
            let name = self.resource.to_string();
            let live = kind.get_live(self.cluster, &self.name.namespace, &name).await?;
            let Some(live) = live else { return Ok(None) };
            let mut said = Facts::of_spec(&live.spec, "");
            if let Some(known) = annotation(meta, keys::ANNOTATION_SOURCE_SPEC_HASH) {
                known.clone_into(&mut said.hash);
            }
            let mut annotations = said.annotations();
            annotations.insert(keys::ANNOTATION_EXPORT.to_owned(), self.name.annotation());
            fields["metadata"]["annotations"] = json!(annotations);
            fields["metadata"]["labels"] = json!(ours::labels());
            facts = Some(said);
        }
        let owners = meta.owner_references.as_deref().unwrap_or_default();
        if owners.is_empty() && self.adopts {
            fields["metadata"]["ownerReferences"] = json!(self.owner.map(|owner| [owner]));
        }
        if fields["metadata"].as_object().is_some_and(|fields| !fields.is_empty()) {
            kind.patch(self.cluster, meta, fields).await?;
        }
        Ok(facts)
    }

    /// Follows a source that changed, as far as a running konnector can.
    async fn follow(&self, source: &Source, facts: Facts) -> Result<State, CallError> {
        let schema = self.resource.to_string();
        let key = ObjKey::new(&self.cluster.id, &self.name.namespace, &schema);
        if let Some(held) = self.schemas.remembered(&key, &source.version) {
            return Ok(self.state(Some(facts), Some(held)));
        }
        let read = match self.read(source).await? {
            Ok((source, spec)) => {
                let stored = self.stored_versions().await?;
                schema::update(&facts.synced, facts.scope, spec)
                    .and_then(|spec| schema::check_stored(&stored, &spec).map(|()| (source, spec)))
                    .map_err(Held::from)
            }
            Err(held) => Err(held),
        };
        let written = match read {
            Ok((source, spec)) => self.write(&source, spec, &facts).await?,
            Err(held) => Err(held),
        };
        self.schemas.remember(key, &source.version, written.as_ref().err());
        Ok(match written {
            Ok(facts) => self.state(Some(facts), None),
            Err(held) => self.state(Some(facts), Some(held)),
        })
    }

    /// The versions in which the consumer may have stored objects.
    async fn stored_versions(&self) -> Result<Vec<String>, CallError> {
        let kind = &self.schemas.kinds.bound_schemas;
        let schema = self.resource.to_string();
        let live = kind.get_live(self.cluster, &self.name.namespace, &schema).await?;
        Ok(live
            .and_then(|live| live.status)
            .map(|status| status.stored_versions)
            .unwrap_or_default())
    }

    async fn read(
        &self,
        source: &Source,
    ) -> Result<Result<(Source, BoundSchemaSpec), Held>, CallError> {
        let sources = &self.schemas.kinds.sources;
        let read = sources.read(self.cluster, &source.name, &self.resource).await?;
        let Some((source, body)) = read else {
            return Ok(Err(self.no_source()));
        };
        let spec = &self.export.spec;
        let bound = schema::bound_spec(&body, spec.informer_scope, spec.isolation);
        Ok(bound.map(|bound| (source, bound)).map_err(Held::from))
    }

    async fn write(
        &self,
        source: &Source,
        spec: BoundSchemaSpec,
        facts: &Facts,
    ) -> Result<Result<Facts, Held>, CallError> {
        let kind = &self.schemas.kinds.bound_schemas;
        let schema = self.resource.to_string();
        let Some(known) = kind.get(self.cluster, &self.name.namespace, &schema) else {
            return Ok(Ok(facts.clone()));
        };
        let said = Facts::of_spec(&spec, &source.version);
        let mut metadata = known.metadata.clone();
        metadata.annotations.get_or_insert_default().extend(said.annotations());
        let written = if said.hash == facts.hash {
            let fields = json!({ "metadata": { "annotations": said.annotations() } });
            kind.patch(self.cluster, &known.metadata, fields).await
        } else {
            kind.replace(self.cluster, &BoundSchema { metadata, spec, status: None }).await
        };
        match written {
            Ok(_) => Ok(Ok(said)),
            Err(err) => match err.cause {
                Cause::Invalid(why) => Ok(Err(self.refused(why))),
                _ => Err(err),
            },
        }
    }
}
