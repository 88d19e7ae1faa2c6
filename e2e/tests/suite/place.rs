//! One cluster with a backend of its own, on kcp or Kubernetes, and consumers with exports in it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{self, Audit, Filter, Mark};
use e2e::backend::Backend;
use e2e::binding::{self, Bound, Request};
use e2e::driver::{Settings, Use};
use e2e::kcp::{Claims, Workspace};
use e2e::kubernetes::Kubernetes;
use e2e::object::{self, core, kube_bind};
use e2e::provider::{self, Provider};
use e2e::service::{self, Exported, GROUP, Scope, Source};
use e2e::wait::{SOON, eventually};
use e2e::{dirs, snapshot, stack};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::json;

/// Longer than any pause of the backend's between two writes.
const QUIET: Duration = Duration::from_secs(5);

/// The cluster.
pub(crate) struct Place {
    pub(crate) admin: Client,
    pub(crate) settings: Settings,
    server: Server,
}

enum Server {
    Kcp { provider: Box<Provider>, workspace: Workspace },
    Kubernetes { kubernetes: Kubernetes, backend: Box<Backend> },
}

/// A namespaced resource besides those of every provider: a consumer can have two exports that need the same rights.
pub(crate) fn horses() -> Exported {
    Exported { plural: "horses", kind: "Horse", ..cowboys() }
}

/// What the first export of a consumer is of.
pub(crate) fn cowboys() -> Exported {
    Exported::of(GROUP, Scope::Namespaced)
}

impl Place {
    /// A new workspace of a new provider with these settings.
    pub(crate) async fn kcp(name: &str, settings: Settings) -> Result<Self> {
        let [scope, isolation] = settings.flags();
        let provider = Provider::start(name, &[&scope, &isolation, Source::Crds.flag()]).await?;
        let workspace = provider.tenant(name, Claims::All).await?;
        provider.serve(&workspace, Source::Crds).await?;
        let admin = provider.kcp.client(&workspace.cluster).await?;
        service::establish(&admin, &[horses().crd()]).await?;
        let server = Server::Kcp { provider: Box::new(provider), workspace };
        Ok(Self { admin, settings, server })
    }

    /// A Kubernetes of its own: each backend would serve the consumers of other tests too.
    pub(crate) async fn kubernetes(name: &str, settings: Settings) -> Result<Self> {
        let name = stack::unique(name);
        let kubernetes = Kubernetes::start(&dirs::fresh(&name)?).await?;
        let admin = kubernetes.client().await?;
        let flags = provider::install(&kubernetes, &name).await?;
        service::establish(&admin, &[cowboys().crd(), horses().crd()]).await?;
        let flags = [flags, settings.flags().to_vec()].concat();
        let backend = Box::new(Backend::start(&name, flags).await?);
        Ok(Self { admin, settings, server: Server::Kubernetes { kubernetes, backend } })
    }

    pub(crate) fn backend(&mut self) -> &mut Backend {
        match &mut self.server {
            Server::Kcp { provider, .. } => &mut provider.backend,
            Server::Kubernetes { backend, .. } => backend,
        }
    }

    /// The provider and the workspace of it.
    pub(crate) fn on_kcp(&self) -> Result<(&Provider, &Workspace)> {
        match &self.server {
            Server::Kcp { provider, workspace } => Ok((provider, workspace)),
            Server::Kubernetes { .. } => anyhow::bail!("not on kcp"),
        }
    }

    /// Ends a test: quotes the backend's log if it failed, else stops the backend, which must end well.
    pub(crate) async fn end(mut self, outcome: Result<()>) -> Result<()> {
        if let Err(error) = outcome {
            return Err(self.backend().fail(format!("{error:#}")));
        }
        self.backend().stop().await?;
        match self.server {
            Server::Kcp { .. } => Ok(()),
            Server::Kubernetes { kubernetes, .. } => kubernetes.kill().await,
        }
    }

    fn audit(&self) -> (Audit, Filter) {
        match &self.server {
            Server::Kcp { provider, workspace } => {
                (provider.kcp.audit(), Filter::backend().cluster(&workspace.cluster))
            }
            Server::Kubernetes { kubernetes, .. } => (kubernetes.audit(), Filter::backend()),
        }
    }

    /// The present end of the audit log.
    pub(crate) fn mark(&self) -> Result<Mark> {
        self.audit().0.mark()
    }

    /// What the backend deleted here since `mark`, once it has come to rest.
    pub(crate) async fn deletes(&self, mark: Mark) -> Result<Vec<audit::Request>> {
        let (log, ours) = self.audit();
        let renews = |request: &audit::Request| request.resource.starts_with("leases.");
        let mut requests = log.quiet(mark, &ours, QUIET, SOON, renews).await?;
        requests.retain(|request| request.verb.starts_with("delete"));
        Ok(requests)
    }

