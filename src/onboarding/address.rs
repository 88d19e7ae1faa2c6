//! The address that a workspace publishes of itself.
//!
//! Of several shards each serves its own virtual workspace, so the host through which we reach a workspace is that of a
//! shard. kcp publishes the front proxy in `status.URL` of the `LogicalCluster`, where the workspace lets us read it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;

use crate::api::claims::LOGICAL_CLUSTERS;
use crate::api::kcp::{LOGICAL_CLUSTER, LogicalCluster};
use crate::kinds::Kinds;
use crate::runtime::cluster::ClusterId;
use crate::runtime::endpoint::EndpointId;
use crate::runtime::error::CallError;
use crate::runtime::fleet::Cluster;
use crate::runtime::kind::get_unwatched;

/// What was read, for the life of an endpoint: kcp does not change it. Goes with the workspace.
pub struct Published(Arc<Mutex<HashMap<ClusterId, (EndpointId, Uri)>>>);

impl Published {
    /// Nothing is known yet. Call it before the kinds are handed to a fleet.
    #[must_use]
    pub fn new(kinds: &Kinds) -> Self {
        let all = Arc::<Mutex<HashMap<ClusterId, _>>>::default();
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
        if let Some((_, url)) = known.filter(|(through, _)| *through == endpoint) {
            return Ok(Some(url));
        }
        let live: Option<LogicalCluster> = get_unwatched(cluster, "", LOGICAL_CLUSTER).await?;
        let url = live.and_then(|live| live.status).and_then(|status| status.url);
        let url = url.and_then(|url| url.parse().ok()).filter(is_address);
        if let Some(url) = &url {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(cluster.id.clone(), (endpoint, url.clone()));
        }
        Ok(url)
    }
}

/// A credential goes there, so nothing but https with a host will do.
fn is_address(url: &Uri) -> bool {
    url.scheme_str() == Some("https")
        && url.authority().is_some_and(|authority| !authority.as_str().contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_with_a_host_and_without_credentials() {
        for (url, expected) in [
            ("https://kcp.example.org:6443/clusters/abc", true),
            ("http://kcp.example.org/clusters/abc", false),
            ("https://me@kcp.example.org/clusters/abc", false),
            ("/clusters/abc", false),
        ] {
            assert_eq!(is_address(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
