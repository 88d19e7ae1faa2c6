//! The connections that are open, at most so many, and which one makes room for the next.
//!
//! A connection without a request under way is worth nothing to anyone but its owner. When all places are
//! taken, one of those is closed: of the client with the most connections, the one that was idle longest,
//! or if none is idle, the one whose request waits for its turn the longest.
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
    /// Since when it is in this state.
    since: Instant,
    work: Work,
    closed: CancellationToken,
}

/// What a connection is for at the moment; what comes first is closed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// No request, or one that has not come as a whole.
    None,
    /// A whole request that waits for its turn.
    Waiting,
    /// A request is handled: never closed for others.
    UnderWay,
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
        let entry = Entry { site, since: Instant::now(), work: Work::None, closed: closed.clone() };
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
        let idle = state
            .open
            .values()
            .filter(|entry| entry.work != Work::UnderWay && !entry.closed.is_cancelled());
        let rank = |entry: &&Entry| {
            let crowd = of_site.get(&entry.site).copied().unwrap_or_default();
            (std::cmp::Reverse(crowd), entry.work, entry.since)
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

    /// A whole request waits for its turn, until the guard is dropped.
    pub(super) fn wait(self: &Arc<Self>) -> Turn {
        self.set(Work::Waiting);
        Turn(Arc::clone(self))
    }

    /// Whether a request waits or is under way.
    pub(super) fn has_request(&self) -> bool {
        self.connections.lock().open.get(&self.id).is_some_and(|entry| entry.work != Work::None)
    }

    /// False if it is being closed.
    fn set(&self, work: Work) -> bool {
        let mut state = self.connections.lock();
        let Some(entry) = state.open.get_mut(&self.id) else {
            return false;
        };
        (entry.work, entry.since) = (work, Instant::now());
        !entry.closed.is_cancelled()
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

/// The turn of a request: waited for, or come.
pub(super) struct Turn(Arc<Connection>);

impl Turn {
    /// Keeps the connection open from now on. False if it is being closed: what the request asks for
    /// must not be begun then.
    pub(super) fn begin(&self) -> bool {
        self.0.set(Work::UnderWay)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.set(Work::None);
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
        let mut turns: Vec<_> = open.iter().map(Connection::wait).collect();
        assert!(turns.iter().all(Turn::begin));
        assert!(!connections.close_one());
        drop(turns.remove(0));
        assert!(connections.close_one());
        assert_eq!(closed(&open), [true, false, false]);
        assert!(!open[0].wait().begin(), "it is being closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_for_its_turn_is_closed_after_idle_ones_only() {
        let connections = Connections::new(4);
        let open = open(&connections, &[1, 1, 1, 2]).await;
        let turns = [open[0].wait(), open[3].wait()];
        assert!(connections.close_one() && connections.close_one());
        assert_eq!(closed(&open), [false, true, true, false]);
        assert!(connections.close_one());
        assert_eq!(closed(&open), [true, true, true, false], "of the client with more of them");
        assert_eq!(turns.map(|turn| turn.begin()), [false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_of_a_connection_starts_again_after_each_request() {
        let connections = Connections::new(2);
        let open = open(&connections, &[1, 1]).await;
        assert!(open[0].wait().begin());
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
        let busy = old.wait();
        assert!(busy.begin());
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
