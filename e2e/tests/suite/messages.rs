//! What people read when something is wrong, and that waiting helps where it can.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::binding;
use e2e::kcp::Claims;
use e2e::manifest;
use e2e::object::{self, core, resource};
use e2e::process::free_port;
use e2e::provider::{self, PLATFORM, Provider};
use e2e::wait::eventually;
use e2e::{client, dirs, stack};
use futures::FutureExt as _;
use serde_json::json;

use crate::Test;

const SOON: Duration = Duration::from_secs(40);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("messages::a_wrong_flag_is_refused_in_one_line_that_names_the_allowed", || {
            wrong_flags().boxed()
        }),
        ("messages::an_export_without_endpoints_is_waited_for", || no_endpoints().boxed()),
        ("messages::a_wrong_context_is_said_in_one_line", || wrong_context().boxed()),
        ("messages::a_server_that_is_down_is_waited_for", || server_down().boxed()),
        ("messages::missing_rights_are_said_and_waited_for", || missing_rights().boxed()),
        ("messages::a_server_that_is_not_kcp_is_said_in_one_line", || not_kcp().boxed()),
        ("messages::a_virtual_workspace_url_serves_without_the_slice", || server_url().boxed()),
        ("messages::on_kubernetes_the_server_url_replaces_the_host", || {
            server_url_on_kubernetes().boxed()
        }),
    ]
}

async fn wrong_flags() -> Result<()> {
    for (flag, expected) in [
        ("--isolation=prefx", "Prefixed, Namespaced and None"),
        ("--consumer-scope=global", "Namespaced and Cluster"),
        ("--multicluster-runtime-provider=k3s", "kubernetes and kcp"),
        ("--schema-source=crds", "customresourcedefinitions"),
        ("--schema-sync-interval=1s", "10s"),
        ("--external-address=http://example.org", "https://"),
        ("--namespace-prefix=Not_A_Name", "--namespace-prefix"),
        ("--pretty-name=", "--pretty-name"),
        ("--frontend-disabled=false", "--frontend-disabled=true"),
    ] {
        let flags = ["--frontend-disabled=true", flag];
        let (code, output) = Backend::run_to_end(&stack::unique("wrong-flag"), flags).await?;
        ensure!(code == Some(1), "{flag}: exit code {code:?}\n{output}");
        let lines: Vec<&str> = output.lines().collect();
        ensure!(lines.len() == 1 && lines[0].starts_with("error: "), "{flag}: {output}");
        ensure!(lines[0].contains(expected), "{flag}: {output}");
    }
    Ok(())
}

