//! Where endpoints and clusters come from.
//!
//! A provider names the endpoints of a [`Fleet`] and says which logical clusters are served through
//! them. A new one is a file here and a line in [`from_config`].

mod kcp;
mod kubernetes;

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::Uri;
use kube::Config;
use tokio_util::sync::CancellationToken;

use crate::api::claims::Claim;
use crate::api::kcp::ApiBinding;
use crate::runtime::endpoint::ConnectError;
use crate::runtime::fleet::{Fleet, Source};
use crate::runtime::kind;
use crate::runtime::metrics::Metrics;

pub use kcp::{ExportRef, StateError, Stored, engagement};

/// Names the endpoints and engages the clusters of a fleet.
pub trait Provider: Send + Sync {
    /// What the provider itself watches through each endpoint.
    fn sources(&self, metrics: &Arc<Metrics>) -> Vec<Arc<dyn Source>>;

    /// Where what is known outlives the process; none where nothing does.
    fn stored(&self) -> Option<Arc<Stored>> {
        None
    }

    /// Keeps the fleet's endpoints equal to what there is, until cancelled.
    fn run(
        self: Arc<Self>,
        fleet: Arc<Fleet>,
        metrics: Arc<Metrics>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, Result<(), ProviderError>>;
}

/// Why a provider cannot go on. Troubles that pass are waited out and do not come here.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The client could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is no place for what is to be stored.
    #[error(transparent)]
    State(#[from] StateError),
    /// The stream of endpoint slices ended, which it never does.
    #[error("the watch of the APIExportEndpointSlice ended; restart the backend")]
    WatchEnded,
}

/// Which provider, and what it needs.
#[derive(Debug, Clone)]
pub enum Kind {
    /// One plain Kubernetes cluster.
    Kubernetes,
    /// All workspaces that bound an APIExport of kcp.
    Kcp {
        /// The APIExportEndpointSlices in the workspace of the kubeconfig.
        slices: Vec<String>,
        /// Where the endpoints that were known last are stored; none means nowhere.
        state_dir: Option<PathBuf>,
        /// The claims that a workspace has to accept.
        claims: Vec<Claim>,
        /// Serve the export's own logical cluster as well.
        serve_export: bool,
    },
}

/// Makes a provider. `server_url` replaces what the kubeconfig (kubernetes) or the endpoint slice
/// (kcp) names. In kcp the provider fills `bindings`, by which it knows the workspaces.
pub fn from_config(
    kind: Kind,
    config: Config,
    server_url: Option<Uri>,
    bindings: &Arc<kind::Kind<ApiBinding>>,
) -> Result<Arc<dyn Provider>, ProviderError> {
    Ok(match kind {
        Kind::Kubernetes => Arc::new(kubernetes::Kubernetes::new(config, server_url)),
        Kind::Kcp { slices, state_dir, claims, serve_export } => {
            let (state_dir, bindings) = (state_dir.as_deref(), Arc::clone(bindings));
            let kcp = kcp::Kcp::new;
            Arc::new(kcp(config, server_url, slices, state_dir, claims, serve_export, bindings)?)
        }
    })
}
