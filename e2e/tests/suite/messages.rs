//! What people read when something is wrong, and that waiting helps where it can.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{self, Filter};
use e2e::backend::Backend;
use e2e::binding;
use e2e::kcp::{Claims, Kcp};
use e2e::manifest;
use e2e::object::{self, core, endpoint_slices, resource};
use e2e::provider::{self, PLATFORM, Provider};
use e2e::wait::{SOON, eventually};
use e2e::{client, dirs, stack};
use futures::FutureExt as _;
use serde_json::json;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("messages::a_wrong_flag_is_refused_in_one_line_that_names_the_allowed", || {
            wrong_flags().boxed()
        }),
        ("messages::an_export_without_endpoints_is_waited_for", || no_endpoints().boxed()),
        ("messages::of_two_endpoint_slices_each_is_enough_and_a_missing_one_is_said", || {
            two_slices().boxed()
        }),
        ("messages::a_wrong_context_is_said_in_one_line", || wrong_context().boxed()),
        ("messages::a_backend_that_starts_before_kcp_waits_for_it_and_says_so_once", || {
            server_down().boxed()
        }),
        ("messages::a_kubeconfig_or_address_that_cannot_be_used_ends_with_one_line", || {
            unusable().boxed()
        }),
        ("messages::a_credential_that_is_not_accepted_is_said_in_one_line", || {
            unauthenticated().boxed()
        }),
        ("messages::a_credential_without_the_export_content_says_so_once_and_waits", || {
            missing_content().boxed()
        }),
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
        ("--consumer-scope=global", "Namespaced and Cluster"),
        ("--multicluster-runtime-provider=k3s", "kubernetes and kcp"),
        ("--schema-source=crds", "customresourcedefinitions"),
        ("--schema-sync-interval=1s", "10s"),
        ("--external-address=http://example.org", "https://"),
        ("--namespace-prefix=Not_A_Name", "--namespace-prefix"),
        ("--pretty-name=", "--pretty-name"),
        ("--frontend-disabled=false", "--oidc-issuer-client-id is needed for the login"),
    ] {
        let flags = ["--frontend-disabled=true", flag];
        refused_at_start(&flags, &[expected]).await?;
    }
    for (flag, expected) in [
        ("--workspace=kube-bind", "root:kube-bind"),
        ("--workspace=root", "root:kube-bind"),
        ("--export-name=Kube_Bind", "lower case"),
        ("--output=", "--output"),
    ] {
        refused_at_start(&["init", flag], &[expected]).await?;
    }
    Ok(())
}

/// Runs the backend, which has to end with exit code 1 and one line of error that contains all of `expected`.
pub(super) async fn refused_at_start(flags: &[&str], expected: &[&str]) -> Result<()> {
    let (code, output) =
        Backend::run_to_end(&stack::unique("refused"), flags.iter().copied()).await?;
    ensure!(code == Some(1), "{flags:?}: exit code {code:?}\n{output}");
    ensure!(!output.contains("t0ps3cret"), "{flags:?}: {output}");
    // Where it listens is said before the kubeconfig is read.
    let said = |line: &&str| !(line.contains(" INFO ") && line.contains("listening"));
    let lines: Vec<&str> = output.lines().filter(said).collect();
    ensure!(lines.len() == 1 && lines[0].starts_with("error: "), "{flags:?}: {output}");
    for expected in expected {
        ensure!(lines[0].contains(expected), "{flags:?}: {output}");
    }
    Ok(())
}

