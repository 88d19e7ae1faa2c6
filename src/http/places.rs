//! How many requests may be under way in the workspaces of one shard: one that hangs holds up its own, and nobody
//! else's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ApiError;
use super::server::Limits;
use crate::runtime::endpoint::EndpointId;
use crate::runtime::fleet::{Cluster, Fleet};

/// Each of many shards has so many places.
const LEAST: usize = 8;

type Busy = Arc<Mutex<HashMap<EndpointId, usize>>>;

/// The places of all shards.
pub struct Places {
    fleet: Arc<Fleet>,
    busy: Busy,
}

/// A place, free again when it is dropped.
pub struct Place {
    busy: Busy,
    endpoint: EndpointId,
}

impl Places {
    /// Those of the endpoints of a fleet.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet, busy: Busy::default() }
    }

    /// A place for what is to be asked of a cluster. Refused at once where its shard does not answer, or where too many
    /// wait for that already.
    pub fn take(&self, cluster: &Cluster) -> Result<Place, ApiError> {
        let endpoint = cluster.endpoint.id();
        if self.fleet.is_away(endpoint) {
            return Err(ApiError::unavailable(
                "The server of this cluster does not answer; try again in a minute",
            ));
        }
        take(&self.busy, endpoint, share(self.fleet.endpoints().len())).ok_or_else(ApiError::busy)
    }
}

/// How many of the requests that are handled at the same time may be about one of so many shards.
fn share(shards: usize) -> usize {
    match shards {
        0 | 1 => usize::MAX,
        several => (Limits::default().in_flight / several).max(LEAST),
    }
}

fn take(busy: &Busy, endpoint: EndpointId, most: usize) -> Option<Place> {
    let mut counts = lock(busy);
    let count = counts.entry(endpoint).or_default();
    if *count >= most {
        return None;
    }
    *count += 1;
    Some(Place { busy: Arc::clone(busy), endpoint })
}

fn lock(busy: &Busy) -> MutexGuard<'_, HashMap<EndpointId, usize>> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.busy);
        if let Some(count) = counts.get_mut(&self.endpoint) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.endpoint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_hangs_leaves_places_for_the_others() {
        let busy = Busy::default();
        let [hangs, works] = [1, 2].map(EndpointId::for_tests);
        let most = share(2);
        let mut held: Vec<Place> = (0..most).filter_map(|_| take(&busy, hangs, most)).collect();
        assert_eq!(held.len(), 32);
        assert!(take(&busy, hangs, most).is_none());
        assert!(take(&busy, works, most).is_some());
        held.pop();
        assert!(take(&busy, hangs, most).is_some());
        held.clear();
        assert_eq!(*lock(&busy), HashMap::new());
    }

    #[test]
    fn one_shard_has_all_places_and_many_have_some_each() {
        assert_eq!([0, 1, 2, 4, 100].map(share), [usize::MAX, usize::MAX, 32, 16, 8]);
    }
}
