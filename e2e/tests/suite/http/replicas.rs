//! Two backends behind one address, with Redis, and a real identity provider (`e2e/web/provider.mjs`).

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::idp::{self, IdentityProvider};
use e2e::kcp::{Claims, Workspace};
use e2e::object::{self, kube_bind};
use e2e::process::free_port;
use e2e::provider::{self, PLATFORM};
use e2e::redis::{self, Redis};
use e2e::site::{CLI_CALLBACK, Visitor, bind_body};
use e2e::switch::Switch;
use e2e::wait::{SOON, eventually};
use e2e::{dirs, stack};
use futures::FutureExt as _;
use serde_json::json;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("http::a_login_goes_on_at_another_replica_and_tokens_outlive_restarts", || {
            replicas().boxed()
        }),
        ("http::without_redis_logins_fail_cleanly_and_recover", || without_redis().boxed()),
    ]
}

/// Two backends of one export.
struct Twins {
    switch: Switch,
    backends: Vec<Backend>,
    redis: Redis,
    tenant: Workspace,
    _provider: IdentityProvider,
}

impl Twins {
    async fn start(name: &str) -> Result<Self> {
        let kcp = stack::kcp().await?;
        let name = stack::unique(name);
        let (export, base) = provider::init(&kcp, &name).await?;
        let ports = [free_port()?, free_port()?];
        let servers = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).to_vec();
        let switch = Switch::start(servers).await?;
        let url = format!("http://{}", switch.address());
        let callback = format!("{url}/api/callback");
        let provider = IdentityProvider::start(&callback).await?;
        let redis = Redis::start(&format!("{name}-redis")).await?;
        let key = key_file(&name)?;
        let shared = [
            "--frontend-disabled=false".to_owned(),
            "--admin-address=127.0.0.1:0".to_owned(),
            format!("--oidc-issuer-url={}", provider.issuer),
            format!("--oidc-callback-url={callback}"),
            format!("--oidc-issuer-client-id={}", idp::CLIENT_ID),
            "--oidc-allowed-groups=developers".to_owned(),
            format!("--redis-addr={}", redis.address()),
            format!("--session-key-file={key}"),
        ];
        let mut backends = Vec::new();
        for (index, port) in ports.into_iter().enumerate() {
            let platform = PLATFORM.iter().map(|flag| (*flag).to_owned());
            let flags = base.iter().cloned().chain(platform).chain(shared.iter().cloned());
            let flags = flags.chain([format!("--listen-address=127.0.0.1:{port}")]);
            let secrets =
                [("OIDC_CLIENT_SECRET", idp::CLIENT_SECRET), ("REDIS_PASSWORD", redis::PASSWORD)];
            let name = format!("{name}-backend-{index}");
            backends.push(Backend::start_with(&name, flags, &secrets).await?);
        }
        let tenant = kcp.create_workspace("root", &stack::unique(&name)).await?;
        kcp.bind_export(&tenant, &export.path, provider::EXPORT, Claims::All).await?;
        let admin = kcp.client(&tenant.cluster).await?;
        let clusters = object::api(&admin, &kube_bind("Cluster"), None);
        object::wait_for(&clusters, "default", "the workspace to be served", SOON, |_| Ok(()))
            .await?;
        let manifest = json!({
            "metadata": {"name": "sheriffs"},
            "spec": {
                "scope": "Cluster",
                "resources": [{"group": "wildwest.dev", "resource": "sheriffs", "versions": ["v1alpha1"]}],
            },
        });
        object::create(&admin, &kube_bind("APIServiceExportTemplate"), None, manifest).await?;
        Ok(Self { switch, backends, redis, tenant, _provider: provider })
    }

    fn visitor(&self) -> Result<Visitor> {
        Visitor::new(&format!("http://{}", self.switch.address()))
    }

    /// Begins a login of `kubectl bind` at the chosen replica; gives the URL of the callback.
    async fn log_in(&self, visitor: &Visitor, user: &str) -> Result<url::Url> {
        let started = visitor
            .authorize(&[
                ("redirect_url", CLI_CALLBACK),
                ("session_id", "s1"),
                ("client_type", "cli"),
                ("cluster_id", &self.tenant.cluster),
            ])
            .await?;
        visitor.through_forms(&started, user).await
    }
}

