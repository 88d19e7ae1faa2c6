//! Endpoints come, go, and fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Cluster, Fleet, Running, State, Unmade};
use crate::runtime::cluster::ClusterId;
use crate::runtime::endpoint::{ConnectError, Endpoint, EndpointId, EndpointSpec};
use crate::runtime::health::Health;

/// How long an endpoint that left the provider's list is kept going.
pub const HOLD: Duration = Duration::from_mins(5);

/// Between two tries to make an endpoint.
pub(super) const REMAKE: Duration = Duration::from_secs(3);

impl State {
    /// Notes which endpoints are wanted, by URL.
    fn want(&mut self, wanted: BTreeMap<String, EndpointSpec>) {
        for (url, running) in &mut self.endpoints {
            if wanted.contains_key(url) {
                if running.lost_since.take().is_some() {
                    tracing::info!(endpoint = %url, "endpoint is back");
                }
            } else if running.lost_since.is_none() {
                running.lost_since = Some(Instant::now());
                tracing::warn!(endpoint = %url, hold_seconds = HOLD.as_secs(),
                    "endpoint is no longer published; holding it, nothing is deleted");
            }
        }
        self.unmade.retain(|url, _| wanted.contains_key(url));
        for (url, spec) in wanted {
            if !self.endpoints.contains_key(&url) {
                let new = || Unmade { spec, since: Instant::now(), why: None };
                self.unmade.entry(url).or_insert_with(new);
            }
        }
    }
}

impl Fleet {
    /// Makes the running endpoints equal to the wanted ones: new ones start, those that left are
    /// held, those that came back go on as if nothing had happened. One that cannot be made is tried
    /// again by [`Fleet::tend`].
    pub async fn set_endpoints(
        self: &Arc<Self>,
        wanted: Vec<EndpointSpec>,
    ) -> Result<(), ConnectError> {
        let wanted: BTreeMap<String, EndpointSpec> =
            wanted.into_iter().map(|spec| (spec.url(), spec)).collect();
        self.change(|state| state.want(wanted));
        self.make().await
    }

