//! Rows 57 to 60 and 66: what a consumer that bound over HTTP can do with its kubeconfig.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::driver::{self, Consumer, Settings, Use};
use e2e::kcp::{Claims, Workspace};
use e2e::object::{self, core, kcp_apis, kube_bind};
use e2e::service::{Exported, GROUP, Scope, Source, claim, request_spec};
use e2e::site::{Answer, Site, Visitor, bind_body};
use e2e::stack;
use e2e::wait::{SOON, eventually};
use futures::FutureExt as _;
use kube::Client;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::bind::kubeconfig_of;
use super::scene::{at, bind, offer, scene, visitor};
use crate::Test;
use crate::suite::said::{cowboys, sheriffs};

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("http::bad::57_a_consumer_that_asks_for_more_than_its_template_is_refused", || {
            more().boxed()
        }),
        (
            "http::bad::58_two_consumers_of_a_template_keep_their_access_and_see_nothing_else",
            || two().boxed(),
        ),
        ("http::bad::59_claims_that_would_read_all_secrets_have_one_consumer_only", || {
            alone().boxed()
        }),
        ("http::bad::60_a_secret_that_a_bind_names_is_not_touched", || secrets().boxed()),
        ("http::bad::66_a_claim_that_is_withdrawn_stops_binds_of_its_workspace_only", || {
            withdrawn().boxed()
        }),
    ]
}

/// A site whose consumers are apart, and a workspace in it.
struct Apart {
    site: Site,
    tenant: Workspace,
    admin: Client,
}

static APART: OnceCell<Apart> = OnceCell::const_new();

async fn apart() -> Result<&'static Apart> {
    APART
        .get_or_try_init(async || {
            let [scope, isolation] = Settings::APART.flags();
            let flags = [scope.as_str(), &isolation, Source::Crds.flag()];
            let site = Site::start("bad-apart", &flags).await?;
            let tenant = site.provider.tenant("bad-apart", Claims::All).await?;
            site.provider.serve(&tenant, Source::Crds).await?;
            let admin = site.provider.kcp.client(&tenant.cluster).await?;
            offer(&admin).await?;
            Ok(Apart { site, tenant, admin })
        })
        .await
}

impl Apart {
    /// What `kubectl bind` gets for a user that binds the template `cows`.
    async fn bound(&self, row: u8, user: &str) -> Result<Consumer> {
        let cli = visitor(&self.site, row)?;
        let cli = cli.login_cli(&self.tenant.cluster, &format!("user={user}")).await?;
        let body = bind_body("cow", "cows", &format!("id-{user}"));
        let answer = cli.post(&at("bind", &self.tenant), &body).await?;
        Consumer::new(&kubeconfig_of(&answer)?).await
    }
}

async fn more() -> Result<()> {
    let apart = apart().await?;
    let consumer = apart.bound(57, "ann57").await?;
    let (cow, star) = (cowboys(), sheriffs());
    for (name, spec) in [
        ("resource", request_spec(&[&star], &[])),
        ("both", request_spec(&[&cow, &star], &[claim("secrets")])),
        ("claim", request_spec(&[&cow], &[claim("secrets"), claim("configmaps")])),
    ] {
        let outcome = consumer.request_export(name, &spec).await?;
        ensure!(outcome.phase == "Failed", "{name}: {}", object::summary(&outcome.request));
        let ready = object::condition(&outcome.request, "Ready").context("no condition")?;
        ensure!(ready["reason"] == "Forbidden", "{name}: {ready}");
    }
    ensure!(consumer.bundle_view().await?.is_empty(), "a refused request made an export");
    let own = request_spec(&[&cow], &[claim("secrets")]);
    consumer.request_export("cow", &own).await?.succeeded()
}

/// A consumer at work: its export, and an object and a claimed Secret in a service namespace.
async fn at_work(consumer: Consumer) -> Result<(Use, String)> {
    let exported = Exported::of(GROUP, Scope::Namespaced);
    let usage = consumer.take_up("cow", Settings::APART, &exported, &["Secret"]).await?;
    consumer.acknowledge(&usage.export).await?;
    let service = usage.service_namespace("town").await?;
    usage.create_object("town", &service, "cow", json!({"intent": "ride"})).await?;
    usage.create_claimed("Secret", "town", &service, "claimed").await?;
    Ok((usage, service))
}

async fn two() -> Result<()> {
    let apart = apart().await?;
    let first = at_work(apart.bound(58, "ann58").await?).await?;
    let second = at_work(apart.bound(58, "bob58").await?).await?;
    for ((own, service), (other, others)) in [(&first, &second), (&second, &first)] {
        own.check_rights_kept(&apart.admin, &[service]).await.context("its own")?;
        let places = other.belongings(&apart.admin, &[others]).await?;
        own.consumer.check_refused(&places).await.context("of the other")?;
    }
    Ok(())
}

