//! The APIExportEndpointSlices that the flags name, and the endpoints in them.
//!
//! One process can serve several Partitions, each with a slice of its own, or one process each. Endpoints that two
//! slices name are one. A slice that cannot be read, or is not there, takes nothing from the others: the process
//! serves what it knows, and is not ready until each slice was there once.
//!
//! A slice that cannot be read at start because the shard of its workspace is away is replaced by what is stored
//! (`stored`), so that the workspaces of the other shards are served. The process stays unready meanwhile and says why:
//! it cannot know of a shard that was added since, and a rollout has to see that. Binds by `BindableResourcesRequest`
//! do not depend on it. Once the slice is read it is the truth: an endpoint that was only stored is held like
//! any that is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{FutureExt as _, select_all};
use http::Uri;
use kube::Config;
use kube::api::Api;
use kube::runtime::watcher::{self, Error, Event, watcher};

use super::ExportRef;
use super::stored::{StateError, Stored};
use crate::api::kcp::ApiExportEndpointSlice;
use crate::api::keys;
use crate::providers::ProviderError;
use crate::runtime::endpoint::{ClusterSource, EndpointSpec, WATCH_TIMEOUT, connect};
use crate::runtime::fleet::Fleet;
use crate::runtime::metrics::Metrics;

/// A server that does not answer for so long at start is taken for one that is away.
const PATIENCE: Duration = Duration::from_secs(3);

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
        Ok(Self { config, known: Mutex::new(known), stored: stored.map(Arc::new) })
    }

    /// An endpoint at this URL, with our credential.
    pub(super) fn endpoint(&self, url: &Uri) -> EndpointSpec {
        let mut config = self.config.clone();
        config.cluster_url = url.clone();
        EndpointSpec { config, source: ClusterSource::Annotation(keys::KCP_CLUSTER) }
    }

    /// Keeps the fleet's endpoints equal to those of all slices.
    pub(super) async fn follow(
        &self,
        fleet: &Arc<Fleet>,
        metrics: &Arc<Metrics>,
    ) -> Result<(), ProviderError> {
        let names: Vec<String> = self.known().keys().cloned().collect();
        let each = names.iter().map(|name| self.follow_one(name, fleet, metrics).boxed());
        select_all(each).await.0
    }

    async fn follow_one(
        &self,
        name: &str,
        fleet: &Arc<Fleet>,
        metrics: &Arc<Metrics>,
    ) -> Result<(), ProviderError> {
        let client = connect(self.config.clone(), metrics)?;
        let server = self.config.cluster_url.to_string();
        let seconds = u32::try_from(WATCH_TIMEOUT.as_secs()).unwrap_or(60);
        let config =
            watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(seconds);
        let mut events = watcher(Api::<ApiExportEndpointSlice>::all(client), config).boxed();
        let mut listed = None;
        let mut pause = Duration::from_millis(500);
        let mut silence = pin!(tokio::time::sleep(PATIENCE));
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = &mut silence, if !silence.is_elapsed() => {
                    if self.restore(fleet, name)? {
                        fleet.waiting(self.excuse(name, format!("{server} does not answer")));
                    }
                    continue;
                }
            };
            let Some(event) = event else { return Err(ProviderError::WatchEnded) };
            match event {
                Ok(Event::Init) => {
                    listed = None;
                    continue;
                }
                Ok(Event::InitApply(slice)) => {
                    listed = Some(slice);
                    continue;
                }
                Ok(Event::InitDone) => self.publish(fleet, name, listed.take().as_ref()).await?,
                Ok(Event::Apply(slice)) => self.publish(fleet, name, Some(&slice)).await?,
                Ok(Event::Delete(_)) => self.publish(fleet, name, None).await?,
                // Our version is no longer known: a new list follows, and nothing is wrong.
                Err(Error::WatchError(status)) if status.code == 410 => continue,
                Err(err) => {
                    if is_away(&err) {
                        self.restore(fleet, name)?;
                    }
                    fleet.waiting(self.excuse(name, explain(&err, name, &server)));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(15));
                    continue;
                }
            }
            pause = Duration::from_millis(500);
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is stored of a slice that was not read yet. Whether there is any.
    fn restore(&self, fleet: &Arc<Fleet>, name: &str) -> Result<bool, ProviderError> {
        let Some(urls) = self.stored.as_ref().and_then(|stored| stored.of(name)) else {
            return Ok(false);
        };
        {
            let mut known = self.known();
            if known.get(name) != Some(&Known::Nothing) {
                return Ok(false);
            }
            let urls = usable(name, urls.iter().map(String::as_str));
            known.insert(name.to_owned(), Known::Stored(urls));
        }
        self.apply(fleet)?;
        Ok(true)
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
    ) -> Result<(), ProviderError> {
        let now = slice.map_or(Known::Absent, |slice| Known::Endpoints(endpoints(name, slice)));
        let before = self.known().insert(name.to_owned(), now.clone());
        if matches!(before, Some(Known::Stored(_))) {
            tracing::info!(
                slice = name,
                "the APIExportEndpointSlice is read; what was stored of it no longer counts"
            );
        }
        match &now {
            Known::Endpoints(urls) if urls.is_empty() && before.as_ref() != Some(&now) => {
                tracing::info!(
                    slice = name,
                    "the APIExportEndpointSlice has no endpoint yet; it gets one when the first workspace \
                     binds the APIExport; waiting"
                );
            }
            Known::Absent => fleet.waiting(format!(
                "there is no APIExportEndpointSlice {name} in {}; check --kubeconfig, --context and \
                 --apiexport-endpoint-slice-name, or run `backend init`; waiting for it",
                self.config.cluster_url
            )),
            _ => {}
        }
        if self.apply(fleet)? {
            fleet.discovered();
        }
        if let (Some(stored), Known::Endpoints(urls)) = (&self.stored, &now) {
            stored.note(name, urls).await;
        }
        Ok(())
    }

    /// Makes the fleet's endpoints equal to what is known of all slices; whether all slices are there.
    fn apply(&self, fleet: &Arc<Fleet>) -> Result<bool, ProviderError> {
        let (wanted, complete) = wanted(&self.known());
        let urls = wanted.iter().filter_map(|url| url.parse::<Uri>().ok());
        match fleet.set_endpoints(urls.map(|url| self.endpoint(&url)).collect()) {
            Err(err) if fleet.has_endpoints() => {
                tracing::warn!("{err}; going on with the other endpoints");
            }
            result => result?,
        }
        Ok(complete)
    }
}

