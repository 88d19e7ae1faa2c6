//! One controller per kind: a pure plan and a thin shell around it.
//!
//! Each module says what it watches and writes, and what it promises. [`Controllers::new`] is the
//! wiring: which change of which kind asks for which key.

mod bindable_resources_request;
mod cluster;
mod cluster_binding;
mod events;

use std::sync::Arc;

use kube::Resource;

use crate::kinds::Kinds;
use crate::onboarding::Onboarding;
use crate::runtime::cache::Delta;
use crate::runtime::cluster::ObjKey;
use crate::runtime::controller::spawn;
use crate::runtime::fleet::{Cluster, Fleet};
use crate::runtime::kind::Kind;
use crate::runtime::metrics::Metrics;
use crate::runtime::queue::Queue;
use crate::runtime::tasks::Tasks;

pub use cluster::Subjects;

/// Enough for a burst of binds, which mostly wait for the API server.
const WORKERS: usize = 8;

/// What the controllers need to know.
pub struct Context {
    /// Where things are read and written.
    pub kinds: Arc<Kinds>,
    /// How consumers are onboarded.
    pub onboarding: Arc<Onboarding>,
    /// Who may bind over HTTP.
    pub subjects: Subjects,
}

/// The controllers, wired to the kinds but not running yet.
pub struct Controllers {
    cluster: (Arc<cluster::Controller>, Arc<Queue>),
    cluster_binding: (Arc<cluster_binding::Controller>, Arc<Queue>),
    request: (Arc<bindable_resources_request::Controller>, Arc<Queue>),
    kinds: Arc<Kinds>,
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
        let Context { kinds, onboarding, subjects } = context;
        let cluster_queue = Arc::new(Queue::default());
        let binding_queue = Arc::new(Queue::default());
        let request_queue = Arc::new(Queue::default());
        cluster::subscribe(&kinds, &cluster_queue);
        itself(&kinds.cluster_bindings, &binding_queue);
        itself(&kinds.requests, &request_queue);
        bindable_resources_request::subscribe(&kinds, &request_queue);
        let events = Arc::new(events::Events::default());
        let cluster = cluster::Controller { kinds: Arc::clone(&kinds), subjects };
        let cluster_binding = cluster_binding::Controller::new(Arc::clone(&kinds));
        let request = bindable_resources_request::Controller {
            kinds: Arc::clone(&kinds),
            onboarding,
            events,
        };
        Self {
            cluster: (Arc::new(cluster), cluster_queue),
            cluster_binding: (Arc::new(cluster_binding), binding_queue),
            request: (Arc::new(request), request_queue),
            kinds,
        }
    }

    /// What a fleet calls when a cluster becomes served, or what it lets us do changes.
    #[must_use]
    pub fn listener(&self) -> Box<dyn Fn(&Cluster) + Send + Sync> {
        let kinds = Arc::clone(&self.kinds);
        let cluster_queue = Arc::clone(&self.cluster.1);
        let binding_queue = Arc::clone(&self.cluster_binding.1);
        let request_queue = Arc::clone(&self.request.1);
        Box::new(move |cluster| {
            cluster_queue.add(cluster::key(&cluster.id));
            for key in kinds.cluster_bindings.keys(cluster) {
                binding_queue.add(key);
            }
            for key in kinds.requests.keys(cluster) {
                request_queue.add(key);
            }
        })
    }

    /// Starts the workers. They end after their current key when the tasks are stopped.
    pub fn start(&self, fleet: &Arc<Fleet>, metrics: &Arc<Metrics>, tasks: &Tasks) {
        let (reconciler, queue) = &self.cluster;
        spawn(reconciler, queue, fleet, metrics, WORKERS, tasks);
        let (reconciler, queue) = &self.cluster_binding;
        spawn(reconciler, queue, fleet, metrics, WORKERS, tasks);
        let (reconciler, queue) = &self.request;
        spawn(reconciler, queue, fleet, metrics, WORKERS, tasks);
    }
}