/// Waits until `/readyz` is 503 and names `expected`, and `metric` shows several tries; then exactly one line of the
/// log may have said it.
async fn said_once(backend: &Backend, expected: &str) -> Result<()> {
    let what = format!("/readyz to name {expected:?} after several tries");
    eventually(&what, SOON, async || {
        let (code, body) = backend.get("/readyz").await.map_err(|error| format!("{error:#}"))?;
        if code != 503 || !body.contains(expected) {
            return Err(format!("{code} {body}"));
        }
        let (_, metrics) = backend.get("/metrics").await.map_err(|error| format!("{error:#}"))?;
        let tries: u64 = metrics
            .lines()
            .filter(|line| line.starts_with("kube_bind_backend_api_requests_total"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        if tries < 3 { Err(format!("{tries} tries")) } else { Ok(()) }
    })
    .await
    .map_err(|error| backend.fail(format!("{error:#}")))?;
    let output = backend.output()?;
    let lines = output.lines().filter(|line| line.contains(expected)).count();
    ensure!(lines == 1, "said {lines} times:\n{output}");
    Ok(())
}

async fn no_endpoints() -> Result<()> {
    let (kcp, export) = stack::workspace("bare-export").await?;
    let admin = kcp.client(&export.cluster).await?;
    manifest::apply_dir(&admin, &dirs::project().join("kcp"), "default").await?;
    let flags = [
        format!("--kubeconfig={}", kcp.kubeconfig_file(&export.cluster)?.display()),
        "--multicluster-runtime-provider=kcp".to_owned(),
        "--frontend-disabled=true".to_owned(),
    ];
    let backend = Backend::start(&stack::unique("bare-export"), flags.clone()).await?;
    let waiting = "has no endpoint yet";
    ensure!(backend.output()?.matches(waiting).count() == 1, "{}", backend.output()?);

    let tenant = kcp.create_workspace("root", &stack::unique("first-tenant")).await?;
    kcp.bind_export(&tenant, &export.path, provider::EXPORT, Claims::All).await?;
    let provider = Provider::of(kcp.clone(), export, flags.to_vec(), backend);
    provider.served(&tenant).await?;
    let admin = kcp.client(&tenant.cluster).await?;
    binding::bind(&admin, &binding::Request::new("consumer", "consumer")).await?;
    Ok(())
}

async fn wrong_context() -> Result<()> {
    let (kcp, elsewhere) = stack::workspace("elsewhere").await?;
    let flags = [
        format!("--kubeconfig={}", kcp.kubeconfig_file(&elsewhere.cluster)?.display()),
        "--multicluster-runtime-provider=kcp".to_owned(),
        "--frontend-disabled=true".to_owned(),
    ];
    let backend = Backend::launch(&stack::unique("elsewhere"), flags).await?;
    let expected = "there is no APIExportEndpointSlice kube-bind.io";
    eventually("/readyz to name the slice", SOON, async || match backend.get("/readyz").await {
        Ok((503, body)) if body.contains(expected) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    let output = backend.output()?;
    ensure!(output.matches(expected).count() == 1, "{output}");
    ensure!(output.contains("check --kubeconfig, --context"), "{output}");
    Ok(())
}

async fn server_down() -> Result<()> {
    let kcp = stack::kcp().await?;
    let name = stack::unique("down");
    let (_, flags) = provider::init(&kcp, &name).await?;
    let nowhere = format!("https://127.0.0.1:{}", free_port()?);
    let text = std::fs::read_to_string(dirs::run()?.join(format!("{name}.kubeconfig")))?;
    let path = dirs::run()?.join(format!("{name}-nowhere.kubeconfig"));
    std::fs::write(&path, text.replace(kcp.url(), &nowhere))?;
    let flags: Vec<String> = std::iter::once(format!("--kubeconfig={}", path.display()))
        .chain(flags.into_iter().skip(1))
        .collect();
    let backend = Backend::launch(&name, flags).await?;
    said_once(&backend, "cannot be reached").await
}

async fn missing_rights() -> Result<()> {
    let kcp = stack::kcp().await?;
    let name = stack::unique("rightless");
    let (export, flags) = provider::init(&kcp, &name).await?;
    let admin = kcp.client(&export.cluster).await?;
    let bindings =
        resource("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings");
    let api = object::api(&admin, &bindings, None);
    let mut binding = api.get("kube-bind-backend").await?;
    api.delete("kube-bind-backend", &kube::api::DeleteParams::default()).await?;
    let backend = Backend::launch(&name, flags).await?;
    said_once(&backend, "may not read APIExportEndpointSlice").await?;
    binding.metadata.resource_version = None;
    binding.metadata.uid = None;
    api.create(&kube::api::PostParams::default(), &binding).await?;
    backend.ready().await
}

async fn not_kcp() -> Result<()> {
    let kubernetes = stack::kubernetes().await?;
    let flags = [
        format!("--kubeconfig={}", kubernetes.kubeconfig_file().display()),
        "--multicluster-runtime-provider=kcp".to_owned(),
        "--frontend-disabled=true".to_owned(),
    ];
    let backend = Backend::launch(&stack::unique("not-kcp"), flags).await?;
    said_once(&backend, "serves no APIExportEndpointSlices").await
}

async fn server_url() -> Result<()> {
    let kcp = stack::kcp().await?;
    let name = stack::unique("server-url");
    let (export, mut flags) = provider::init(&kcp, &name).await?;
    let url = kcp.endpoint_url(&export.path, provider::EXPORT).await?;
    flags.push(format!("--server-url={url}"));
    flags.push("--apiexport-endpoint-slice-name=there-is-none".to_owned());
    flags.extend(PLATFORM.iter().map(|flag| (*flag).to_owned()));
    let backend = Backend::start(&name, flags.clone()).await?;
    let provider = Provider::of(kcp.clone(), export, flags, backend);
    let tenant = provider.tenant("server-url", Claims::All).await?;
    let admin = kcp.client(&tenant.cluster).await?;
    let bound = binding::bind(&admin, &binding::Request::new("consumer", "consumer")).await?;
    let expected = format!("{}/clusters/{}", kcp.url(), tenant.cluster);
    ensure!(bound.consumer.server() == expected, "{}", bound.consumer.server());
    Ok(())
}

async fn server_url_on_kubernetes() -> Result<()> {
    // One of its own: two backends on one cluster would both answer.
    let dir = dirs::fresh("kubernetes-server-url")?;
    let kubernetes = e2e::kubernetes::Kubernetes::start(&dir).await?;
    let name = stack::unique("k8s-server-url");
    provider::install(&kubernetes, &name).await?;
    let text = std::fs::read_to_string(dirs::run()?.join(format!("{name}.kubeconfig")))?;
    let access = client::Access::from_kubeconfig(&text, None)?;
    let path = dirs::run()?.join(format!("{name}-nowhere.kubeconfig"));
    access.at("https://127.0.0.1:1".to_owned()).write(&path)?;
    let flags = [
        format!("--kubeconfig={}", path.display()),
        "--frontend-disabled=true".to_owned(),
        format!("--server-url={}", kubernetes.url()),
    ];
    let backend = Backend::start(&name, flags).await?;
    let admin = kubernetes.client().await?;
    let bound = binding::bind(&admin, &binding::Request::new("consumer", "consumer")).await;
    let bound = bound.map_err(|error| backend.fail(format!("{error:#}")))?;
    let secrets = object::api(&admin, &core("Secret"), Some(bound.consumer.namespace()));
    secrets.get("kubeconfig").await.context("the kubeconfig Secret")?;
    ensure!(bound.request.data["status"]["phase"] == json!("Succeeded"));
    drop(backend);
    kubernetes.kill().await
}
