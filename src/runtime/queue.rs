//! A keyed queue that is fair between clusters and between endpoints.
//!
//! FIFO within a cluster and round robin over clusters, so that one noisy workspace delays the
//! others by at most one reconcile. Only so many keys are in flight through one endpoint: a shard
//! that hangs keeps its own workspaces waiting, and nobody else's. A key waits at most once, is in
//! flight at most once, and is queued again afterwards if it was asked for meanwhile. Of several
//! timers for a key the earliest counts.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::cluster::{ClusterId, ObjKey};
use super::endpoint::EndpointId;
use super::error::Retry;

/// No timer is shorter, whatever an object asks for.
const SHORTEST_TIMER: Duration = Duration::from_secs(1);

/// After more failures in a row than this, events no longer make a key immediate.
const PATIENCE: u32 = 3;

#[derive(Default)]
struct State {
    ready: HashMap<ClusterId, VecDeque<ObjKey>>,
    rota: VecDeque<ClusterId>,
    queued: HashSet<ObjKey>,
    /// Keys being worked on.
    in_flight: HashMap<ObjKey, InFlight>,
    /// How many of them are worked on through an endpoint.
    busy: HashMap<EndpointId, usize>,
    timers: BTreeMap<(Instant, u64), ObjKey>,
    deadlines: HashMap<ObjKey, (Instant, u64)>,
    failures: HashMap<ObjKey, u32>,
    sequence: u64,
}

#[derive(Default)]
struct InFlight {
    /// Whether it was asked for meanwhile.
    again: bool,
    /// The endpoint that served its cluster when it was taken.
    through: Option<EndpointId>,
}

/// The queue of one controller.
pub struct Queue {
    state: Mutex<State>,
    wake: Notify,
    /// How many keys may be in flight through one endpoint.
    places: usize,
}

/// How the work on a key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done; look again after this time if nothing happens before.
    Done(Option<Duration>),
    /// Failed; what kind of waiting helps.
    Failed(Retry),
}

impl State {
    /// Queues a key that something asked for. One that keeps failing is tried soon, but not at each
    /// event of a busy object.
    fn ask(&mut self, key: ObjKey, now: Instant) {
        let failing = self.failures.get(&key).is_some_and(|failures| *failures > PATIENCE);
        if failing && !self.in_flight.contains_key(&key) {
            self.schedule(key, now + SHORTEST_TIMER);
        } else {
            self.push(key);
        }
    }

    fn push(&mut self, key: ObjKey) {
        if let Some(in_flight) = self.in_flight.get_mut(&key) {
            in_flight.again = true;
            return;
        }
        if !self.queued.insert(key.clone()) {
            return;
        }
        let line = self.ready.entry(key.cluster.clone()).or_default();
        if line.is_empty() {
            self.rota.push_back(key.cluster.clone());
        }
        line.push_back(key);
    }

    /// The next key whose endpoint has a place, from the cluster that has waited longest. A key of a cluster
    /// that is not served needs none: there is nothing to wait for.
    ///
    /// Looks at every waiting cluster of the endpoints that have no place.
    fn pop(
        &mut self,
        places: usize,
        serving: impl Fn(&ClusterId) -> Option<EndpointId>,
    ) -> Option<ObjKey> {
        let (at, through) = self.rota.iter().enumerate().find_map(|(at, cluster)| {
            let through = serving(cluster);
            let busy = through.and_then(|endpoint| self.busy.get(&endpoint));
            (busy.copied().unwrap_or_default() < places).then_some((at, through))
        })?;
        let cluster = self.rota.remove(at)?;
        let line = self.ready.get_mut(&cluster)?;
        let key = line.pop_front()?;
        if line.is_empty() {
            self.ready.remove(&cluster);
        } else {
            self.rota.push_back(cluster);
        }
        self.queued.remove(&key);
        self.cancel_timer(&key);
        if let Some(endpoint) = through {
            *self.busy.entry(endpoint).or_default() += 1;
        }
        self.in_flight.insert(key.clone(), InFlight { again: false, through });
        Some(key)
    }

