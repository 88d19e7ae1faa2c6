//! Every task of the process has an owner: one that ends before it should ends the process.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of the process.
#[derive(Clone)]
pub struct Tasks {
    cancel: CancellationToken,
    tracker: TaskTracker,
    failed: Arc<watch::Sender<Option<String>>>,
}

impl Default for Tasks {
    fn default() -> Self {
        let (failed, _) = watch::channel(None);
        let (cancel, tracker) = (CancellationToken::new(), TaskTracker::new());
        Self { cancel, tracker, failed: Arc::new(failed) }
    }
}

impl Tasks {
    /// Cancelled when the process stops.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Starts a task that runs until `until` is cancelled. One that ends or panics before is a bug:
    /// going on without it would mean to act on what no longer moves.
    pub fn spawn(
        &self,
        name: impl Into<String>,
        until: &CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let (name, until, failed) = (name.into(), until.clone(), Arc::clone(&self.failed));
        let task = tokio::spawn(task);
        self.tracker.spawn(async move {
            let ended = task.await;
            if !until.is_cancelled() {
                let how = ended.err().map_or_else(String::new, |err| format!(": {err}"));
                failed.send_replace(Some(format!("{name} ended{how}")));
            }
        });
    }

    /// Waits until a task has ended that must not, and says which.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(what) => what.clone().unwrap_or_default(),
            Err(_) => "the task list is gone".to_owned(),
        }
    }

    /// Asks all tasks to end and waits for them; false if some did not end in time.
    pub async fn stop(&self, within: Duration) -> bool {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(within, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_too_early_is_named_even_if_nobody_listened_yet() {
        let tasks = Tasks::default();
        tasks.spawn("the worker", tasks.cancelled(), async {});
        tasks.tracker.close();
        tasks.tracker.wait().await;
        assert_eq!(tasks.failed().await, "the worker ended");
    }

    #[tokio::test]
    async fn a_task_that_ends_when_asked_is_no_failure() {
        let tasks = Tasks::default();
        let cancel = tasks.cancelled().clone();
        tasks.spawn("the worker", tasks.cancelled(), async move {
            cancel.cancelled().await;
        });
        assert!(tasks.stop(Duration::from_secs(5)).await);
        assert_eq!(*tasks.failed.borrow(), None);
    }
}
