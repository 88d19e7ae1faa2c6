//! A provider under test: an export prepared by `backend init`, or a Kubernetes cluster prepared by `manifests/`, and a
//! backend that runs with the credential made there, never with an admin's.

use crate::wait::SOON;
use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::backend::Backend;
use crate::client::Access;
use crate::faultproxy::FaultProxy;
use crate::kcp::{Claims, Kcp, Workspace, Workspaces};
use crate::kubernetes::Kubernetes;
use crate::object::{self, core, kube_bind};
use crate::service::{self, Exported, Offer, Source};
use crate::{dirs, manifest, stack};

/// What platform teams run with on kcp.
pub const PLATFORM: &[&str] = &[
    "--consumer-scope=cluster",
    "--isolation=None",
    "--schema-source=apiresourceschemas",
    "--namespace-prefix=kube-bind-",
];
/// What keeps consumers apart in one cluster.
pub const NAMESPACED: &[&str] = &["--consumer-scope=namespaced", "--isolation=Prefixed"];

/// Name of the export that `backend init` makes.
pub const EXPORT: &str = "kube-bind.io";

/// An export workspace of a kcp and the backend that serves it.
#[derive(Debug)]
pub struct Provider<K = Kcp> {
    /// The kcp.
    pub kcp: Arc<K>,
    /// The export's workspace.
    pub export: Workspace,
    /// The flags that point a backend at it.
    pub flags: Vec<String>,
    /// The backend.
    pub backend: Backend,
    tenants: Mutex<Vec<String>>,
    offer: OnceCell<Offer>,
}

impl Provider {
    /// An export of its own in the shared kcp, and a backend with these flags.
    pub async fn start(name: &str, flags: &[&str]) -> Result<Self> {
        Self::start_on(stack::kcp().await?, name, flags).await
    }

    /// The same in a given kcp.
    pub async fn start_on(kcp: Arc<Kcp>, name: &str, flags: &[&str]) -> Result<Self> {
        let name = stack::unique(name);
        let (export, base) = init(&kcp, &name).await?;
        let flags: Vec<String> =
            base.into_iter().chain(flags.iter().map(|flag| (*flag).to_owned())).collect();
        let backend = Backend::start(&format!("{name}-backend"), flags.clone()).await?;
        Ok(Self::of(kcp, export, flags, backend))
    }

    /// The same, with a proxy between the backend and the shared kcp. A first tenant is made, because kcp publishes the
    /// endpoint that the backend is to use only once there is one.
    ///
    /// Consumers are sent to kcp itself. The proxy shows kcp's certificate, so that its CA serves for both.
    pub async fn start_proxied(name: &str, flags: &[&str]) -> Result<(Self, FaultProxy)> {
        let (prepared, [proxy]) = Prepared::new(name).await?;
        let server = format!("--server-url={}", proxy.url(&prepared.endpoint)?);
        let provider = prepared.start(&[&[server.as_str()], flags].concat()).await?;
        Ok((provider, proxy))
    }

    /// The same with as many proxies as there are to be shards: they are the endpoints of the slice that the
    /// backend reads, in this order, and it reads the slice through the first.
    pub async fn start_sharded<const N: usize>(
        name: &str,
        flags: &[&str],
    ) -> Result<(Self, [FaultProxy; N])> {
        let (prepared, proxies) = Prepared::new(name).await?;
        proxies[0].publish(&prepared.endpoints(&proxies)?).await?;
        let provider = prepared.start(flags).await?;
        Ok((provider, proxies))
    }
}

impl<K: Deref<Target = Workspaces>> Provider<K> {
    /// One whose parts exist already.
    #[must_use]
    pub fn of(kcp: Arc<K>, export: Workspace, flags: Vec<String>, backend: Backend) -> Self {
        let (tenants, offer) = (Mutex::default(), OnceCell::new());
        Self { kcp, export, flags, backend, tenants, offer }
    }

    /// The credential that the backend runs with.
    pub fn credential(&self) -> Result<Access> {
        // Of a repeated flag the last one counts.
        let mut files = self.flags.iter().filter_map(|flag| flag.strip_prefix("--kubeconfig="));
        let file = files.next_back().context("no --kubeconfig")?;
        let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
        Access::from_kubeconfig(&text, None)
    }

