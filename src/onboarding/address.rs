//! The address that a workspace publishes of itself.
//!
//! Of several shards each serves its own virtual workspace, so the host through which we reach a workspace is that of a
//! shard. kcp publishes the front proxy in `status.URL` of the `LogicalCluster`, where the workspace lets us read it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use tokio::time::Instant;

use crate::api::claims::LOGICAL_CLUSTERS;
use crate::api::kcp::{LOGICAL_CLUSTER, LogicalCluster};
use crate::kinds::Kinds;
use crate::runtime::cluster::ClusterId;
use crate::runtime::endpoint::EndpointId;
use crate::runtime::error::CallError;
use crate::runtime::fleet::Cluster;
use crate::runtime::kind::get_unwatched;

/// What was read is believed for so long: kcp changes it only where its shards are given another external URL.
const BELIEVED: Duration = Duration::from_mins(10);

/// What was read, through which endpoint, and when. Goes with the workspace.
pub struct Published(Arc<Mutex<HashMap<ClusterId, Read>>>);

#[derive(Clone)]
struct Read {
    endpoint: EndpointId,
    at: Instant,
    url: Uri,
}

impl Published {
    /// Nothing is known yet. Call it before the kinds are handed to a fleet.
    #[must_use]
    pub fn new(kinds: &Kinds) -> Self {
        let all = Arc::<Mutex<HashMap<ClusterId, Read>>>::default();
        let known = Arc::clone(&all);
        kinds.clusters.subscribe(move |_, delta| {
            if delta.new.is_none() {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                known.remove(&delta.scope.cluster);
            }
        });
        Self(all)
    }

    /// The address of a workspace; none where it does not publish one to us.
    pub(super) async fn of(
        &self,
        kinds: &Kinds,
        cluster: &Cluster,
    ) -> Result<Option<Uri>, CallError> {
        let own = kinds.api_bindings.get(cluster, "", &cluster.info.binding);
        if !own.is_some_and(|own| own.grants(&LOGICAL_CLUSTERS)) {
            return Ok(None);
        }
        let endpoint = cluster.endpoint.id();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&cluster.id).cloned();
        let is_good = |read: &Read| read.endpoint == endpoint && read.at.elapsed() < BELIEVED;
        if let Some(read) = known.filter(is_good) {
            return Ok(Some(read.url));
        }
        let live: Option<LogicalCluster> = get_unwatched(cluster, "", LOGICAL_CLUSTER).await?;
        let url = live.and_then(|live| live.status).and_then(|status| status.url);
        let url = url.and_then(|url| url.parse().ok()).filter(|url| is_address(url, &cluster.id));
        if let Some(url) = &url {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // With them goes what was read through endpoints that were given up.
            known.retain(|_, read| read.at.elapsed() < BELIEVED);
            let read = Read { endpoint, at: Instant::now(), url: url.clone() };
            known.insert(cluster.id.clone(), read);
        }
        Ok(url)
    }
}

/// A credential goes there, so nothing but https with a host will do, and that workspace.
fn is_address(url: &Uri, cluster: &ClusterId) -> bool {
    url.scheme_str() == Some("https")
        && url.path().trim_end_matches('/').ends_with(&format!("/clusters/{cluster}"))
        && url.query().is_none()
        && url.authority().is_some_and(|authority| !authority.as_str().contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_with_a_host_without_credentials_and_of_the_workspace() {
        let cluster = ClusterId::parse("abc").unwrap();
        for (url, expected) in [
            ("https://kcp.example.org:6443/clusters/abc", true),
            ("http://kcp.example.org/clusters/abc", false),
            ("https://me@kcp.example.org/clusters/abc", false),
            ("https://kcp.example.org/clusters/abc/", true),
            ("https://example.org/kcp/clusters/abc", true),
            ("https://kcp.example.org/clusters/abd", false),
            ("https://kcp.example.org/clusters/abc/x", false),
            ("https://kcp.example.org/clusters/abc?x", false),
            ("/clusters/abc", false),
        ] {
            assert_eq!(is_address(&url.parse().unwrap(), &cluster), expected, "{url}");
        }
    }
}