/// The endpoints of all slices, and whether all slices are there.
fn wanted(known: &BTreeMap<String, Known>) -> (BTreeSet<String>, bool) {
    let mut wanted = BTreeSet::new();
    let mut complete = true;
    for slice in known.values() {
        match slice {
            Known::Endpoints(urls) => wanted.extend(urls.iter().cloned()),
            Known::Stored(urls) => {
                wanted.extend(urls.iter().cloned());
                complete = false;
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
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_endpoints_are_those_of_all_slices_that_were_read() {
        let urls = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let east = || Known::Endpoints(urls(&["https://east"]));
        let both = || Known::Endpoints(urls(&["https://east", "https://west"]));
        for (slices, expected, complete) in [
            (vec![Known::Nothing, east()], vec!["https://east"], false),
            (vec![Known::Absent, both()], vec!["https://east", "https://west"], false),
            (vec![east(), both()], vec!["https://east", "https://west"], true),
            (vec![Known::Endpoints(urls(&[]))], vec![], true),
            (
                vec![Known::Stored(urls(&["https://west"])), east()],
                vec!["https://east", "https://west"],
                false,
            ),
        ] {
            let named = slices.into_iter().enumerate().map(|(at, known)| (at.to_string(), known));
            assert_eq!(wanted(&named.collect()), (urls(&expected), complete));
        }
    }

    #[test]
    fn of_the_urls_in_a_slice_those_of_an_export_are_taken() {
        let slice: ApiExportEndpointSlice = serde_json::from_value(json!({
            "apiVersion": "apis.kcp.io/v1alpha1", "kind": "APIExportEndpointSlice",
            "metadata": { "name": "kube-bind.io" },
            "spec": { "export": { "name": "kube-bind.io" } },
            "status": { "endpoints": [
                { "url": "https://east:6443/services/apiexport/exp0rt/kube-bind.io/" },
                { "url": "http://west:6443/services/apiexport/exp0rt/kube-bind.io" },
                { "url": "https://north:6443/clusters/root" },
                { "url": "no url" },
            ]},
        }))
        .unwrap();
        let expected = ["https://east:6443/services/apiexport/exp0rt/kube-bind.io".to_owned()];
        assert_eq!(endpoints("kube-bind.io", &slice), expected.into());
    }

    #[test]
    fn what_is_stored_replaces_a_server_that_is_away_and_not_one_that_refuses() {
        let status = |code: u16| {
            let status = json!({"status": "Failure", "code": code, "message": "", "reason": ""});
            kube::Error::Api(serde_json::from_value(status).unwrap())
        };
        for (code, away) in [(401, false), (403, false), (404, false), (429, true), (502, true)] {
            assert_eq!(is_away(&Error::InitialListFailed(status(code))), away, "{code}");
        }
        let gone = tower::BoxError::from("connection refused");
        assert!(is_away(&Error::InitialListFailed(kube::Error::Service(gone))));
        assert!(!is_away(&Error::NoResourceVersion));
    }
}
