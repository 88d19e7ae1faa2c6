//! `backend doctor` and `backend workspaces` on real servers: each finding provoked, and repaired by the command that it
//! printed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::audit;
use e2e::backend::Backend;
use e2e::binding::{self, Bound, Request};
use e2e::driver::{Settings, Use};
use e2e::kcp::Claims;
use e2e::kubernetes::Kubernetes;
use e2e::object::{self, core, crd, kcp_apis, kube_bind, rbac};
use e2e::provider::{self, EXPORT, Provider};
use e2e::service::{self, Exported, GROUP, Scope, Source};
use e2e::wait::{SOON, eventually};
use e2e::{dirs, stack, tools};
use futures::FutureExt as _;
use kube::Client;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("doctor::a_healthy_installation_gives_exit_code_0_and_nothing_is_written", || {
            healthy().boxed()
        }),
        ("doctor::each_finding_on_kcp_is_repaired_by_the_command_that_it_printed", || {
            on_kcp().boxed()
        }),
        ("doctor::what_objects_say_is_found_and_repaired", || said().boxed()),
        ("doctor::each_finding_on_kubernetes_is_repaired_by_the_command_that_it_printed", || {
            on_kubernetes().boxed()
        }),
        ("doctor::what_cannot_be_reached_is_named", || unreachable().boxed()),
    ]
}

/// Who looks, and with which credential an admin repairs.
struct Clinic {
    flags: Vec<String>,
    kubeconfig: PathBuf,
    admin: Client,
}

/// What came out.
struct Report {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Report {
    /// Reasons of what somebody should act on.
    fn reasons(&self) -> BTreeSet<String> {
        let bad = self.findings.iter().filter(|finding| finding["severity"] != "info");
        bad.filter_map(|finding| finding["reason"].as_str().map(str::to_owned)).collect()
    }

    fn find(&self, reason: &str, name: &str) -> Option<&Value> {
        let is_it =
            |one: &&Value| one["reason"] == reason && one["object"]["name"].as_str() == Some(name);
        self.findings.iter().find(is_it)
    }
}

impl Clinic {
    async fn look(&self) -> Result<Report> {
        let output = Command::new(Backend::program()?)
            .arg("doctor")
            .args(&self.flags)
            .arg("--output=json")
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let document: Value = serde_json::from_str(&text).with_context(|| {
            format!("not JSON: {text}{}", String::from_utf8_lossy(&output.stderr))
        })?;
        let findings = document["findings"].as_array().cloned().context("no findings")?;
        Ok(Report { code: output.status.code(), findings })
    }

    /// Runs a command as it was printed, as an admin in the folder of the project.
    async fn run(&self, command: &str) -> Result<()> {
        let bin = dirs::fresh(&stack::unique("bin"))?;
        std::os::unix::fs::symlink(tools::path("kubectl")?, bin.join("kubectl"))?;
        std::os::unix::fs::symlink(Backend::program()?, bin.join("backend"))?;
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&paths)))?;
        let output = Command::new("sh")
            .args(["-c", command])
            .env("PATH", path)
            .env("KUBECONFIG", &self.kubeconfig)
            .current_dir(dirs::project())
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command}\nended with {}: {text}", output.status);
        Ok(())
    }

    /// The finding is there, its command works, and then nothing needs that command any more.
    async fn heals(&self, reason: &str, name: &str) -> Result<()> {
        let what = format!("{reason} of {name}");
        let repair = eventually(&what, SOON, async || {
            let report = self.look().await?;
            let Some(finding) = report.find(reason, name) else {
                bail!("not among {:#?}", report.findings);
            };
            ensure!(report.code == Some(1) || finding["severity"] == "info", "{:?}", report.code);
            let repair = finding["repair"].as_str().context("nothing repairs it")?;
            Ok(repair.to_owned())
        })
        .await?;
        self.run(&repair).await.with_context(|| what.clone())?;
        eventually(&format!("{what} to be repaired by {repair}"), SOON, async || {
            let report = self.look().await?;
            let asked = report.findings.iter().any(|finding| finding["repair"] == *repair);
            ensure!(!asked, "{:#?}", report.findings);
            Ok(())
        })
        .await
    }
}

