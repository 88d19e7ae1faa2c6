//! The site that most rows share, and how visitors come to it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{self, Filter, Mark};
use e2e::kcp::{Claims, Workspace};
use e2e::object::{self, core, rbac};
use e2e::provider::{EXPORT, PLATFORM, Provider};
use e2e::service::{Source, claim};
use e2e::site::{Answer, Site, Visitor, bind_body};
use e2e::{dirs, service, stack};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use url::Url;
use url::form_urlencoded::byte_serialize;

use super::forged::SessionKey;
use crate::suite::said::{cowboys, sheriffs};

/// The annotation with the identity of a contract namespace.
const IDENTITY: &str = "backend.kube-bind.io/identity";
/// The role that the backend makes for everybody who may log in. Where somebody else's has its name it makes none.
pub(super) const FOREIGN_ROLE: &str = "kube-bind-oidc-user";
/// For the backend to be done with a new workspace.
const RESTED: Duration = Duration::from_secs(3);

static SCENE: OnceCell<Scene> = OnceCell::const_new();

/// One backend and workspaces that differ in who may do what there.
pub(super) struct Scene {
    pub(super) site: Site,
    /// The key of its tokens.
    pub(super) key: SessionKey,
    /// `--audit-log`.
    pub(super) audit_file: PathBuf,
    /// Everybody may bind here.
    pub(super) open: Workspace,
    /// Everybody may, but no bind of any row is a good one: the backend writes nothing here.
    pub(super) quiet: Workspace,
    /// Only those may bind whom [`grant`] names.
    pub(super) strict: Workspace,
    /// As strict, and nobody is named.
    pub(super) closed: Workspace,
    /// Nobody even asks.
    pub(super) untouched: Workspace,
    /// It has not bound the export.
    pub(super) away: Workspace,
    rested: Mark,
}

/// The scene, made by the first row that asks.
pub(super) async fn scene() -> Result<&'static Scene> {
    // Its state is large, and every row has it.
    SCENE.get_or_try_init(|| Box::pin(Scene::build())).await
}

impl Scene {
    async fn build() -> Result<Self> {
        let key = SessionKey::generate()?;
        let key_file = dirs::run()?.join("bad-session-key.pem");
        fs::write(&key_file, key.pem()?)?;
        let audit_file = dirs::run()?.join("bad-audit.json");
        let flags = [
            format!("--session-key-file={}", key_file.display()),
            format!("--audit-log={}", audit_file.display()),
            "--v=5".to_owned(),
        ];
        let flags: Vec<&str> =
            PLATFORM.iter().copied().chain(flags.iter().map(String::as_str)).collect();
        let site = Site::start("bad", &flags).await?;
        let provider = &site.provider;
        let (open, quiet, strict, closed, untouched) = futures::try_join!(
            provider.tenant("bad-open", Claims::All),
            provider.tenant("bad-quiet", Claims::All),
            strict(provider, "bad-strict"),
            strict(provider, "bad-closed"),
            provider.tenant("bad-untouched", Claims::All),
        )?;
        let name = stack::unique("bad-away");
        let away = provider.kcp.create_workspace("root", &name).await?;
        provider.serve(&open, Source::Schemas).await?;
        for workspace in [&open, &quiet, &strict, &closed, &untouched] {
            offer(&provider.kcp.client(&workspace.cluster).await?).await?;
        }
        let audit = provider.kcp.audit();
        for workspace in [&quiet, &untouched] {
            let ours = Filter::backend().cluster(&workspace.cluster);
            audit.quiet(Mark::START, &ours, RESTED, Duration::from_mins(1), |_| false).await?;
        }
        let rested = audit.mark()?;
        Ok(Self { site, key, audit_file, open, quiet, strict, closed, untouched, away, rested })
    }

    /// An admin of a workspace.
    pub(super) async fn admin(&self, workspace: &Workspace) -> Result<Client> {
        self.site.provider.kcp.client(&workspace.cluster).await
    }

    /// Somebody from an address that only this row uses: how often one address may log in is limited.
    pub(super) fn visitor(&self, row: u8) -> Result<Visitor> {
        visitor(&self.site, row)
    }

    /// `kubectl bind` of a user, logged in for a workspace.
    pub(super) async fn cli(&self, row: u8, workspace: &Workspace, user: &str) -> Result<Visitor> {
        self.visitor(row)?.login_cli(&workspace.cluster, &format!("user={user}")).await
    }

    /// What the backend wrote in a workspace since the scene was set.
    fn written(&self, workspace: &Workspace) -> Result<Vec<audit::Request>> {
        let ours = Filter::backend().cluster(&workspace.cluster);
        let mut requests = self.site.provider.kcp.audit().requests(self.rested, &ours)?;
        requests.retain(audit::Request::is_write);
        Ok(requests)
    }

    /// Nothing was written in [`Scene::quiet`].
    pub(super) fn still_quiet(&self) -> Result<()> {
        let written = self.written(&self.quiet)?;
        ensure!(written.is_empty(), "the backend wrote:\n{}", audit::listing(&written));
        Ok(())
    }

    /// What the backend did since `mark` in a workspace with objects whose namespace or name contains `about`.
    pub(super) fn done(
        &self,
        mark: Mark,
        workspace: &Workspace,
        about: &str,
    ) -> Result<Vec<audit::Request>> {
        let ours = Filter::backend().cluster(&workspace.cluster);
        let mut requests = self.site.provider.kcp.audit().requests(mark, &ours)?;
        requests.retain(|request| request.object.contains(about));
        Ok(requests)
    }