async fn unusable() -> Result<()> {
    let dir = dirs::fresh(&stack::unique("unusable"))?;
    let file = |name: &str, text: &str| -> Result<String> {
        std::fs::write(dir.join(name), text)?;
        Ok(format!("--kubeconfig={}", dir.join(name).display()))
    };
    let access = client::Access {
        server: "https://127.0.0.1:1".to_owned(),
        ca: None,
        token: "x".to_owned(),
    };
    let (good, empty) = (file("good", &access.kubeconfig(None))?, file("empty", "")?);
    let missing = format!("--kubeconfig={}", dir.join("missing").display());
    let garbage =
        file("garbage", "users:\n- name: a\n  user:\n    token: t0ps3cret\nclusters: {[\n")?;
    let kcp = "--multicluster-runtime-provider=kcp";
    let nowhere = format!("--state-dir={}", dir.join("nowhere").display());
    let held = std::net::TcpListener::bind("127.0.0.1:0")?;
    let taken = format!("--listen-address={}", held.local_addr()?);
    for (flags, expected) in [
        (vec![missing.as_str()], vec!["--kubeconfig", "missing"]),
        (vec![&garbage], vec!["--kubeconfig"]),
        (vec![&empty], vec!["--kubeconfig"]),
        (vec![&good, "--context=other"], vec!["other", "--context"]),
        (vec![&good, &taken], vec!["cannot listen", "--listen-address"]),
        (vec![&good, kcp, &nowhere], vec!["--state-dir", "nowhere", "that exists"]),
    ] {
        let listen = "--listen-address=127.0.0.1:0";
        let flags: Vec<&str> =
            ["--frontend-disabled=true", listen].into_iter().chain(flags).collect();
        refused_at_start(&flags, &expected).await?;
    }
    for kubeconfig in [&missing, &garbage, &empty] {
        refused_at_start(&["init", kubeconfig], &["--kubeconfig"]).await?;
    }
    drop(held);
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

async fn two_slices() -> Result<()> {
    let kcp = stack::kcp().await?;
    let name = stack::unique("two-slices");
    let (export, mut flags) = provider::init(&kcp, &name).await?;
    flags.extend(
        ["kube-bind.io", "east"].map(|name| format!("--apiexport-endpoint-slice-name={name}")),
    );
    let backend = Backend::launch(&name, flags.clone()).await?;
    let served = async |tenant: &str, provider: &Provider| -> Result<()> {
        let tenant = kcp.create_workspace("root", &stack::unique(tenant)).await?;
        kcp.bind_export(&tenant, &provider.export.path, provider::EXPORT, Claims::All).await?;
        provider.served(&tenant).await
    };
    let provider = Provider::of(kcp.clone(), export, flags, backend);
    served("first-slice", &provider).await?;
    let expected = "there is no APIExportEndpointSlice east";
    let backend = &provider.backend;
    eventually("/readyz to name the slice", SOON, async || match backend.get("/readyz").await {
        Ok((503, body)) if body.contains(expected) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;

    let admin = kcp.client(&provider.export.cluster).await?;
    let api = object::api(&admin, &endpoint_slices(), None);
    let spec = api.get("kube-bind.io").await?.data["spec"].clone();
    let manifest = json!({"metadata": {"name": "east"}, "spec": spec});
    object::create(&admin, &endpoint_slices(), None, manifest).await?;
    object::wait_for(&api, "east", "an endpoint of the slice east", SOON, |slice| {
        let url = slice.data["status"]["endpoints"][0]["url"].as_str();
        if url.is_some() { Ok(()) } else { Err(object::summary(slice)) }
    })
    .await?;
    backend.ready().await?;
    object::delete(&api, "kube-bind.io").await?;
    eventually("the other slice to be missed", SOON, async || {
        let output = backend.output().map_err(|err| err.to_string())?;
        let said = output.contains("there is no APIExportEndpointSlice kube-bind.io");
        said.then_some(()).ok_or("not said yet".to_owned())
    })
    .await?;
    served("second-slice", &provider).await?;
    // Its endpoints are those of the other.
    let output = backend.output()?;
    ensure!(!output.contains("no longer published"), "{output}");
    ensure!(output.matches("endpoint added").count() == 1, "{output}");
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
    // Waiting helps where it was the right context after all.
    provider::init(&kcp, elsewhere.path.trim_start_matches("root:")).await?;
    backend.ready().await
}

async fn server_down() -> Result<()> {
    let kcp = Arc::new(Kcp::start(&dirs::fresh("kcp-later")?).await?);
    let name = stack::unique("later");
    let (export, flags) = provider::init(&kcp, &name).await?;
    kcp.kill().await?;
    let backend = Backend::launch(&name, flags.clone()).await?;
    said_once(&backend, "cannot be reached").await?;
    kcp.resume().await?;
    backend.ready().await?;
    let provider = Provider::of(kcp.clone(), export, flags, backend);
    let tenant = provider.tenant("later", Claims::All).await?;
    let admin = kcp.client(&tenant.cluster).await?;
    binding::bind(&admin, &binding::Request::new("consumer", "consumer")).await?;
    kcp.kill().await
}

async fn unauthenticated() -> Result<()> {
    let kcp = stack::kcp().await?;
    let name = stack::unique("unknown-token");
    let (_, flags) = provider::init(&kcp, &name).await?;
    let text = std::fs::read_to_string(dirs::run()?.join(format!("{name}.kubeconfig")))?;
    let path = dirs::run()?.join(format!("{name}-other.kubeconfig"));
    let access = client::Access::from_kubeconfig(&text, None)?;
    access.with_token("no-token-of-this-server").write(&path)?;
    let flags = std::iter::once(format!("--kubeconfig={}", path.display()))
        .chain(flags.into_iter().skip(1));
    let backend = Backend::launch(&name, flags).await?;
    said_once(&backend, "does not accept the credential").await?;
    // A token in the kubeconfig is read at start only.
    ensure!(backend.output()?.contains("restart"), "{}", backend.output()?);
    ensure!(!backend.output()?.contains("no-token-of-this-server"), "the token is in the log");
    Ok(())
}

/// The slice can be read, the virtual workspace cannot.
async fn missing_content() -> Result<()> {
    let kcp = stack::kcp().await?;
    let name = stack::unique("contentless");
    let (export, flags) = provider::init(&kcp, &name).await?;
    let admin = kcp.client(&export.cluster).await?;
    let group = "rbac.authorization.k8s.io";
    let kind = resource(group, "v1", "ClusterRole", "clusterroles");
    let api = object::api(&admin, &kind, None);
    let rules = api.get("kube-bind-backend").await?.data["rules"].take();
    let mut fewer = rules.clone();
    let list = fewer.as_array_mut().context("no rules")?;
    list.retain(|rule| rule["resources"] != json!(["apiexports/content"]));
    ensure!(fewer != rules, "no rule for apiexports/content");
    object::merge_patch(&api, "kube-bind-backend", &json!({"rules": fewer}), false).await?;
    let backend = Backend::launch(&name, flags.clone()).await?;
    // All kinds are refused for the same reason, which is to be said once.
    said_once(&backend, "apiexports/content").await?;
    let output = backend.output()?;
    let of_it = |line: &&str| line.contains(" WARN ") && line.contains("apiexports/content");
    ensure!(output.lines().filter(of_it).count() == 1, "{output}");
    object::merge_patch(&api, "kube-bind-backend", &json!({"rules": rules}), false).await?;
    backend.ready().await?;
    let provider = Provider::of(kcp.clone(), export, flags, backend);
    provider.tenant("contentless", Claims::All).await.map(drop)
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
    let text = std::fs::read_to_string(dirs::run()?.join(format!("{name}.kubeconfig")))?;
    let credential = client::from_kubeconfig(&text, "e2e").await?;
    let slices = object::api(&credential, &endpoint_slices(), None);
    eventually("kcp to know that the binding is gone", SOON, async || {
        match slices.list(&kube::api::ListParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
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
    let (log, ours) = (kcp.audit(), Filter::backend().cluster(&export.cluster));
    let mark = log.mark()?;
    let backend = Backend::start(&name, flags.clone()).await?;
    let provider = Provider::of(kcp.clone(), export, flags, backend);
    let tenant = provider.tenant("server-url", Claims::All).await?;
    let admin = kcp.client(&tenant.cluster).await?;
    let bound = binding::bind(&admin, &binding::Request::new("consumer", "consumer")).await?;
    let expected = format!("{}/clusters/{}", kcp.url(), tenant.cluster);
    ensure!(bound.consumer.server() == expected, "{}", bound.consumer.server());
    let mut asked = log.requests(mark, &ours)?;
    asked.extend(log.watches(mark, &ours)?);
    ensure!(asked.is_empty(), "the export workspace was asked:\n{}", audit::listing(&asked));
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
