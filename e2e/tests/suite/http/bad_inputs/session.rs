//! Rows 17, 18, 20 to 23 and 25: sessions, and what is shown for them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::object::{self, rbac};
use e2e::site::{CLI_CALLBACK, Visitor};
use e2e::wait::{SOON, eventually};
use futures::FutureExt as _;
use kube::api::DeleteParams;
use reqwest::Method;
use serde_json::json;

use super::forged::{parts, with};
use super::raw;
use super::scene::{at, cookie, grant, scene};
use crate::Test;

/// For a user that is removed to be refused.
const REMOVED: Duration = Duration::from_secs(10);

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("http::bad::17_a_cookie_is_nothing_after_logout", || logout().boxed()),
        ("http::bad::18_a_user_that_is_removed_is_refused_within_ten_seconds", || {
            removed().boxed()
        }),
        ("http::bad::20_a_token_is_nothing_without_its_session", || without_session().boxed()),
        ("http::bad::21_a_session_that_ended_is_not_revived_by_a_login_of_the_same_name", || {
            revived().boxed()
        }),
        ("http::bad::22_a_bad_token_is_not_made_good_by_a_cookie", || fallback().boxed()),
        ("http::bad::23_an_authorization_header_has_one_form", || headers().boxed()),
        ("http::bad::25_a_request_of_another_site_is_refused_and_changes_nothing", || {
            cross_site().boxed()
        }),
    ]
}

async fn logout() -> Result<()> {
    let scene = scene().await?;
    let page = scene.visitor(17)?;
    let end = page.login(&scene.open.cluster, "user=ann17").await?;
    let (value, _) = cookie(&end, &scene.open.cluster).context("no session cookie")?;
    let shown = format!("kube-bind-{}={value}", scene.open.cluster);
    let ping = async || {
        let thief = scene.visitor(17)?;
        let request = thief.request(&Method::GET, &at("ping", &scene.open))?;
        Ok::<_, anyhow::Error>(thief.send(request.header("cookie", &shown)).await?.status)
    };
    ensure!(ping().await? == 200, "the cookie is not the session's");
    let out = page.send(page.request(&Method::POST, &at("logout", &scene.open))?).await?;
    ensure!(out.status == 200, "{out:?}");
    ensure!(out.header("set-cookie").any(|header| header.contains("Max-Age=0")), "{out:?}");
    let after = ping().await?;
    ensure!(after == 401, "{after} after logout");
    ensure!(page.get(&at("ping", &scene.open)).await?.status == 401);
    Ok(())
}

async fn removed() -> Result<()> {
    let scene = scene().await?;
    let admin = scene.admin(&scene.strict).await?;
    grant(&admin, "tim", &[]).await?;
    let path = at("templates", &scene.strict);
    // Who logs in before kcp knows of the grant is no user until the next login.
    let (cli, page) = eventually("a login that counts", SOON, async || {
        let cli = scene.cli(18, &scene.strict, "tim").await?;
        let page = scene.visitor(18)?;
        page.login(&scene.strict.cluster, "user=tim").await?;
        for visitor in [&cli, &page] {
            let answer = visitor.get(&path).await?;
            ensure!(answer.status == 200, "{answer:?}");
        }
        anyhow::Ok((cli, page))
    })
    .await?;
    let bindings = object::api(&admin, &rbac("ClusterRoleBinding"), None);
    bindings.delete("e2e-tim", &DeleteParams::default()).await?;
    let begin = Instant::now();
    // They keep asking: neither may prolong what was believed.
    for visitor in [&cli, &page] {
        loop {
            let answer = visitor.get(&path).await?;
            match answer.status {
                403 => break,
                200 if begin.elapsed() < REMOVED => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                _ => anyhow::bail!("after {:?}: {answer:?}", begin.elapsed()),
            }
        }
    }
    Ok(())
}

async fn without_session() -> Result<()> {
    let scene = scene().await?;
    let path = at("templates", &scene.open);
    let cli = scene.cli(20, &scene.open, "ann20").await?;
    let (header, claims) = parts(cli.token().context("no token")?)?;
    let sid = claims["sid"].as_str().context("no sid")?;
    let other: String = sid.chars().rev().collect();
    let never = scene.key.sign(&header, &with(&claims, "sid", json!(other)))?;
    let answer = cli.with_token(&never)?.get(&path).await?;
    ensure!(answer.status == 401, "a session that never was: {answer:?}");
    ensure!(cli.get(&path).await?.status == 200);
    let out = cli.send(cli.request(&Method::POST, "/api/logout")?).await?;
    ensure!(out.status == 200, "{out:?}");
    let answer = cli.get(&path).await?;
    ensure!(answer.status == 401, "{answer:?}");
    let details = &answer.json()?["details"];
    ensure!(*details == "Session has expired or is invalid", "{details}");
    Ok(())
}

