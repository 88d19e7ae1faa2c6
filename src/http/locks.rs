//! One at a time for each of something: of many who want the same the first does the work, and the others
//! find it done.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

/// What is being worked on by this process.
pub(super) struct Locks<K>(Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>);

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Locks<K> {
    /// Waits for the turn of this key, which ends when the guard is dropped.
    pub(super) async fn turn(&self, key: K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let known = all.get(&key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                // Those that nobody uses go now; there are never more than requests under way.
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
    async fn a_key_waits_for_itself_only_and_nothing_is_kept() {
        let locks = Locks::default();
        let first = locks.turn("a").await;
        assert!(locks.turn("a").now_or_never().is_none());
        assert!(locks.turn("b").now_or_never().is_some());
        drop(first);
        assert!(locks.turn("a").now_or_never().is_some());
        let _other = locks.turn("c").await;
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }
}
