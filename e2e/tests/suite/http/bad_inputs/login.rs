//! Rows 1 to 8, 13, 15 and 16: how a login begins and how it comes back.

use anyhow::{Context as _, Result, ensure};
use e2e::site::{Answer, CLI_CALLBACK, Visitor};
use futures::FutureExt as _;
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use url::Url;

use super::raw;
use super::scene::{Scene, at, at_issuer, begin, bind, cookie, field, knobs, scene};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("http::bad::01_a_login_that_would_lead_to_another_site_does_not_begin", || {
            foreign().boxed()
        }),
        ("http::bad::02_a_redirect_that_only_looks_like_the_loopback_port_is_refused", || {
            lookalikes().boxed()
        }),
        ("http::bad::03_the_loopback_port_of_kubectl_bind_is_taken", || loopback().boxed()),
        ("http::bad::04_a_callback_with_more_than_its_path_is_refused", || extras().boxed()),
        ("http::bad::05_a_state_that_is_replayed_or_of_another_browser_is_refused", || {
            states().boxed()
        }),
        ("http::bad::06_a_callback_without_the_cookie_of_its_login_is_refused", || {
            without_cookie().boxed()
        }),
        ("http::bad::07_an_error_of_the_issuer_is_text_and_never_markup", || markup().boxed()),
        ("http::bad::08_a_callback_without_one_usable_code_is_refused", || codes().boxed()),
        ("http::bad::13_two_users_who_name_the_same_session_have_one_each", || shared().boxed()),
        ("http::bad::15_a_body_without_end_is_answered_after_64_kib", || endless().boxed()),
        ("http::bad::16_of_two_callbacks_with_one_state_exactly_one_succeeds", || race().boxed()),
    ]
}