/// A workspace with a consumer that uses all that there is.
async fn settled(name: &str) -> Result<(Provider, Clinic, Bound, Use)> {
    let [scope, isolation] = Settings::APART.flags();
    let provider = Provider::start(name, &[&scope, &isolation, Source::Crds.flag()]).await?;
    let workspace = provider.tenant(name, Claims::All).await?;
    provider.serve(&workspace, Source::Crds).await?;
    let admin = provider.kcp.client(&workspace.cluster).await?;
    let kubeconfig = provider.kcp.kubeconfig_file("root")?;
    let clinic = Clinic { flags: provider.flags.clone(), kubeconfig, admin };
    let bound = binding::bind(&clinic.admin, &Request::new("consumer", name)).await?;
    let cowboys = Exported::of(GROUP, Scope::Namespaced);
    let cow = bound.consumer.take_up("cow", Settings::APART, &cowboys, &["Secret"]).await?;
    bound.consumer.acknowledge(&cow.export).await?;
    cow.service_namespace("wild-west").await?;
    Ok((provider, clinic, bound, cow))
}

async fn healthy() -> Result<()> {
    let (provider, clinic, _bound, _cow) = settled("doctor-healthy").await?;
    let log = provider.kcp.audit();
    let cluster = provider.tenants().into_iter().next().context("no tenant")?;
    let filter = audit::Filter::backend().cluster(&cluster);
    log.quiet(log.mark()?, &filter, std::time::Duration::from_secs(3), SOON, |_| false).await?;
    let mark = log.mark()?;
    let report = clinic.look().await?;
    ensure!(report.code == Some(0), "{:?}: {:#?}", report.code, report.findings);
    ensure!(report.reasons().is_empty(), "{:#?}", report.findings);

    let output = Command::new(Backend::program()?)
        .arg("workspaces")
        .args(&clinic.flags)
        .arg("--output=json")
        .output()
        .await?;
    let shown: Value = serde_json::from_slice(&output.stdout)?;
    let row = &shown["workspaces"][0];
    ensure!(
        row["cluster"] == cluster
            && row["exports"] == 1
            && row["consumers"] == 1
            && row["binding"] == EXPORT
            && row["health"] == "Ready"
            && row["path"].as_str().is_some_and(|path| path.starts_with("root:doctor-healthy")),
        "{shown}"
    );
    for format in ["table", "yaml"] {
        let output = Command::new(Backend::program()?)
            .arg("workspaces")
            .args(&clinic.flags)
            .args(["-o", format])
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && text.contains(&cluster), "{format}: {text}");
    }
    let writes: Vec<_> =
        log.requests(mark, &filter)?.into_iter().filter(audit::Request::is_write).collect();
    ensure!(writes.is_empty(), "{}", audit::listing(&writes));
    Ok(())
}

