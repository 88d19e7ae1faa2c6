//! `backend init`: what it makes, that a second run changes nothing, and what its credential may do.

use e2e::wait::SOON;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{self, Filter};
use e2e::backend::Backend;
use e2e::binding;
use e2e::kcp::Claims;
use e2e::object::{self, core, kcp_apis, kube_bind, rbac, resource};
use e2e::provider::{self, EXPORT, PLATFORM, Provider};
use e2e::{client, dirs, stack, tools, wait};
use futures::FutureExt as _;
use kube::Client;
use kube::api::ListParams;
use serde_json::json;

use super::doctor::Clinic;
use crate::Test;

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
        ("init::flags_leave_out_what_they_do_not_need_and_later_flags_say_what_is_missing", || {
            fewest_claims().boxed()
        }),
        ("init::what_v0_8_1_left_is_named_with_the_commands_that_remove_it", || legacy().boxed()),
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
    // Other tests run init too: what counts is the new workspace, and its entry in the parent.
    let requests = log.requests(mark, &Filter::backend())?;
    let about = |request: &audit::Request| {
        request.cluster == export.cluster || request.object.ends_with(&format!("/{name}"))
    };
    let writes: Vec<_> =
        requests.into_iter().filter(|request| about(request) && request.is_write()).collect();
    ensure!(writes.is_empty(), "{}", audit::listing(&writes));
    Ok(())
}

/// The resources that an export claims.
async fn claimed(admin: &Client) -> Result<BTreeSet<String>> {
    let export = object::api(admin, &kcp_apis("APIExport"), None).get(EXPORT).await?;
    let claims = export.data["spec"]["permissionClaims"].as_array().cloned().unwrap_or_default();
    Ok(claims.iter().filter_map(|claim| claim["resource"].as_str().map(str::to_owned)).collect())
}

async fn fewest_claims() -> Result<()> {
    let kcp = stack::kcp().await?;
    let name = stack::unique("init-fewest");
    let by_hand = ["--schema-source=apiresourceschemas", "--templates-from-bindings=false"];
    let (export, base) = provider::init_for(&kcp, &name, &by_hand).await?;
    let admin = kcp.client(&export.cluster).await?;
    let few = claimed(&admin).await?;
    for left_out in ["customresourcedefinitions", "apibindings"] {
        ensure!(!few.contains(left_out), "{few:?}");
    }
    let start = |more: &[&str]| {
        let more = PLATFORM.iter().chain(more).map(|flag| (*flag).to_owned());
        let flags: Vec<String> = base.iter().cloned().chain(more).collect();
        let name = stack::unique(&name);
        async move { anyhow::Ok((Backend::start(&name, flags.clone()).await?, flags)) }
    };
    let (backend, flags) = start(&by_hand[1..]).await?;
    let mut provider = Provider::of(kcp.clone(), export, flags, backend);
    let tenant = provider.tenant(&name, Claims::All).await?;
    let tenants = kcp.client(&tenant.cluster).await?;
    binding::bind(&tenants, &binding::Request::new("few", "few")).await?;
    let clusters = object::api(&tenants, &kube_bind("Cluster"), None);
    let cluster = clusters.get("default").await?;
    ensure!(object::condition(&cluster, "PermissionClaimsAccepted").is_none(), "few are enough");

    // With templates it serves all the same, and says what they need.
    provider.backend.stop().await?;
    (provider.backend, provider.flags) = start(&[]).await?;
    provider.served(&tenant).await?;
    let what = "apibindings.apis.kcp.io";
    wait::eventually("the log to name the claim", SOON, async || {
        let log = provider.backend.output()?;
        let said = log.lines().any(|line| line.contains(what) && line.contains("backend init"));
        if said { anyhow::Ok(()) } else { anyhow::bail!("not yet") }
    })
    .await?;
    // Schemas of another source cannot be read at all, which the workspace is told.
    provider.backend.stop().await?;
    let crds = ["--schema-source=customresourcedefinitions"];
    (provider.backend, provider.flags) = start(&crds).await?;
    object::wait_for(&clusters, "default", "the missing claim", SOON, |cluster| {
        let condition = object::condition(cluster, "PermissionClaimsAccepted");
        let message = condition.and_then(|c| c["message"].as_str()).unwrap_or_default();
        let said = message.contains("does not claim customresourcedefinitions")
            && message.contains("backend init");
        if said { Ok(()) } else { Err(object::summary(cluster)) }
    })
    .await?;

    // What the message says to do.
    provider::init_for(&kcp, &name, &by_hand[..1]).await?;
    let now = claimed(&admin).await?;
    ensure!(now.contains("apibindings") && now.is_superset(&few), "{now:?}");
    Ok(())
}

