//! One look at an installation.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::Api;

use super::finding::command;
use super::lists::{self, Listed};
use crate::api::kcp::{ApiExport, ApiExportEndpointSlice};
use crate::app::world::{self, World};
use crate::cli::{Config, ProviderKind};
use crate::init::connection::base_url;
use crate::kinds::Kinds;
use crate::providers::{ExportRef, ProviderError};
use crate::rights::ExportRights;
use crate::runtime::cluster::ClusterId;
use crate::runtime::endpoint::{Endpoint, connect};
use crate::runtime::error::Cause;
use crate::runtime::fleet::{Cluster, Fleet, Readiness, Source};
use crate::runtime::metrics::Metrics;
use crate::runtime::tasks::Tasks;

/// How long everything may take to be read.
const PATIENCE: Duration = Duration::from_secs(20);

/// After all is read, a workspace of which the binding is on its way is waited for this long.
const SETTLE: Duration = Duration::from_millis(300);

/// Why nothing could be seen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be used.
    #[error(transparent)]
    World(#[from] world::Error),
    /// There is no way to the endpoints.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A client could not be made.
    #[error(transparent)]
    Connect(#[from] crate::runtime::endpoint::ConnectError),
    /// What is expected could not be generated.
    #[error("cannot generate what should be installed: {0}; this is a bug")]
    Manifests(#[source] crate::manifests::Error),
    /// The rows have no YAML form.
    #[error("cannot write YAML: {0}; use --output=json")]
    Yaml(#[source] serde_saphyr::ser::Error),
}

/// An export as the server of the kubeconfig has it.
pub(super) struct Export {
    pub(super) name: String,
    pub(super) read: Result<ApiExport, kube::Error>,
}

/// What was seen.
pub(super) struct Look {
    pub(super) config: Config,
    /// How the server of the kubeconfig is reached, or the one that the flags name instead.
    pub(super) client: kube::Config,
    pub(super) kinds: Arc<Kinds>,
    pub(super) metrics: Arc<Metrics>,
    /// The engaged clusters whose endpoints could be read.
    pub(super) clusters: Vec<Cluster>,
    /// All endpoints that there are.
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    /// The exports that the endpoints serve; none on Kubernetes.
    pub(super) exports: Vec<Export>,
    /// What could not be read, each beginning with what that is and `: `.
    pub(super) not_ready: Vec<String>,
    /// All roles and bindings, ours and others'.
    rights: Vec<Listed>,
    /// What is watched.
    pub(super) sources: Vec<Arc<dyn Source>>,
    tasks: Tasks,
}

impl Look {
    /// Reads everything once.
    pub(super) async fn at(config: Config) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::default());
        let World { mut client, kinds, provider } = World::of(&config).await?;
        if let (ProviderKind::Kubernetes, Some(url)) = (config.provider, &config.server_url) {
            client.cluster_url = url.clone();
        }
        let tasks = Tasks::default();
        let stop = tasks.cancelled().clone();
        let mut sources = kinds.watches(&metrics, true);
        sources.extend(provider.sources(&metrics));
        let fleet = Fleet::new(sources.clone(), vec![], Arc::clone(&metrics), tasks.clone());
        let running = provider.run(Arc::clone(&fleet), Arc::clone(&metrics), stop.clone());
        let read = async {
            while !fleet.readiness().waiting.is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            tokio::time::sleep(SETTLE).await;
        };
        tokio::select! {
            ended = running => ended?,
            _ = tokio::time::timeout(PATIENCE, read) => {}
        }
        let clusters = fleet.clusters();
        let endpoints = fleet.endpoints();
        let Readiness { waiting: mut not_ready, away } = fleet.readiness();
        not_ready.extend(away);
        not_ready.extend(endpoints.iter().filter_map(|endpoint| unserved(&sources, endpoint)));
        let (rights, unread) = rights(&clusters).await;
        not_ready.extend(unread);
        let mut look = Self {
            config,
            client,
            kinds,
            metrics,
            clusters,
            endpoints,
            exports: Vec::new(),
            not_ready,
            rights,
            sources,
            tasks,
        };
        if look.config.provider == ProviderKind::Kcp {
            look.read_exports().await?;
        }
        Ok(look)
    }

    /// Reads the exports that the endpoints serve; without any endpoint, those that the endpoint slices are of. Says
    /// which of several slices cannot be read.
    async fn read_exports(&mut self) -> Result<(), Error> {
        let client = connect(self.client.clone(), &self.metrics)?;
        let served = self.endpoints.iter().filter_map(|endpoint| ExportRef::of_url(endpoint.uri()));
        let mut names: Vec<String> = served.map(|export| export.name).collect();
        if self.config.server_url.is_none() && (names.is_empty() || !self.not_ready.is_empty()) {
            let slices: Api<ApiExportEndpointSlice> = Api::all(client.clone());
            for slice in &self.config.endpoint_slice_names {
                match slices.get(slice).await {
                    Ok(found) => names.push(found.spec.export.name),
                    Err(err) => {
                        let said = format!("APIExportEndpointSlice {slice} ");
                        if !self.not_ready.iter().any(|why| why.contains(&said)) {
                            let cause = Cause::from(err);
                            self.not_ready.push(format!("APIExportEndpointSlice {slice}: {cause}"));
                        }
                    }
                }
            }
        }
        if names.is_empty() {
            // kcp calls the first slice of an export as the export.
            names.clone_from(&self.config.endpoint_slice_names);
        }
        names.sort_unstable();
        names.dedup();
        let exports: Api<ApiExport> = Api::all(client);
        for name in names {
            let read = exports.get(&name).await;
            self.exports.push(Export { name, read });
        }
        Ok(())
    }

    /// Lets go of all connections.
    pub(super) async fn end(&self) {
        self.tasks.stop(Duration::from_secs(1)).await;
    }

    /// A command of kubectl for an admin, about one object: `kubectl <verb> <kind> <name> <more>`. It names the server,
    /// as the context of whoever runs it may be another one. None where the name is none that belongs in a command.
    pub(super) fn kubectl(
        &self,
        cluster: &ClusterId,
        verb: &str,
        (kind, namespace, name): (&str, &str, &str),
        more: &[&str],
    ) -> Option<String> {
        let server = match self.config.provider {
            ProviderKind::Kubernetes => self.server(),
            ProviderKind::Kcp => {
                format!("--server={}/clusters/{}", base_url(&self.client.cluster_url), cluster)
            }
        };
        let place = format!("--namespace={namespace}");
        let mut words = vec!["kubectl", &server];
        words.extend((!namespace.is_empty()).then_some(place.as_str()));
        words.extend([verb, kind, name]);
        words.extend(more);
        command(&words, &[namespace, name])
    }

    /// The flag by which kubectl reaches the server of the kubeconfig.
    pub(super) fn server(&self) -> String {
        format!("--server={}", self.client.cluster_url.to_string().trim_end_matches('/'))
    }

    /// The roles and bindings of one cluster.
    pub(super) fn rights_in(&self, cluster: &Cluster) -> impl Iterator<Item = &Listed> {
        self.rights.iter().filter(|listed| listed.cluster == cluster.id)
    }

    /// What exports may have, by the rule of the controllers.
    pub(super) fn export_rights(&self) -> ExportRights {
        let allow_shared = self.config.allow_shared_cluster_scope;
        ExportRights { kinds: Arc::clone(&self.kinds), allow_shared }
    }

    /// Whether what is not seen in a cluster is not there: its server serves everything that is looked at.
    pub(super) fn shows_all(&self, cluster: &Cluster) -> bool {
        self.sources.iter().all(|source| source.listed(cluster.endpoint.id()))
    }
}

/// The roles and bindings behind the endpoints of these clusters, and what of them could not be read.
async fn rights(clusters: &[Cluster]) -> (Vec<Listed>, Vec<String>) {
    let (mut all, mut unread) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for Cluster { endpoint, .. } in clusters {
        if !seen.insert(endpoint.id()) {
            continue;
        }
        unread.extend(lists::metadata::<ClusterRole>("ClusterRole", endpoint, &mut all).await);
        let kind = "ClusterRoleBinding";
        unread.extend(lists::metadata::<ClusterRoleBinding>(kind, endpoint, &mut all).await);
        unread.extend(lists::metadata::<Role>("Role", endpoint, &mut all).await);
        unread.extend(lists::metadata::<RoleBinding>("RoleBinding", endpoint, &mut all).await);
    }
    (all, unread)
}

/// The kinds that an endpoint does not serve, for people.
fn unserved(sources: &[Arc<dyn Source>], endpoint: &Endpoint) -> Option<String> {
    let id = endpoint.id();
    let missing = sources.iter().filter(|source| source.synced(id) && !source.listed(id));
    let missing: Vec<&str> = missing.map(|source| source.name()).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "{}: does not serve {}, so nothing is concluded from what is not seen there; on Kubernetes apply manifests/, in \
             kcp look at the resources and claims of the APIExport",
            endpoint.url(),
            missing.join(", ")
        )
    })
}
