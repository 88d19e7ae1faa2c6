//! Names of logical clusters, and object keys that carry them.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The name of a logical cluster (kcp annotation `kcp.io/cluster`), or of the one cluster of a
/// plain Kubernetes endpoint.
///
/// It becomes a path segment of requests, so only what kcp itself gives out is accepted: lower-case
/// letters, digits and `-`, at most 63. A workspace path (`root:org:ws`) is for people and is no
/// cluster name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(Arc<str>);

/// Why a text is not the name of a logical cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of a logical cluster; use the name that `kubectl get logicalcluster \
     cluster` shows in its `kcp.io/cluster` annotation, not a workspace path"
)]
pub struct InvalidClusterId(String);

impl ClusterId {
    /// Checks and takes over a name.
    pub fn parse(name: &str) -> Result<Self, InvalidClusterId> {
        let fits = !name.is_empty()
            && name.len() <= 63
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if fits { Ok(Self(name.into())) } else { Err(InvalidClusterId(name.to_owned())) }
    }

    /// The one cluster of a plain Kubernetes endpoint.
    #[must_use]
    pub fn local() -> Self {
        Self("kubernetes".into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One object of one logical cluster. The kind is known from where the key is used.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjKey {
    /// The logical cluster.
    pub cluster: ClusterId,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjKey {
    /// A key of its parts; an empty namespace means cluster-scoped.
    #[must_use]
    pub fn new(cluster: &ClusterId, namespace: &str, name: &str) -> Self {
        Self { cluster: cluster.clone(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key of an object with this metadata in that cluster.
    #[must_use]
    pub fn of(cluster: &ClusterId, meta: &ObjectMeta) -> Self {
        Self {
            cluster: cluster.clone(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    /// `<namespace>/<name>`, for those who know their own cluster only and by other names.
    #[must_use]
    pub fn in_cluster(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Display for ObjKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}", self.cluster, self.in_cluster())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_safe_as_a_path_segment_are_logical_clusters() {
        for good in ["28rwq3skw0u9rkqq", "root", "a", "a-b"] {
            assert_eq!(ClusterId::parse(good).map(|c| c.to_string()), Ok(good.to_owned()));
        }
        let long = "a".repeat(64);
        for bad in ["", "*", "root:org", "a/../b", "%2e", "A", "-a", "a-", "ä", long.as_str()] {
            assert_eq!(ClusterId::parse(bad), Err(InvalidClusterId(bad.to_owned())));
        }
    }
}
