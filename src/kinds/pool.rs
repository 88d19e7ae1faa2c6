//! Lists of which equal ones are held once.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// Lists that are held by somebody else.
///
/// Thousands of workspaces accept the same claims and get the same resources; held for each, that is most of what a
/// workspace costs.
pub(super) struct Pool<T>(LazyLock<Known<T>>);

struct Known<T> {
    hasher: RandomState,
    /// By their hash. Of two with one hash only the first is shared.
    lists: Mutex<HashMap<u64, Weak<[T]>>>,
}

impl<T: Eq + Hash> Pool<T> {
    /// Knows of no list yet.
    pub(super) const fn new() -> Self {
        Self(LazyLock::new(|| Known { hasher: RandomState::new(), lists: Mutex::default() }))
    }

    /// The list that is equal to this one and was there first.
    pub(super) fn share(&self, list: Arc<[T]>) -> Arc<[T]> {
        let hash = self.0.hasher.hash_one(&list);
        let mut lists = self.0.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lists.get(&hash).and_then(Weak::upgrade) {
            return if known == list { known } else { list };
        }
        if lists.len() == lists.capacity() {
            lists.retain(|_, known| known.strong_count() > 0);
        }
        lists.insert(hash, Arc::downgrade(&list));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_are_held_once_and_for_as_long_as_somebody_holds_them() {
        let pool = Pool::new();
        let first = pool.share(Arc::from(["a", "b"]));
        let second = pool.share(Arc::from(["a", "b"]));
        let other = pool.share(Arc::from(["b", "a"]));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((&*first, &*other), (&["a", "b"][..], &["b", "a"][..]));
        drop((first, second, other));
        for index in 0..1000 {
            pool.share(Arc::from([index.to_string()].map(|text| &*text.leak())));
        }
        assert!(pool.0.lists.lock().unwrap().len() < 100);
    }
}
