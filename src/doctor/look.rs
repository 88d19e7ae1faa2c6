//! One look at an installation.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::finding::command;
use crate::app::world::{self, World};
use crate::cli::{Config, ProviderKind};
use crate::init::connection::base_url;
use crate::kinds::Kinds;
use crate::providers::ProviderError;
use crate::runtime::cluster::ClusterId;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::fleet::{Cluster, Fleet, Readiness};
use crate::runtime::metrics::Metrics;
use crate::runtime::tasks::Tasks;

/// How long everything may take to be read.
const PATIENCE: Duration = Duration::from_secs(20);

/// After all is read, a workspace of which the binding is on its way is waited for this long.
const SETTLE: Duration = Duration::from_millis(300);

/// How many objects a page of a list has.
const PAGE: u32 = 500;

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

/// An object of a kind that is listed because it is not watched.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) kind: &'static str,
    pub(super) cluster: ClusterId,
    pub(super) metadata: ObjectMeta,
}

/// What was seen.
pub(super) struct Look {
    pub(super) config: Config,
    pub(super) client: kube::Config,
    pub(super) kinds: Arc<Kinds>,
    pub(super) metrics: Arc<Metrics>,
    /// The engaged clusters whose endpoints could be read.
    pub(super) clusters: Vec<Cluster>,
    /// All endpoints that there are.
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    /// What could not be read.
    pub(super) not_ready: Vec<String>,
    /// All roles and bindings, ours and others'.
    pub(super) rights: Vec<Listed>,
    tasks: Tasks,
}

impl Look {
    /// Reads everything once.
    pub(super) async fn at(config: Config) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::default());
        let World { client, kinds, provider } = World::of(&config).await?;
        let tasks = Tasks::default();
        let stop = tasks.cancelled().clone();
        let mut sources = kinds.watches(&metrics, false);
        sources.extend(provider.sources(&metrics));
        let fleet = Fleet::new(sources, vec![], Arc::clone(&metrics), tasks.clone());
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
        let mut rights = Vec::new();
        let mut seen = HashSet::new();
        for cluster in &clusters {
            if seen.insert(cluster.endpoint.id()) {
                let endpoint = &cluster.endpoint;
                list::<ClusterRole>("ClusterRole", endpoint, &mut rights).await;
                list::<ClusterRoleBinding>("ClusterRoleBinding", endpoint, &mut rights).await;
                list::<Role>("Role", endpoint, &mut rights).await;
                list::<RoleBinding>("RoleBinding", endpoint, &mut rights).await;
            }
        }
        let Readiness { waiting: mut not_ready, away } = fleet.readiness();
        not_ready.extend(away);
        Ok(Self { config, client, kinds, metrics, clusters, endpoints, not_ready, rights, tasks })
    }

    /// Lets go of all connections.
    pub(super) async fn end(&self) {
        self.tasks.stop(Duration::from_secs(1)).await;
    }

    /// A command of kubectl for an admin, about one object: `kubectl <verb> <kind> <name> <more>`. It names the server,
    /// as the context of whoever runs it may be another one. None where the name is none that belongs in a command.
    pub(super) fn kubectl(
        &self,
        cluster: &Cluster,
        verb: &str,
        (kind, namespace, name): (&str, &str, &str),
        more: &[&str],
    ) -> Option<String> {
        let server = match self.config.provider {
            ProviderKind::Kubernetes => self.server(),
            ProviderKind::Kcp => {
                format!("--server={}/clusters/{}", base_url(&self.client.cluster_url), cluster.id)
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
}

/// Lists a kind in all clusters of an endpoint. What may not be read is missing, which the claims of the workspace say.
async fn list<K>(kind: &'static str, endpoint: &Endpoint, all: &mut Vec<Listed>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::all(endpoint.wildcard());
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let Ok(page) = api.list_metadata(&params).await else { return };
        all.extend(page.items.into_iter().filter_map(|object: PartialObjectMeta<K>| {
            let cluster = endpoint.cluster_of(&object.metadata)?;
            Some(Listed { kind, cluster, metadata: object.metadata })
        }));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return,
        }
    }
}
