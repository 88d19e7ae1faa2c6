//! `backend init`: what it makes, that a second run changes nothing, and what its credential may do.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{self, Filter};
use e2e::kcp::Claims;
use e2e::object::{self, core, kcp_apis, kube_bind, resource};
use e2e::provider::{self, EXPORT, PLATFORM, Provider};
use e2e::wait::eventually;
use e2e::{client, dirs, stack, tools};
use futures::FutureExt as _;
use kube::api::ListParams;
use serde_json::json;

use crate::Test;

const SOON: Duration = Duration::from_secs(30);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("init::a_second_run_writes_nothing_and_keeps_the_file", || second_run().boxed()),
        ("init::an_upgrade_repoints_the_export_and_keeps_tenants_bound", || upgrade().boxed()),
        ("init::the_credential_reaches_tenants_through_the_virtual_workspace_only", || {
            credential().boxed()
        }),
        ("init::the_workspace_of_the_export_is_served_only_when_asked", || {
            export_workspace().boxed()
        }),
        ("init::kubectl_apply_of_the_manifests_is_enough", || kubectl_apply().boxed()),
    ]
}

async fn second_run() -> Result<()> {
    let kcp = stack::kcp().await?;
    let name = stack::unique("init-twice");
    let (export, _) = provider::init(&kcp, &name).await?;
    let path = dirs::run()?.join(format!("{name}.kubeconfig"));
    let before = fs::read(&path)?;
    let log = kcp.audit();
    let mark = log.mark()?;
    provider::init(&kcp, &name).await?;
    ensure!(fs::read(&path)? == before, "the second run changed the kubeconfig");
    let requests = log.requests(mark, &Filter::backend().cluster(&export.cluster))?;
    let writes: Vec<_> = requests.into_iter().filter(audit::Request::is_write).collect();
    ensure!(writes.is_empty(), "{}", audit::listing(&writes));
    Ok(())
}

async fn upgrade() -> Result<()> {
    let provider = Provider::start("upgraded", PLATFORM).await?;
    let tenant = provider.tenant("upgraded", Claims::All).await?;
    let admin = provider.kcp.client(&provider.export.cluster).await?;
    let schemas = resource("apis.kcp.io", "v1alpha1", "APIResourceSchema", "apiresourceschemas");
    let exports = object::api(&admin, &kcp_apis("APIExport"), None);
    let export = exports.get(EXPORT).await?;
    let mut resources = export.data["spec"]["resources"].clone();
    let entry = resources
        .as_array_mut()
        .into_iter()
        .flatten()
        .find(|entry| entry["name"] == "collections")
        .context("no collections")?;
    let current = entry["schema"].as_str().context("no schema")?.to_owned();
    // An older release: the same resource under another prefix.
    let old = object::api(&admin, &schemas, None).get(&current).await?;
    let manifest = json!({
        "metadata": { "name": "v250101-older.collections.kube-bind.io" },
        "spec": old.data["spec"],
    });
    object::create(&admin, &schemas, None, manifest).await?;
    entry["schema"] = json!("v250101-older.collections.kube-bind.io");
    let patch = json!({ "spec": { "resources": resources } });
    object::merge_patch(&exports, EXPORT, &patch, false).await?;

    let name = provider.export.path.trim_start_matches("root:").to_owned();
    provider::init(&provider.kcp, &name).await?;
    let export = exports.get(EXPORT).await?;
    let entries = export.data["spec"]["resources"].as_array().context("no resources")?;
    ensure!(entries.iter().any(|entry| entry["schema"] == json!(current)), "not repointed");
    ensure!(
        !entries.iter().any(|entry| entry["schema"] == "v250101-older.collections.kube-bind.io"),
        "the old schema is still exported"
    );
    let client = provider.kcp.client(&tenant.cluster).await?;
    let bindings = object::api(&client, &kcp_apis("APIBinding"), None);
    object::wait_for(&bindings, EXPORT, "the tenant to be bound", SOON, |binding| {
        object::expect_condition(binding, "Ready", "True")
    })
    .await?;
    object::api(&client, &kube_bind("Cluster"), None).get("default").await?;
    Ok(())
}

