//! The APIExportEndpointSlices that the flags name, and the endpoints in them.
//!
//! One process can serve several Partitions, each with a slice of its own, or one process each. Endpoints that two
//! slices name are one. A slice that cannot be read, or is not there, takes nothing from the others: the process
//! serves what it knows, and is not ready until each slice was there once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{FutureExt as _, select_all};
use http::Uri;
use kube::Config;
use kube::api::Api;
use kube::runtime::watcher::{self, Error, Event, watcher};

use super::ExportRef;
use crate::api::kcp::ApiExportEndpointSlice;
use crate::api::keys;
use crate::providers::ProviderError;
use crate::runtime::endpoint::{ClusterSource, EndpointSpec, WATCH_TIMEOUT, connect};
use crate::runtime::fleet::Fleet;
use crate::runtime::metrics::Metrics;

/// What is known of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// It was not read yet.
    Nothing,
    /// There is none of this name.
    Absent,
    /// Its endpoints.
    Endpoints(BTreeSet<String>),
}

/// The slices.
pub(super) struct Slices {
    config: Config,
    known: Mutex<BTreeMap<String, Known>>,
}

impl Slices {
    pub(super) fn new(config: Config, names: Vec<String>) -> Self {
        let known = names.into_iter().map(|name| (name, Known::Nothing)).collect();
        Self { config, known: Mutex::new(known) }
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
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => {
                    listed = None;
                    continue;
                }
                Ok(Event::InitApply(slice)) => {
                    listed = Some(slice);
                    continue;
                }
                Ok(Event::InitDone) => self.publish(fleet, name, listed.take().as_ref())?,
                Ok(Event::Apply(slice)) => self.publish(fleet, name, Some(&slice))?,
                Ok(Event::Delete(_)) => self.publish(fleet, name, None)?,
                Err(err) => {
                    fleet.waiting(explain(&err, name, &server));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(15));
                    continue;
                }
            }
            pause = Duration::from_millis(500);
        }
        Err(ProviderError::WatchEnded)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what a slice says.
    fn publish(
        &self,
        fleet: &Arc<Fleet>,
        name: &str,
        slice: Option<&ApiExportEndpointSlice>,
    ) -> Result<(), ProviderError> {
        let now = slice.map_or(Known::Absent, |slice| Known::Endpoints(endpoints(name, slice)));
        let before = self.known().insert(name.to_owned(), now.clone());
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
        let (wanted, complete) = wanted(&self.known());
        let urls = wanted.iter().filter_map(|url| url.parse::<Uri>().ok());
        match fleet.set_endpoints(urls.map(|url| self.endpoint(&url)).collect()) {
            Err(err) if fleet.has_endpoints() => {
                tracing::warn!("{err}; going on with the other endpoints");
            }
            result => result?,
        }
        if complete {
            fleet.discovered();
        }
        Ok(())
    }
}

/// The endpoints of all slices, and whether all slices are there.
fn wanted(known: &BTreeMap<String, Known>) -> (BTreeSet<String>, bool) {
    let mut wanted = BTreeSet::new();
    let mut complete = true;
    for slice in known.values() {
        match slice {
            Known::Endpoints(urls) => wanted.extend(urls.iter().cloned()),
            Known::Nothing | Known::Absent => complete = false,
        }
    }
    (wanted, complete)
}

/// The URLs of a slice. One that is no URL of an export is said and left out.
fn endpoints(name: &str, slice: &ApiExportEndpointSlice) -> BTreeSet<String> {
    let mut urls = BTreeSet::new();
    for endpoint in slice.status.iter().flat_map(|status| &status.endpoints) {
        let text = endpoint.url.trim_end_matches('/');
        let is_export =
            |url: &Uri| ExportRef::of_url(url).is_some() && url.scheme_str() == Some("https");
        if text.parse::<Uri>().is_ok_and(|url| is_export(&url)) {
            urls.insert(text.to_owned());
        } else {
            tracing::warn!(
                url = endpoint.url,
                slice = name,
                "endpoint is left out: its URL is not https://<host>/services/apiexport/<cluster>/<export>"
            );
        }
    }
    urls
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
             restart; trying again"
        ),
        Some(403) => format!(
            "the credential may not read APIExportEndpointSlice {slice} in {server}; grant the \
             rules of kcp/rbac.yaml with `backend init`, or check --context; trying again"
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
}
