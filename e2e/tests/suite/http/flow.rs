//! What `kubectl bind` and the page do, step by step (contract http.md 4.3, 4.4 and 6).

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::client::Access;
use e2e::kcp::Claims;
use e2e::object::{self, kube_bind};
use e2e::provider::PLATFORM;
use e2e::service::Source;
use e2e::site::{Site, bind_body};
use futures::FutureExt as _;
use serde_json::json;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![("http::the_cli_logs_in_sees_templates_and_binds", || cli().boxed())]
}

/// A template for the exported API in a workspace.
pub(super) async fn offer(site: &Site, workspace: &str, name: &str) -> Result<()> {
    let admin = site.provider.kcp.client(workspace).await?;
    let manifest = json!({
        "metadata": {"name": name},
        "spec": {
            "scope": "Cluster",
            "resources": [{"group": "wildwest.dev", "resource": "sheriffs", "versions": ["v1alpha1"]}],
        },
    });
    object::create(&admin, &kube_bind("APIServiceExportTemplate"), None, manifest).await?;
    Ok(())
}

async fn cli() -> Result<()> {
    let site = Site::start("http-cli", PLATFORM).await?;
    let tenant = site.provider.tenant("http-cli", Claims::All).await?;
    site.provider.serve(&tenant, Source::Schemas).await?;
    offer(&site, &tenant.cluster, "sheriffs").await?;
    let cluster = tenant.cluster.as_str();

    let found = site.visitor()?.get("/api/exports").await?;
    ensure!(found.status == 200, "{found:?}");
    let method = &found.json()?["authenticationMethods"][0];
    ensure!(method["method"] == "OAuth2CodeGrant", "{found:?}");
    let url = &method["oauth2CodeGrant"]["authenticatedURL"];
    ensure!(*url == format!("{}/api/authorize", site.base), "{found:?}");

    let cli = site.visitor()?.login_cli(cluster, "").await?;
    let query = format!("?cluster_id={cluster}");
    let templates = cli.get(&format!("/api/templates{query}")).await?;
    ensure!(templates.status == 200, "{templates:?}");
    let templates = templates.json()?;
    ensure!(templates["items"][0]["metadata"]["name"] == "sheriffs", "{templates}");

    let body = bind_body("west", "sheriffs", "identity-1");
    let bound = cli.post(&format!("/api/bind{query}"), &body).await?;
    ensure!(bound.status == 200, "{bound:?}");
    let again = cli.post(&format!("/api/bind{query}"), &body).await?;
    ensure!(again.body == bound.body, "a repeated bind differs");
    let answer = bound.json()?;
    let kubeconfig = STANDARD.decode(answer["kubeconfig"].as_str().context("no kubeconfig")?)?;
    let access = Access::from_kubeconfig(std::str::from_utf8(&kubeconfig)?, None)?;
    let client = access.client("konnector").await?;
    let namespace = answer["providerNamespace"].as_str().context("no namespace")?;
    let mut request = answer["requests"][0].clone();
    request["metadata"]["namespace"] = json!(namespace);
    object::create(&client, &kube_bind("APIServiceExportRequest"), Some(namespace), request)
        .await?;
    Ok(())
}