async fn credential() -> Result<()> {
    let provider = Provider::start("credential", PLATFORM).await?;
    let tenant = provider.tenant("credential", Claims::All).await?;
    let file = provider.flags[0].trim_start_matches("--kubeconfig=");
    let access = client::Access::from_kubeconfig(&fs::read_to_string(file)?, None)?;
    let url = provider.kcp.endpoint_url(&provider.export.path, EXPORT).await?;
    let everywhere = access.at(format!("{url}/clusters/*")).client("e2e-credential").await?;
    let clusters = object::api(&everywhere, &kube_bind("Cluster"), None);
    let list = clusters.list(&ListParams::default()).await?;
    ensure!(list.items.len() == 1, "{} clusters", list.items.len());

    let home = access.client("e2e-credential").await?;
    let tenant_url = format!("{}/clusters/{}", provider.kcp.url(), tenant.cluster);
    let tenant = access.at(tenant_url).client("e2e-credential").await?;
    let root =
        access.at(format!("{}/clusters/root", provider.kcp.url())).client("e2e-credential").await?;
    let workspaces = resource("tenancy.kcp.io", "v1alpha1", "Workspace", "workspaces");
    for (whose, client, kind) in [
        ("home", &home, core("Secret")),
        ("home", &home, core("Namespace")),
        (
            "home",
            &home,
            resource("apis.kcp.io", "v1alpha1", "APIResourceSchema", "apiresourceschemas"),
        ),
        ("tenant", &tenant, core("Secret")),
        ("tenant", &tenant, kube_bind("Cluster")),
        ("root", &root, workspaces),
    ] {
        let answer = object::api(client, &kind, None).list(&ListParams::default()).await;
        let forbidden = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 403);
        ensure!(forbidden, "{} in {whose}: {answer:?}", kind.kind);
    }
    Ok(())
}

async fn export_workspace() -> Result<()> {
    let mut provider = Provider::start("own", PLATFORM).await?;
    let admin = provider.kcp.client(&provider.export.cluster).await?;
    let bindings = object::api(&admin, &kcp_apis("APIBinding"), None);
    let own = bindings.get(EXPORT).await?;
    let accepted = own.data["spec"]["permissionClaims"].as_array().map_or(0, Vec::len);
    ensure!(accepted == 0, "init accepted {accepted} claims of its own export");
    // Another workspace being served proves that the export's own would have been by now.
    provider.tenant("own", Claims::All).await?;
    let clusters = object::api(&admin, &kube_bind("Cluster"), None);
    ensure!(clusters.get_opt("default").await?.is_none(), "the export's workspace is served");

    provider.backend.stop().await?;
    let asked = ["--serve-export-workspace=true".to_owned()];
    let flags = provider.flags.iter().cloned().chain(asked);
    let _backend = e2e::backend::Backend::start(&stack::unique("own-served"), flags).await?;
    object::wait_for(&clusters, "default", "Cluster default", SOON, |_| Ok(())).await?;
    Ok(())
}

async fn kubectl_apply() -> Result<()> {
    let (kcp, export) = stack::workspace("applied").await?;
    let kubectl = tools::path("kubectl")?;
    for run in ["first", "second"] {
        let output = Command::new(&kubectl)
            .arg(format!("--kubeconfig={}", kcp.kubeconfig_file(&export.cluster)?.display()))
            .args(["apply", "-f"])
            .arg(dirs::project().join("kcp"))
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{run} apply: {text}");
    }
    let tenant = kcp.create_workspace("root", &stack::unique("applied-tenant")).await?;
    kcp.bind_export(&tenant, &export.path, EXPORT, Claims::Explicit).await?;
    let client = kcp.client(&tenant.cluster).await?;
    let clusters = object::api(&client, &kube_bind("Cluster"), None);
    // A kind that was just bound answers 429 until its storage is there.
    eventually("the kinds to be served", SOON, async || {
        let list = clusters.list(&ListParams::default()).await;
        list.map(drop).map_err(|error| error.to_string())
    })
    .await
}