/// The login is refused on the spot, asked for by GET or by POST, and leaves nothing behind.
async fn refused(scene: &Scene, row: u8, clients: &[&str], redirects: &[String]) -> Result<()> {
    for redirect in redirects {
        for client in clients {
            let visitor = scene.visitor(row)?;
            let parameters = [
                ("redirect_url", redirect.as_str()),
                ("session_id", "s1"),
                ("client_type", client),
                ("cluster_id", &scene.open.cluster),
            ];
            let got = visitor.authorize(&parameters).await?;
            let body = parameters.iter().map(|(key, value)| ((*key).to_owned(), json!(value)));
            let posted = visitor.post("/api/authorize", &body.collect()).await?;
            for answer in [got, posted] {
                let kept = answer.header("set-cookie").next().is_some();
                let led = answer.location.is_some();
                ensure!(answer.status == 400 && !led && !kept, "{client} {redirect}: {answer:?}");
            }
        }
    }
    Ok(())
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

async fn foreign() -> Result<()> {
    let scene = scene().await?;
    let base = &scene.site.base;
    let mut redirects = owned(&["https://evil.example", "https://evil.example/callback"]);
    redirects.push(format!("https://evil.example/?next={base}/"));
    redirects.push(format!("{base}@evil.example/callback"));
    redirects.push(format!("{base}.evil.example/callback"));
    refused(scene, 1, &["cli", "ui", ""], &redirects).await
}

async fn lookalikes() -> Result<()> {
    let scene = scene().await?;
    let redirects = owned(&[
        "http://127.0.0.1.evil/callback",
        "http://127.0.0.1@evil/",
        "http://127.0.0.1:1@evil/callback",
        "http://localhost:1/callback",
        "http://[::ffff:127.0.0.1]:1/callback",
        "http://127.1:1/callback",
        "http://2130706433:1/callback",
        "https://127.0.0.1:1/callback",
        "//evil",
        r"\\evil",
        r"http:\\127.0.0.1:1/callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "http://127.0.0.1:1/callback%0d%0aSet-Cookie:a=b",
        "http://127.0.0.1:1/callback\r\nSet-Cookie: a=b",
        "\thttp://127.0.0.1:1/callback",
        "http://127.0.0.1:65536/callback",
        "http://127.0.0.1:/callback",
        "http://127.0.0.1/callback",
    ]);
    refused(scene, 2, &["cli", "ui"], &redirects).await?;
    let page = &scene.site.base;
    let pages = [
        format!("{page}/%0d%0aSet-Cookie:a=b"),
        format!("{page}\\@evil"),
        format!("{page}//evil"),
        format!("{page}/api/authorize"),
    ];
    refused(scene, 2, &["ui"], &pages).await
}

async fn loopback() -> Result<()> {
    let scene = scene().await?;
    for redirect in ["http://127.0.0.1:65535/callback", "http://[::1]:1/callback"] {
        let visitor = scene.visitor(3)?;
        let parameters = [
            ("redirect_url", redirect),
            ("session_id", "s1"),
            ("client_type", "cli"),
            ("cluster_id", &scene.open.cluster),
        ];
        let end = visitor.through_issuer(visitor.authorize(&parameters).await?, "").await?;
        ensure!(end.target()?.as_str().starts_with(redirect), "{end:?}");
        ensure!(end.parameter("access_token")?.is_some(), "no token at {redirect}");
    }
    Ok(())
}

async fn extras() -> Result<()> {
    let scene = scene().await?;
    let redirects = owned(&[
        "http://127.0.0.1:1/callback/../x",
        "http://127.0.0.1:1/x/../callback",
        "http://127.0.0.1:1/callback/",
        "http://127.0.0.1:1/callback?a=b",
        "http://127.0.0.1:1/callback?",
        "http://127.0.0.1:1/callback#f",
        "http://127.0.0.1:1/callback#",
        "http://user@127.0.0.1:1/callback",
        "http://user:password@127.0.0.1:1/callback",
        "http://@127.0.0.1:1/callback",
        "http://127.0.0.1:1/%63allback",
        "http://127.0.0.1:1//callback",
        "http://127.0.0.1:1/Callback",
        "HTTP://127.0.0.1:1/callback",
    ]);
    refused(scene, 4, &["cli", "ui"], &redirects).await
}

/// A login that has come back from the issuer but was not finished.
async fn halfway(scene: &Scene, visitor: &Visitor, more: &str) -> Result<Url> {
    let page = format!("{}/", scene.site.base);
    let started = begin(visitor, &page, &scene.open.cluster).await?;
    at_issuer(visitor, &started, more).await
}

/// The same address with another value of a parameter; none takes it away.
fn with(url: &Url, name: &str, value: Option<&str>) -> Url {
    let mut other = url.clone();
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    other.query_pairs_mut().clear();
    for (key, old) in &pairs {
        match value {
            _ if key != name => drop(other.query_pairs_mut().append_pair(key, old)),
            Some(value) => drop(other.query_pairs_mut().append_pair(key, value)),
            None => {}
        }
    }
    other
}

/// 400, and nobody is logged in.
fn not_in(answer: &Answer) -> Result<()> {
    let session = answer.header("set-cookie").next().is_some();
    ensure!(answer.status == 400 && !session && answer.location.is_none(), "{answer:?}");
    Ok(())
}

/// The login ends well. A code is good once, so none was exchanged before.
fn is_in(answer: &Answer, scene: &Scene) -> Result<()> {
    let session = cookie(answer, &scene.open.cluster).is_some();
    ensure!(answer.status == 302 && session, "no session: {answer:?}");
    Ok(())
}

async fn states() -> Result<()> {
    let scene = scene().await?;
    let (owner, other) = (scene.visitor(5)?, scene.visitor(5)?);
    let back = halfway(scene, &owner, "user=ann").await?;
    let others = halfway(scene, &other, "user=eve").await?;
    let value = |url: &Url, name: &str| {
        let pair = url.query_pairs().find(|(key, _)| key == name);
        pair.map(|(_, value)| value.into_owned()).context("a parameter is missing")
    };
    let state = value(&back, "state")?;
    let flipped = if state.starts_with('A') { "B" } else { "A" };
    for tampered in [format!("{flipped}{}", &state[1..]), state[1..].to_owned(), String::new()] {
        not_in(&owner.get(with(&back, "state", Some(&tampered)).as_str()).await?)?;
    }
    not_in(&owner.get(with(&back, "state", None).as_str()).await?)?;
    // The browser of somebody else, who is in the middle of a login; with either one's code.
    not_in(&other.get(back.as_str()).await?)?;
    let injected = with(&back, "code", Some(&value(&others, "code")?));
    not_in(&other.get(injected.as_str()).await?)?;
    is_in(&owner.get(back.as_str()).await?, scene)?;
    not_in(&owner.get(back.as_str()).await?)?;
    is_in(&other.get(others.as_str()).await?, scene)
}

async fn without_cookie() -> Result<()> {
    let scene = scene().await?;
    let owner = scene.visitor(6)?;
    let back = halfway(scene, &owner, "").await?;
    not_in(&scene.visitor(6)?.get(back.as_str()).await?)?;
    let wrong = scene.visitor(6)?;
    let request = wrong.request(&Method::GET, back.as_str())?;
    not_in(&wrong.send(request.header("cookie", "kube-bind.login=AAAA")).await?)?;
    is_in(&owner.get(back.as_str()).await?, scene)
}

async fn markup() -> Result<()> {
    let scene = scene().await?;
    let description = "<script>alert(1)</script>\"'&";
    let error = json!({"error": "access_denied", "description": description});
    let knobs = knobs(&json!({"authorizeError": error}));
    let page = scene.visitor(7)?;
    let back = halfway(scene, &page, &knobs).await?;
    let answer = page.get(back.as_str()).await?;
    not_in(&answer)?;
    let header = |name: &'static str| answer.header(name).collect::<Vec<_>>().join("|");
    ensure!(header("content-type") == "text/plain; charset=utf-8", "{answer:?}");
    ensure!(header("x-content-type-options") == "nosniff", "{answer:?}");
    ensure!(answer.body.contains("access_denied"), "{answer:?}");

    let cli = scene.visitor(7)?;
    let parameters = [
        ("redirect_url", CLI_CALLBACK),
        ("session_id", "s"),
        ("client_type", "cli"),
        ("cluster_id", &scene.open.cluster),
    ];
    let end = cli.through_issuer(cli.authorize(&parameters).await?, &knobs).await?;
    ensure!(end.target()?.as_str().starts_with(CLI_CALLBACK), "{end:?}");
    ensure!(end.parameter("access_token")?.is_none(), "{end:?}");
    let told = end.parameter("error_description")?.unwrap_or_default();
    ensure!(told.contains(description), "{told}");
    let location = end.location.unwrap_or_default();
    ensure!(!location.contains('<') && end.body.is_empty(), "{location} {}", end.body);
    Ok(())
}

async fn codes() -> Result<()> {
    let scene = scene().await?;
    let long = "c".repeat(8 << 10);
    for code in [None, Some(""), Some(long.as_str())] {
        let visitor = scene.visitor(8)?;
        let back = halfway(scene, &visitor, "").await?;
        not_in(&visitor.get(with(&back, "code", code).as_str()).await?)?;
    }
    let visitor = scene.visitor(8)?;
    let back = halfway(scene, &visitor, "").await?;
    not_in(&visitor.get(&format!("{back}&code=other")).await?)?;
    not_in(&visitor.get(&format!("{back}&state=other")).await?)?;
    is_in(&visitor.get(back.as_str()).await?, scene)
}

async fn shared() -> Result<()> {
    let scene = scene().await?;
    let mut ids = Vec::new();
    for user in ["ann13", "bob13"] {
        // Both name the session `s1`.
        let cli = scene.cli(13, &scene.open, user).await?;
        let answer = bind(&cli, &scene.open, &format!("id-{user}")).await?;
        field(&answer, "kubeconfig")?;
        ids.push(answer.json()?["authentication"]["oauth2CodeGrant"]["id"].clone());
        ensure!(cli.get(&at("templates", &scene.open)).await?.status == 200);
    }
    let base = &scene.site.base;
    let expected = [json!(format!("{base}/oidc/ann13")), json!(format!("{base}/oidc/bob13"))];
    ensure!(ids == expected, "{ids:?}");
    Ok(())
}

async fn endless() -> Result<()> {
    let scene = scene().await?;
    let address = raw::address(&scene.site)?;
    let json = "Content-Type: application/json";
    let length = "Content-Length: 1073741824";
    let head = raw::request(&scene.site, "POST /api/authorize", &[json, length], "")?;
    let answer = raw::send(address, head.as_bytes()).await?;
    ensure!(answer.status == 413 && answer.closed, "{answer:?}");

    let chunked = "Transfer-Encoding: chunked";
    let head = raw::request(&scene.site, "POST /api/authorize", &[json, chunked], "")?;
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(head.as_bytes()).await?;
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    // One more than is read; the server never sees an end.
    for _ in 0..=16 {
        stream.write_all(chunk.as_bytes()).await?;
    }
    let answer = raw::read(&mut stream).await;
    ensure!(answer.status == 413 && answer.closed, "{answer:?}");
    Ok(())
}

async fn race() -> Result<()> {
    let scene = scene().await?;
    for _ in 0..10 {
        let visitor = scene.visitor(16)?;
        let back = halfway(scene, &visitor, "").await?;
        let again = || visitor.get(back.as_str());
        let answers = futures::future::try_join_all([again(), again(), again(), again()]).await?;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        ensure!(statuses == [302, 400, 400, 400], "{answers:?}");
    }
    Ok(())
}
