//! `APIBinding`: what a workspace gets from others, offered to its consumers.
//!
//! Watches: `APIBinding`s, templates, labelled schemas, our role for reading schemas, Clusters. Writes: a template per
//! scope, a labelled copy of each schema that the workspace does not have itself, the label on one that it has, where
//! needed a role that lets us read schemas, and the condition `ServicesOffered` of the Cluster. Promises: what people
//! write into a template stays, but for scope and resources; an object of somebody else that has one of our names is
//! left alone and named in the condition; a schema that we did not make is labelled, never owned; nothing is taken back
//! unless the server shows that the binding is gone, or binds something else; one binding that cannot be offered keeps
//! no other from being offered.

mod myself;
mod plan;
mod reader;
mod schemas;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use self::plan::{Own, Standing, Template, exportable};
use self::reader::Reader;
use self::schemas::{Schema, Schemas};
use crate::api::claims::API_BINDINGS;
use crate::api::conditions::{self, Condition, Severity};
use crate::api::kcp::{ApiBinding, ApiResourceSchema, BoundResource};
use crate::api::keys;
use crate::api::v1alpha2::{self, ApiServiceExportTemplate};
use crate::consumer::contract::annotation;
use crate::consumer::ours;
use crate::gone::{Gone, UNPROVEN_AGAIN};
use crate::kinds::Kinds;
use crate::kinds::sources::Metadata;
use crate::rights;
use crate::runtime::cluster::ObjKey;
use crate::runtime::controller::Reconciler;
use crate::runtime::error::{CallError, Cause, Retry, shortened};
use crate::runtime::fleet::Cluster;
use crate::runtime::queue::Queue;

pub use self::myself::{Memory, Myself};

/// Condition of the Cluster: all that its `APIBinding`s bind is offered. Written only when it was not.
const SERVICES_OFFERED: &str = "ServicesOffered";

/// What is needed to offer what `APIBinding`s bind.
pub struct Offers {
    /// `--apibinding-ignore-prefixes`.
    pub ignored: Vec<String>,
    /// Who we are for the workspaces that have to let us read schemas.
    pub myself: Arc<Myself>,
}

/// The key under which all of a cluster is looked at.
fn key(cluster: &crate::runtime::cluster::ClusterId) -> ObjKey {
    ObjKey::new(cluster, "", keys::CLUSTER)
}

/// The one key of a cluster.
pub(super) fn keys_in(_: &Kinds, cluster: &Cluster) -> Vec<ObjKey> {
    vec![key(&cluster.id)]
}

/// Asks for a cluster when anything changes that its offers depend on.
pub(super) fn subscribe(kinds: &Kinds, schemas: &Metadata<ApiResourceSchema>, queue: &Arc<Queue>) {
    let q = Arc::clone(queue);
    kinds.api_bindings.subscribe(move |_, delta| q.add(key(&delta.scope.cluster)));
    let q = Arc::clone(queue);
    kinds.templates.subscribe(move |_, delta| q.add(key(&delta.scope.cluster)));
    let q = Arc::clone(queue);
    schemas.subscribe(move |_, delta| q.add(key(&delta.scope.cluster)));
    let q = Arc::clone(queue);
    kinds.cluster_roles.subscribe(move |_, delta| {
        if delta.object().is_some_and(|role| role.name_any() == keys::SCHEMA_READER_ROLE) {
            q.add(key(&delta.scope.cluster));
        }
    });
    // The Cluster owns the role and carries the condition.
    let q = Arc::clone(queue);
    kinds.clusters.subscribe(move |_, delta| {
        if delta.old.is_none() {
            q.add(key(&delta.scope.cluster));
        }
    });
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A request failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// There is no virtual workspace for schemas.
    #[error(
        "{0}; this kcp has no virtual workspace apiresourceschema, so copy the schema into this workspace by hand and label \
         it kube-bind.io/exported=true"
    )]
    Unserved(#[source] CallError),
    /// The role for reading schemas is somebody else's.
    #[error(transparent)]
    Rights(#[from] rights::Error),
    /// Nobody knows whom that role is for.
    #[error(transparent)]
    Myself(#[from] myself::Unknown),
    /// A template of that name is somebody else's.
    #[error(
        "apiserviceexporttemplate {name} exists and was not made by this backend; delete it, and it is generated, or keep it \
         and leave APIBinding {binding} out with --apibinding-ignore-prefixes"
    )]
    ForeignTemplate {
        /// The template.
        name: String,
        /// The binding.
        binding: String,
    },
    /// A schema of that name is somebody else's, and not the one that is bound.
    #[error(
        "apiresourceschema {name} exists, was not made by this backend, and is not the schema that is bound; delete it, and \
         a copy of the one that is bound is made"
    )]
    ForeignSchema {
        /// The schema.
        name: String,
    },
    /// kcp knows no such schema.
    #[error(
        "kcp does not show APIResourceSchema {name}, which is bound here; check that it still exists in the workspace of its \
         APIExport"
    )]
    SchemaMissing {
        /// The schema.
        name: String,
    },
    /// kcp does not let us read the schema although our role is there.
    #[error(
        "kcp does not let us read APIResourceSchema {name}: {why}; look whether ClusterRoleBinding {} is effective",
        keys::SCHEMA_READER_ROLE
    )]
    Hidden {
        /// The schema.
        name: String,
        /// What kcp says.
        why: String,
    },
    /// What was generated is no longer followed.
    #[error(
        "the templates generated from APIBindings are not kept up to date, because this workspace does not grant \
         apibindings.apis.kcp.io; accept that claim, or delete the templates that are not wanted: {0}"
    )]
    Blind(String),
}

