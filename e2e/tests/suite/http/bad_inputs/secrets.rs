//! Row 71: nothing that opens a door is in a log, a metric, an event or a condition.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use e2e::object::{self, core, kube_bind};
use e2e::site::{CLI_CALLBACK, bind_body};
use futures::FutureExt as _;
use kube::api::DynamicObject;
use reqwest::Method;
use serde_json::{Value, json};

use super::bind::kubeconfig_of;
use super::scene::{Scene, at, at_issuer, begin, cookie, knobs, scene};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![("http::bad::71_no_credential_is_in_any_log_metric_event_or_condition", || {
        canaries().boxed()
    })]
}

/// Goes through everything with known credentials, good and bad; gives them by what they are.
async fn live(scene: &Scene) -> Result<BTreeMap<&'static str, String>> {
    let mut all = BTreeMap::new();
    let open = &scene.open;
    let page = scene.visitor(71)?;
    let started = begin(&page, &format!("{}/", scene.site.base), &open.cluster).await?;
    let value = |url: &url::Url, name: &str| {
        let pair = url.query_pairs().find(|(key, _)| key == name);
        pair.map(|(_, value)| value.into_owned()).with_context(|| format!("no {name}"))
    };
    let issuer = started.target()?;
    all.insert("state", value(&issuer, "state")?);
    all.insert("nonce", value(&issuer, "nonce")?);
    all.insert("challenge", value(&issuer, "code_challenge")?);
    all.insert("login cookie", cookie(&started, ".login").context("no login cookie")?.0.to_owned());
    let back = at_issuer(&page, &started, "user=ann71").await?;
    all.insert("code", value(&back, "code")?);
    let end = page.get(back.as_str()).await?;
    let session = cookie(&end, &open.cluster).context("no session cookie")?;
    all.insert("session cookie", session.0.to_owned());
    page.get(back.as_str()).await?;
    page.get(&at("templates", open)).await?;

    let cli = scene.cli(71, open, "ann71").await?;
    let token = cli.token().context("no token")?.to_owned();
    let bound = cli.post(&at("bind", open), &bind_body("west", "sheriffs", "id-71")).await?;
    let config: Value = serde_saphyr::from_str(&kubeconfig_of(&bound)?)?;
    let account = config["users"][0]["user"]["token"].as_str().context("no token")?;
    all.insert("token of the service account", account.to_owned());
    for (key, credential) in [
        ("signature of the token", &token),
        ("signature of the service account", &account.to_owned()),
    ] {
        let (_, signature) = credential.rsplit_once('.').context("no signature")?;
        all.insert(key, signature.to_owned());
    }
    cli.get(&at("templates", &scene.untouched)).await?;
    all.insert("token of kubectl bind", token);

    // What fails is told more about.
    let canary = |text: &str| format!("canary-71-{text}");
    let bad = [
        canary("token"),
        canary("cookie"),
        canary("code"),
        canary("state"),
        canary("body"),
        canary("raw"),
    ];
    let [bad_token, bad_cookie, bad_code, bad_state, bad_body, bad_raw] = &bad;
    page.with_token(bad_token)?.get(&at("ping", open)).await?;
    let request = scene.visitor(71)?.request(&Method::GET, &at("ping", open))?;
    let shown = format!("kube-bind-{}={bad_cookie}", open.cluster);
    page.send(request.header("cookie", shown)).await?;
    page.get(&format!("/api/callback?code={bad_code}&state={bad_state}")).await?;
    let started = begin(&page, &format!("{}/", scene.site.base), &open.cluster).await?;
    let mut back = at_issuer(&page, &started, "").await?;
    let state = value(&back, "state")?;
    let iss = value(&back, "iss")?;
    back.set_query(None);
    back.query_pairs_mut().extend_pairs([("code", bad_code), ("state", &state), ("iss", &iss)]);
    let refused = page.get(back.as_str()).await?;
    ensure!(refused.status == 401, "{refused:?}");
    let wrong = [
        json!({"idToken": {"raw": format!("a.{bad_raw}.b")}}),
        json!({"idToken": {"claims": {"nonce": bad_raw}}}),
    ];
    for wrong in wrong {
        let started = begin(&page, &format!("{}/", scene.site.base), &open.cluster).await?;
        let back = at_issuer(&page, &started, &knobs(&wrong)).await?;
        page.get(back.as_str()).await?;
    }
    let body = json!({"consumerKubeconfig": bad_body, "bindingName": "x"});
    cli.post(&at("apply-binding", open), &body).await?;
    let mut body = bind_body("west", "sheriffs", "id-71");
    body["metadata"]["name"] = json!([bad_body]);
    cli.post(&at("bind", open), &body).await?;
    let password = "http://user:canary-71-password@127.0.0.1:1/callback";
    page.authorize(&[("redirect_url", password), ("session_id", "s")]).await?;
    let parameters = [
        ("redirect_url", CLI_CALLBACK),
        ("session_id", "canary-71-sid"),
        ("client_type", "cli"),
        ("cluster_id", &open.cluster),
    ];
    page.through_issuer(page.authorize(&parameters).await?, "").await?;
    all.insert("canary", "canary-71".to_owned());
    Ok(all)
}

/// Everything that people and programs may read about it, by where it is.
async fn told(scene: &Scene) -> Result<Vec<(String, String)>> {
    let backend = &scene.site.provider.backend;
    let (_, metrics) = backend.get_admin("/metrics").await?;
    let mut all = vec![
        ("the log".to_owned(), backend.output()?),
        ("/metrics".to_owned(), metrics),
        ("--audit-log".to_owned(), fs::read_to_string(&scene.audit_file)?),
    ];
    let admin = scene.admin(&scene.open).await?;
    let kinds = [
        core("Event"),
        core("Namespace"),
        kube_bind("Cluster"),
        kube_bind("ClusterBinding"),
        kube_bind("APIServiceExportRequest"),
        kube_bind("APIServiceExport"),
        kube_bind("BindableResourcesRequest"),
        kube_bind("APIServiceExportTemplate"),
    ];
    for kind in kinds {
        let objects: Vec<DynamicObject> = object::list(&object::api(&admin, &kind, None)).await?;
        all.push((kind.kind.clone(), serde_json::to_string(&objects)?));
    }
    Ok(all)
}

async fn canaries() -> Result<()> {
    let scene = scene().await?;
    let credentials = live(scene).await?;
    let places = told(scene).await?;
    // They are the right places: what may be there is.
    for (at_place, expected) in
        [(0, "listening"), (0, "answered"), (1, "# EOF"), (2, "ann71"), (4, "id-71")]
    {
        let (place, text) = &places[at_place];
        ensure!(text.contains(expected), "{place} does not have {expected}");
    }
    for (place, text) in &places {
        for (what, credential) in &credentials {
            ensure!(credential.len() > 8, "the {what} is too short");
            ensure!(!text.contains(credential.as_str()), "the {what} is in {place}");
        }
        ensure!(!text.contains("a panic;"), "{place} tells of a panic");
    }
    Ok(())
}
