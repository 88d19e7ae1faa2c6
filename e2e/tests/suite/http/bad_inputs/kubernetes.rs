//! Rows about Kubernetes: 45, and what of rows 31 to 33 and 39 is different there.

use anyhow::{Result, ensure};
use e2e::audit::{Filter, Mark, Request, listing};
use e2e::backend::Backend;
use e2e::kubernetes::Kubernetes;
use e2e::process::free_port;
use e2e::provider;
use e2e::service::{self, Exported, GROUP};
use e2e::site::{Answer, Visitor, bind_body, embedded};
use e2e::{dirs, stack};
use futures::FutureExt as _;
use tokio::sync::OnceCell;

use super::scene::{foreign_role, grant, namespaces_of, offer, scene};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("http::bad::33_on_kubernetes_a_user_without_rights_is_told_so", || denied().boxed()),
        (
            "http::bad::45_a_group_of_the_api_server_that_the_issuer_claims_counts_for_nothing",
            || masters().boxed(),
        ),
        ("http::bad::45_on_kcp_such_a_group_counts_for_nothing_either", || on_kcp().boxed()),
    ]
}

/// A backend on Kubernetes that lets only `ann` bind.
struct Place {
    kubernetes: Kubernetes,
    _backend: Backend,
    base: String,
}

static PLACE: OnceCell<Place> = OnceCell::const_new();

async fn place() -> Result<&'static Place> {
    PLACE.get_or_try_init(start).await
}

async fn start() -> Result<Place> {
    let name = stack::unique("bad-kubernetes");
    let kubernetes = Kubernetes::start(&dirs::fresh(&name)?).await?;
    let admin = kubernetes.client().await?;
    let base = provider::install(&kubernetes, &name).await?;
    service::establish(&admin, &Exported::all(GROUP).map(|exported| exported.crd())).await?;
    foreign_role(&admin).await?;
    grant(&admin, "ann", &[]).await?;
    offer(&admin).await?;
    let port = free_port()?;
    let backend = Backend::start(&name, [base, embedded(port)].concat()).await?;
    Ok(Place { kubernetes, _backend: backend, base: format!("http://127.0.0.1:{port}") })
}

impl Place {
    async fn cli(&self, user: &str) -> Result<Visitor> {
        Visitor::new(&self.base)?.login_cli("", user).await
    }
}

fn details(answer: &Answer) -> Result<String> {
    Ok(answer.json()?["details"].as_str().unwrap_or_default().to_owned())
}

/// Nothing but reviews was asked for by somebody with this identity.
async fn nothing_made(place: &Place, identity: &str) -> Result<()> {
    let made = namespaces_of(&place.kubernetes.client().await?, identity).await?;
    ensure!(made.is_empty(), "{made:?}");
    let mut done = place.kubernetes.audit().requests(Mark::START, &Filter::backend())?;
    done.retain(|request: &Request| request.resource == "namespaces.core" && request.is_write());
    ensure!(done.is_empty(), "{}", listing(&done));
    Ok(())
}

async fn denied() -> Result<()> {
    let place = place().await?;
    let ann = place.cli("user=ann").await?;
    ensure!(ann.get("/api/templates").await?.status == 200, "who may is refused");
    let nobody = place.cli("user=nobody").await?;
    for route in ["templates", "collections", "ping", "consumer-status"] {
        let answer = nobody.get(&format!("/api/{route}")).await?;
        ensure!(answer.status == 403, "{route}: {answer:?}");
        ensure!(details(&answer)?.contains("--oidc-allowed-users=nobody"), "{answer:?}");
    }
    let answer = nobody.post("/api/bind", &bind_body("west", "sheriffs", "id-33")).await?;
    ensure!(answer.status == 403, "{answer:?}");
    // There is no cluster with a name.
    for cluster in ["default", "kubernetes", "root"] {
        let path = format!("/api/templates?cluster_id={cluster}");
        let answer = ann.get(&path).await?;
        ensure!(answer.status == 404, "{cluster}: {answer:?}");
    }
    let answer = ann.post("/api/bind", &bind_body("west", "unknown", "id-33")).await?;
    ensure!(answer.status == 404, "{answer:?}");
    nothing_made(place, "id-33").await
}

async fn masters() -> Result<()> {
    let place = place().await?;
    for groups in ["system:masters", "system:masters,system:nodes,devs", "system:authenticated"] {
        let cli = place.cli(&format!("user=mallory&groups={groups}")).await?;
        let answer = cli.get("/api/templates").await?;
        ensure!(answer.status == 403, "{groups}: {answer:?}");
        let answer = cli.post("/api/bind", &bind_body("west", "sheriffs", "id-45")).await?;
        ensure!(answer.status == 403, "{groups}: {answer:?}");
    }
    nothing_made(place, "id-45").await
}

async fn on_kcp() -> Result<()> {
    let scene = scene().await?;
    for groups in
        ["system:masters", "system:kcp:admin", "system:kcp:external-logical-cluster-admin"]
    {
        let cli = scene.cli(45, &scene.closed, &format!("mallory&groups={groups}")).await?;
        let answer = cli.get(&super::scene::at("templates", &scene.closed)).await?;
        ensure!(answer.status == 404, "{groups}: {answer:?}");
    }
    Ok(())
}
