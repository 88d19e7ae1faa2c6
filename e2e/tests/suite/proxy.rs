//! The fault proxy of the harness: it passes everything on, and fails exactly what it is told to.

use e2e::wait::{SOON, eventually};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::binding;
use e2e::client;
use e2e::faultproxy::{Fault, FaultProxy, Logged, Side, listing};
use e2e::kcp::Claims;
use e2e::object::{self, core};
use e2e::provider::{PLATFORM, Provider};
use e2e::stack;
use futures::{FutureExt as _, StreamExt as _};
use http::Method;
use kube::api::{DynamicObject, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::time::timeout;

use crate::Test;

/// Longer than an answer takes: who has none by then gets none.
const SILENCE: Duration = Duration::from_secs(2);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("proxy::a_bind_through_the_proxy_is_as_one_without", || {
            a_bind_through_the_proxy_is_as_one_without().boxed()
        }),
        ("proxy::a_request_is_lost_before_or_after_its_effect", || {
            a_request_is_lost_before_or_after_its_effect().boxed()
        }),
        ("proxy::a_request_is_refused_or_left_without_answer", || {
            a_request_is_refused_or_left_without_answer().boxed()
        }),
        ("proxy::watch_events_flow_until_the_watch_is_cut", || {
            watch_events_flow_until_the_watch_is_cut().boxed()
        }),
    ]
}

/// A workspace, its `ConfigMap`s directly and through a proxy.
struct Rig {
    proxy: FaultProxy,
    direct: Api<DynamicObject>,
    through: Client,
}

impl Rig {
    async fn start() -> Result<Self> {
        let (kcp, workspace) = stack::workspace("proxied").await?;
        let access = kcp.access(&workspace.cluster)?;
        let proxy = FaultProxy::start(&access, &kcp.certificate()).await?;
        let through = access.at(proxy.url(&access.server)?).client(client::ADMIN).await?;
        let direct = access.client(client::ADMIN).await?;
        // kcp makes it a moment after the workspace is ready, and what is created here is not tried again.
        let namespaces = object::api(&direct, &core("Namespace"), None);
        object::wait_for(&namespaces, "default", "namespace default", SOON, |_| Ok(())).await?;
        Ok(Self {
            proxy,
            direct: object::api(&direct, &core("ConfigMap"), Some("default")),
            through,
        })
    }

    async fn create(&self, name: &str) -> Result<DynamicObject> {
        // Once: what the proxy answers is what is looked at.
        let kind = core("ConfigMap");
        let object = DynamicObject::new(name, &kind);
        let api = object::api(&self.through, &kind, Some("default"));
        Ok(api.create(&PostParams::default(), &object).await?)
    }

    /// Creates it; gives the code of the refusal.
    async fn refused(&self, name: &str) -> Result<u16> {
        let error = self.create(name).await.err().with_context(|| format!("{name} was created"))?;
        match error.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) => Ok(status.code),
            _ => Err(error),
        }
    }

    async fn exists(&self, name: &str) -> Result<bool> {
        Ok(self.direct.get_opt(name).await?.is_some())
    }
}

async fn a_bind_through_the_proxy_is_as_one_without() -> Result<()> {
    let (provider, proxy) = Provider::start_proxied("passing", PLATFORM).await?;
    let workspace = provider.tenant("passing", Claims::All).await?;
    let within = format!("/clusters/{}/", workspace.cluster);
    // kcp may refuse the first write to a new workspace.
    let before = proxy.writes(&within).len();
    let wildcard = proxy.log("/clusters/*/");
    let admin = provider.kcp.client(&workspace.cluster).await?;
    let bound = binding::bind(&admin, &binding::Request::new("passing", "passing")).await?;
    bound.check_secret(&admin).await?;
    bound.consumer.heartbeat().await?;
    let direct = provider.kcp.access(&workspace.cluster)?.server;
    ensure!(
        bound.consumer.server() == direct,
        "{} is the consumer's server",
        bound.consumer.server()
    );

    // The last may still be under way.
    eventually("all writes to be answered and good", SOON, async || {
        let writes = &proxy.writes(&within)[before..];
        let good = |write: &Logged| write.code.is_some_and(|code| code < 300);
        (!writes.is_empty() && writes.iter().all(good)).then_some(()).ok_or_else(|| listing(writes))
    })
    .await?;
    // What the backend watches it watches in all workspaces at once; each of these is a list or a watch.
    ensure!(!wildcard.is_empty(), "the backend watches nothing through the proxy");
    let since = &proxy.log("/clusters/*/")[wildcard.len()..];
    ensure!(since.is_empty(), "watches were opened again:\n{}", listing(since));
    Ok(())
}

async fn a_request_is_lost_before_or_after_its_effect() -> Result<()> {
    let rig = Rig::start().await?;
    for (side, lost) in [(Side::Before, "not-there"), (Side::After, "there")] {
        let strike = rig.proxy.arm("/configmaps", 2, Fault::Cut(side));
        rig.create(&format!("first-{lost}")).await?;
        let answer =
            timeout(SOON, rig.create(lost)).await.context("the connection is still open")?;
        ensure!(answer.is_err(), "{side:?}: the answer was not lost");
        let struck = timeout(SOON, strike).await??;
        let code = (side == Side::After).then_some(201);
        ensure!(struck.code == code && struck.method == Method::POST, "{struck:?}");
        ensure!(rig.exists(lost).await? == (side == Side::After), "{side:?}");
        let late = format!("late-{lost}");
        ensure!(rig.create(&late).await.is_err(), "a later write got through");
        ensure!(!rig.exists(&late).await?, "{side:?}: a later write reached the server");
        rig.proxy.reset();
        rig.create(&late).await.with_context(|| format!("after the reset, {side:?}"))?;
    }
    Ok(())
}

async fn a_request_is_refused_or_left_without_answer() -> Result<()> {
    let rig = Rig::start().await?;
    for code in [409, 429, 500, 503] {
        let strike = rig.proxy.arm("", 1, Fault::Answer(code));
        let name = format!("refused-{code}");
        ensure!(rig.refused(&name).await? == code, "not {code}");
        ensure!(strike.await?.code == Some(code));
        ensure!(!rig.exists(&name).await?, "{name} reached the server");
        rig.create(&name).await?;
    }
    let strike = rig.proxy.arm("", 1, Fault::Hang);
    let answer = timeout(SILENCE, rig.create("hanging")).await;
    ensure!(answer.is_err(), "a request that was to hang was answered");
    ensure!(strike.await?.path.ends_with("/configmaps"));
    ensure!(!rig.exists("hanging").await?, "it reached the server");
    rig.create("hanging").await?;
    Ok(())
}

async fn watch_events_flow_until_the_watch_is_cut() -> Result<()> {
    let rig = Rig::start().await?;
    let maps: Api<DynamicObject> = object::api(&rig.through, &core("ConfigMap"), Some("default"));
    let list = maps.list(&ListParams::default()).await?;
    let version = list.metadata.resource_version.context("no resourceVersion")?;
    let mut events = pin!(maps.watch(&WatchParams::default(), &version).await?);
    rig.create("seen").await?;
    let event = timeout(SOON, events.next()).await.context("the event was held up")?;
    let Some(Ok(WatchEvent::Added(object))) = event else { bail!("{event:?}") };
    ensure!(object.metadata.name.as_deref() == Some("seen"), "{object:?}");
    rig.proxy.cut_watches();
    let end = timeout(SOON, events.next()).await.context("the watch is still open")?;
    ensure!(matches!(end, None | Some(Err(_))), "{end:?}");
    rig.create("after").await.context("other connections are cut too")?;
    Ok(())
}