    /// Makes the endpoints that are wanted and not made.
    async fn make(self: &Arc<Self>) -> Result<(), ConnectError> {
        let specs: Vec<EndpointSpec> =
            self.state().unmade.values().map(|unmade| unmade.spec.clone()).collect();
        let mut result = Ok(());
        for spec in specs {
            let (url, metrics) = (spec.url(), Arc::clone(&self.metrics));
            // It may read files and run a credential plugin.
            let made = tokio::task::spawn_blocking(move || Endpoint::connect(spec, &metrics)).await;
            match made {
                Ok(Ok(endpoint)) => self.add(endpoint),
                Ok(Err(err)) => {
                    self.cannot_make(&url, err.to_string());
                    result = Err(err);
                }
                Err(err) => {
                    if let Ok(panic) = err.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
        result
    }

    fn add(self: &Arc<Self>, endpoint: Endpoint) {
        let mut state = self.state();
        let url = endpoint.url().to_owned();
        if state.unmade.remove(&url).is_none() {
            // Meanwhile somebody else made it, or it is no longer wanted.
            return;
        }
        tracing::info!(endpoint = %url, "endpoint added");
        if let Some(cluster) = endpoint.only_cluster() {
            state.engaged.entry(cluster).or_default().insert(endpoint.id(), Arc::default());
        }
        let running = self.start(Arc::new(endpoint));
        state.endpoints.insert(url, running);
        self.count(&state);
    }

    /// Adds an endpoint that nobody has to make.
    #[cfg(test)]
    pub(in crate::runtime) fn add_for_tests(self: &Arc<Self>, endpoint: Endpoint) {
        let config = kube::Config::new(endpoint.uri().clone());
        let spec = EndpointSpec {
            config,
            source: crate::runtime::endpoint::ClusterSource::Annotation("kcp.io/cluster"),
        };
        self.change(|state| state.want([(endpoint.url().to_owned(), spec)].into()));
        self.add(endpoint);
    }

    fn cannot_make(&self, url: &str, why: String) {
        if let Some(unmade) = self.state().unmade.get_mut(url)
            && unmade.why.as_ref() != Some(&why)
        {
            tracing::warn!("{why}; trying again, and going on with the other endpoints");
            unmade.why = Some(why);
        }
        self.due.notify_one();
    }

    /// Ends endpoints that were held long enough; the time until the next one is due comes back.
    pub fn retire_lost(&self) -> Option<Duration> {
        let mut next = None::<Duration>;
        let retired = self.change(|state| {
            let mut retired = Vec::new();
            state.endpoints.retain(|url, running| {
                let Some(since) = running.lost_since else { return true };
                let left = HOLD.saturating_sub(since.elapsed());
                if left.is_zero() {
                    tracing::warn!(endpoint = %url, "endpoint is given up; its objects stay as they are");
                    running.cancel.cancel();
                    retired.push(running.endpoint.id());
                    return false;
                }
                next = Some(next.map_or(left, |known| known.min(left)));
                true
            });
            for through in state.engaged.values_mut() {
                through.retain(|endpoint, _| !retired.contains(endpoint));
            }
            state.engaged.retain(|_, through| !through.is_empty());
            retired
        });
        for endpoint in &retired {
            for source in &self.sources {
                source.forget(*endpoint);
            }
        }
        if !retired.is_empty() {
            self.given_up.send_replace(());
        }
        next
    }

    /// Changes each time an endpoint is given up.
    #[must_use]
    pub fn given_up(&self) -> watch::Receiver<()> {
        self.given_up.subscribe()
    }

    /// The URLs of the endpoints that are held although they are no longer published.
    #[must_use]
    pub fn held(&self) -> BTreeSet<String> {
        let state = self.state();
        let held = state.endpoints.iter().filter(|(_, running)| running.lost_since.is_some());
        held.map(|(url, _)| url.clone()).collect()
    }

    fn start(self: &Arc<Self>, endpoint: Arc<Endpoint>) -> Running {
        let cancel = self.tasks.cancelled().child_token();
        for source in &self.sources {
            let name = format!("the watch of {}", source.name());
            let watch = Arc::clone(source).watch(Arc::clone(self), Arc::clone(&endpoint));
            let until = cancel.clone();
            self.tasks.spawn(name, &cancel, async move {
                tokio::select! {
                    () = until.cancelled() => {}
                    () = watch => {}
                }
            });
        }
        Running { endpoint, cancel, lost_since: None, ready: false, health: Health::default() }
    }

    /// Gives up lost endpoints when their time has come, and tries again to make those that could not be made.
    /// Runs until the fleet is stopped.
    pub async fn tend(self: &Arc<Self>) {
        loop {
            let next = self.retire_lost().unwrap_or(HOLD);
            let failed = self.state().unmade.values().any(|unmade| unmade.why.is_some());
            tokio::select! {
                () = self.tasks.cancelled().cancelled() => return,
                () = self.due.notified() => {}
                () = tokio::time::sleep(if failed { next.min(REMAKE) } else { next }) => {
                    // What fails is remembered and said.
                    let _ = self.make().await;
                }
            }
        }
    }

    /// Notes that a kind's list or watch is asked for.
    pub(in crate::runtime) fn asks(&self, endpoint: EndpointId, kind: &'static str) {
        if let Some(running) = self.state().find_mut(endpoint) {
            running.health.asks(kind, Instant::now());
        }
    }

    /// Notes that a kind's watch fails. Logged unless another kind has failed for the same reason.
    pub(in crate::runtime) fn failed(&self, endpoint: EndpointId, kind: &'static str, what: &str) {
        self.judge(endpoint, |running| {
            if running.health.failed(kind, what, Instant::now()) {
                let url = running.endpoint.url();
                tracing::warn!(endpoint = url, kind, "watch failed: {what}; trying again");
            }
        });
    }

    /// Notes that a kind's watch works; whether it did not before.
    pub(in crate::runtime) fn answered(&self, endpoint: EndpointId, kind: &'static str) -> bool {
        let again = self.judge(endpoint, |running| {
            let failed = running.health.fails();
            let again = running.health.answered(kind, Instant::now());
            if failed && !running.health.fails() {
                tracing::info!(endpoint = running.endpoint.url(), "all watches work again");
            }
            again
        });
        again.unwrap_or_default()
    }

    /// Changes the health of an endpoint; clusters that another one serves too may be better served there.
    fn judge<T>(&self, endpoint: EndpointId, judge: impl FnOnce(&mut Running) -> T) -> Option<T> {
        let mut state = self.state();
        let twice = state.engaged.iter().filter(|(_, through)| through.len() > 1);
        let before: Vec<(ClusterId, Option<EndpointId>)> =
            twice.map(|(id, _)| (id.clone(), state.way(id))).collect();
        let result = state.find_mut(endpoint).map(judge);
        let moved = before.into_iter().filter(|(id, way)| state.way(id) != *way);
        let handles: Vec<Cluster> = moved.filter_map(|(id, _)| state.handle(&id)).collect();
        drop(state);
        for handle in &handles {
            self.tell(handle);
        }
        result
    }
}
