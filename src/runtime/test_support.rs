//! Clusters for tests of pure functions: nothing listens behind them.

use std::sync::Arc;

use super::cluster::ClusterId;
use super::endpoint::{ClusterSource, Endpoint, EndpointSpec};
use super::fleet::{Cluster, ClusterInfo};

/// A cluster with this information, on an endpoint where nobody answers.
pub(crate) fn cluster_with(info: ClusterInfo) -> Cluster {
    let config = kube::Config::new("https://127.0.0.1:1".parse().unwrap());
    let source = ClusterSource::Static(ClusterId::local());
    let endpoint = Endpoint::connect(EndpointSpec { config, source }, &Arc::default()).unwrap();
    Cluster::new(ClusterId::local(), Arc::new(endpoint), Arc::new(info))
}
