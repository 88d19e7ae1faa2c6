//! A real kcp (one shard with embedded etcd), workspaces in it, and bindings to an `APIExport`.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::audit::{self, Audit};
use crate::client::{self, Access};
use crate::object::{self, endpoint_slices, kcp_apis, resource};
use crate::process::{Process, Spec, free_port};
use crate::tools;
use crate::wait::eventually;

/// From nothing to ready: 15 to 25 s alone on two cores.
const START: Duration = Duration::from_mins(3);
/// For kcp to end after SIGTERM.
const STOP: Duration = Duration::from_mins(1);
/// For a workspace (0.7 s alone) or a binding to become ready while others use the machine too.
const READY: Duration = Duration::from_mins(3);
/// The verbs that an explicit claim spells out.
const VERBS: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

/// A kcp server. Dropping it kills the process.
#[derive(Debug)]
pub struct Kcp {
    spec: Spec,
    dir: PathBuf,
    workspaces: Workspaces,
    process: Mutex<Option<Process>>,
}

/// What an admin does in a kcp, however many shards it has.
#[derive(Debug)]
pub struct Workspaces {
    url: String,
    dir: PathBuf,
    kubeconfig: PathBuf,
}

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// For people: `root:org:ws`.
    pub path: String,
    /// The logical cluster, which is what objects and requests carry.
    pub cluster: String,
}

/// Which permission claims of the export a binding accepts.
#[derive(Debug, Clone, Copy)]
pub enum Claims<'a> {
    /// All, with verbs `*`: what people and `kubectl kcp bind` write.
    All,
    /// All, with the seven verbs spelled out: a claim works only where both sides' lists intersect literally.
    Explicit,
    /// Those of these resources with verbs `*`; the others are rejected.
    Some(&'a [&'a str]),
}

impl Kcp {
    /// Starts a kcp whose data, certificates and logs are in `dir`, and waits until it is ready.
    pub async fn start(dir: &Path) -> Result<Self> {
        let port = free_port()?;
        let policy = dir.join("audit-policy.yaml");
        fs::write(&policy, audit::POLICY).context("writing the audit policy")?;
        let flag = |name: &str, value: String| format!("--{name}={value}");
        let spec = Spec::new("kcp", tools::path("kcp")?, dir).arg("start").args([
            flag("root-directory", dir.join("data").display().to_string()),
            flag("bind-address", "127.0.0.1".into()),
            flag("secure-port", port.to_string()),
            flag("embedded-etcd-client-port", free_port()?.to_string()),
            flag("embedded-etcd-peer-port", free_port()?.to_string()),
            flag("audit-policy-file", policy.display().to_string()),
            flag("audit-log-path", dir.join("audit.log").display().to_string()),
            // In MB. Rotation would move what a mark points at.
            flag("audit-log-maxsize", "100000".into()),
        ]);
        let url = format!("https://127.0.0.1:{port}");
        let workspaces = Workspaces::new(&url, dir, dir.join("data/admin.kubeconfig"));
        let kcp = Self { spec, dir: dir.to_owned(), workspaces, process: Mutex::new(None) };
        kcp.resume().await?;
        Ok(kcp)
    }

    /// Starts it again on the same data and ports, and waits until it is ready.
    pub async fn resume(&self) -> Result<()> {
        let mut running = self.process.lock().await;
        let process = &mut *running.insert(Process::start(&self.spec).await?);
        // The kubeconfig of an earlier start holds a token that is no longer good: the loop reads it anew each time.
        let ready = eventually("kcp to be ready", START, async || {
            let client = self.access("root")?.client(client::ADMIN).await?;
            let request = http::Request::get("/readyz").body(Vec::new())?;
            client.request_text(request).await?;
            // The root workspace's own types come a moment later.
            let types = resource("tenancy.kcp.io", "v1alpha1", "WorkspaceType", "workspacetypes");
            object::api(&client, &types, None).get("universal").await?;
            anyhow::Ok(())
        });
        tokio::select! {
            ready = ready => ready.map_err(|error| process.fail(error)),
            why = process.ended() => Err(process.fail(why)),
        }
    }

    /// Ends it in good order; its data stays.
    pub async fn stop(&self) -> Result<()> {
        if let Some(mut process) = self.process.lock().await.take() {
            process.terminate(STOP).await?;
        }
        Ok(())
    }

