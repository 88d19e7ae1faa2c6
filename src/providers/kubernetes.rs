//! One plain Kubernetes cluster: one endpoint with one cluster, always engaged.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Uri;
use kube::Config;
use tokio_util::sync::CancellationToken;

use super::{Provider, ProviderError};
use crate::runtime::cluster::ClusterId;
use crate::runtime::endpoint::{ClusterSource, EndpointSpec};
use crate::runtime::fleet::{Fleet, Source};
use crate::runtime::metrics::Metrics;

pub(super) struct Kubernetes {
    config: Config,
}

impl Kubernetes {
    pub(super) fn new(mut config: Config, server_url: Option<Uri>) -> Self {
        if let Some(url) = server_url {
            config.cluster_url = url;
        }
        Self { config }
    }
}

impl Provider for Kubernetes {
    fn sources(&self, _: &Arc<Metrics>) -> Vec<Arc<dyn Source>> {
        Vec::new()
    }

    fn run(
        self: Arc<Self>,
        fleet: Arc<Fleet>,
        _: Arc<Metrics>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, Result<(), ProviderError>> {
        async move {
            let source = ClusterSource::Static(ClusterId::local());
            let endpoint = EndpointSpec { config: self.config.clone(), source };
            fleet.set_endpoints(vec![endpoint]).await?;
            fleet.discovered();
            cancel.cancelled().await;
            Ok(())
        }
        .boxed()
    }
}