async fn on_kcp() -> Result<()> {
    let (mut provider, clinic, bound, cow) = settled("doctor-kcp").await?;
    let admin = &clinic.admin;
    let contract = bound.consumer.namespace().to_owned();

    // The tenant rejects what it had accepted.
    let bindings = object::api(admin, &kcp_apis("APIBinding"), None);
    let own = bindings.get(EXPORT).await?;
    let mut claims = own.data["spec"]["permissionClaims"].clone();
    for claim in claims.as_array_mut().into_iter().flatten() {
        if claim["resource"] == "roles" {
            claim["state"] = json!("Rejected");
        }
    }
    let patch = json!({"spec": {"permissionClaims": claims}});
    object::merge_patch(&bindings, EXPORT, &patch, false).await?;
    clinic.heals("PermissionClaimsMissing", EXPORT).await?;

    // From here on nobody repairs anything unasked.
    provider.backend.stop().await?;
    let exports = object::api(
        &provider.kcp.client(&provider.export.cluster).await?,
        &kcp_apis("APIExport"),
        None,
    );
    let mut export = exports.get(EXPORT).await?.data;
    let retain = |list: &mut Value, field: &str, not: &str| {
        if let Some(list) = list.as_array_mut() {
            list.retain(|one| one[field] != not);
        }
    };
    retain(&mut export["spec"]["permissionClaims"], "resource", "events");
    retain(&mut export["spec"]["resources"], "name", "apiconversions");
    object::merge_patch(&exports, EXPORT, &json!({"spec": export["spec"]}), false).await?;
    clinic.heals("ExportOutdated", EXPORT).await?;
    ensure!(clinic.look().await?.find("ClaimsNotMade", EXPORT).is_none(), "init made half of it");
    retain(&mut export["spec"]["permissionClaims"], "resource", "secrets");
    let claims = json!({"spec": {"permissionClaims": export["spec"]["permissionClaims"]}});
    object::merge_patch(&exports, EXPORT, &claims, false).await?;
    clinic.heals("ClaimsNotMade", EXPORT).await?;

    let crds = object::api(admin, &crd(), None);
    let cowboys = Exported::of(GROUP, Scope::Namespaced);
    service::offer_template(admin, "cowboys", &[&cowboys], &[]).await?;
    let unlabelled = json!({"metadata": {"labels": {"kube-bind.io/exported": null}}});
    object::merge_patch(&crds, &cowboys.name(), &unlabelled, false).await?;
    clinic.heals("TemplateWithoutSchema", "cowboys").await?;

    legacy(&clinic, &contract).await?;
    let namespaces = object::api(admin, &core("Namespace"), None);
    let unrecorded = json!({"metadata": {"annotations": {"backend.kube-bind.io/bound-by": null}}});
    object::merge_patch(&namespaces, &contract, &unrecorded, false).await?;
    clinic.heals("NobodyRecorded", &contract).await?;

    orphans(&clinic, &contract, &cow).await?;
    // Without a record and without its binding, nothing would tell that the namespace is a contract's.
    let recorded = json!({"metadata": {"annotations": {"backend.kube-bind.io/bound-by": "namespace:default"}}});
    object::merge_patch(&namespaces, &contract, &recorded, false).await?;
    let binding = object::api(admin, &kube_bind("ClusterBinding"), Some(&contract));
    object::delete(&binding, "cluster").await?;
    clinic.heals("ContractWithoutBinding", &contract).await?;
    let report = clinic.look().await?;
    ensure!(report.reasons().is_empty(), "{:#?}", report.findings);
    leaving(&clinic).await
}

/// The workspace gives up the API; what it does not let go of yet is nothing that somebody has to repair.
async fn leaving(clinic: &Clinic) -> Result<()> {
    let bindings = object::api(&clinic.admin, &kcp_apis("APIBinding"), None);
    let held = "example.org/held".to_owned();
    let mut finalizers = bindings.get(EXPORT).await?.metadata.finalizers.unwrap_or_default();
    finalizers.push(held.clone());
    let patch = json!({"metadata": {"finalizers": finalizers}});
    object::merge_patch(&bindings, EXPORT, &patch, false).await?;
    bindings.delete(EXPORT, &DeleteParams::default()).await?;
    eventually("Leaving, and nothing to do", SOON, async || {
        let report = clinic.look().await?;
        let finding = report.find("Leaving", EXPORT).context("not found")?;
        let quiet = finding["severity"] == "info" && finding.get("repair").is_none();
        ensure!(quiet && report.code == Some(0), "{:?}: {:#?}", report.code, report.findings);
        anyhow::Ok(())
    })
    .await?;
    let mut finalizers = bindings.get(EXPORT).await?.metadata.finalizers.unwrap_or_default();
    finalizers.retain(|one| *one != held);
    let patch = json!({"metadata": {"finalizers": finalizers}});
    object::merge_patch(&bindings, EXPORT, &patch, false).await?;
    object::wait_gone(&bindings, EXPORT).await
}

