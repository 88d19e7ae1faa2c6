//! `backend doctor` and `backend workspaces` on real servers: each finding provoked, and repaired by the command that it
//! printed, where there is one.

mod bindings;
mod export;
mod kcp;
mod kubernetes;
mod left;
mod said;
mod templates;

use std::collections::BTreeSet;
use std::ops::Deref;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::audit;
use e2e::backend::Backend;
use e2e::binding::{self, Bound, Request};
use e2e::driver::{Settings, Use};
use e2e::kcp::{Claims, Workspaces};
use e2e::provider::{EXPORT, Provider};
use e2e::service::{Exported, GROUP, Scope, Source};
use e2e::wait::{SOON, eventually};
use e2e::{dirs, stack, tools};
use futures::FutureExt as _;
use kube::Client;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("doctor::a_healthy_installation_gives_exit_code_0_and_nothing_is_written", || {
            healthy().boxed()
        }),
        ("doctor::each_finding_on_kcp_is_repaired_by_the_command_that_it_printed", || {
            kcp::on_kcp().boxed()
        }),
        ("doctor::what_is_left_is_removed_only_where_nobody_needs_it", || left::left().boxed()),
        ("doctor::an_export_its_rights_and_its_workspace_are_repaired", || {
            export::export().boxed()
        }),
        ("doctor::bindings_that_are_not_bound_outdated_or_grant_too_little_are_named", || {
            bindings::bindings().boxed()
        }),
        ("doctor::what_is_on_offer_and_cannot_be_had_is_named", || templates::templates().boxed()),
        ("doctor::what_objects_say_is_found_and_repaired", || said::said().boxed()),
        ("doctor::each_finding_on_kubernetes_is_repaired_by_the_command_that_it_printed", || {
            kubernetes::on_kubernetes().boxed()
        }),
        ("doctor::what_cannot_be_reached_is_named", || unreachable().boxed()),
    ]
}

/// Who looks, and with which credential an admin repairs.
pub(crate) struct Clinic {
    pub(crate) flags: Vec<String>,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) admin: Client,
}

/// What came out.
pub(crate) struct Report {
    pub(crate) code: Option<i32>,
    pub(crate) findings: Vec<Value>,
}

impl Report {
    /// Reasons of what somebody should act on.
    pub(crate) fn reasons(&self) -> BTreeSet<String> {
        let bad = self.findings.iter().filter(|finding| finding["severity"] != "info");
        bad.filter_map(|finding| finding["reason"].as_str().map(str::to_owned)).collect()
    }

    pub(crate) fn find(&self, reason: &str, name: &str) -> Option<&Value> {
        let is_it =
            |one: &&Value| one["reason"] == reason && one["object"]["name"].as_str() == Some(name);
        self.findings.iter().find(is_it)
    }
}

impl Clinic {
    /// Looks with the flags of a provider's backend, and repairs as an admin of the kcp.
    pub(crate) fn of<K: Deref<Target = Workspaces>>(
        provider: &Provider<K>,
        admin: &Client,
    ) -> Result<Self> {
        let kubeconfig = provider.kcp.kubeconfig_file("root")?;
        Ok(Self { flags: provider.flags.clone(), kubeconfig, admin: admin.clone() })
    }

    /// Looks again for as long as something did not answer in time.
    pub(crate) async fn look(&self) -> Result<Report> {
        eventually("a look at all that there is", SOON, async || {
            let report = self.look_once().await?;
            let missed = report.findings.iter().any(|one| one["reason"] == "NotReady");
            ensure!(!missed, "{:#?}", report.findings);
            Ok(report)
        })
        .await
    }

    /// Looks, whatever answers.
    pub(crate) async fn look_once(&self) -> Result<Report> {
        let (code, document) = self.json("doctor").await?;
        let findings = document["findings"].as_array().cloned().context("no findings")?;
        Ok(Report { code, findings })
    }

    /// What a command that looks says as JSON, and its exit code.
    async fn json(&self, command: &str) -> Result<(Option<i32>, Value)> {
        let output = Command::new(Backend::program()?)
            .arg(command)
            .args(&self.flags)
            .arg("--output=json")
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let document = serde_json::from_str(&text).with_context(|| {
            format!("not JSON: {text}{}", String::from_utf8_lossy(&output.stderr))
        })?;
        Ok((output.status.code(), document))
    }

