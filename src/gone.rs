//! Makes sure that something is really gone before what depended on it is deleted.
//!
//! A cache delete is no proof: a workspace that moves between shards, an `APIBinding` that is being
//! deleted and a workspace that is being deleted all make our objects disappear without anybody
//! wanting their service namespaces deleted (design sections 3 and 4). So nothing is deleted before a
//! moment has passed and the server that answers has shown, on the same endpoint, that it still serves
//! our objects of that consumer or of that cluster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use crate::api::claims::API_BINDINGS;
use crate::api::kcp::ApiBinding;
use crate::api::keys;
use crate::kinds::Kinds;
use crate::runtime::cluster::ObjKey;
use crate::runtime::error::CallError;
use crate::runtime::fleet::Cluster;
use crate::runtime::kind::get_unwatched;

/// How long something has to be missed. A workspace that is being deleted loses everything of ours
/// within this time, which no longer looks as if one consumer had gone.
const SETTLE: Duration = Duration::from_secs(2);

/// When to look again after a server could not show that it serves our objects.
pub const UNPROVEN_AGAIN: Duration = Duration::from_secs(30);

/// An absence that nobody followed up is forgotten after this time.
const STALE: Duration = Duration::from_mins(10);

/// What the server says about a contract namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is there, with this UID of its `ClusterBinding`.
    There(String),
    /// It is gone, or another one has its name, or it is on its way out.
    Gone,
    /// The server does not show us what it must have, so nothing may be concluded.
    Unproven,
}

/// Who asks.
pub struct Gone {
    kinds: Arc<Kinds>,
    missed: Mutex<HashMap<ObjKey, Instant>>,
}

impl Gone {
    /// Knows of no absence yet.
    #[must_use]
    pub fn new(kinds: Arc<Kinds>) -> Self {
        Self { kinds, missed: Mutex::default() }
    }

    /// Notes that an object is missed; the time to wait comes back, until it was missed for long
    /// enough.
    pub fn wait(&self, key: &ObjKey) -> Option<Duration> {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if missed.len() == missed.capacity() {
            missed.retain(|_, since| now.duration_since(*since) < STALE);
        }
        let since = *missed.entry(key.clone()).or_insert(now);
        let left = SETTLE.saturating_sub(now.duration_since(since));
        (!left.is_zero()).then_some(left)
    }

    /// Notes that an object is there, or that its absence has been dealt with.
    pub fn forget(&self, key: &ObjKey) {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Asks the server about a contract namespace; one with another UID than this is not the one that
    /// is meant.
    pub async fn contract(
        &self,
        cluster: &Cluster,
        namespace: &str,
        uid: Option<&str>,
    ) -> Result<Standing, CallError> {
        if is_leaving(cluster).await? {
            return Ok(Standing::Unproven);
        }
        let live: Option<Namespace> = get_unwatched(cluster, "", namespace).await?;
        let stays = |meta: &ObjectMeta| {
            meta.deletion_timestamp.is_none() && (uid.is_none() || meta.uid.as_deref() == uid)
        };
        if live.is_some_and(|live| stays(&live.metadata)) {
            let kind = &self.kinds.cluster_bindings;
            let binding = kind.get_live(cluster, namespace, keys::CLUSTER_BINDING).await?;
            let uid = binding.and_then(|binding| binding.metadata.uid);
            return Ok(uid.map_or(Standing::Unproven, Standing::There));
        }
        let own = self.kinds.clusters.get_live(cluster, "", keys::CLUSTER).await?;
        let serves = own.is_some_and(|own| own.metadata.deletion_timestamp.is_none());
        Ok(if serves { Standing::Gone } else { Standing::Unproven })
    }
}

impl Gone {
    /// Whether an `APIBinding` of that name is gone for certain: the workspace must still show us all it has. While the
    /// claim is withdrawn they all look gone, and after it is granted again until kcp has labelled them.
    pub async fn api_binding(&self, cluster: &Cluster, name: &str) -> Result<bool, CallError> {
        let own: Option<ApiBinding> = get_unwatched(cluster, "", &cluster.info.binding).await?;
        let shows = own.is_some_and(|own| {
            let grants = own.grants(&API_BINDINGS) && own.applies(&API_BINDINGS);
            own.metadata.deletion_timestamp.is_none() && grants
        });
        if !shows {
            return Ok(false);
        }
        let live: Option<ApiBinding> = get_unwatched(cluster, "", name).await?;
        Ok(live.is_none())
    }
}

/// Whether the cluster is letting go of us, as the server knows it now: our own view of it may be older
/// than that of the object which is missed.
async fn is_leaving(cluster: &Cluster) -> Result<bool, CallError> {
    if cluster.info.leaving {
        return Ok(true);
    }
    if cluster.endpoint.only_cluster().is_some() {
        return Ok(false);
    }
    if cluster.info.binding.is_empty() {
        return Ok(true);
    }
    let binding: Option<ApiBinding> = get_unwatched(cluster, "", &cluster.info.binding).await?;
    Ok(binding.is_none_or(|binding| binding.metadata.deletion_timestamp.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cluster::ClusterId;

    #[tokio::test(start_paused = true)]
    async fn an_absence_counts_only_after_a_moment() {
        let gone = Gone::new(Arc::default());
        let key = ObjKey::new(&ClusterId::local(), "ns", "name");
        assert_eq!(gone.wait(&key), Some(SETTLE));
        tokio::time::advance(SETTLE).await;
        assert_eq!(gone.wait(&key), None);
        gone.forget(&key);
        assert_eq!(gone.wait(&key), Some(SETTLE));
    }
}