async fn alone() -> Result<()> {
    let scene = scene().await?;
    let provider = &scene.site.provider;
    let tenant = provider.tenant("bad-alone", Claims::All).await?;
    provider.serve(&tenant, Source::Schemas).await?;
    let admin = scene.admin(&tenant).await?;
    offer(&admin).await?;
    let mut consumers = Vec::new();
    for user in ["ann59", "bob59"] {
        let cli = scene.cli(59, &tenant, user).await?;
        let body = bind_body("cow", "cows", &format!("id-{user}"));
        let answer = cli.post(&at("bind", &tenant), &body).await?;
        consumers.push(Consumer::new(&kubeconfig_of(&answer)?).await?);
        // The order of consumers is that of creation times, which count seconds.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let [first, second] = &consumers[..] else { anyhow::bail!("not two") };
    let spec = driver::spec(&cowboys(), &["Secret"]);
    first.request_export("cow", &spec).await?.succeeded()?;
    let name = second.submit("cow", &spec).await?;
    let requests = second.kube_bind("APIServiceExportRequest");
    object::wait_for(&requests, &name, "the refusal", SOON, |request| {
        object::expect_refusal(request, "ExportsReady", "SharedClusterScope")
    })
    .await?;
    ensure!(second.bundle_view().await?.is_empty(), "a refused request made an export");
    ensure!(!second.may("list", "", "secrets", None).await?, "it may list all Secrets");
    Ok(())
}

async fn secrets() -> Result<()> {
    let apart = apart().await?;
    let foreign = json!({
        "metadata": {"name": "foreign"},
        "stringData": {"binding-response": "mine", "kubeconfig": "mine"},
    });
    let made = object::create(&apart.admin, &core("Secret"), Some("default"), foreign).await?;
    let cli = visitor(&apart.site, 60)?;
    let cli = cli.login_cli(&apart.tenant.cluster, "user=ann60").await?;
    let mut body = bind_body("cow", "cows", "id-ann60");
    body["spec"]["kubeconfigSecretRef"] = json!({"name": "foreign", "key": "kubeconfig"});
    body["metadata"]["namespace"] = json!("default");
    let answer = cli.post(&at("bind", &apart.tenant), &body).await?;
    let namespace = Consumer::new(&kubeconfig_of(&answer)?).await?.namespace().to_owned();
    let bindings = object::api(&apart.admin, &kube_bind("ClusterBinding"), Some(&namespace));
    let reference = &bindings.get("cluster").await?.data["spec"]["kubeconfigSecretRef"];
    ensure!(*reference == json!({"name": "kubeconfig", "key": "kubeconfig"}), "{reference}");
    let after = object::api(&apart.admin, &core("Secret"), Some("default")).get("foreign").await?;
    let bare = |secret: &DynamicObject| {
        let meta = &secret.metadata;
        (secret.data.clone(), meta.resource_version.clone(), meta.owner_references.clone())
    };
    ensure!(bare(&after) == bare(&made), "the Secret was changed");
    Ok(())
}

/// Accepts or rejects the claim on a core resource.
async fn decide(admin: &Client, claimed: &str, state: &str) -> Result<()> {
    let bindings = object::api(admin, &kcp_apis("APIBinding"), None);
    let name = e2e::provider::EXPORT;
    eventually("the claim to be decided", SOON, async || {
        let binding = bindings.get(name).await?;
        let mut claims = binding.data["spec"]["permissionClaims"].clone();
        for claim in claims.as_array_mut().into_iter().flatten() {
            if claim["resource"] == claimed {
                claim["state"] = json!(state);
            }
        }
        let patch = json!({
            "metadata": {"resourceVersion": binding.metadata.resource_version},
            "spec": {"permissionClaims": claims},
        });
        object::merge_patch(&bindings, name, &patch, false).await.map(drop)
    })
    .await
}

/// Waits for the status of a bind; each attempt is another consumer.
async fn answered(cli: &Visitor, tenant: &Workspace, status: u16) -> Result<Answer> {
    eventually(&format!("a bind to be answered {status}"), SOON, async || {
        let answer = bind(cli, tenant, &stack::unique("id-66")).await?;
        ensure!(answer.status == status, "{answer:?}");
        Ok::<Answer, anyhow::Error>(answer)
    })
    .await
}

async fn withdrawn() -> Result<()> {
    let scene = scene().await?;
    let tenant = scene.site.provider.tenant("bad-withdrawn", Claims::All).await?;
    let admin = scene.admin(&tenant).await?;
    offer(&admin).await?;
    // Who logs in before the role for users is there is no user of that workspace until the next login.
    let cli = eventually("a login that counts", SOON, async || {
        let cli = scene.cli(66, &tenant, "ann66").await?;
        let answer = cli.get(&at("templates", &tenant)).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(cli)
    })
    .await?;
    let neighbour = scene.cli(66, &scene.open, "ann66").await?;
    answered(&cli, &tenant, 200).await?;
    decide(&admin, "secrets", "Rejected").await?;
    let refused = answered(&cli, &tenant, 403).await?;
    let body: Value = refused.json()?;
    ensure!(body["code"] == "AUTHORIZATION_FAILED", "{body}");
    ensure!(body["details"].as_str().is_some_and(|text| text.contains("Secret")), "{body}");
    let clusters = object::api(&admin, &kube_bind("Cluster"), None);
    let what = "the condition about the claim";
    object::wait_for(&clusters, "default", what, SOON, |cluster| {
        object::expect_condition(cluster, "PermissionClaimsAccepted", "False")
    })
    .await?;
    let other = bind(&neighbour, &scene.open, "id-66").await?;
    ensure!(other.status == 200, "{other:?}");
    decide(&admin, "secrets", "Accepted").await?;
    answered(&cli, &tenant, 200).await.map(drop)
}
