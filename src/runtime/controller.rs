//! Workers that take keys from a queue and reconcile them.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;

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

/// Starts workers for a reconciler. They end after their current key when the tasks are stopped.
pub fn spawn<R: Reconciler>(
    reconciler: &Arc<R>,
    queue: &Arc<Queue>,
    fleet: &Arc<Fleet>,
    metrics: &Arc<Metrics>,
    workers: usize,
    tasks: &Tasks,
) {
    for _ in 0..workers {
        let worker = Worker {
            reconciler: Arc::clone(reconciler),
            queue: Arc::clone(queue),
            fleet: Arc::clone(fleet),
            metrics: Arc::clone(metrics),
        };
        let cancel = tasks.cancelled().clone();
        tasks.spawn(format!("a worker of {}", R::NAME), tasks.cancelled(), async move {
            loop {
                let key = tokio::select! {
                    biased;
                    () = cancel.cancelled() => return,
                    key = worker.queue.next() => key,
                };
                worker.work(&key).await;
            }
        });
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