    /// A new workspace that has bound the export and is served.
    pub async fn tenant(&self, name: &str, claims: Claims<'_>) -> Result<Workspace> {
        let workspace = self.kcp.create_workspace("root", &stack::unique(name)).await?;
        self.bind(&workspace, claims).await?;
        self.note(&workspace);
        Ok(workspace)
    }

    fn note(&self, tenant: &Workspace) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.push(tenant.cluster.clone());
    }

    /// Logical clusters of the workspaces that [`Provider::tenant`] made.
    #[must_use]
    pub fn tenants(&self) -> Vec<String> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the resources of [`service::GROUP`] served and exportable in a workspace. They come from one API provider
    /// workspace, or from CRDs.
    pub async fn serve(&self, workspace: &Workspace, source: Source) -> Result<()> {
        match source {
            Source::Schemas => {
                let offer = self.offer().await?;
                offer.serve(&self.kcp, workspace).await?;
                offer.copy_schemas(&self.kcp, workspace).await
            }
            Source::Bindings => self.offer().await?.serve(&self.kcp, workspace).await,
            Source::Crds => {
                let client = self.kcp.client(&workspace.cluster).await?;
                let crds = Exported::all(service::GROUP).map(|resource| resource.crd());
                service::establish(&client, &crds).await
            }
        }
    }

    async fn offer(&self) -> Result<&Offer> {
        let offer = self.offer.get_or_try_init(|| Offer::wild_west(&self.kcp, "root"));
        offer.await.context("making the API provider")
    }

    /// Binds the export in a workspace and waits until it is served.
    pub async fn bind(&self, workspace: &Workspace, claims: Claims<'_>) -> Result<()> {
        self.kcp.bind_export(workspace, &self.export.path, EXPORT, claims).await?;
        self.served(workspace).await
    }

    /// Waits until a workspace is served: its `Cluster` exists.
    pub async fn served(&self, workspace: &Workspace) -> Result<()> {
        let client = self.kcp.client(&workspace.cluster).await?;
        let clusters = object::api(&client, &kube_bind("Cluster"), None);
        let what = format!("Cluster default in {}", workspace.path);
        let served = object::wait_for(&clusters, "default", &what, SOON, |_| Ok(())).await;
        served.map(drop).map_err(|error| self.backend.fail(error))
    }
}

/// What is there before a backend behind proxies starts.
struct Prepared {
    kcp: Arc<Kcp>,
    name: String,
    export: Workspace,
    /// The flags that point a backend at the first proxy, and its consumers at kcp.
    base: Vec<String>,
    first: Workspace,
    endpoint: String,
}

impl Prepared {
    async fn new<const N: usize>(name: &str) -> Result<(Self, [FaultProxy; N])> {
        let kcp = stack::kcp().await?;
        let name = stack::unique(name);
        let (export, mut base) = init(&kcp, &name).await?;
        let first = kcp.create_workspace("root", &stack::unique(&name)).await?;
        kcp.bind_export(&first, &export.path, EXPORT, Claims::All).await?;
        let endpoint = kcp.endpoint_url(&export.path, EXPORT).await?;

        let file = dirs::run()?.join(format!("{name}.kubeconfig"));
        let access = Access::from_kubeconfig(&fs::read_to_string(&file)?, None)?;
        let certificate = kcp.certificate();
        let proxies = (0..N).map(|_| FaultProxy::start(&access, &certificate));
        let proxies = try_join_all(proxies).await?;
        let proxies: [FaultProxy; N] =
            proxies.try_into().ok().context("as many proxies as were asked for")?;
        let front = proxies.first().context("at least one proxy")?;
        access.at(front.url(&access.server)?).write(&file)?;
        base.push(format!("--external-address={}", kcp.url()));
        Ok((Self { kcp, name, export, base, first, endpoint }, proxies))
    }

    /// The endpoint as one of each proxy.
    fn endpoints(&self, proxies: &[FaultProxy]) -> Result<Vec<String>> {
        proxies.iter().map(|proxy| proxy.url(&self.endpoint)).collect()
    }

