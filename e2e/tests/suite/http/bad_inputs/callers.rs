//! Rows 30 to 34: which cluster, and whose identity.

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{self, Filter};
use e2e::kcp::Workspace;
use e2e::site::{Answer, CLI_CALLBACK, Visitor, bind_body};
use futures::FutureExt as _;
use serde_json::json;
use url::form_urlencoded::byte_serialize;

use super::scene::{Scene, at, begin, bind, field, namespaces_of, scene};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("http::bad::30_a_cluster_that_is_not_the_one_of_the_login_is_not_even_asked", || {
            other_cluster().boxed()
        }),
        ("http::bad::31_in_kcp_there_is_no_cluster_without_a_name", || no_cluster().boxed()),
        ("http::bad::32_what_cannot_be_a_cluster_is_refused_everywhere", || no_names().boxed()),
        ("http::bad::33_unserved_unknown_and_denied_clusters_look_the_same", || same().boxed()),
        ("http::bad::34_the_identity_of_somebody_else_is_refused_without_a_write", || {
            identities().boxed()
        }),
    ]
}

async fn other_cluster() -> Result<()> {
    let scene = scene().await?;
    let audit = scene.site.provider.kcp.audit();
    let cli = scene.cli(30, &scene.open, "ann30").await?;
    let page = scene.visitor(30)?;
    page.login(&scene.open.cluster, "user=ann30").await?;
    let mark = audit.mark()?;
    let body = bind_body("west", "sheriffs", "id-30");
    for route in ["templates", "collections", "ping", "consumer-status"] {
        let answer = cli.get(&at(route, &scene.untouched)).await?;
        ensure!(answer.status == 403, "{route}: {answer:?}");
        // The browser has no cookie of that cluster's name.
        let answer = page.get(&at(route, &scene.untouched)).await?;
        ensure!(answer.status == 401, "{route}: {answer:?}");
    }
    for route in ["bind", "apply-binding"] {
        let answer = cli.post(&at(route, &scene.untouched), &body).await?;
        ensure!(answer.status == 403, "{route}: {answer:?}");
    }
    let twice = format!("{}&cluster_id={}", at("templates", &scene.open), scene.untouched.cluster);
    ensure!(cli.get(&twice).await?.status == 400, "two clusters in one request");
    ensure!(cli.get(&at("templates", &scene.open)).await?.status == 200);
    let there = Filter::backend().cluster(&scene.untouched.cluster);
    let asked = audit.requests(mark, &there)?;
    ensure!(asked.is_empty(), "the backend asked there:\n{}", audit::listing(&asked));
    Ok(())
}

async fn no_cluster() -> Result<()> {
    let scene = scene().await?;
    let visitor = scene.visitor(31)?;
    let page = format!("{}/", scene.site.base);
    let answer = begin(&visitor, &page, "").await?;
    ensure!(answer.status == 404 && answer.location.is_none(), "{answer:?}");
    let parameters = [("redirect_url", CLI_CALLBACK), ("session_id", "s1"), ("client_type", "cli")];
    let answer = visitor.authorize(&parameters).await?;
    ensure!(answer.parameter("error")?.as_deref() == Some("access_denied"), "{answer:?}");
    let cli = scene.cli(31, &scene.open, "ann31").await?;
    for route in ["templates", "collections", "ping", "consumer-status"] {
        for query in ["", "?cluster_id="] {
            let answer = cli.get(&format!("/api/{route}{query}")).await?;
            ensure!(answer.status == 404, "{route}{query}: {answer:?}");
        }
    }
    let answer = cli.post("/api/bind", &bind_body("west", "sheriffs", "id-31")).await?;
    ensure!(answer.status == 404, "{answer:?}");
    let made = namespaces_of(&scene.admin(&scene.open).await?, "id-31").await?;
    ensure!(made.is_empty(), "{made:?}");
    Ok(())
}

async fn no_names() -> Result<()> {
    let scene = scene().await?;
    let cli = scene.cli(32, &scene.quiet, "ann32").await?;
    let stranger = scene.visitor(32)?;
    let page = format!("{}/", scene.site.base);
    let (long, longer) = ("a".repeat(300), "a".repeat(5000));
    let own = &scene.quiet.cluster;
    let traversal = format!("{own}/../{}", scene.untouched.cluster);
    for name in [
        "*",
        "root:x",
        "root",
        "a/../b",
        "..",
        "%2e%2e",
        "a%2fb",
        "ä",
        "кластер",
        "A",
        " ",
        "a\u{0}b",
        "a\r\nX: y",
        "-a",
        "a-",
        "a.b",
        "a?b",
        "a#b",
        &long,
        &longer,
        &format!("{own} "),
        &own.to_uppercase(),
        &traversal,
    ] {
        // A word of letters is a name like any other; it is only not there.
        let status = if name == "root" { 404 } else { 400 };
        let encoded: String = byte_serialize(name.as_bytes()).collect();
        let query = format!("?cluster_id={encoded}");
        let mut answers = vec![
            stranger.get(&format!("/api/ping{query}")).await?,
            cli.get(&format!("/api/templates{query}")).await?,
            cli.post(&format!("/api/bind{query}"), &bind_body("west", "sheriffs", "id-32")).await?,
        ];
        let mut expected = vec![status; 3];
        if name == "root" {
            expected = vec![401, 403, 403];
        } else {
            answers.push(begin(&stranger, &page, name).await?);
            expected.push(status);
        }
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        ensure!(statuses == expected, "{name:.50?}: {answers:?}");
    }
    scene.still_quiet()
}

