//! One controller per kind: a pure plan and a thin shell around it.
//!
//! Each module says what it watches and writes, and what it promises. [`Controllers::new`] is the
//! wiring: which change of which kind asks for which key.

mod api_binding;
mod bindable_resources_request;
mod cluster;
mod cluster_binding;
mod events;
mod export;
mod export_request;
mod service_namespace;

use std::sync::Arc;

use kube::Resource;

use crate::consumer::service_namespace::Rules;
use crate::gone::Gone;
use crate::kinds::Kinds;
use crate::onboarding::Onboarding;
use crate::rights::ExportRights;
use crate::runtime::cache::Delta;
use crate::runtime::cluster::ObjKey;
use crate::runtime::controller::{Reconciler, spawn};
use crate::runtime::fleet::{Cluster, Fleet};
use crate::runtime::kind::Kind;
use crate::runtime::metrics::Metrics;
use crate::runtime::queue::Queue;
use crate::runtime::tasks::Tasks;

pub(crate) use api_binding::reads_schemas_of_others;
pub use api_binding::{Memory, Myself, Offers};
pub use cluster::Subjects;
pub use export_request::ExportSettings;

/// How many objects a controller works on at once through one endpoint: enough for a burst of binds, which mostly
/// wait for the API server.
const PLACES: usize = 8;

/// What the controllers need to know.
pub struct Context {
    /// Where things are read and written.
    pub kinds: Arc<Kinds>,
    /// How consumers are onboarded.
    pub onboarding: Arc<Onboarding>,
    /// Who may bind over HTTP.
    pub subjects: Subjects,
    /// How things are exported.
    pub exports: ExportSettings,
    /// `--allow-shared-cluster-scope`.
    pub allow_shared: bool,
    /// How what `APIBinding`s bind is offered; none where it is not.
    pub offers: Option<Offers>,
}

/// The controllers, wired to the kinds but not running yet.
pub struct Controllers {
    kinds: Arc<Kinds>,
    all: Vec<Box<dyn Running>>,
}

/// A reconciler and its queue, whatever they are about.
trait Running: Send + Sync {
    /// Asks for everything of a cluster.
    fn ask_for(&self, kinds: &Kinds, cluster: &Cluster);
    /// Starts to work.
    fn start(&self, fleet: &Arc<Fleet>, metrics: &Arc<Metrics>, tasks: &Tasks);
}

struct Pair<R> {
    reconciler: Arc<R>,
    queue: Arc<Queue>,
    keys_in: fn(&Kinds, &Cluster) -> Vec<ObjKey>,
}

impl<R: Reconciler> Running for Pair<R> {
    fn ask_for(&self, kinds: &Kinds, cluster: &Cluster) {
        for key in (self.keys_in)(kinds, cluster) {
            self.queue.add(key);
        }
    }

    fn start(&self, fleet: &Arc<Fleet>, metrics: &Arc<Metrics>, tasks: &Tasks) {
        spawn(&self.reconciler, &self.queue, fleet, metrics, tasks);
    }
}

fn pair<R: Reconciler>(
    reconciler: R,
    queue: Arc<Queue>,
    keys_in: fn(&Kinds, &Cluster) -> Vec<ObjKey>,
) -> Box<dyn Running> {
    Box::new(Pair { reconciler: Arc::new(reconciler), queue, keys_in })
}

/// Queues the object that changed.
fn itself<K, C: Resource<DynamicType = ()> + Send + Sync + 'static>(
    kind: &Kind<K, C>,
    queue: &Arc<Queue>,
) where
    K: crate::runtime::kind::Wire,
{
    let queue = Arc::clone(queue);
    kind.subscribe(move |_, delta: &Delta<C>| {
        if let Some(object) = delta.object() {
            queue.add(ObjKey::of(&delta.scope.cluster, object.meta()));
        }
    });
}