/// What v0.8.1 leaves.
async fn legacy(clinic: &Clinic, contract: &str) -> Result<()> {
    let aggregate = json!({"rbac.kube-bind.io/aggregate-to-parent": "true"});
    let part = format!("kube-binder-resources-{contract}-cow");
    for role in [
        json!({
            "metadata": {"name": "kube-binder-exports"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": aggregate}]},
            "rules": [],
        }),
        json!({"metadata": {"name": part, "labels": aggregate}, "rules": []}),
    ] {
        object::create(&clinic.admin, &rbac("ClusterRole"), None, role).await?;
    }
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"name": "kube-binder-exports"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "kube-binder-exports"},
        "subjects": [{"kind": "ServiceAccount", "name": "kube-binder", "namespace": contract}],
    });
    object::create(&clinic.admin, &rbac("ClusterRoleBinding"), None, binding).await?;
    // The role and its binding.
    for _ in 0..2 {
        clinic.heals("SharedExportRole", "kube-binder-exports").await?;
    }
    let left = clinic.look().await?;
    ensure!(left.find("SharedExportRole", "kube-binder-exports").is_none(), "{:#?}", left.findings);
    clinic.heals("AggregatedRole", &part).await
}

/// What is left when something goes while no backend runs.
async fn orphans(clinic: &Clinic, contract: &str, cow: &Use) -> Result<()> {
    let admin = &clinic.admin;
    let requests = object::api(admin, &kube_bind("APIServiceExportRequest"), Some(contract));
    if requests.get_opt("cow").await?.is_some() {
        object::delete(&requests, "cow").await?;
    }
    // Its schema stays if nobody collects it.
    let schemas = object::api(admin, &kube_bind("BoundSchema"), Some(contract));
    let schema = cow.exported.name();
    let free = json!({"metadata": {"ownerReferences": null}});
    object::merge_patch(&schemas, &schema, &free, false).await?;
    let namespaces = object::api(admin, &kube_bind("APIServiceNamespace"), Some(contract));
    let requested = namespaces.get("wild-west").await?;
    let service = requested.data["status"]["namespace"].as_str().context("no namespace")?;
    object::delete(&object::api(admin, &kube_bind("APIServiceExport"), Some(contract)), "cow")
        .await?;
    clinic.heals("OrphanedBoundSchema", &schema).await?;
    // Role and binding, in the contract namespace and in the service namespace.
    while clinic.look().await?.find("OrphanedRights", "kube-binder-claims-cow").is_some() {
        clinic.heals("OrphanedRights", "kube-binder-claims-cow").await?;
    }
    if namespaces.get_opt("wild-west").await?.is_some() {
        object::delete(&namespaces, "wild-west").await?;
    }
    clinic.heals("OrphanedNamespace", service).await
}

/// A consumer that is silent, a request that failed, and an object in the way.
async fn said() -> Result<()> {
    let (mut provider, clinic, bound, _cow) = settled("doctor-said").await?;
    let admin = &clinic.admin;
    let contract = bound.consumer.namespace().to_owned();
    let cowboys = Exported::of(GROUP, Scope::Namespaced);
    let pods = e2e::driver::spec(&cowboys, &["Pod"]);
    let outcome = bound.consumer.request_export("pods", &pods).await?;
    ensure!(outcome.phase == "Failed", "{outcome:?}");
    clinic.heals("InvalidPermissionClaim", "pods").await?;

    let request = json!({
        "metadata": {"name": "nothing"},
        "spec": {
            "author": "e2e", "clusterIdentity": {"identity": "nothing"},
            "templateRef": {"name": "nothing"},
        },
    });
    let kind = kube_bind("BindableResourcesRequest");
    object::create(admin, &kind, Some("default"), request).await?;
    clinic.heals("TemplateNotFound", "nothing").await?;

    forged(&clinic, &contract).await?;

    // Without a backend nobody knows more than the heartbeat itself says, and clocks may be wrong.
    provider.backend.stop().await?;
    let bindings = object::api(admin, &kube_bind("ClusterBinding"), Some(&contract));
    let silent = json!({"status": {
        "lastHeartbeatTime": "2020-01-01T00:00:00Z", "heartbeatInterval": "1s",
        "conditions": [{"type": "Healthy", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}],
    }});
    object::merge_patch(&bindings, "cluster", &silent, true).await?;
    let report = clinic.look().await?;
    let note = report.find("HeartbeatTimeout", "cluster").context("no note of the silence")?;
    ensure!(note["severity"] == "info" && note.get("repair").is_none(), "{note}");
    provider.backend.restart().await?;
    clinic.heals("HeartbeatTimeout", "cluster").await
}