async fn revived() -> Result<()> {
    let scene = scene().await?;
    let path = at("templates", &scene.open);
    let login = async |user: &str| {
        let visitor = scene.visitor(21)?;
        let parameters = [
            ("redirect_url", CLI_CALLBACK),
            ("session_id", "the-sid-of-the-victim"),
            ("client_type", "cli"),
            ("cluster_id", &scene.open.cluster),
        ];
        let started = visitor.authorize(&parameters).await?;
        let end = visitor.through_issuer(started, user).await?;
        visitor.with_token(&end.parameter("access_token")?.context("no token")?)
    };
    let victim: Result<Visitor> = login("user=victim21").await;
    let victim = victim?;
    victim.send(victim.request(&Method::POST, "/api/logout")?).await?;
    let attacker: Result<Visitor> = login("user=attacker21").await;
    ensure!(attacker?.get(&path).await?.status == 200);
    let answer = victim.get(&path).await?;
    ensure!(answer.status == 401, "{answer:?}");
    Ok(())
}

async fn fallback() -> Result<()> {
    let scene = scene().await?;
    let path = at("ping", &scene.open);
    let page = scene.visitor(22)?;
    page.login(&scene.open.cluster, "user=ann22").await?;
    ensure!(page.get(&path).await?.status == 200, "the cookie is not good");
    for header in ["Bearer x", "Bearer a.b.c", "Bearer ", "Bearer", "Basic YTpi", "", "x"] {
        let request = page.request(&Method::GET, &path)?.header("authorization", header);
        let answer = page.send(request).await?;
        ensure!(answer.status == 401, "{header:?}: {answer:?}");
    }
    Ok(())
}

async fn headers() -> Result<()> {
    let scene = scene().await?;
    let cli = scene.cli(23, &scene.open, "ann23").await?;
    let token = cli.token().context("no token")?;
    let long = "x".repeat(100 << 10);
    let good = format!("Authorization: Bearer {token}");
    for (headers, status) in [
        (vec![good.as_str()], 200),
        // RFC 9110, 11.1: the scheme has no case.
        (vec![&format!("Authorization: bearer {token}")], 200),
        (vec![&good, &good], 400),
        (vec![&good, "Authorization: Bearer x"], 400),
        (vec![&format!("Authorization: {token}")], 401),
        (vec![&format!("Authorization: Bearer {token}, Bearer {token}")], 401),
        (vec![&format!("Authorization: Bearer {}", &long[..8 << 10])], 401),
        (vec![&format!("Authorization: Bearer {long}")], 431),
    ] {
        let line = format!("GET {}", at("ping", &scene.open));
        let mut headers = headers;
        headers.push("Connection: close");
        let request = raw::request(&scene.site, &line, &headers, "")?;
        let answer = raw::send(raw::address(&scene.site)?, request.as_bytes()).await?;
        ensure!(answer.status == status, "not {status}, {:.60?}: {answer:?}", headers[0]);
    }
    Ok(())
}

async fn cross_site() -> Result<()> {
    let scene = scene().await?;
    let page = scene.visitor(25)?;
    let end = page.login(&scene.quiet.cluster, "user=ann25").await?;
    let (value, _) = cookie(&end, &scene.quiet.cluster).context("no session cookie")?;
    let cookie = format!("Cookie: kube-bind-{}={value}", scene.quiet.cluster);
    let body = e2e::site::bind_body("west", "sheriffs", "id-25").to_string();
    let json = "Content-Type: application/json";
    let own = "Sec-Fetch-Site: same-origin";
    let sibling = scene.site.base.replace("127.0.0.1", "evil.127.0.0.1");
    let (sibling, base) = (format!("Origin: {sibling}"), format!("Origin: {}", scene.site.base));
    for route in ["bind", "apply-binding", "logout", "api/logout"] {
        for headers in [
            vec![own, "Content-Type: text/plain"],
            vec![own, "Content-Type: application/x-www-form-urlencoded"],
            vec![own, "Content-Type: multipart/form-data; boundary=x"],
            vec![own],
            vec![json],
            vec![json, "Origin: null"],
            vec![json, &sibling],
            vec![json, "Origin: https://evil.example"],
            vec![json, "Sec-Fetch-Site: cross-site"],
            vec![json, "Sec-Fetch-Site: same-site", &base],
            vec![json, "Sec-Fetch-Site: none"],
        ] {
            let mut headers = headers;
            headers.extend([cookie.as_str(), "Connection: close"]);
            let line = format!("POST {}", at(route, &scene.quiet));
            let request = raw::request(&scene.site, &line, &headers, &body)?;
            let answer = raw::send(raw::address(&scene.site)?, request.as_bytes()).await?;
            ensure!(answer.status == 403, "{route} {headers:?}: {answer:?}");
        }
    }
    let alive = page.get(&at("ping", &scene.quiet)).await?;
    ensure!(alive.status == 200, "somebody else's request ended the session: {alive:?}");
    scene.still_quiet()
}