impl Error {
    /// The reason of the condition; none for what passes within a moment.
    fn reason(&self) -> Option<&'static str> {
        if self.retry() == Retry::Conflict {
            return None;
        }
        Some(match self {
            Self::Call(CallError { cause: Cause::Forbidden(_), .. }) => "Forbidden",
            Self::Call(_) => "RequestFailed",
            // The outage of one shard is no fault of a workspace on another one.
            Self::Myself(_) => return None,
            Self::Unserved(_) | Self::Hidden { .. } => "SchemaUnreadable",
            Self::Rights(err) => err.reason(),
            Self::ForeignTemplate { .. } => "ForeignTemplate",
            Self::ForeignSchema { .. } => "ForeignSchema",
            Self::SchemaMissing { .. } => "SchemaNotFound",
            Self::Blind(_) => "PermissionClaimsMissing",
        })
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Call(err) => err.retry(),
            Self::Rights(err) => err.retry(),
            Self::SchemaMissing { .. } | Self::Hidden { .. } | Self::Myself(_) => Retry::Transient,
            Self::Unserved(_) | Self::ForeignTemplate { .. } | Self::ForeignSchema { .. } => {
                Retry::Denied
            }
            Self::Blind(_) => Retry::Terminal,
        }
    }
}

/// Reconciles what a cluster offers.
pub(super) struct Controller {
    kinds: Arc<Kinds>,
    gone: Arc<Gone>,
    schemas: Schemas,
    ignored: Vec<String>,
}

/// The bindings of a cluster, by name.
type Bindings = BTreeMap<String, (Standing, Arc<ApiBinding>)>;

impl Reconciler for Controller {
    type Error = Error;

    const NAME: &'static str = "apibinding";

    async fn reconcile(&self, cluster: &Cluster, _: &ObjKey) -> Result<Option<Duration>, Error> {
        if cluster.info.leaving {
            return Ok(None);
        }
        let own = self.kinds.api_bindings.get(cluster, "", &cluster.info.binding);
        let Some(own) = own else { return Ok(None) };
        if !own.grants(&API_BINDINGS) {
            let blind = self.blind(cluster);
            self.status(cluster, blind.as_slice()).await?;
            return Ok(None);
        }
        let bindings = self.bindings(cluster, &own);
        let mut troubles = Vec::new();
        for (standing, binding) in bindings.values() {
            if *standing == Standing::Offered {
                self.offer(cluster, binding, &mut troubles).await;
            }
        }
        let again = match self.take_back(cluster, &bindings).await {
            Ok(again) => again,
            Err(err) => {
                troubles.push(err);
                None
            }
        };
        self.status(cluster, &troubles).await?;
        // All are looked at again, as soon as the first may have passed.
        let pause = |err: &Error| err.retry().pauses().unwrap_or((Duration::MAX, Duration::MAX));
        match troubles.into_iter().min_by_key(pause) {
            Some(err) => Err(err),
            None => Ok(again),
        }
    }

    fn retry(error: &Error) -> Retry {
        error.retry()
    }
}