    /// Ends the work on a key; whether it was asked for meanwhile.
    fn land(&mut self, key: &ObjKey) -> bool {
        let Some(in_flight) = self.in_flight.remove(key) else { return false };
        if let Some(Entry::Occupied(mut busy)) = in_flight.through.map(|id| self.busy.entry(id)) {
            *busy.get_mut() -= 1;
            if *busy.get() == 0 {
                busy.remove();
            }
        }
        in_flight.again
    }

    fn cancel_timer(&mut self, key: &ObjKey) {
        if let Some(at) = self.deadlines.remove(key) {
            self.timers.remove(&at);
        }
    }

    fn schedule(&mut self, key: ObjKey, at: Instant) {
        if self.deadlines.get(&key).is_some_and(|(known, _)| *known <= at) {
            return;
        }
        self.cancel_timer(&key);
        self.sequence += 1;
        let slot = (at, self.sequence);
        self.deadlines.insert(key.clone(), slot);
        self.timers.insert(slot, key);
    }

    fn fire_timers(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.deadlines.remove(&key);
            self.push(key);
        }
    }
}

impl Queue {
    /// An empty one, in which so many keys may be in flight through one endpoint.
    #[must_use]
    pub fn new(places: usize) -> Self {
        Self { state: Mutex::default(), wake: Notify::new(), places }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a key to be worked on.
    pub fn add(&self, key: ObjKey) {
        self.state().ask(key, Instant::now());
        self.wake.notify_one();
    }

    /// Asks for a key to be worked on after a while, or earlier if something else asks.
    pub fn add_after(&self, key: ObjKey, pause: Duration) {
        self.state().schedule(key, Instant::now() + pause.max(SHORTEST_TIMER));
        self.wake.notify_one();
    }

    /// Waits for the next key that can be worked on; `serving` says through which endpoint a cluster is served.
    /// The key stays in flight until [`Queue::done`]. For one caller at a time.
    pub async fn next(&self, serving: impl Fn(&ClusterId) -> Option<EndpointId>) -> ObjKey {
        loop {
            let next_timer = {
                let mut state = self.state();
                state.fire_timers(Instant::now());
                if let Some(key) = state.pop(self.places, &serving) {
                    return key;
                }
                state.timers.keys().next().map(|(at, _)| *at)
            };
            match next_timer {
                Some(at) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    /// Ends the work on a key.
    pub fn done(&self, key: &ObjKey, outcome: Outcome) {
        let mut state = self.state();
        let again = state.land(key);
        match outcome {
            Outcome::Done(pause) => {
                state.failures.remove(key);
                if let Some(pause) = pause {
                    state.schedule(key.clone(), Instant::now() + pause.max(SHORTEST_TIMER));
                }
            }
            Outcome::Failed(retry) => {
                if let Some((first, longest)) = retry.pauses() {
                    let failures = state.failures.entry(key.clone()).or_default();
                    let pause = first.saturating_mul(1 << (*failures).min(16)).min(longest);
                    *failures = failures.saturating_add(1);
                    state.schedule(key.clone(), Instant::now() + pause);
                } else {
                    state.failures.remove(key);
                }
            }
        }
        if again {
            state.ask(key.clone(), Instant::now());
        }
        drop(state);
        self.wake.notify_one();
    }

    /// How many keys wait for a worker.
    pub fn depth(&self) -> usize {
        self.state().queued.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(cluster: &str, name: &str) -> ObjKey {
        ObjKey::new(&ClusterId::parse(cluster).unwrap(), "", name)
    }

    /// Clusters `a…` are served through one endpoint, the others through none.
    async fn next(queue: &Queue) -> ObjKey {
        let endpoint = EndpointId::for_tests(1);
        queue.next(|cluster| cluster.as_str().starts_with('a').then_some(endpoint)).await
    }

    async fn names(queue: &Queue, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..count {
            let key = next(queue).await;
            names.push(key.to_string());
            queue.done(&key, Outcome::Done(None));
        }
        names
    }

    #[tokio::test]
    async fn a_noisy_cluster_delays_another_by_at_most_one_key() {
        let queue = Queue::new(2);
        for name in ["1", "2", "3"] {
            queue.add(key("noisy", name));
        }
        queue.add(key("quiet", "1"));
        assert_eq!(names(&queue, 4).await, ["noisy|1", "quiet|1", "noisy|2", "noisy|3"]);
    }

    #[tokio::test]
    async fn a_key_in_flight_is_held_and_queued_once_more_afterwards() {
        let queue = Queue::new(2);
        queue.add(key("a", "x"));
        let first = next(&queue).await;
        queue.add(key("a", "x"));
        queue.add(key("a", "x"));
        assert_eq!(queue.depth(), 0);
        queue.done(&first, Outcome::Done(None));
        assert_eq!(queue.depth(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_timers_of_a_key_the_earlier_counts_and_fires_once() {
        let queue = Queue::new(2);
        let start = Instant::now();
        queue.add_after(key("a", "x"), Duration::from_mins(1));
        queue.add_after(key("a", "x"), Duration::from_secs(5));
        queue.add_after(key("a", "x"), Duration::from_secs(30));
        let fired = next(&queue).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.done(&fired, Outcome::Done(None));
        let more = tokio::time::timeout(Duration::from_mins(2), next(&queue)).await;
        assert!(more.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_a_key_are_tried_again_with_growing_pauses_until_one_succeeds() {
        let queue = Queue::new(2);
        queue.add(key("a", "x"));
        let mut pauses = Vec::new();
        let mut last = Instant::now();
        for _ in 0..4 {
            let key = next(&queue).await;
            pauses.push(last.elapsed().as_millis());
            last = Instant::now();
            queue.done(&key, Outcome::Failed(Retry::Transient));
        }
        assert_eq!(pauses, [0, 200, 400, 800]);
        let fixed = next(&queue).await;
        queue.done(&fixed, Outcome::Done(None));
        queue.add(key("a", "x"));
        let again = next(&queue).await;
        last = Instant::now();
        queue.done(&again, Outcome::Failed(Retry::Transient));
        next(&queue).await;
        assert_eq!(last.elapsed().as_millis(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_object_does_not_make_a_failing_key_immediate() {
        let queue = Queue::new(2);
        queue.add(key("a", "x"));
        for _ in 0..5 {
            let key = next(&queue).await;
            queue.done(&key, Outcome::Failed(Retry::Denied));
        }
        let start = Instant::now();
        queue.add(key("a", "x"));
        queue.add(key("a", "x"));
        next(&queue).await;
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_failure_is_not_tried_again_until_something_asks() {
        let queue = Queue::new(2);
        queue.add(key("a", "x"));
        let first = next(&queue).await;
        queue.done(&first, Outcome::Failed(Retry::Terminal));
        assert!(tokio::time::timeout(Duration::from_hours(1), next(&queue)).await.is_err());
        queue.add(key("a", "x"));
        assert_eq!(names(&queue, 1).await, ["a|x"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_hangs_holds_its_own_clusters_only() {
        let queue = Queue::new(2);
        for name in ["1", "2", "3", "4"] {
            queue.add(key("a1", name));
            queue.add(key("a2", name));
        }
        queue.add(key("b", "1"));
        let hanging = [next(&queue).await, next(&queue).await];
        assert_eq!(hanging.each_ref().map(ToString::to_string), ["a1|1", "a2|1"]);
        assert_eq!(names(&queue, 1).await, ["b|1"]);
        queue.add(key("b", "2"));
        assert_eq!(names(&queue, 1).await, ["b|2"]);
        assert!(tokio::time::timeout(Duration::from_hours(1), next(&queue)).await.is_err());

        queue.done(&hanging[0], Outcome::Done(None));
        assert_eq!(names(&queue, 2).await, ["a1|2", "a2|2"]);
        queue.done(&hanging[1], Outcome::Failed(Retry::Terminal));
        assert_eq!(names(&queue, 4).await, ["a1|3", "a2|3", "a1|4", "a2|4"]);
        assert!(queue.state().busy.is_empty());
    }
}
