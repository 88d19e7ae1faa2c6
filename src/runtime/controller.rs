//! Takes keys from a queue and reconciles them.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::task::{JoinError, JoinSet};

use super::cluster::ObjKey;
use super::error::{Retry, shortened};
use super::fleet::{Cluster, Fleet};
use super::metrics::Metrics;
use super::queue::{Outcome, Queue};
use super::tasks::Tasks;

/// One kind of work.
pub trait Reconciler: Send + Sync + 'static {
    /// What can go wrong.
    type Error: Display + Send;

    /// A constant for logs and metrics.
    const NAME: &'static str;

    /// Brings the world of one key nearer to what is wanted. Called again after the returned time,
    /// after an error, and whenever something about the key changes.
    fn reconcile(
        &self,
        cluster: &Cluster,
        key: &ObjKey,
    ) -> impl Future<Output = Result<Option<Duration>, Self::Error>> + Send;

    /// What kind of waiting helps after an error.
    fn retry(error: &Self::Error) -> Retry;
}

/// Reconciles the keys of a queue, as many at once as that has places. When the tasks are stopped, those under way
/// are finished.
pub fn spawn<R: Reconciler>(
    reconciler: &Arc<R>,
    queue: &Arc<Queue>,
    fleet: &Arc<Fleet>,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) {
    let worker = Arc::new(Worker {
        reconciler: Arc::clone(reconciler),
        queue: Arc::clone(queue),
        fleet: Arc::clone(fleet),
        metrics: Arc::clone(metrics),
    });
    let cancel = tasks.cancelled().clone();
    tasks.spawn(format!("the controller {}", R::NAME), tasks.cancelled(), async move {
        let mut under_way = JoinSet::new();
        loop {
            let key = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(ended) = under_way.join_next() => {
                    sound(ended);
                    continue;
                }
                key = worker.queue.next(|cluster| worker.fleet.serving(cluster)) => key,
            };
            let worker = Arc::clone(&worker);
            under_way.spawn(async move { worker.work(&key).await });
        }
        while let Some(ended) = under_way.join_next().await {
            sound(ended);
        }
    });
}

/// A panic outside of a reconcile is a bug of the runtime, which ends the process.
fn sound(ended: Result<(), JoinError>) {
    if let Err(err) = ended
        && let Ok(panic) = err.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

struct Worker<R> {
    reconciler: Arc<R>,
    queue: Arc<Queue>,
    fleet: Arc<Fleet>,
    metrics: Arc<Metrics>,
}

impl<R: Reconciler> Worker<R> {
    async fn work(&self, key: &ObjKey) {
        let Some(cluster) = self.fleet.cluster(&key.cluster) else {
            // Not served, or not yet: its engagement queues the key again.
            self.queue.done(key, Outcome::Done(None));
            return;
        };
        let began = Instant::now();
        let result =
            AssertUnwindSafe(self.reconciler.reconcile(&cluster, key)).catch_unwind().await;
        let (label, outcome) = match result {
            Ok(Ok(again)) => ("ok", Outcome::Done(again)),
            Ok(Err(err)) => {
                let retry = R::retry(&err);
                report::<R>(&cluster, key, &err, retry);
                (retry.label(), Outcome::Failed(retry))
            }
            Err(_) => {
                tracing::error!(controller = R::NAME, %key, "reconcile panicked; trying again later");
                ("panic", Outcome::Failed(Retry::Denied))
            }
        };
        self.metrics.reconciled(R::NAME, label, began.elapsed().as_secs_f64());
        self.queue.done(key, outcome);
        self.metrics.queue_depth(R::NAME, self.queue.depth());
    }
}

fn report<R: Reconciler>(cluster: &Cluster, key: &ObjKey, err: &R::Error, retry: Retry) {
    let path = cluster.display();
    let err = shortened(err.to_string());
    match retry {
        // Conflicts pass by themselves; a mistake in an object is told in its condition, to its author.
        Retry::Conflict | Retry::Terminal => {
            tracing::debug!(controller = R::NAME, %key, path, retry = retry.label(), "{err}");
        }
        Retry::Transient | Retry::Denied => {
            tracing::warn!(controller = R::NAME, %key, path, retry = retry.label(), "{err}");
        }
    }
}