    /// `kill -9`; its data stays.
    pub async fn kill(&self) -> Result<()> {
        if let Some(mut process) = self.process.lock().await.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// SIGSTOP and SIGCONT: a server that accepts connections and answers nothing.
    pub async fn pause(&self, paused: bool) -> Result<()> {
        match &*self.process.lock().await {
            Some(process) => process.pause(paused).await,
            None => bail!("kcp does not run"),
        }
    }

    /// Its serving certificate, with the key beside it in `apiserver.key`.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("data/apiserver.crt")
    }

    /// The audit log of all its requests, those to virtual workspaces included.
    #[must_use]
    pub fn audit(&self) -> Audit {
        Audit::new(&self.dir.join("audit.log"))
    }
}

impl Deref for Kcp {
    type Target = Workspaces;

    fn deref(&self) -> &Workspaces {
        &self.workspaces
    }
}

impl Workspaces {
    /// Those of the kcp at `url`. The contexts `root` and `shard-base` of `kubeconfig` hold the tokens of its admins;
    /// `dir` is for kubeconfigs.
    #[must_use]
    pub fn new(url: &str, dir: &Path, kubeconfig: PathBuf) -> Self {
        Self { url: url.to_owned(), dir: dir.to_owned(), kubeconfig }
    }

    /// Base URL, without a path.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Admin access to a workspace, by path or logical cluster.
    pub fn access(&self, cluster: &str) -> Result<Access> {
        self.access_as(Some("root"), cluster)
    }

    /// Access as shard admin, who may also use `/clusters/*` and `/metrics`.
    pub fn shard_access(&self, cluster: &str) -> Result<Access> {
        self.access_as(Some("shard-base"), cluster)
    }

    fn access_as(&self, context: Option<&str>, cluster: &str) -> Result<Access> {
        let path = &self.kubeconfig;
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Access::from_kubeconfig(&text, context)?.at(format!("{}/clusters/{cluster}", self.url)))
    }

    /// An admin client for a workspace, by path or logical cluster.
    pub async fn client(&self, cluster: &str) -> Result<Client> {
        self.access(cluster)?.client(client::ADMIN).await
    }

    /// Writes a kubeconfig with one context for a workspace; returns its path.
    pub fn kubeconfig_file(&self, cluster: &str) -> Result<PathBuf> {
        let path = self.dir.join(format!("{}.kubeconfig", cluster.replace(':', "_")));
        self.access(cluster)?.write(&path)?;
        Ok(path)
    }

    /// Creates a workspace of type `universal` under `parent` (a path) and waits until it is ready.
    pub async fn create_workspace(&self, parent: &str, name: &str) -> Result<Workspace> {
        let spec = json!({"type": {"name": "universal", "path": "root"}});
        self.create_workspace_as(parent, name, spec).await
    }

    /// The same on a shard with this label `region`.
    pub async fn create_workspace_in(
        &self,
        region: &str,
        parent: &str,
        name: &str,
    ) -> Result<Workspace> {
        let selector = json!({"matchLabels": {"region": region}});
        let spec = json!({
            "type": {"name": "universal", "path": "root"},
            "location": {"selector": selector},
        });
        self.create_workspace_as(parent, name, spec).await
    }

    async fn create_workspace_as(
        &self,
        parent: &str,
        name: &str,
        spec: Value,
    ) -> Result<Workspace> {
        let client = self.client(parent).await?;
        let workspaces = resource("tenancy.kcp.io", "v1alpha1", "Workspace", "workspaces");
        let manifest = json!({"metadata": {"name": name}, "spec": spec});
        object::create(&client, &workspaces, None, manifest).await?;
        let api = object::api(&client, &workspaces, None);
        let what = format!("workspace {parent}:{name} to be ready");
        let ready = object::wait_for(&api, name, &what, READY, |workspace| {
            let phase = workspace.data["status"]["phase"].as_str().unwrap_or_default();
            (phase == "Ready").then_some(()).ok_or_else(|| object::summary(workspace))
        })
        .await?;
        let cluster = ready.data["spec"]["cluster"].as_str().context("no spec.cluster")?;
        // A front proxy learns of it later, up to a minute after an outage of its shard.
        let kind = resource("core.kcp.io", "v1alpha1", "LogicalCluster", "logicalclusters");
        let path = format!("{parent}:{name}");
        // And of its path later than of its cluster.
        for way in [cluster, &path] {
            let itself = object::api(&self.client(way).await?, &kind, None);
            let what = format!("workspace {path} to be reached as {way}");
            eventually(&what, READY, async || itself.get("cluster").await).await?;
        }
        Ok(Workspace { path, cluster: cluster.to_owned() })
    }

    /// Deletes a workspace without waiting for its end.
    pub async fn delete_workspace(&self, workspace: &Workspace) -> Result<()> {
        let (parent, name) =
            workspace.path.rsplit_once(':').context("a workspace without parent")?;
        let workspaces = resource("tenancy.kcp.io", "v1alpha1", "Workspace", "workspaces");
        let api = object::api(&self.client(parent).await?, &workspaces, None);
        api.delete(name, &kube::api::DeleteParams::default()).await?;
        Ok(())
    }

    /// Binds the `APIExport` `export` of the workspace `path` in a workspace, and waits until the binding is bound and
    /// its accepted claims apply. The `APIBinding` is named like the export.
    pub async fn bind_export(
        &self,
        workspace: &Workspace,
        path: &str,
        export: &str,
        claims: Claims<'_>,
    ) -> Result<DynamicObject> {
        let exports = object::api(&self.client(path).await?, &kcp_apis("APIExport"), None);
        let offered = exports
            .get(export)
            .await
            .with_context(|| format!("reading APIExport {path}:{export}"))?;
        let claims = accepted(&offered.data["spec"]["permissionClaims"], claims);
        let client = self.client(&workspace.cluster).await?;
        let spec = json!({
            "reference": {"export": {"path": path, "name": export}},
            "permissionClaims": claims,
        });
        let manifest = json!({"metadata": {"name": export}, "spec": spec});
        // A new export is refused like one that is forbidden, until kcp's admission knows it.
        let kind = kcp_apis("APIBinding");
        eventually("kcp to know the export", READY, async || {
            match object::create(&client, &kind, None, manifest.clone()).await {
                Err(error) if object::code(&error) == Some(403) => Err(error),
                made => Ok(made),
            }
        })
        .await??;
        let bindings = object::api(&client, &kind, None);
        let what = format!("APIBinding {export} in {} to be bound", workspace.path);
        object::wait_for(&bindings, export, &what, READY, |binding| {
            object::expect_condition(binding, "Ready", "True")?;
            object::expect_condition(binding, "PermissionClaimsApplied", "True")
        })
        .await
    }

    /// The URL of an export's virtual workspace, once kcp has published one: it needs a first binding.
    pub async fn endpoint_url(&self, path: &str, export: &str) -> Result<String> {
        let api = object::api(&self.client(path).await?, &endpoint_slices(), None);
        eventually(&format!("an endpoint URL of {export}"), READY, async || {
            let slice = api.get(export).await.map_err(|error| error.to_string())?;
            let url = slice.data["status"]["endpoints"][0]["url"].as_str().map(str::to_owned);
            url.ok_or_else(|| object::summary(&slice))
        })
        .await
    }

    /// The names of the workspaces under a parent.
    pub async fn workspaces(&self, parent: &str) -> Result<Vec<String>> {
        let workspaces = resource("tenancy.kcp.io", "v1alpha1", "Workspace", "workspaces");
        let api = object::api(&self.client(parent).await?, &workspaces, None);
        let list = api.list(&ListParams::default()).await?;
        Ok(list.items.into_iter().filter_map(|workspace| workspace.metadata.name).collect())
    }
}