    async fn start(self, flags: &[&str]) -> Result<Provider> {
        let Self { kcp, name, export, base, first, .. } = self;
        let given = flags.iter().map(|flag| (*flag).to_owned());
        let flags: Vec<String> = base.into_iter().chain(given).collect();
        let backend = Backend::start(&format!("{name}-backend"), flags.clone()).await?;
        let provider = Provider::of(kcp, export, flags, backend);
        provider.served(&first).await?;
        provider.note(&first);
        Ok(provider)
    }
}

/// Runs `backend init` for a workspace of this name under root; gives the workspace and the flags for a backend.
pub async fn init(kcp: &Workspaces, name: &str) -> Result<(Workspace, Vec<String>)> {
    init_for(kcp, name, &[]).await
}

/// Where `init` writes the kubeconfig for the backend.
fn kubeconfig(name: &str) -> Result<PathBuf> {
    Ok(dirs::run()?.join(format!("{name}.kubeconfig")))
}

/// Runs `init` with flags of the backend, and gives what it said.
pub async fn init_said(kcp: &Workspaces, name: &str, given: &[&str]) -> Result<String> {
    let flags = [
        "init".to_owned(),
        format!("--kubeconfig={}", kcp.kubeconfig_file("root")?.display()),
        format!("--workspace=root:{name}"),
        format!("--output={}", kubeconfig(name)?.display()),
    ];
    let flags = flags.into_iter().chain(given.iter().map(|flag| (*flag).to_owned()));
    let process = stack::unique(&format!("{name}-init"));
    let (code, text) = Backend::run_to_end(&process, flags).await?;
    ensure!(code == Some(0), "backend init ended with {code:?}:\n{text}");
    Ok(text)
}

/// The same with flags of the backend, which decide on the claims.
pub async fn init_for(
    kcp: &Workspaces,
    name: &str,
    given: &[&str],
) -> Result<(Workspace, Vec<String>)> {
    init_said(kcp, name, given).await?;
    let path = format!("root:{name}");
    let output = kubeconfig(name)?;
    let written = fs::read_to_string(&output).context("reading the kubeconfig of init")?;
    ensure!(written.contains("token:"), "the kubeconfig of init holds no token");
    let client = kcp.client(&path).await?;
    let namespaces = object::api(&client, &core("Namespace"), None);
    let default = namespaces.get("default").await?;
    let cluster = default
        .metadata
        .annotations
        .unwrap_or_default()
        .remove("kcp.io/cluster")
        .context("no kcp.io/cluster")?;
    let flags = vec![
        format!("--kubeconfig={}", output.display()),
        "--multicluster-runtime-provider=kcp".to_owned(),
        "--frontend-disabled=true".to_owned(),
    ];
    Ok((Workspace { path, cluster }, flags))
}

/// Applies `manifests/` to a Kubernetes and gives the flags for a backend with the `ServiceAccount` made there.
pub async fn install(kubernetes: &Kubernetes, name: &str) -> Result<Vec<String>> {
    let client = kubernetes.client().await?;
    manifest::apply_dir(&client, &dirs::project().join("manifests"), "default").await?;
    let secret = json!({
        "metadata": {
            "name": "backend-token",
            "annotations": {"kubernetes.io/service-account.name": "backend"},
        },
        "type": "kubernetes.io/service-account-token",
    });
    let secrets = object::api(&client, &core("Secret"), Some("kube-bind"));
    if secrets.get_opt("backend-token").await?.is_none() {
        object::create(&client, &core("Secret"), Some("kube-bind"), secret).await?;
    }
    let what = "the token of the backend's service account";
    let secret = object::wait_for(&secrets, "backend-token", what, SOON, |secret| {
        object::secret_text(secret, "token").map(drop).map_err(|error| error.to_string())
    })
    .await?;
    let access = kubernetes.access()?.with_token(&object::secret_text(&secret, "token")?);
    let path = dirs::run()?.join(format!("{name}.kubeconfig"));
    access.write(&path)?;
    Ok(vec![format!("--kubeconfig={}", path.display()), "--frontend-disabled=true".to_owned()])
}