/// An answer without what differs in every answer.
fn bare(mut answer: Answer) -> Answer {
    answer.headers.retain(|(name, _)| name != "date" && name != "x-request-id");
    answer
}

async fn same() -> Result<()> {
    let scene = scene().await?;
    let nowhere = Workspace { path: String::new(), cluster: "0123456789abcdef".to_owned() };
    let mut ways: Vec<(&str, &Workspace, Visitor)> = Vec::new();
    for (what, workspace) in
        [("unknown", &nowhere), ("unserved", &scene.away), ("denied", &scene.closed)]
    {
        ways.push((what, workspace, scene.cli(33, workspace, "nobody").await?));
    }
    let mark = scene.site.provider.kcp.audit().mark()?;
    for route in ["templates", "collections", "ping", "consumer-status"] {
        let mut answers = Vec::new();
        for (_, workspace, cli) in &ways {
            answers.push(bare(cli.get(&at(route, workspace)).await?));
        }
        let first = &answers[0];
        ensure!(first.status == 404, "{route}: {first:?}");
        ensure!(answers.iter().all(|answer| answer == first), "{route}: {answers:?}");
    }
    let mut answers = Vec::new();
    for (_, workspace, cli) in &ways {
        answers.push(bare(bind(cli, workspace, "id-33").await?));
    }
    ensure!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // No cluster is asked, so that the time that an answer takes tells nothing either.
    let mut asked = scene.done(mark, &scene.closed, "")?;
    // The backend looks now and then whether the role that is in its way is still there.
    asked.retain(|request| !request.resource.starts_with("clusterroles."));
    ensure!(asked.is_empty(), "the denied cluster was asked:\n{}", audit::listing(&asked));
    Ok(())
}

/// What a user gets who names an identity in either of the two places.
async fn names_it(scene: &Scene, cli: &Visitor, identity: &str) -> Result<[Answer; 2]> {
    let encoded: String = byte_serialize(identity.as_bytes()).collect();
    let path = format!("{}&consumer_id={encoded}", at("bind", &scene.open));
    let page = bind_body("west", "sheriffs", "ui-identity");
    Ok([bind(cli, &scene.open, identity).await?, cli.post(&path, &page).await?])
}

async fn identities() -> Result<()> {
    let scene = scene().await?;
    let admin = scene.admin(&scene.open).await?;
    let ann = scene.cli(34, &scene.open, "ann34").await?;
    let bob = scene.cli(34, &scene.open, "bob34").await?;
    let namespace = field(&bind(&ann, &scene.open, "id-34").await?, "providerNamespace")?;
    let mark = scene.settled(&scene.open, &namespace).await?;
    for answer in names_it(scene, &bob, "id-34").await? {
        ensure!(answer.status == 403 && !answer.body.contains("kubeconfig\""), "{answer:?}");
        let details = answer.json()?["details"].clone();
        let next = details.as_str().context("no details")?;
        ensure!(next.contains(&format!("kubectl annotate namespace {namespace}")), "{next}");
        ensure!(next.contains("#bob34"), "{next}");
    }
    // What belongs to a user of the issuer is theirs before they ever bind.
    let issuer = format!("{}/oidc", scene.site.base);
    for foreign in ["ann34", "carl34", "bob34/x", ""] {
        let identity = format!("{issuer}/{foreign}");
        for answer in names_it(scene, &bob, &identity).await? {
            ensure!(answer.status == 403, "{identity}: {answer:?}");
        }
        let made = namespaces_of(&admin, &identity).await?;
        ensure!(made.is_empty(), "{identity}: {made:?}");
    }
    let mut written = scene.done(mark, &scene.open, &namespace)?;
    written.retain(audit::Request::is_write);
    ensure!(written.is_empty(), "{}", audit::listing(&written));
    // Bob's own is his, and Ann's is still hers.
    let own = bind(&bob, &scene.open, &format!("{issuer}/bob34")).await?;
    ensure!(own.status == 200, "{own:?}");
    let again = field(&bind(&ann, &scene.open, "id-34").await?, "providerNamespace")?;
    ensure!(json!(again) == json!(namespace), "{again}");
    Ok(())
}