/// What `kcp-init` of v0.8.1 makes beside the export (contract kcp.md 1).
async fn legacy() -> Result<()> {
    let kcp = stack::kcp().await?;
    let name = stack::unique("init-legacy");
    let (export, _) = provider::init(&kcp, &name).await?;
    let admin = kcp.client(&export.cluster).await?;
    let account = json!({"metadata": {"name": "kube-bind-controller"}});
    object::create(&admin, &core("ServiceAccount"), Some("default"), account).await?;
    let token = json!({
        "metadata": {
            "name": "kube-bind-controller-secret",
            "annotations": {"kubernetes.io/service-account.name": "kube-bind-controller"},
        },
        "type": "kubernetes.io/service-account-token",
    });
    object::create(&admin, &core("Secret"), Some("default"), token).await?;
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"name": "kube-bind-service-account-binding"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "admin-service-account", "namespace": "default"}],
    });
    object::create(&admin, &rbac("ClusterRoleBinding"), None, binding).await?;
    let configmaps = json!({"group": "", "resource": "configmaps", "verbs": ["*"]});
    let exports = object::api(&admin, &kcp_apis("APIExport"), None);
    let mut claims = exports.get(EXPORT).await?.data["spec"]["permissionClaims"].clone();
    claims.as_array_mut().context("no claims")?.push(configmaps);
    let claims = json!({"spec": {"permissionClaims": claims}});
    object::merge_patch(&exports, EXPORT, &claims, false).await?;
    let accepted = json!({"spec": {"permissionClaims": [{
        "group": "", "resource": "secrets", "verbs": ["*"], "state": "Accepted",
        "selector": {"matchAll": true},
    }]}});
    let bindings = object::api(&admin, &kcp_apis("APIBinding"), None);
    object::merge_patch(&bindings, EXPORT, &accepted, false).await?;

    let said = provider::init_said(&kcp, &name, &[]).await?;
    let commands: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("  kubectl ")).collect();
    ensure!(commands.len() == 4, "{said}");
    let kubeconfig = kcp.kubeconfig_file("root")?;
    let clinic = Clinic { flags: Vec::new(), kubeconfig, admin: admin.clone() };
    for command in commands {
        clinic.run(&format!("kubectl {command}")).await?;
    }
    let said = provider::init_said(&kcp, &name, &[]).await?;
    ensure!(!said.contains("  kubectl "), "not all is gone:\n{said}");
    let left = object::api(&admin, &core("ServiceAccount"), Some("default"));
    ensure!(left.get_opt("kube-bind-controller").await?.is_none(), "the account is there");
    ensure!(!claimed(&admin).await?.contains("configmaps"), "still claimed");
    Ok(())
}

async fn upgrade() -> Result<()> {
    let provider = Provider::start("upgraded", PLATFORM).await?;
    let tenant = provider.tenant("upgraded", Claims::All).await?;
    let admin = provider.kcp.client(&provider.export.cluster).await?;
    let schemas = object::schemas();
    let exports = object::api(&admin, &kcp_apis("APIExport"), None);
    let tenant_admin = provider.kcp.client(&tenant.cluster).await?;
    let collections = object::api(&tenant_admin, &kube_bind("Collection"), None);
    let manifest = json!({"metadata": {"name": "kept"}, "spec": {"templates": [{"name": "any"}]}});
    let made = object::create(&tenant_admin, &kube_bind("Collection"), None, manifest).await?;
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
    uses(&tenant_admin, "v250101-older.collections.kube-bind.io").await?;

    let name = provider.export.path.trim_start_matches("root:").to_owned();
    provider::init(&provider.kcp, &name).await?;
    let export = exports.get(EXPORT).await?;
    let entries = export.data["spec"]["resources"].as_array().context("no resources")?;
    ensure!(entries.iter().any(|entry| entry["schema"] == json!(current)), "not repointed");
    ensure!(
        !entries.iter().any(|entry| entry["schema"] == "v250101-older.collections.kube-bind.io"),
        "the old schema is still exported"
    );
    uses(&tenant_admin, &current).await?;
    let kept = collections.get("kept").await?;
    ensure!(
        (&kept.metadata.uid, &kept.data["spec"]) == (&made.metadata.uid, &made.data["spec"]),
        "the tenant's object changed"
    );
    let request = binding::Request::new("after", "after");
    binding::bind(&tenant_admin, &request).await.map(drop)
}