    /// Runs a command as it was printed, as an admin in the folder of the project.
    pub(crate) async fn run(&self, command: &str) -> Result<()> {
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

    /// Waits for a finding; only what is good to know leaves the exit code at 0.
    pub(crate) async fn tells(&self, reason: &str, name: &str) -> Result<Value> {
        eventually(&format!("{reason} of {name}"), SOON, async || {
            let report = self.look_once().await?;
            let Some(finding) = report.find(reason, name) else {
                bail!("not among {:#?}", report.findings);
            };
            ensure!(report.code == Some(1) || finding["severity"] == "info", "{:?}", report.code);
            Ok(finding.clone())
        })
        .await
    }

    /// The finding is there, its command works, and then it is not there any more.
    pub(crate) async fn heals(&self, reason: &str, name: &str) -> Result<()> {
        let what = format!("{reason} of {name}");
        // What is not ready yet may keep it from having one.
        let (finding, repair) = eventually(&format!("a command for {what}"), SOON, async || {
            let finding = self.tells(reason, name).await?;
            let repair = finding["repair"].as_str().map(str::to_owned);
            let repair = repair.with_context(|| format!("no command: {finding}"))?;
            anyhow::Ok((finding, repair))
        })
        .await?;
        self.run(&repair).await.with_context(|| what.clone())?;
        self.lacks(&finding).await.with_context(|| format!("{what} after {repair}"))
    }

    /// Waits until nothing is found any more of what one finding was about.
    pub(crate) async fn lacks(&self, finding: &Value) -> Result<()> {
        let is_it = |one: &Value| {
            ["reason", "object", "severity"].iter().all(|field| one[field] == finding[field])
        };
        eventually(
            &format!("no {} of {}", finding["reason"], finding["object"]),
            SOON,
            async || {
                let report = self.look_once().await?;
                ensure!(!report.findings.iter().any(is_it), "{:#?}", report.findings);
                Ok(())
            },
        )
        .await
    }

    /// What there is of a reason, as kind and name.
    pub(crate) async fn objects(&self, reason: &str) -> Result<BTreeSet<String>> {
        let report = self.look().await?;
        let of_it = report.findings.iter().filter(|one| one["reason"] == reason);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(of_it
            .map(|one| format!("{} {}", text(&one["object"]["kind"]), text(&one["object"]["name"])))
            .collect())
    }

    /// `backend workspaces` as JSON, and its exit code.
    pub(crate) async fn workspaces(&self) -> Result<(Option<i32>, Value)> {
        self.json("workspaces").await
    }
}

/// A workspace with a consumer that uses all that there is.
pub(super) async fn settled(name: &str) -> Result<(Provider, Clinic, Bound, Use)> {
    let [scope, isolation] = Settings::APART.flags();
    let provider = Provider::start(name, &[&scope, &isolation, Source::Crds.flag()]).await?;
    let workspace = provider.tenant(name, Claims::All).await?;
    provider.serve(&workspace, Source::Crds).await?;
    let admin = provider.kcp.client(&workspace.cluster).await?;
    let clinic = Clinic::of(&provider, &admin)?;
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

    let (code, shown) = clinic.workspaces().await?;
    ensure!(code == Some(0) && shown["notReady"] == json!([]), "{code:?}: {shown}");
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
    let report = clinic.look_once().await?;
    ensure!(report.code == Some(1), "{:?}", report.code);
    clinic.tells("ExportUnreadable", EXPORT).await?;
    clinic.tells("NotReady", "endpoints").await?;

    // Nobody listens there; it is said all the same.
    let nobody = dirs::run()?.join(stack::unique("nobody.kubeconfig"));
    let mut access = kcp.access(&elsewhere.cluster)?;
    "https://127.0.0.1:1/clusters/root".clone_into(&mut access.server);
    access.write(&nobody)?;
    let flags = vec![
        format!("--kubeconfig={}", nobody.display()),
        "--multicluster-runtime-provider=kcp".to_owned(),
    ];
    let report = Clinic { flags, ..clinic }.look_once().await?;
    let expected = BTreeSet::from(["ExportUnreadable".to_owned(), "NotReady".to_owned()]);
    ensure!(report.code == Some(2) && report.reasons() == expected, "{:#?}", report.findings);

    let output = Command::new(Backend::program()?)
        .args(["doctor", "--kubeconfig=/nowhere"])
        .output()
        .await?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    Ok(())
}