fn key_file(name: &str) -> Result<String> {
    let path = dirs::run()?.join(format!("{name}-session.pem"));
    let made = Command::new("openssl")
        .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
        .arg(&path)
        .status()?;
    ensure!(made.success(), "openssl made no key");
    Ok(path.display().to_string())
}

async fn replicas() -> Result<()> {
    let mut twins = Twins::start("http-twins").await?;
    let browser = twins.visitor()?;
    twins.switch.choose(0);
    let callback = twins.log_in(&browser, "ann").await?;
    twins.switch.choose(1);
    // The browser comes back twice at the same time: once it counts.
    let (one, other) = (browser.clone(), browser.clone());
    let ends = tokio::try_join!(one.get(callback.as_str()), other.get(callback.as_str()))?;
    let (good, bad) = if ends.0.status == 302 { ends } else { (ends.1, ends.0) };
    ensure!((good.status, bad.status) == (302, 400), "{good:?} {bad:?}");
    let token = good.parameter("access_token")?.with_context(|| format!("no token: {good:?}"))?;
    let query = format!("?cluster_id={}", twins.tenant.cluster);
    let cli = browser.with_token(&token)?;
    let mut answers = Vec::new();
    for replica in [0, 1] {
        twins.switch.choose(replica);
        // A new connection: the old one leads to the other replica.
        let cli = browser.with_token(&token)?;
        let templates = cli.get(&format!("/api/templates{query}")).await?;
        ensure!(templates.status == 200, "{templates:?}");
        let body = bind_body("west", "sheriffs", "identity-1");
        let bound = cli.post(&format!("/api/bind{query}"), &body).await?;
        ensure!(bound.status == 200, "{bound:?}");
        answers.push(bound.body);
    }
    ensure!(answers[0] == answers[1], "the replicas give different answers");
    for backend in &mut twins.backends {
        backend.stop().await?;
        backend.restart().await?;
    }
    let ping = cli.get(&format!("/api/ping{query}")).await;
    let ping = match ping {
        Ok(ping) => ping,
        // The connection was to the replica that has gone.
        Err(_) => browser.with_token(&token)?.get(&format!("/api/ping{query}")).await?,
    };
    ensure!(ping.status == 200, "after the restart: {ping:?}");
    Ok(())
}

async fn without_redis() -> Result<()> {
    let mut twins = Twins::start("http-redis").await?;
    let browser = twins.visitor()?;
    let callback = twins.log_in(&browser, "ann").await?;
    let end = browser.get(callback.as_str()).await?;
    let token = end.parameter("access_token")?.with_context(|| format!("no token: {end:?}"))?;
    let query = format!("?cluster_id={}", twins.tenant.cluster);
    let path = format!("/api/ping{query}");
    let cli = browser.with_token(&token)?;
    let ping = cli.get(&path).await?;
    ensure!(ping.status == 200, "{ping:?}");

    twins.redis.kill().await?;
    let lost = cli.get(&path).await?;
    ensure!(lost.status == 503, "{lost:?}");
    ensure!(lost.json()?["kind"] == "Error", "{lost:?}");
    let started = browser
        .authorize(&[
            ("redirect_url", CLI_CALLBACK),
            ("session_id", "s2"),
            ("client_type", "cli"),
            ("cluster_id", &twins.tenant.cluster),
        ])
        .await?;
    // kubectl bind hears of it at once.
    let error = started.parameter("error")?;
    ensure!(error.as_deref() == Some("temporarily_unavailable"), "{started:?}");

    twins.redis.restart().await?;
    // It was in memory only: the session is gone, and a new login works.
    eventually("the session store to be used again", SOON, async || {
        let ping = cli.get(&path).await?;
        ensure!(ping.status == 401, "{ping:?}");
        anyhow::Ok(())
    })
    .await?;
    let browser = twins.visitor()?;
    let callback = twins.log_in(&browser, "bob").await?;
    let end = browser.get(callback.as_str()).await?;
    ensure!(end.parameter("access_token")?.is_some(), "{end:?}");
    Ok(())
}