impl Controller {
    pub(super) fn new(
        kinds: Arc<Kinds>,
        schemas: Metadata<ApiResourceSchema>,
        gone: Arc<Gone>,
        offers: Offers,
    ) -> Self {
        let Offers { ignored, myself } = offers;
        let reader = Reader { kinds: Arc::clone(&kinds), myself };
        Self { kinds, gone, schemas: Schemas::new(schemas, reader), ignored }
    }

    fn bindings(&self, cluster: &Cluster, own: &ApiBinding) -> Bindings {
        let own = Own::of(&cluster.info.binding, Some(own));
        let all = self.kinds.api_bindings.list(cluster).into_iter();
        all.map(|binding| {
            let standing = plan::standing(&binding, &own, &self.ignored);
            (binding.name_any(), (standing, binding))
        })
        .collect()
    }

    /// The templates that were generated, by us.
    fn generated(&self, cluster: &Cluster) -> Vec<Arc<ApiServiceExportTemplate>> {
        let mut all = self.kinds.templates.list(cluster);
        all.retain(|template| ours::is_labelled(&template.metadata));
        all
    }

    fn blind(&self, cluster: &Cluster) -> Option<Error> {
        let generated = self.generated(cluster);
        let names: Vec<String> = generated.iter().map(|template| template.name_any()).collect();
        (!names.is_empty()).then(|| Error::Blind(names.join(", ")))
    }

    /// Brings the templates and schemas of a binding in line.
    async fn offer(&self, cluster: &Cluster, binding: &ApiBinding, troubles: &mut Vec<Error>) {
        let name = binding.name_any();
        let mut schemas: BTreeMap<&str, Schema> = BTreeMap::new();
        for bound in exportable(binding) {
            match self.schemas.resolve(cluster, bound).await {
                Ok(schema) => _ = schemas.insert(&bound.schema.name, schema),
                Err(err) => troubles.push(err),
            }
        }
        let generated = self.generated(cluster);
        let of_it: Vec<&ApiServiceExportTemplate> = generated
            .iter()
            .map(|template| &**template)
            .filter(|template| plan::binding_of(&template.metadata) == name)
            .collect();
        let wanted = plan::templates(binding, |bound| {
            let schema = schemas.get(bound.schema.name.as_str());
            schema.map(|schema| schema.facts.clone()).or_else(|| plan::said(&of_it, bound))
        });
        for template in wanted {
            let owner = match self.template(cluster, binding, &template).await {
                Ok(owner) => owner,
                Err(err) => {
                    troubles.push(err);
                    continue;
                }
            };
            let of_template = exportable(binding).filter(|bound| {
                let is_it = |entry: &v1alpha2::ResourceVersions| {
                    entry.group == bound.group && entry.resource == bound.resource
                };
                template.resources.iter().any(is_it)
            });
            for bound in of_template {
                let Some(schema) = schemas.remove(bound.schema.name.as_str()) else { continue };
                let settled = self.schemas.settle(cluster, &name, bound, schema, &owner).await;
                troubles.extend(settled.err());
            }
        }
    }

    /// Brings a template in line; it comes back as owner.
    async fn template(
        &self,
        cluster: &Cluster,
        binding: &ApiBinding,
        template: &Template,
    ) -> Result<OwnerReference, Error> {
        let kind = &self.kinds.templates;
        let known = match kind.get(cluster, "", &template.name) {
            Some(known) => known,
            None => match kind.create(cluster, &plan::object(template, binding)).await {
                Ok(created) => created,
                Err(err @ CallError { cause: Cause::Exists, .. }) => {
                    let live = kind.get_live(cluster, "", &template.name).await?;
                    Arc::new(live.ok_or(err)?)
                }
                Err(err) => return Err(err.into()),
            },
        };
        if !plan::is_generated(&known.metadata, binding) {
            let (name, binding) = (template.name.clone(), binding.name_any());
            return Err(Error::ForeignTemplate { name, binding });
        }
        if let Some(fields) = plan::drift(&known, template, binding) {
            kind.patch(cluster, &known.metadata, fields).await?;
        }
        Ok(known.owner_ref(&()).unwrap_or_default())
    }

