//! `APIBinding`: what a workspace gets from others, offered to its consumers.
//!
//! Watches: `APIBinding`s, templates, labelled schemas, our role for reading schemas, Clusters. Writes: a template per
//! scope, a labelled copy of each schema that the workspace does not have itself, the label on one that it has, where
//! needed a role that lets us read schemas, and the condition `ServicesOffered` of the Cluster. Promises: what people
//! write into a template stays, but for scope and resources; an object of somebody else that has one of our names is
//! left alone and named in the condition; only the schema that is bound is offered, and one that we did not make is
//! labelled, never owned; nothing is taken back unless the server shows that the binding is gone, or binds something
//! else; one binding that cannot be offered keeps no other from being offered.

mod error;
mod marks;
mod myself;
mod off;
mod offer;
mod plan;
mod reader;
mod round;
mod schemas;
mod status;
mod take_back;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;

use self::error::Error;
use self::plan::{Own, Standing, exportable};
use self::reader::{Reader, leave};
use self::round::Remembered;
use self::schemas::Schemas;
use self::status::{Offering, say};
use crate::api::claims::API_BINDINGS;
use crate::api::kcp::{ApiBinding, ApiResourceSchema};
use crate::api::keys;
use crate::gone::Gone;
use crate::kinds::Kinds;
use crate::kinds::sources::Metadata;
use crate::runtime::cluster::{ClusterId, ObjKey};
use crate::runtime::controller::Reconciler;
use crate::runtime::error::Retry;
use crate::runtime::fleet::Cluster;
use crate::runtime::queue::Queue;

pub use self::myself::{Memory, Myself};
pub(super) use self::off::Off;

/// What is needed to offer what `APIBinding`s bind.
pub struct Offers {
    /// `--apibinding-ignore-prefixes`.
    pub ignored: Vec<String>,
    /// Who we are for the workspaces that have to let us read schemas.
    pub myself: Arc<Myself>,
}

/// The key under which all of a cluster is looked at.
fn key(cluster: &ClusterId) -> ObjKey {
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
    subscribe_role(kinds, queue);
}

/// Asks for a cluster when our role for reading schemas changes, or its Cluster comes, which owns the role and carries
/// the condition.
pub(super) fn subscribe_role(kinds: &Kinds, queue: &Arc<Queue>) {
    let q = Arc::clone(queue);
    kinds.cluster_roles.subscribe(move |_, delta| {
        if delta.object().is_some_and(|role| role.name_any() == keys::SCHEMA_READER_ROLE) {
            q.add(key(&delta.scope.cluster));
        }
    });
    let q = Arc::clone(queue);
    kinds.clusters.subscribe(move |_, delta| {
        if delta.old.is_none() {
            q.add(key(&delta.scope.cluster));
        }
    });
}

/// Reconciles what a cluster offers.
pub(super) struct Controller {
    kinds: Arc<Kinds>,
    gone: Arc<Gone>,
    queue: Arc<Queue>,
    schemas: Schemas,
    ignored: Vec<String>,
}

/// The bindings of a cluster, by name.
type Bindings = BTreeMap<String, (Standing, Arc<ApiBinding>)>;

impl Reconciler for Controller {
    type Error = Error;

    const NAME: &'static str = "apibinding";

