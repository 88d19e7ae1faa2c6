//! What `kubectl bind` and the page do, step by step (contract http.md 4.3, 4.4 and 6).

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::backend::Backend;
use e2e::kcp::{Claims, Workspace};
use e2e::kubernetes::Kubernetes;
use e2e::object::{self, core, kube_bind, resource};
use e2e::process::free_port;
use e2e::provider::{self, PLATFORM};
use e2e::service::{self, BY_HAND, Exported, GROUP, Source};
use e2e::site::{Answer, Site, Visitor, bind_body, embedded};
use e2e::{dirs, stack};
use futures::FutureExt as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::kubectl_bind;
use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("http::the_cli_logs_in_sees_templates_and_binds", || cli().boxed()),
        ("http::the_cli_logs_in_sees_templates_and_binds_on_kubernetes", || {
            cli_on_kubernetes().boxed()
        }),
        ("http::the_page_logs_in_binds_and_logs_out", || page().boxed()),
        ("http::a_binding_is_applied_to_the_consumers_cluster", || applied().boxed()),
    ]
}

/// A site with one workspace in which the template `sheriffs` is on offer.
async fn offering(name: &str, flags: &[&str]) -> Result<(Site, Workspace)> {
    let flags: Vec<&str> = PLATFORM.iter().chain(&[BY_HAND]).chain(flags).copied().collect();
    let site = Site::start(name, &flags).await?;
    let tenant = offer(&site, name).await?;
    Ok((site, tenant))
}

/// A workspace of a site in which the template `sheriffs` is on offer.
pub(super) async fn offer(site: &Site, name: &str) -> Result<Workspace> {
    let tenant = site.provider.tenant(name, Claims::All).await?;
    site.provider.serve(&tenant, Source::Schemas).await?;
    let admin = site.provider.kcp.client(&tenant.cluster).await?;
    object::create(&admin, &kube_bind("APIServiceExportTemplate"), None, sheriffs()).await?;
    Ok(tenant)
}

/// The template.
fn sheriffs() -> Value {
    json!({
        "metadata": {"name": "sheriffs"},
        "spec": {
            "scope": "Cluster",
            "resources": [{"group": "wildwest.dev", "resource": "sheriffs", "versions": ["v1alpha1"]}],
        },
    })
}

fn expect(answer: &Answer, status: u16) -> Result<()> {
    ensure!(answer.status == status, "not {status}: {answer:?}");
    Ok(())
}

async fn cli() -> Result<()> {
    let (site, tenant) = offering("http-cli", &[]).await?;
    kubectl_bind::binds(&site.base, Some(&tenant.cluster), "sheriffs").await
}

async fn cli_on_kubernetes() -> Result<()> {
    let name = stack::unique("http-cli-kubernetes");
    let kubernetes = Kubernetes::start(&dirs::fresh(&name)?).await?;
    let admin = kubernetes.client().await?;
    let flags = provider::install(&kubernetes, &name).await?;
    service::establish(&admin, &Exported::all(GROUP).map(|exported| exported.crd())).await?;
    object::create(&admin, &kube_bind("APIServiceExportTemplate"), None, sheriffs()).await?;
    let port = free_port()?;
    let _backend = Backend::start(&name, [flags, embedded(port)].concat()).await?;
    kubectl_bind::binds(&format!("http://127.0.0.1:{port}"), None, "sheriffs").await
}

async fn page() -> Result<()> {
    let (site, tenant) = offering("http-page", &[]).await?;
    let browser = site.visitor()?;
    let cluster = tenant.cluster.as_str();
    let query = format!("?cluster_id={cluster}");
    expect(&browser.get("/").await?, 200)?;
    expect(&browser.get(&format!("/api/ping{query}")).await?, 401)?;

    let back = browser.login(cluster, "").await?;
    expect(&back, 302)?;
    ensure!(back.parameter("cluster_id")?.as_deref() == Some(cluster), "{back:?}");
    ensure!(back.parameter("session_id")?.as_deref() == Some("s1"), "{back:?}");
    let ping = browser.get(&format!("/api/ping{query}")).await?;
    ensure!((ping.status, ping.body.as_str()) == (200, "pong"), "{ping:?}");
    expect(&browser.get(&format!("/api/collections{query}")).await?, 200)?;
    let status = browser.get("/api/consumer-status").await?;
    ensure!(status.json()? == json!({"connected": false}), "{status:?}");

    let answer = bind_as_self(&browser, &query).await?;
    let namespace = answer["providerNamespace"].as_str().context("no namespace")?;
    ensure!(answer["bindingName"] == "west", "{}", answer["bindingName"]);
    let status = browser.get("/api/consumer-status").await?;
    let expected = json!({"connected": true, "namespace": namespace, "exports": ["west"]});
    ensure!(status.json()? == expected, "{status:?}");
    let again = bind_as_self(&browser, &query).await?;
    ensure!(again == answer, "a repeated bind differs");

    let out = browser.post(&format!("/api/logout{query}"), &json!({})).await?;
    ensure!((out.status, out.body.as_str()) == (200, "logged out"), "{out:?}");
    expect(&browser.get(&format!("/api/ping{query}")).await?, 401)
}

/// Binds as the page does: as the user itself, with the request made by the backend.
async fn bind_as_self(browser: &Visitor, query: &str) -> Result<Value> {
    let body = bind_body("west", "sheriffs", "ui-identity");
    let bound = browser.post(&format!("/api/bind{query}"), &body).await?;
    expect(&bound, 200)?;
    bound.json()
}

async fn applied() -> Result<()> {
    let flags = ["--enable-apply-binding", "--consumer-cidr=127.0.0.0/8"];
    let (site, tenant) = offering("http-applied", &flags).await?;
    let consumer = stack::kubernetes().await?;
    let browser = site.visitor()?;
    let query = format!("?cluster_id={}", tenant.cluster);
    browser.login(&tenant.cluster, "").await?;
    let body = json!({
        "consumerKubeconfig": STANDARD.encode(consumer.access()?.kubeconfig(None)),
        "bindingName": "sheriffs",
    });
    let early = browser.post("/api/apply-binding", &body).await?;
    expect(&early, 409)?;
    ensure!(early.body.contains("bind a template on the page first"), "{early:?}");

    let answer = bind_as_self(&browser, &query).await?;
    let done = browser.post("/api/apply-binding", &body).await?;
    expect(&done, 200)?;
    let expected = json!({
        "konnectorDeployed": true, "bundleCreated": true,
        "message": "Konnector and binding bundle applied successfully",
    });
    ensure!(done.json()? == expected, "{done:?}");
    let client = consumer.client().await?;
    let deployment = resource("apps", "v1", "Deployment", "deployments");
    object::api(&client, &deployment, Some("kube-bind")).get("konnector").await?;
    let bundles = object::api(&client, &kube_bind("APIServiceBindingBundle"), None);
    let bundle: DynamicObject = bundles.get("sheriffs").await?;
    let secrets = object::api(&client, &core("Secret"), Some("kube-bind"));
    let reference = &bundle.data["spec"]["kubeconfigSecretRef"];
    let secret = secrets.get(reference["name"].as_str().context("no Secret is named")?).await?;
    let given = STANDARD.decode(answer["kubeconfig"].as_str().context("no kubeconfig")?)?;
    ensure!(object::secret_text(&secret, "kubeconfig")?.as_bytes() == given, "another kubeconfig");

    let again = browser.post("/api/apply-binding", &body).await?;
    expect(&again, 200)?;
    ensure!(again.json()?["konnectorDeployed"] == false, "{again:?}");
    Ok(())
}