    /// Takes back what is offered no longer; when to look again comes back, where that could not be told.
    async fn take_back(
        &self,
        cluster: &Cluster,
        bindings: &Bindings,
    ) -> Result<Option<Duration>, Error> {
        let mut again = None::<Duration>;
        let mut later = |at: Option<Duration>| {
            again = [again, at].into_iter().flatten().min();
        };
        for template in self.generated(cluster) {
            let meta = &template.metadata;
            let binding = plan::binding_of(meta);
            let wanted = |of: &ApiBinding| {
                let said = |bound: &BoundResource| plan::said(&[&*template], bound);
                let name = template.name_any();
                plan::templates(of, said).iter().any(|template| template.name == name)
            };
            match self.is_over(cluster, bindings, binding, wanted).await? {
                Over::No => {}
                Over::Unknown(at) => later(Some(at)),
                Over::Yes => self.kinds.templates.delete(cluster, meta).await?,
            }
        }
        for schema in self.schemas.marked(cluster) {
            let meta = &schema.metadata;
            let mark = annotation(meta, keys::ANNOTATION_TEMPLATE_OWNER_BINDING);
            let wanted = |of: &ApiBinding| binds(of, meta);
            match self.is_over(cluster, bindings, mark.unwrap_or_default(), wanted).await? {
                Over::No => {}
                Over::Unknown(at) => later(Some(at)),
                Over::Yes => self.schemas.take_back(cluster, meta).await?,
            }
        }
        if bindings.values().all(|(standing, _)| *standing == Standing::Ignored) && again.is_none()
        {
            self.schemas.reader.leave(cluster).await?;
        }
        Ok(again)
    }

    /// Whether what was made for a binding is to go.
    async fn is_over(
        &self,
        cluster: &Cluster,
        bindings: &Bindings,
        name: &str,
        wanted: impl Fn(&ApiBinding) -> bool,
    ) -> Result<Over, Error> {
        let key = ObjKey::new(&cluster.id, "", name);
        match bindings.get(name) {
            Some((standing, binding)) => {
                self.gone.forget(&key);
                Ok(match standing {
                    Standing::Held => Over::No,
                    Standing::Offered if wanted(binding) => Over::No,
                    Standing::Offered | Standing::Ignored => Over::Yes,
                })
            }
            None => Ok(match self.gone.wait(&key) {
                Some(left) => Over::Unknown(left),
                None if self.gone.api_binding(cluster, name).await? => Over::Yes,
                None => Over::Unknown(UNPROVEN_AGAIN),
            }),
        }
    }

    /// Says on the Cluster what could not be offered.
    async fn status(&self, cluster: &Cluster, troubles: &[Error]) -> Result<(), Error> {
        let kind = &self.kinds.clusters;
        let Some(object) = kind.get(cluster, "", keys::CLUSTER) else { return Ok(()) };
        let known = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        if let Some(conditions) = said(known, troubles, jiff::Timestamp::now()) {
            let status = json!({ "conditions": conditions });
            kind.patch_status(cluster, &object.metadata, status).await?;
        }
        Ok(())
    }
}

/// Whether something is to go.
enum Over {
    Yes,
    No,
    /// Nobody can tell; look again after this time.
    Unknown(Duration),
}

/// Whether a binding binds the schema of this name.
fn binds(binding: &ApiBinding, schema: &ObjectMeta) -> bool {
    exportable(binding).any(|bound| schema.name.as_ref() == Some(&bound.schema.name))
}

/// The conditions to write: none where nothing is wrong and nothing was, which costs no request.
fn said(known: &[Condition], troubles: &[Error], now: jiff::Timestamp) -> Option<Vec<Condition>> {
    let lasting: Vec<(&'static str, String)> =
        troubles.iter().filter_map(|err| Some((err.reason()?, err.to_string()))).collect();
    let condition = match lasting.first() {
        Some((reason, _)) => {
            let texts: BTreeSet<&str> = lasting.iter().map(|(_, text)| text.as_str()).collect();
            let text = shortened(texts.into_iter().collect::<Vec<_>>().join("; "));
            Condition::failed(SERVICES_OFFERED, Severity::Error, reason, text)
        }
        None if troubles.is_empty() && conditions::get(known, SERVICES_OFFERED).is_some() => {
            Condition::ok(SERVICES_OFFERED)
        }
        None => return None,
    };
    let mut conditions = known.to_vec();
    let mut changed = conditions::set(&mut conditions, condition, now);
    changed |= conditions::summarize(&mut conditions, now);
    changed.then_some(conditions)
}