    /// An error if the backend deleted anything since `mark`.
    pub(crate) async fn deleted_nothing(&self, mark: Mark) -> Result<()> {
        let deletes = self.deletes(mark).await?;
        ensure!(deletes.is_empty(), "the backend deleted:\n{}", audit::listing(&deletes));
        Ok(())
    }

    pub(crate) fn api(&self, kind: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        object::api(&self.admin, kind, namespace)
    }

    pub(crate) fn namespaces(&self) -> Api<DynamicObject> {
        self.api(&core("Namespace"), None)
    }

    /// The `APIServiceNamespace`s of a consumer, for an admin.
    pub(crate) fn requested(&self, contract: &str) -> Api<DynamicObject> {
        self.api(&kube_bind("APIServiceNamespace"), Some(contract))
    }

    /// A consumer by its identity, which names its request too.
    pub(crate) async fn bind(&self, identity: &str) -> Result<Bound> {
        let bound = binding::bind(&self.admin, &Request::new(identity, identity)).await;
        bound.with_context(|| format!("binding {identity}"))
    }

    /// The export `name` of a consumer, acknowledged as its konnector does.
    pub(crate) async fn export(
        &self,
        bound: &Bound,
        name: &str,
        exported: &Exported,
        claims: &[&'static str],
    ) -> Result<Use> {
        let usage = bound.consumer.take_up(name, self.settings, exported, claims).await?;
        bound.consumer.acknowledge(&usage.export).await?;
        Ok(usage)
    }

    /// The UID of a Namespace, which has to be there and to stay.
    pub(crate) async fn standing(&self, namespace: &str) -> Result<String> {
        let metadata = self.namespaces().get(namespace).await?.metadata;
        ensure!(metadata.deletion_timestamp.is_none(), "Namespace {namespace} is terminating");
        metadata.uid.context("no UID")
    }

    /// Waits for the end of an object.
    pub(crate) async fn gone(
        &self,
        kind: &ApiResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<()> {
        object::wait_gone(&self.api(kind, namespace), name).await
    }

    /// Deletes an object and waits for its end.
    pub(crate) async fn delete(
        &self,
        kind: &ApiResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<()> {
        object::delete(&self.api(kind, namespace), name).await.with_context(|| kind.kind.clone())
    }

    /// A Secret of somebody in a namespace.
    pub(crate) async fn put_secret(&self, namespace: &str, name: &str) -> Result<()> {
        let manifest = json!({"metadata": {"name": name}, "stringData": {"key": "value"}});
        object::create(&self.admin, &core("Secret"), Some(namespace), manifest).await.map(drop)
    }

    /// Every object of a consumer, in its contract namespace, its service namespaces or named after one of them, with
    /// its UID. Requests are not among them: they are deleted in time.
    pub(crate) async fn objects_of(&self, contract: &str) -> Result<BTreeSet<String>> {
        let mut kinds = snapshot::kinds(&self.admin).await?;
        kinds.retain(|kind| !kind.kind.ends_with("Request"));
        kinds.extend([cowboys(), horses()].map(|exported| exported.resource()));
        let mut objects = BTreeSet::new();
        for kind in &kinds {
            let api = self.api(kind, None);
            // A server answers 429 for a kind that it began to serve a moment ago.
            let list = eventually(&format!("a list of {}", kind.plural), SOON, async || {
                api.list(&ListParams::default()).await
            })
            .await?;
            for object in list.items {
                let metadata = object.metadata;
                let place = metadata.namespace.unwrap_or_default();
                let name = metadata.name.unwrap_or_default();
                let uid = metadata.uid.unwrap_or_default();
                if place.contains(contract) || name.contains(contract) {
                    let state =
                        if metadata.deletion_timestamp.is_some() { " terminating" } else { "" };
                    objects.insert(format!("{} {place}/{name} {uid}{state}", kind.kind));
                }
            }
        }
        Ok(objects)
    }
}

/// Makes an `APIServiceNamespace` as the konnector does for an export, without waiting for anything.
pub(crate) async fn ask(usage: &Use, namespace: &str) -> Result<DynamicObject> {
    let kind = kube_bind("APIServiceNamespace");
    let owners = [usage.export.owner()];
    let manifest = json!({"metadata": {"name": namespace, "ownerReferences": owners}, "spec": {}});
    object::create(usage.consumer.client(), &kind, Some(usage.contract()), manifest).await
}

/// `status.namespace` of an `APIServiceNamespace`.
pub(crate) fn provided(object: &DynamicObject) -> Option<&str> {
    object.data["status"]["namespace"].as_str()
}
