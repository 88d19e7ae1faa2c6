//! The connections that are open, at most so many, and which one makes room for the next.
//!
//! A connection without a request under way is worth nothing to anyone but its owner. When all places are
//! taken, one of those is closed: of the client with the most connections, the one that waited longest.
//! So idle connections and slow requests, however many, keep nobody out (security.md bad input 68):
//! whoever sends a request at once is served, since at most as many places can be held as requests are
//! handled at the same time, and those are fewer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::head::Refusal;
use crate::http::limits::site;

/// All open connections.
pub(super) struct Connections {
    places: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    open: HashMap<u64, Entry>,
}

struct Entry {
    site: IpAddr,
    /// Since when it has no request under way.
    since: Instant,
    busy: bool,
    closed: CancellationToken,
}

impl Connections {
    pub(super) fn new(most: usize) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { places, state: Mutex::default() })
    }

    /// A place for a connection that was accepted; waits only while every place has a request under
    /// way.
    pub(super) async fn admit(self: &Arc<Self>, peer: SocketAddr) -> Option<Arc<Connection>> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => self.place_of_another().await?,
        };
        let closed = CancellationToken::new();
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let site = site(peer.ip());
        let entry = Entry { site, since: Instant::now(), busy: false, closed: closed.clone() };
        state.open.insert(id, entry);
        drop(state);
        let connections = Arc::clone(self);
        let refusal = Mutex::new(None);
        Some(Arc::new(Connection { connections, id, peer, closed, refusal, _place: place }))
    }

    async fn place_of_another(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            let told = self.close_one();
            let freed = Arc::clone(&self.places).acquire_owned();
            if told {
                return freed.await.ok();
            }
            // All are busy: the first that ends or becomes idle makes room.
            if let Ok(place) = tokio::time::timeout(super::RETRY, freed).await {
                return place.ok();
            }
        }
    }

    /// Closes the connection that is worth least; false if all have a request under way.
    fn close_one(&self) -> bool {
        let state = self.lock();
        let mut of_site: HashMap<IpAddr, usize> = HashMap::new();
        for entry in state.open.values() {
            *of_site.entry(entry.site).or_default() += 1;
        }
        let idle = state.open.values().filter(|entry| !entry.busy && !entry.closed.is_cancelled());
        let rank = |entry: &&Entry| {
            let crowd = of_site.get(&entry.site).copied().unwrap_or_default();
            (std::cmp::Reverse(crowd), entry.since)
        };
        let victim = idle.min_by_key(rank);
        if let Some(victim) = victim {
            victim.closed.cancel();
        }
        victim.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection. Its place is free again when the last handle is gone.
pub(super) struct Connection {
    connections: Arc<Connections>,
    id: u64,
    peer: SocketAddr,
    closed: CancellationToken,
    refusal: Mutex<Option<Refusal>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Who is at the other end.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Cancelled when the place is needed for another.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Keeps the connection open until the guard is dropped. None if it is being closed: what a request
    /// asks for must not be begun then.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Busy> {
        let mut state = self.connections.lock();
        let entry = state.open.get_mut(&self.id)?;
        if entry.closed.is_cancelled() {
            return None;
        }
        entry.busy = true;
        Some(Busy(Arc::clone(self)))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.connections.lock().open.get(&self.id).is_some_and(|entry| entry.busy)
    }

    /// The next request gets this answer.
    pub(super) fn refuse(&self, refusal: Refusal) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
    }

    /// What the gate says about the request that begins now.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.id);
    }
}

/// A request is under way.
pub(super) struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(entry) = self.0.connections.lock().open.get_mut(&self.0.id) {
            entry.busy = false;
            entry.since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(site: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, site], port))
    }

    /// Opens as many as given, a millisecond apart. Time stands still otherwise.
    async fn open(connections: &Arc<Connections>, sites: &[u8]) -> Vec<Arc<Connection>> {
        let mut open = Vec::new();
        for (port, site) in (1..).zip(sites) {
            open.push(connections.admit(peer(*site, port)).await.unwrap());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        open
    }

    fn closed(open: &[Arc<Connection>]) -> Vec<bool> {
        open.iter().map(|connection| connection.closed.is_cancelled()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_client_with_the_most_connections_makes_room_with_its_oldest() {
        let connections = Connections::new(5);
        let open = open(&connections, &[1, 2, 2, 2, 1]).await;
        assert!(connections.close_one());
        assert_eq!(closed(&open), [false, true, false, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_request_under_way_is_never_closed() {
        let connections = Connections::new(3);
        let open = open(&connections, &[1, 1, 1]).await;
        let first = open[0].begin().unwrap();
        let _second = open[1].begin().unwrap();
        let _third = open[2].begin().unwrap();
        assert!(!connections.close_one());
        drop(first);
        assert!(connections.close_one());
        assert_eq!(closed(&open), [true, false, false]);
        assert!(open[0].begin().is_none(), "it is being closed");
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_of_a_connection_starts_again_after_each_request() {
        let connections = Connections::new(2);
        let open = open(&connections, &[1, 1]).await;
        drop(open[0].begin().unwrap());
        assert!(connections.close_one());
        assert_eq!(closed(&open), [false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_waits_until_the_old_one_has_left_its_place() {
        let connections = Connections::new(1);
        let old = connections.admit(peer(1, 1)).await.unwrap();
        let mut new = std::pin::pin!(connections.admit(peer(2, 2)));
        assert!(futures::poll!(new.as_mut()).is_pending());
        assert!(old.closed.is_cancelled());
        drop(old);
        assert_eq!(new.await.unwrap().peer(), peer(2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_waits_for_the_first_that_becomes_idle() {
        let connections = Connections::new(1);
        let old = connections.admit(peer(1, 1)).await.unwrap();
        let busy = old.begin().unwrap();
        let mut new = std::pin::pin!(connections.admit(peer(2, 2)));
        assert!(futures::poll!(new.as_mut()).is_pending());
        assert!(!old.closed.is_cancelled());
        drop(busy);
        tokio::time::advance(super::super::RETRY).await;
        assert!(futures::poll!(new.as_mut()).is_pending());
        assert!(old.closed.is_cancelled());
        drop(old);
        assert_eq!(new.await.unwrap().peer(), peer(2, 2));
    }
}
