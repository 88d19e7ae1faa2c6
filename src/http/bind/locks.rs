//! One at a time for each consumer: of many equal binds the first does the work and the others find it
//! done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::runtime::cluster::ClusterId;

type Consumer = (ClusterId, String);

/// The consumers that are being bound by this process. Between processes the API server decides.
#[derive(Default)]
pub(super) struct Locks(Mutex<HashMap<Consumer, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits for the consumer's turn, which ends when the guard is dropped.
    pub(super) async fn turn(&self, cluster: &ClusterId, identity: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (cluster.clone(), identity.to_owned());
            let known = all.get(&key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                // Those that nobody uses go now; there are never more than binds under way.
                all.retain(|_, lock| lock.strong_count() > 0);
                let lock = Arc::default();
                all.insert(key, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_consumer_waits_for_itself_only_and_nothing_is_kept() {
        let locks = Locks::default();
        let (a, b) = (ClusterId::parse("a").unwrap(), ClusterId::parse("b").unwrap());
        let first = locks.turn(&a, "me").await;
        assert!(locks.turn(&a, "me").now_or_never().is_none());
        assert!(locks.turn(&b, "me").now_or_never().is_some());
        assert!(locks.turn(&a, "you").now_or_never().is_some());
        drop(first);
        assert!(locks.turn(&a, "me").now_or_never().is_some());
        let _other = locks.turn(&b, "other").await;
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }
}