    async fn reconcile(&self, cluster: &Cluster, key: &ObjKey) -> Result<Option<Duration>, Error> {
        if cluster.info.leaving {
            return Ok(None);
        }
        let own = self.kinds.api_bindings.get(cluster, "", &cluster.info.binding);
        let Some(own) = own else { return Ok(None) };
        let mut troubles = Vec::new();
        if !own.grants(&API_BINDINGS) {
            troubles.extend(leave(&self.kinds, cluster).await.err().map(Error::from));
            let blind = self.blind(cluster);
            let said = say(&self.kinds, cluster, Offering::Not(blind.as_ref())).await;
            troubles.extend(said.err().map(Error::from));
            return first(troubles).map_or(Ok(None), Err);
        }
        let bindings = bindings(&self.kinds, cluster, &own, &self.ignored);
        let mut round = self.schemas.memory.begin(&cluster.id);
        let mut wanted = BTreeSet::new();
        for (_, binding) in bindings.values().filter(|(s, _)| *s == Standing::Offered) {
            round.next_binding();
            wanted.extend(self.offer(cluster, binding, &mut round, &mut troubles).await);
        }
        self.schemas.memory.end(cluster, round);
        let again = self.take_back(cluster, &bindings, &wanted, &mut troubles).await;
        if !any_of_others(cluster, &bindings) {
            troubles.extend(leave(&self.kinds, cluster).await.err().map(Error::from));
        }
        let said = say(&self.kinds, cluster, Offering::Followed(&troubles)).await;
        troubles.extend(said.err().map(Error::from));
        let Some(err) = first(troubles) else { return Ok(again) };
        if let Some(again) = again {
            self.queue.add_after(key.clone(), again);
        }
        Err(err)
    }

    fn retry(error: &Error) -> Retry {
        error.retry()
    }
}

fn bindings(kinds: &Kinds, cluster: &Cluster, own: &ApiBinding, ignored: &[String]) -> Bindings {
    let own = Own::of(&cluster.info.binding, Some(own));
    let all = kinds.api_bindings.list(cluster).into_iter();
    all.map(|binding| {
        let standing = plan::standing(&binding, &own, ignored);
        (binding.name_any(), (standing, binding))
    })
    .collect()
}

/// Whether something is offered of which another workspace has the schema.
fn any_of_others(cluster: &Cluster, bindings: &Bindings) -> bool {
    bindings.values().any(|(standing, binding)| {
        *standing == Standing::Offered
            && !binding.is_of(cluster.id.as_str())
            && exportable(binding).next().is_some()
    })
}

/// Whether something is offered in a cluster for which schemas of other workspaces are read, with the rights that takes.
/// `ignored` is `--apibinding-ignore-prefixes`.
pub(crate) fn reads_schemas_of_others(
    kinds: &Kinds,
    cluster: &Cluster,
    ignored: &[String],
) -> bool {
    let own = kinds.api_bindings.get(cluster, "", &cluster.info.binding);
    let own = own.filter(|own| own.grants(&API_BINDINGS));
    own.is_some_and(|own| any_of_others(cluster, &bindings(kinds, cluster, &own, ignored)))
}

/// All are looked at again, as soon as the first may have passed.
fn first(troubles: Vec<Error>) -> Option<Error> {
    let pause = |err: &Error| err.retry().pauses().unwrap_or((Duration::MAX, Duration::MAX));
    troubles.into_iter().min_by_key(pause)
}

impl Controller {
    pub(super) fn new(
        kinds: Arc<Kinds>,
        schemas: Metadata<ApiResourceSchema>,
        gone: Arc<Gone>,
        queue: Arc<Queue>,
        offers: Offers,
    ) -> Self {
        let Offers { ignored, myself } = offers;
        let reader = Reader { kinds: Arc::clone(&kinds), myself };
        let memory = Remembered::default();
        let forgotten = memory.clone();
        kinds.clusters.subscribe(move |_, delta| {
            if delta.new.is_none() {
                forgotten.forget(&delta.scope.cluster);
            }
        });
        let schemas = Schemas { kind: schemas, reader, memory };
        Self { kinds, gone, queue, schemas, ignored }
    }

    fn blind(&self, cluster: &Cluster) -> Option<Error> {
        let mut generated = self.kinds.templates.list(cluster);
        generated.retain(|template| plan::binding_of(&template.metadata).is_some());
        let names: Vec<String> = generated.iter().map(|template| template.name_any()).collect();
        (!names.is_empty()).then(|| Error::Blind(names.join(", ")))
    }
}
