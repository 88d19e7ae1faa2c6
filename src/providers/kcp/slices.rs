//! The APIExportEndpointSlices that the flags name, and the endpoints in them.
//!
//! One process can serve several Partitions, each with a slice of its own, or one process each. Endpoints that two
//! slices name are one. A slice that cannot be read, or is not there, takes nothing from the others: the process
//! serves what it knows, and is not ready until each slice was there once.
//!
//! A slice that cannot be read at start is replaced by what is stored (`stored`), so that the workspaces of the other
//! shards are served while the shard of the slice is away: at once where the server is away, and after a moment where
//! it refuses us, because the front proxy refuses what it does not know yet. A stored endpoint gives nobody rights that
//! its shard would not give. The process is ready then and says what it could not read, as it does where a slice
//! cannot be read later. Binds by `BindableResourcesRequest` do not depend on it. Once the slice is read it is the
//! truth: an endpoint that was only stored is held like any that is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{FutureExt as _, select_all};
use http::Uri;
use kube::Config;
use kube::api::Api;
use kube::runtime::watcher::{self, Error, Event, watcher};
use tokio::sync::watch;
use tokio::time::Instant;

use super::ExportRef;
use super::stored::{StateError, Stored, Urls};
use crate::api::kcp::ApiExportEndpointSlice;
use crate::api::keys;
use crate::providers::ProviderError;
use crate::runtime::endpoint::{ClusterSource, EndpointSpec, WATCH_TIMEOUT, connect_apart};
use crate::runtime::fleet::Fleet;
use crate::runtime::health::{Expiries, Observer, Turns, is_expired, is_overtaken, observed};
use crate::runtime::metrics::Metrics;

/// A server that does not answer for so long is taken for one that is away.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two tries to store what is known.
const STORE_AGAIN: Duration = Duration::from_secs(10);

/// What is known of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// It was not read yet.
    Nothing,
    /// It cannot be read; these are the endpoints that an earlier process knew.
    Stored(BTreeSet<String>),
    /// There is none of this name.
    Absent,
    /// Its endpoints.
    Endpoints(BTreeSet<String>),
}

/// The slices.
pub(super) struct Slices {
    config: Config,
    known: Mutex<BTreeMap<String, Known>>,
    stored: Option<Arc<Stored>>,
    /// All slices are on one server.
    turns: Arc<Turns>,
}

/// How it stands with the last request for a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Sent at this time.
    Owed(Instant),
    Given,
    /// It failed, which is dealt with elsewhere.
    Failed,
}

/// Notes how it stands.
struct Told(watch::Sender<Answer>);

impl Observer for Told {
    fn asks(&self) {
        self.0.send_replace(Answer::Owed(Instant::now()));
    }

    fn answered(&self) {
        self.0.send_replace(Answer::Given);
    }
}

/// Tells how it stands, each time that something is to be done about it.
struct Answers {
    last: watch::Receiver<Answer>,
    told: Answer,
}