fn accepted(offered: &Value, choice: Claims<'_>) -> Value {
    let claims = offered.as_array().into_iter().flatten();
    let decide = |claim: &Value| {
        let name = claim["resource"].as_str().unwrap_or_default();
        let accept = match choice {
            Claims::All | Claims::Explicit => true,
            Claims::Some(names) => names.contains(&name),
        };
        let verbs = if matches!(choice, Claims::Explicit) { json!(VERBS) } else { json!(["*"]) };
        let mut decided = json!({
            "resource": name,
            "verbs": verbs,
            "selector": {"matchAll": true},
            "state": if accept { "Accepted" } else { "Rejected" },
        });
        for field in ["group", "identityHash"] {
            if let Some(value) = claim.get(field) {
                decided[field] = value.clone();
            }
        }
        decided
    };
    claims.map(decide).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_that_are_not_named_are_rejected() {
        let offered = json!([
            {"resource": "secrets", "verbs": ["*", "get"]},
            {"group": "rbac.authorization.k8s.io", "resource": "roles", "verbs": ["*"]},
        ]);
        let all = json!({"matchAll": true});
        assert_eq!(
            accepted(&offered, Claims::Some(&["secrets"])),
            json!([
                {"resource": "secrets", "verbs": ["*"], "selector": all, "state": "Accepted"},
                {"group": "rbac.authorization.k8s.io", "resource": "roles", "verbs": ["*"],
                 "selector": all, "state": "Rejected"},
            ])
        );
        assert_eq!(accepted(&offered, Claims::Explicit)[0]["verbs"], json!(VERBS));
    }
}