impl Controllers {
    /// Wires the controllers to the kinds.
    #[must_use]
    pub fn new(context: Context) -> Self {
        let Context { kinds, onboarding, subjects, exports, allow_shared, offers } = context;
        let rules = Rules {
            isolation: exports.isolation,
            informer_scope: exports.informer_scope,
            namespace_prefix: onboarding.settings.namespace_prefix.clone(),
        };
        let rights = Arc::new(ExportRights { kinds: Arc::clone(&kinds), allow_shared });
        let gone = || Arc::new(Gone::new(Arc::clone(&kinds)));
        let events = Arc::new(events::Events::new(&kinds));
        let new_queue = || Arc::new(Queue::new(PLACES));
        let mut all = Vec::new();

        let queue = new_queue();
        cluster::subscribe(&kinds, &queue);
        let reconciler = cluster::Controller { kinds: Arc::clone(&kinds), subjects };
        all.push(pair(reconciler, queue, |_, cluster| vec![cluster::key(&cluster.id)]));

        let queue = new_queue();
        itself(&kinds.cluster_bindings, &queue);
        let reconciler = cluster_binding::Controller::new(Arc::clone(&kinds));
        all.push(pair(reconciler, queue, |kinds, cluster| kinds.cluster_bindings.keys(cluster)));

        let queue = new_queue();
        itself(&kinds.requests, &queue);
        bindable_resources_request::subscribe(&kinds, &queue);
        let reconciler = bindable_resources_request::Controller {
            kinds: Arc::clone(&kinds),
            onboarding,
            events: Arc::clone(&events),
        };
        all.push(pair(reconciler, queue, |kinds, cluster| kinds.requests.keys(cluster)));

        let queue = new_queue();
        itself(&kinds.export_requests, &queue);
        export_request::subscribe(&kinds, &queue);
        let reconciler = export_request::Controller {
            kinds: Arc::clone(&kinds),
            rights: Arc::clone(&rights),
            events,
            settings: exports,
        };
        all.push(pair(reconciler, queue, |kinds, cluster| kinds.export_requests.keys(cluster)));

        let queue = new_queue();
        itself(&kinds.exports, &queue);
        export::subscribe(&kinds, &queue);
        let reconciler = export::Controller::new(Arc::clone(&kinds), Arc::clone(&rights), gone());
        all.push(pair(reconciler, queue, export::keys_in));

        let queue = new_queue();
        itself(&kinds.service_namespaces, &queue);
        service_namespace::subscribe(&kinds, &queue);
        let kinds_ = Arc::clone(&kinds);
        let of_namespaces = gone();
        let reconciler =
            service_namespace::Controller { kinds: kinds_, rights, gone: of_namespaces, rules };
        all.push(pair(reconciler, queue, service_namespace::keys_in));

        let queue = new_queue();
        if let (Some(offers), Some(schemas)) = (offers, kinds.sources.api_resource_schemas()) {
            api_binding::subscribe(&kinds, schemas, &queue);
            let (kinds, schemas, q) = (Arc::clone(&kinds), Arc::clone(schemas), Arc::clone(&queue));
            let reconciler = api_binding::Controller::new(kinds, schemas, gone(), q, offers);
            all.push(pair(reconciler, queue, api_binding::keys_in));
        } else {
            api_binding::subscribe_role(&kinds, &queue);
            let reconciler = api_binding::Off { kinds: Arc::clone(&kinds) };
            all.push(pair(reconciler, queue, api_binding::keys_in));
        }
        Self { kinds, all }
    }

    /// Asks for everything of a cluster that becomes served, or of which what it lets us do changes.
    pub fn ask_for(&self, cluster: &Cluster) {
        for controller in &self.all {
            controller.ask_for(&self.kinds, cluster);
        }
    }

    /// Starts to work; what is under way when the tasks are stopped is finished.
    pub fn start(&self, fleet: &Arc<Fleet>, metrics: &Arc<Metrics>, tasks: &Tasks) {
        for controller in &self.all {
            controller.start(fleet, metrics, tasks);
        }
    }
}