impl Answers {
    /// The next answer that is given, or late.
    async fn next(&mut self) -> Answer {
        loop {
            let now = *self.last.borrow_and_update();
            if now != self.told {
                if let Answer::Owed(since) = now {
                    tokio::select! {
                        _ = self.last.changed() => continue,
                        () = tokio::time::sleep_until(since + PATIENCE) => {}
                    }
                }
                self.told = now;
                return now;
            }
            if self.last.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Slices {
    /// The slices of these names; `state_dir` is where their endpoints are stored.
    pub(super) fn new(
        config: Config,
        names: Vec<String>,
        state_dir: Option<&Path>,
    ) -> Result<Self, StateError> {
        let server = config.cluster_url.to_string();
        let stored = state_dir.map(|dir| Stored::open(dir, &server, &names)).transpose()?;
        let known = names.into_iter().map(|name| (name, Known::Nothing)).collect();
        let (known, stored) = (Mutex::new(known), stored.map(Arc::new));
        Ok(Self { config, known, stored, turns: Arc::default() })
    }

    /// Where what is known is stored.
    pub(super) fn stored(&self) -> Option<&Arc<Stored>> {
        self.stored.as_ref()
    }

    /// An endpoint at this URL, with our credential.
    pub(super) fn endpoint(&self, url: &Uri) -> EndpointSpec {
        let mut config = self.config.clone();
        config.cluster_url = url.clone();
        EndpointSpec { config, source: ClusterSource::Annotation(keys::KCP_CLUSTER) }
    }

    /// Keeps the fleet's endpoints equal to those of all slices, and stored.
    pub(super) async fn follow(
        &self,
        fleet: &Arc<Fleet>,
        metrics: &Arc<Metrics>,
    ) -> Result<(), ProviderError> {
        let names: Vec<String> = self.known().keys().cloned().collect();
        let each = names.iter().map(|name| self.follow_one(name, fleet, metrics).boxed());
        tokio::select! {
            (ended, _, _) = select_all(each) => ended,
            () = self.keep(fleet) => Ok(()),
        }
    }

    /// Stores what is known whenever it changes; without end.
    async fn keep(&self, fleet: &Fleet) {
        let Some(stored) = &self.stored else {
            return std::future::pending().await;
        };
        let mut given_up = fleet.given_up();
        loop {
            let done = stored.store(self.read(), fleet.held()).await;
            tokio::select! {
                () = stored.touched() => {}
                _ = given_up.changed() => {}
                () = tokio::time::sleep(STORE_AGAIN), if !done => {}
            }
        }
    }

    async fn follow_one(
        &self,
        name: &str,
        fleet: &Arc<Fleet>,
        metrics: &Arc<Metrics>,
    ) -> Result<(), ProviderError> {
        let (told, last) = watch::channel(Answer::Failed);
        let (told, mut answers) = (Arc::new(Told(told)), Answers { last, told: Answer::Failed });
        let client = connect_apart(self.config.clone(), metrics).await?;
        let api = Api::<ApiExportEndpointSlice>::all(observed(client, &self.turns, &told));
        let seconds = u32::try_from(WATCH_TIMEOUT.as_secs()).unwrap_or(60);
        let config =
            watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(seconds);
        let open = || watcher(api.clone(), config.clone()).boxed();
        let mut events = open();
        let (began, mut expiries) = (Instant::now(), Expiries::default());
        let mut listed = None;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                answer = answers.next() => {
                    match answer {
                        Answer::Owed(_) => self.late(fleet, name).await,
                        Answer::Given => self.works(fleet, name),
                        Answer::Failed => {}
                    }
                    continue;
                }
            };
            let Some(event) = event else { return Err(ProviderError::WatchEnded) };
            match event {
                Ok(Event::Init) => listed = None,
                Ok(Event::InitApply(slice)) => listed = Some(slice),
                Ok(Event::InitDone) => {
                    told.answered();
                    self.publish(fleet, name, listed.take().as_ref()).await;
                }
                Ok(Event::Apply(slice)) => self.publish(fleet, name, Some(&slice)).await,
                Ok(Event::Delete(_)) => self.publish(fleet, name, None).await,
                Err(err) if is_overtaken(&err) => {}
                Err(err) if is_expired(&err) => {
                    told.0.send_replace(Answer::Failed);
                    tokio::time::sleep(expiries.next()).await;
                    events = open();
                }
                Err(err) => {
                    told.0.send_replace(Answer::Failed);
                    let patient = is_away(&err) || began.elapsed() >= PATIENCE;
                    let why = explain(&err, name, &self.config.cluster_url.to_string());
                    self.unread(fleet, name, patient, why).await;
                    self.turns.next().await;
                }
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoints of the slices that were read.
    fn read(&self) -> Urls {
        let known = self.known();
        let read = known.iter().filter_map(|(name, known)| match known {
            Known::Endpoints(urls) => Some((name.clone(), urls.clone())),
            _ => None,
        });
        read.collect()
    }

    /// Notes that a slice cannot be read, and serves what is stored of it if it never was.
    async fn unread(&self, fleet: &Arc<Fleet>, name: &str, restore: bool, why: String) {
        if restore && self.restore(name) {
            self.apply(fleet).await;
        }
        fleet.unread(name, self.excuse(name, why));
    }

    /// The same as long as there is no answer, which is no news where it could not be read before.
    async fn late(&self, fleet: &Arc<Fleet>, name: &str) {
        if !fleet.is_unread(name) {
            let why = format!("{} does not answer", self.config.cluster_url);
            self.unread(fleet, name, true, why).await;
        }
    }

    /// Notes that a slice is watched, perhaps again.
    fn works(&self, fleet: &Fleet, name: &str) {
        if self.known().get(name) == Some(&Known::Absent) {
            let why = format!(
                "there is no APIExportEndpointSlice {name} in {}; check --kubeconfig, --context and \
                 --apiexport-endpoint-slice-name, or run `backend init`; waiting for it",
                self.config.cluster_url
            );
            fleet.unread(name, why);
        } else if fleet.read(name) {
            self.turns.back();
        }
    }

    /// Takes what is stored of a slice that was not read yet. Whether there is any.
    fn restore(&self, name: &str) -> bool {
        let mut known = self.known();
        let stored = self.stored.as_ref().and_then(|stored| stored.of(name));
        match (known.get_mut(name), stored) {
            (Some(known @ Known::Nothing), Some(urls)) => {
                *known = Known::Stored(usable(name, urls.iter().map(String::as_str)));
                true
            }
            _ => false,
        }
    }

    /// Adds to why a slice cannot be read what is served meanwhile.
    fn excuse(&self, name: &str, why: String) -> String {
        match (self.known().get(name), &self.stored) {
            (Some(Known::Stored(urls)), Some(stored)) => format!(
                "{why}; until it is read, the endpoints stored in {} are served ({})",
                stored.path().display(),
                urls.len()
            ),
            _ => why,
        }
    }

    /// Takes over what a slice says.
    async fn publish(
        &self,
        fleet: &Arc<Fleet>,
        name: &str,
        slice: Option<&ApiExportEndpointSlice>,
    ) {
        // An endpoint that was known last and is not in the slice at this moment is as lost as one that goes later.
        if self.restore(name) {
            self.apply(fleet).await;
        }
        let now = slice.map_or(Known::Absent, |slice| Known::Endpoints(endpoints(name, slice)));
        let before = self.known().insert(name.to_owned(), now.clone());
        if now == Known::Endpoints(BTreeSet::new()) && before.as_ref() != Some(&now) {
            tracing::info!(
                slice = name,
                "the APIExportEndpointSlice has no endpoint yet; it gets one when the first workspace \
                 binds the APIExport; waiting"
            );
        }
        self.works(fleet, name);
        self.apply(fleet).await;
        if let Some(stored) = &self.stored {
            stored.touch();
        }
    }

    /// Makes the fleet's endpoints equal to what is known of all slices.
    async fn apply(&self, fleet: &Arc<Fleet>) {
        let (wanted, complete) = wanted(&self.known());
        let urls = wanted.iter().filter_map(|url| url.parse::<Uri>().ok());
        // What cannot be made is said, and tried again.
        let _ = fleet.set_endpoints(urls.map(|url| self.endpoint(&url)).collect()).await;
        if complete {
            fleet.discovered();
        }
    }
}

/// The endpoints of all slices, and whether each slice was there once, now or for an earlier process.
fn wanted(known: &BTreeMap<String, Known>) -> (BTreeSet<String>, bool) {
    let mut wanted = BTreeSet::new();
    let mut complete = true;
    for slice in known.values() {
        match slice {
            Known::Endpoints(urls) => wanted.extend(urls.iter().cloned()),
            Known::Stored(urls) => {
                wanted.extend(urls.iter().cloned());
                complete &= !urls.is_empty();
            }
            Known::Nothing | Known::Absent => complete = false,
        }
    }
    (wanted, complete)
}

/// The URLs of a slice.
fn endpoints(name: &str, slice: &ApiExportEndpointSlice) -> BTreeSet<String> {
    let endpoints = slice.status.iter().flat_map(|status| &status.endpoints);
    usable(name, endpoints.map(|endpoint| endpoint.url.as_str()))
}

/// Those of a slice's URLs that are of an export. Another one is said and left out.
fn usable<'a>(slice: &str, urls: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let is_export =
        |url: &Uri| ExportRef::of_url(url).is_some() && url.scheme_str() == Some("https");
    let mut taken = BTreeSet::new();
    for url in urls {
        let text = url.trim_end_matches('/');
        if text.parse::<Uri>().is_ok_and(|url| is_export(&url)) {
            taken.insert(text.to_owned());
        } else {
            tracing::warn!(
                url,
                slice,
                "endpoint is left out: its URL is not https://<host>/services/apiexport/<cluster>/<export>"
            );
        }
    }
    taken
}

/// Whether a slice cannot be read because nobody is there who could refuse it.
fn is_away(err: &Error) -> bool {
    match err {
        Error::InitialListFailed(kube::Error::Api(status)) => {
            status.code >= 500 || status.code == 429
        }
        Error::InitialListFailed(_) => true,
        _ => false,
    }
}

fn explain(err: &Error, slice: &str, server: &str) -> String {
    let status = match err {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchError(status) => Some(&**status),
        _ => None,
    };
    match status.map(|status| status.code) {
        Some(404) => format!(
            "{server} serves no APIExportEndpointSlices; the context must point at the kcp \
             workspace of the APIExport (https://host/clusters/root:kube-bind); trying again"
        ),
        Some(401) => format!(
            "{server} does not accept the credential; renew the kubeconfig with `backend init`, then \
             restart, unless the shard of its service account is away; trying again"
        ),
        Some(403) => format!(
            "the credential may not read APIExportEndpointSlice {slice} in {server}; grant the \
             rules of kcp/rbac.yaml with `backend init`, or check --context; trying again"
        ),
        Some(code) if code >= 500 => format!(
            "{server} answers {code}; check that kcp runs with all its shards; trying again"
        ),
        _ => format!(
            "{server} cannot be reached: {}; check that it runs and that the kubeconfig names it; \
             trying again",
            crate::runtime::watch::text_of(err)
        ),
    }
}

#[cfg(test)]
mod tests;