    /// Waits until the backend is done with a namespace; gives the end of the audit log then.
    pub(super) async fn settled(&self, workspace: &Workspace, namespace: &str) -> Result<Mark> {
        let audit = self.site.provider.kcp.audit();
        let ours = Filter::backend().cluster(&workspace.cluster);
        let others = |request: &audit::Request| !request.object.contains(namespace);
        audit.quiet(self.rested, &ours, RESTED, Duration::from_mins(1), others).await?;
        audit.mark()
    }
}

/// A workspace in which the backend lets nobody bind, for the role that it would make is somebody else's.
async fn strict(provider: &Provider, name: &str) -> Result<Workspace> {
    let workspace = provider.kcp.create_workspace("root", &stack::unique(name)).await?;
    let admin = provider.kcp.client(&workspace.cluster).await?;
    foreign_role(&admin).await?;
    provider.kcp.bind_export(&workspace, &provider.export.path, EXPORT, Claims::All).await?;
    provider.served(&workspace).await?;
    grant(&admin, "ann", &[]).await?;
    grant(&admin, "lim", &["sheriffs"]).await?;
    Ok(workspace)
}

/// Takes the place of the role that the backend would make.
pub(super) async fn foreign_role(admin: &Client) -> Result<()> {
    let role = json!({"metadata": {"name": FOREIGN_ROLE}, "rules": []});
    object::create(admin, &rbac("ClusterRole"), None, role).await.map(drop)
}

/// Lets a user see what is on offer and bind these templates; all, if none is named.
pub(super) async fn grant(admin: &Client, user: &str, templates: &[&str]) -> Result<()> {
    let group = "kube-bind.io";
    let role = json!({
        "metadata": {"name": format!("e2e-{user}")},
        "rules": [
            {"apiGroups": [group], "resources": ["collections"], "verbs": ["bind"]},
            {"apiGroups": [group], "resources": ["apiserviceexporttemplates"],
             "resourceNames": templates, "verbs": ["bind"]},
            {"nonResourceURLs": ["/", "/api", "/api/*", "/apis", "/apis/*"], "verbs": ["access"]},
        ],
    });
    object::create(admin, &rbac("ClusterRole"), None, role).await?;
    let binding = json!({
        "metadata": {"name": format!("e2e-{user}")},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("e2e-{user}"),
        },
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    object::create(admin, &rbac("ClusterRoleBinding"), None, binding).await.map(drop)
}

/// Templates `sheriffs` and `cows`, the latter with a claim on secrets.
pub(super) async fn offer(admin: &Client) -> Result<()> {
    service::offer_template(admin, "sheriffs", &[&sheriffs()], &[]).await?;
    service::offer_template(admin, "cows", &[&cowboys()], &[claim("secrets")]).await?;
    Ok(())
}

/// Somebody from an address of their own.
pub(super) fn visitor(site: &Site, row: u8) -> Result<Visitor> {
    Visitor::from(&site.base, Ipv4Addr::new(127, 0, 1, row))
}

/// `/api/<route>` about a workspace.
pub(super) fn at(route: &str, workspace: &Workspace) -> String {
    format!("/api/{route}?cluster_id={}", workspace.cluster)
}

/// Binds the template `sheriffs`.
pub(super) async fn bind(cli: &Visitor, workspace: &Workspace, identity: &str) -> Result<Answer> {
    cli.post(&at("bind", workspace), &bind_body("west", "sheriffs", identity)).await
}

/// Begins a login of the page.
pub(super) async fn begin(visitor: &Visitor, page: &str, cluster: &str) -> Result<Answer> {
    let parameters = [
        ("redirect_url", page),
        ("session_id", "s1"),
        ("client_type", "ui"),
        ("cluster_id", cluster),
    ];
    visitor.authorize(&parameters).await
}

/// Goes to the issuer, with parameters for its knobs; gives the address of ours that it sends the browser back to.
pub(super) async fn at_issuer(visitor: &Visitor, started: &Answer, more: &str) -> Result<Url> {
    ensure!(started.status == 302, "no login: {started:?}");
    let mut issuer = started.target()?;
    let query = issuer.query().unwrap_or_default().to_owned();
    issuer.set_query(Some(&format!("{query}&{more}")));
    visitor.get(issuer.as_str()).await?.target()
}

/// The parameter that makes the issuer do wrong in one login.
pub(super) fn knobs(knobs: &Value) -> String {
    let encoded: String = byte_serialize(knobs.to_string().as_bytes()).collect();
    format!("knobs={encoded}")
}

/// The value of the first cookie whose name ends so, and its whole header.
pub(super) fn cookie<'a>(answer: &'a Answer, end: &str) -> Option<(&'a str, &'a str)> {
    answer.header("set-cookie").find_map(|header| {
        let (name, rest) = header.split_once('=')?;
        let value = rest.split(';').next()?;
        (name.ends_with(end) && !value.is_empty()).then_some((value, header))
    })
}

/// Namespaces that carry an identity.
pub(super) async fn namespaces_of(admin: &Client, identity: &str) -> Result<Vec<String>> {
    let all = object::list(&object::api(admin, &core("Namespace"), None)).await?;
    let carries = |object: &kube::api::DynamicObject| {
        let annotations = object.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(IDENTITY)).is_some_and(|value| value == identity)
    };
    Ok(all.into_iter().filter(carries).filter_map(|object| object.metadata.name).collect())
}

/// A field of an answer.
pub(super) fn field(answer: &Answer, name: &str) -> Result<String> {
    ensure!(answer.status == 200, "{answer:?}");
    let answer = answer.json()?;
    answer[name].as_str().map(str::to_owned).with_context(|| format!("no {name}: {answer}"))
}