/// What others wrote never becomes a command of ours, or a part of one.
async fn forged(clinic: &Clinic, contract: &str) -> Result<()> {
    let exports = object::api(&clinic.admin, &kube_bind("APIServiceExport"), Some(contract));
    let mut conditions = exports.get("cow").await?.data["status"]["conditions"].clone();
    conditions.as_array_mut().context("no conditions")?.push(json!({
        "type": "Forged", "status": "False", "severity": "Error", "reason": "Forged",
        "message": "clusterrole kube-binder exists\n  to repair: forged",
        "lastTransitionTime": "2020-01-01T00:00:00Z",
    }));
    let patch = json!({"status": {"conditions": conditions}});
    object::merge_patch(&exports, "cow", &patch, true).await?;
    let report = clinic.look().await?;
    let forged = report.find("Forged", "cow").context("the condition is not shown")?;
    ensure!(forged.get("repair").is_none(), "{forged}");
    let output =
        Command::new(Backend::program()?).arg("doctor").args(&clinic.flags).output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(text.contains("to repair: forged"), "{text}");
    ensure!(!text.lines().any(|line| line.trim() == "to repair: forged"), "{text}");

    let name = "it's; touch forged";
    let labels = json!({"rbac.kube-bind.io/aggregate-to-parent": "true"});
    let role = json!({"metadata": {"name": name, "labels": labels}, "rules": []});
    object::create(&clinic.admin, &rbac("ClusterRole"), None, role).await?;
    clinic.heals("AggregatedRole", name).await?;
    ensure!(!dirs::project().join("forged").exists(), "the name of a role was run");
    Ok(())
}

async fn on_kubernetes() -> Result<()> {
    let name = stack::unique("doctor-kubernetes");
    let kubernetes = Kubernetes::start(&dirs::fresh(&name)?).await?;
    let flags = provider::install(&kubernetes, &name).await?;
    let admin = kubernetes.client().await?;
    let kubeconfig = dirs::run()?.join(format!("{name}-admin.kubeconfig"));
    kubernetes.access()?.write(&kubeconfig)?;
    let clinic = Clinic { flags, kubeconfig, admin };
    let report = clinic.look().await?;
    ensure!(report.code == Some(0), "{:#?}", report.findings);

    let collections = "collections.kube-bind.io";
    object::delete(&object::api(&clinic.admin, &crd(), None), collections).await?;
    clinic.heals("DefinitionOutdated", collections).await?;
    let roles = object::api(&clinic.admin, &rbac("ClusterRole"), None);
    let mut granted = roles.get("kube-bind-backend").await?.data["rules"].clone();
    for rule in granted.as_array_mut().into_iter().flatten() {
        if rule["resources"].as_array().is_some_and(|all| all.contains(&json!("secrets"))) {
            rule["verbs"] = json!(["get", "list", "watch"]);
        }
    }
    object::merge_patch(&roles, "kube-bind-backend", &json!({"rules": granted}), false).await?;
    clinic.heals("RightsMissing", "kube-bind-backend").await?;
    kubernetes.kill().await
}

/// A slice that is not there, and an export that is not where the kubeconfig leads.
async fn unreachable() -> Result<()> {
    let (kcp, elsewhere) = stack::workspace("doctor-elsewhere").await?;
    let kubeconfig = kcp.kubeconfig_file(&elsewhere.cluster)?;
    let flags = vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        "--multicluster-runtime-provider=kcp".to_owned(),
    ];
    let admin = kcp.client(&elsewhere.cluster).await?;
    let clinic = Clinic { flags, kubeconfig, admin };
    let report = clinic.look().await?;
    ensure!(report.code == Some(1), "{:?}", report.code);
    let expected = BTreeSet::from(["ExportUnreadable".to_owned(), "NotReady".to_owned()]);
    ensure!(report.reasons() == expected, "{:#?}", report.findings);

    let output = Command::new(Backend::program()?)
        .args(["doctor", "--kubeconfig=/nowhere"])
        .output()
        .await?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    Ok(())
}
