//! Binding a consumer by a request, and what it can do with the kubeconfig that it gets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::backend::{self, Backend};
use e2e::binding::{self, Bound, Request};
use e2e::kcp::{Claims, Kcp, Workspace};
use e2e::{dirs, manifest, stack};
use futures::FutureExt as _;
use kube::Client;

use crate::Test;

/// Without an event for this long, two writers do not fight.
const PAUSE: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_mins(1);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        (
            "binding::a_consumer_of_a_workspace_is_bound_and_heard",
            || a_consumer_of_a_workspace_is_bound_and_heard().boxed(),
        ),
        (
            "binding::a_consumer_of_a_cluster_is_bound_and_heard",
            || a_consumer_of_a_cluster_is_bound_and_heard().boxed(),
        ),
    ]
}

async fn a_consumer_of_a_workspace_is_bound_and_heard() -> Result<()> {
    let world = World::kcp("heard", Claims::All).await?;
    let mut backend = world.backend("heard").await?;
    let outcome = two_consumers(&world.admin, &world.workspace.cluster).await;
    outcome.map_err(|error| backend.fail(format!("{error:#}")))?;
    ensure!(
        world.kcp.workspaces("root").await?.contains(&world.name),
        "the workspace is gone"
    );
    backend.stop().await
}

async fn a_consumer_of_a_cluster_is_bound_and_heard() -> Result<()> {
    let kubernetes = stack::kubernetes().await?;
    let admin = kubernetes.client().await?;
    let crds = dirs::project().join("manifests");
    manifest::apply_dir_if(&admin, &crds, "kube-bind", |file| {
        file.starts_with("kube-bind.io_")
    })
    .await?;
    let flags = [
        format!("--kubeconfig={}", kubernetes.kubeconfig_file().display()),
        "--frontend-disabled=true".to_owned(),
    ];
    let mut backend = Backend::start("backend-cluster-heard", flags).await?;
    let outcome = two_consumers(&admin, "kubernetes").await;
    outcome.map_err(|error| backend.fail(format!("{error:#}")))?;
    backend.stop().await
}

/// Binds two consumers; each has its rights and not the other's, and the backend does not fight their heartbeats.
async fn two_consumers(admin: &Client, suffix: &str) -> Result<()> {
    let (one, two) = (format!("one-{suffix}"), format!("two-{suffix}"));
    let (one, two) = (Request::new(&one, &one), Request::new(&two, &two));
    let (one, two) = (
        binding::bind(admin, &one).await?,
        binding::bind(admin, &two).await?,
    );
    let namespaces: BTreeSet<_> = [&one, &two].map(|bound| bound.consumer.namespace()).into();
    ensure!(
        namespaces.len() == 2,
        "both consumers are in {namespaces:?}"
    );
    one.check_secret(admin).await?;
    two.check_secret(admin).await?;
    one.consumer
        .check_rights(&[two.consumer.namespace()])
        .await?;
    two.consumer
        .check_rights(&[one.consumer.namespace()])
        .await?;
    heartbeats(&one).await
}

async fn heartbeats(bound: &Bound) -> Result<()> {
    let consumer = &bound.consumer;
    let watches = consumer.open_watches().await?;
    consumer.check_stale_heartbeat().await?;
    watches.quiet(0, "ClusterBinding", PAUSE, DEADLINE).await?;
    let mark = watches.mark();
    consumer.heartbeat().await?;
    let events = watches
        .quiet(mark, "ClusterBinding", PAUSE, DEADLINE)
        .await?;
    // The heartbeat itself, and at most one answer of the backend.
    ensure!(
        events.len() <= 2,
        "{} events after one heartbeat",
        events.len()
    );
    consumer
        .check_conditions()
        .await
        .context("after a heartbeat")?;
    Ok(())
}

/// An export workspace made by `init`, and a workspace that bound it.
struct World {
    kcp: Arc<Kcp>,
    name: String,
    kubeconfig: std::path::PathBuf,
    workspace: Workspace,
    admin: Client,
}

impl World {
    async fn kcp(name: &str, claims: Claims<'_>) -> Result<Self> {
        let kcp = stack::kcp().await?;
        let export = format!("root:{}", stack::unique("export"));
        let kubeconfig = backend::init(&kcp, &export).await?;
        let name = stack::unique(name);
        let workspace = kcp.create_workspace("root", &name).await?;
        kcp.bind_export(&workspace, &export, "kube-bind.io", claims)
            .await?;
        let admin = kcp.client(&workspace.cluster).await?;
        Ok(Self {
            kcp,
            name,
            kubeconfig,
            workspace,
            admin,
        })
    }

    async fn backend(&self, name: &str) -> Result<Backend> {
        let flags = [
            format!("--kubeconfig={}", self.kubeconfig.display()),
            "--multicluster-runtime-provider=kcp".to_owned(),
            "--frontend-disabled=true".to_owned(),
            "--schema-source=apiresourceschemas".to_owned(),
        ];
        Backend::start(&format!("backend-{name}"), flags).await
    }
}
