//! What a run of the backend and a look at its installation have in common: how the API server is reached, which kinds
//! are read, and where clusters come from.

use std::sync::Arc;

use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::cli::{Config, ProviderKind, SchemaSource};
use crate::kinds::Kinds;
use crate::kinds::sources::SourceKind;
use crate::providers::{self, Provider, ProviderError};
use crate::runtime::error::first_line;

/// Why there is no way to the installation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig: {0}; check --kubeconfig, $KUBECONFIG and --context")]
    Kubeconfig(String),
    /// The provider cannot be made.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

/// See the module.
pub struct World {
    /// How the API server of the kubeconfig is reached.
    pub client: kube::Config,
    /// What is read.
    pub kinds: Arc<Kinds>,
    /// Where endpoints and clusters come from.
    pub provider: Arc<dyn Provider>,
}

impl World {
    /// The one that the flags describe. Nothing is asked of a server yet.
    pub async fn of(config: &Config) -> Result<Self, Error> {
        let client = kube_config(config).await?;
        let kinds = Arc::new(Kinds::new(match config.schema_source {
            SchemaSource::CustomResourceDefinitions => SourceKind::CustomResourceDefinitions,
            SchemaSource::ApiResourceSchemas => SourceKind::ApiResourceSchemas,
        }));
        let (kind, url) = (provider_kind(config), config.server_url.clone());
        let provider = providers::from_config(kind, client.clone(), url, &kinds.api_bindings)?;
        Ok(Self { client, kinds, provider })
    }
}

/// The standard loading rules: the flag, `$KUBECONFIG`, `~/.kube/config`, the pod's own account. The
/// last only where there is no file at all: a broken file must not end in another cluster.
async fn kube_config(config: &Config) -> Result<kube::Config, Error> {
    let options =
        KubeConfigOptions { context: config.context.clone(), ..KubeConfigOptions::default() };
    let broken = |err: &dyn std::error::Error| Error::Kubeconfig(first_line(err));
    if let Some(path) = &config.kubeconfig {
        let file = Kubeconfig::read_from(path).map_err(|err| broken(&err))?;
        return kube::Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(|err| broken(&err));
    }
    let home = std::env::home_dir().map(|home| home.join(".kube/config"));
    let has_file = std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty())
        || home.is_some_and(|path| path.exists());
    let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if in_pod && !has_file && config.context.is_none() {
        return kube::Config::incluster().map_err(|err| broken(&err));
    }
    kube::Config::from_kubeconfig(&options).await.map_err(|err| broken(&err))
}

fn provider_kind(config: &Config) -> providers::Kind {
    match config.provider {
        ProviderKind::Kubernetes => providers::Kind::Kubernetes,
        ProviderKind::Kcp => providers::Kind::Kcp {
            slices: config.endpoint_slice_names.clone(),
            state_dir: config.state_dir.clone(),
            claims: config.claims(),
            serve_export: config.serve_export_workspace,
        },
    }
}