/// Waits until a tenant is bound and serves collections by this schema.
async fn uses(tenant: &Client, schema: &str) -> Result<()> {
    let bindings = object::api(tenant, &kcp_apis("APIBinding"), None);
    let what = format!("the tenant to be bound with {schema}");
    object::wait_for(&bindings, EXPORT, &what, SOON, |binding| {
        object::expect_condition(binding, "Ready", "True")?;
        let bound = binding.data["status"]["boundResources"].as_array();
        let mut names = bound.into_iter().flatten().map(|bound| &bound["schema"]["name"]);
        if names.any(|name| name == schema) {
            Ok(())
        } else {
            Err(binding.data["status"]["boundResources"].to_string())
        }
    })
    .await
    .map(drop)
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
    exact_rules(&access.client("e2e-credential").await?).await?;

    let home = access.client("e2e-credential").await?;
    let tenant_url = format!("{}/clusters/{}", provider.kcp.url(), tenant.cluster);
    let tenant = access.at(tenant_url).client("e2e-credential").await?;
    let root =
        access.at(format!("{}/clusters/root", provider.kcp.url())).client("e2e-credential").await?;
    let tenancy =
        format!("{}/services/apiexport/root/tenancy.kcp.io/clusters/*", provider.kcp.url());
    let other_export = access.at(tenancy).client("e2e-credential").await?;
    let workspaces = resource("tenancy.kcp.io", "v1alpha1", "Workspace", "workspaces");
    for (whose, client, kind) in [
        ("home", &home, core("Secret")),
        ("home", &home, core("Namespace")),
        ("home", &home, object::schemas()),
        ("tenant", &tenant, core("Secret")),
        ("tenant", &tenant, kube_bind("Cluster")),
        ("root", &root, workspaces.clone()),
        ("home", &home, workspaces.clone()),
        ("the virtual workspace of another export", &other_export, workspaces),
    ] {
        let answer = object::api(client, &kind, None).list(&ListParams::default()).await;
        let forbidden = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 403);
        ensure!(forbidden, "{} in {whose}: {answer:?}", kind.kind);
    }
    Ok(())
}

/// What the server itself says that the credential may do in the export workspace, apart from what everybody may.
async fn exact_rules(home: &Client) -> Result<()> {
    let reviews =
        resource("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews");
    let review = json!({"spec": {"namespace": "kube-bind"}});
    let answer = object::create(home, &reviews, None, review).await?;
    let rules = answer.data["status"]["resourceRules"].as_array().context("no rules")?;
    let everybody = ["authentication.k8s.io", "authorization.k8s.io"];
    let own: BTreeSet<String> = rules
        .iter()
        .filter(|rule| !everybody.iter().any(|group| rule["apiGroups"] == json!([group])))
        .map(ToString::to_string)
        .collect();
    let expected: BTreeSet<String> = [
        json!({"apiGroups": ["apis.kcp.io"], "resources": ["apiexports/content"],
            "resourceNames": [EXPORT], "verbs": ["*"]}),
        json!({"apiGroups": ["apis.kcp.io"], "resources": ["apiexportendpointslices", "apiexports"],
            "verbs": ["get", "list", "watch"]}),
        json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
            "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]}),
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    ensure!(own == expected, "may: {own:#?}, not {expected:#?}");
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
    let _backend = Backend::start(&stack::unique("own-served"), flags).await?;
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
    // The service account made by it is all that a backend needs, but for a token.
    let admin = kcp.client(&export.cluster).await?;
    let secret = json!({
        "metadata": {
            "name": "applied-token",
            "annotations": {"kubernetes.io/service-account.name": "backend"},
        },
        "type": "kubernetes.io/service-account-token",
    });
    object::create(&admin, &core("Secret"), Some("kube-bind"), secret).await?;
    let secrets = object::api(&admin, &core("Secret"), Some("kube-bind"));
    let secret = object::wait_for(&secrets, "applied-token", "a token", SOON, |secret| {
        let token = object::secret_text(secret, "token");
        token.map(drop).map_err(|error| error.to_string())
    })
    .await?;
    let name = stack::unique("applied-backend");
    let path = dirs::run()?.join(format!("{name}.kubeconfig"));
    kcp.access(&export.cluster)?
        .with_token(&object::secret_text(&secret, "token")?)
        .write(&path)?;
    let flags = vec![
        format!("--kubeconfig={}", path.display()),
        "--multicluster-runtime-provider=kcp".to_owned(),
        "--frontend-disabled=true".to_owned(),
    ];
    let backend = Backend::start(&name, flags.clone()).await?;
    let provider = Provider::of(kcp.clone(), export, flags, backend);
    let tenant = provider.tenant("applied", Claims::Explicit).await?;
    let admin = kcp.client(&tenant.cluster).await?;
    let request = binding::Request::new("consumer", "consumer");
    binding::bind(&admin, &request).await.map(drop)
}
