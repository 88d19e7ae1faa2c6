//! Rows 26 to 29: methods, headers and addresses of answers.

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt as _;
use reqwest::Method;
use url::form_urlencoded::byte_serialize;

use super::raw;
use super::scene::{at, begin, scene};
use crate::Test;

/// Each route, and some that there are not.
const PATHS: [&str; 16] = [
    "/",
    "/resources",
    "/assets/page.css",
    "/assets/page.js",
    "/healthz",
    "/api/healthz",
    "/exports",
    "/api/exports",
    "/api/bindable-resources",
    "/api/konnector-manifests",
    "/api/authorize",
    "/api/callback",
    "/api/ping",
    "/api/templates",
    "/api/bind",
    "/nowhere",
];

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("http::bad::26_what_changes_something_is_not_done_by_get", || methods().boxed()),
        ("http::bad::27_every_answer_has_the_headers_that_protect_its_reader", || {
            headers().boxed()
        }),
        ("http::bad::28_a_page_that_would_lead_to_another_site_is_refused", || pages().boxed()),
        ("http::bad::29_another_host_changes_no_address", || hosts().boxed()),
    ]
}

async fn methods() -> Result<()> {
    let scene = scene().await?;
    let cli = scene.cli(26, &scene.quiet, "ann26").await?;
    for route in ["bind", "apply-binding", "logout", "api/logout"] {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE] {
            let answer = cli.send(cli.request(&method, &at(route, &scene.quiet))?).await?;
            let allow: Vec<&str> = answer.header("allow").collect();
            ensure!(answer.status == 405 && allow == ["POST"], "{method} {route}: {answer:?}");
        }
    }
    for route in ["authorize", "callback"] {
        let answer = cli.send(cli.request(&Method::HEAD, &at(route, &scene.quiet))?).await?;
        ensure!(answer.status == 405, "HEAD {route}: {answer:?}");
    }
    let alive = cli.get(&at("ping", &scene.quiet)).await?;
    ensure!(alive.status == 200, "{alive:?}");
    scene.still_quiet()
}

async fn headers() -> Result<()> {
    let scene = scene().await?;
    let visitor = scene.visitor(27)?;
    for path in PATHS {
        for method in [Method::GET, Method::POST] {
            let answer = visitor.send(visitor.request(&method, path)?).await?;
            let one = |name: &'static str| {
                let values: Vec<&str> = answer.header(name).collect();
                let [value] = values[..] else {
                    anyhow::bail!("{method} {path}: {name} is {values:?}");
                };
                Ok(value.to_owned())
            };
            let policy = one("content-security-policy")?;
            for needed in [
                "default-src 'none'",
                "frame-ancestors 'none'",
                "base-uri 'none'",
                "form-action 'self'",
                "script-src 'self'",
            ] {
                ensure!(policy.split("; ").any(|part| part == needed), "{path}: {policy}");
            }
            ensure!(!policy.contains("unsafe"), "{path}: {policy}");
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
                ("cross-origin-opener-policy", "same-origin"),
                ("cross-origin-resource-policy", "same-origin"),
            ] {
                ensure!(one(name)? == value, "{method} {path}: {answer:?}");
            }
            let cached = one("cache-control")?;
            ensure!(
                cached.contains("no-store") || path.starts_with("/assets/"),
                "{path}: {cached}"
            );
            ensure!(answer.header("server").next().is_none(), "{answer:?}");
        }
    }
    // The answer to what is no request at all.
    let answer = raw::send(raw::address(&scene.site)?, b"GET / HTTP/1.1\n\n").await?;
    let text = answer.text.to_ascii_lowercase();
    for needed in ["content-security-policy: default-src 'none'", "nosniff", "no-store"] {
        ensure!(text.contains(needed), "no {needed}: {text}");
    }
    Ok(())
}

async fn pages() -> Result<()> {
    let scene = scene().await?;
    let visitor = scene.visitor(28)?;
    for redirect in [
        "javascript:alert(1)",
        "https://evil.example",
        "//evil.example",
        "http://localhost:1/callback",
        "http://127.0.0.1:1/callback#x",
        "data:text/html,x",
    ] {
        let encoded: String = byte_serialize(redirect.as_bytes()).collect();
        for page in ["/", "/resources"] {
            let answer = visitor.get(&format!("{page}?redirect_url={encoded}")).await?;
            ensure!(answer.status == 400, "{page} {redirect}: {answer:?}");
            ensure!(!answer.body.contains("<html"), "{answer:?}");
        }
    }
    let twice = "/?redirect_url=http://127.0.0.1:1/callback&redirect_url=https://evil.example";
    ensure!(visitor.get(twice).await?.status == 400);
    let good = visitor.get("/?redirect_url=http://127.0.0.1:1/callback").await?;
    ensure!(good.status == 200, "{good:?}");
    Ok(())
}

async fn hosts() -> Result<()> {
    let scene = scene().await?;
    let visitor = scene.visitor(29)?;
    let port = scene.site.base.rsplit(':').next().context("no port")?;
    for host in
        ["evil.example", &format!("evil.example:{port}"), &format!("localhost:{port}"), "127.0.0.1"]
    {
        for path in ["/api/exports", "/", "/api/authorize"] {
            let answer = visitor.get_as(path, host).await?;
            ensure!(answer.status == 421 && !answer.body.contains("evil"), "{host}: {answer:?}");
        }
    }
    let forwarded = [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "1"),
        ("x-original-host", "evil.example"),
        ("forwarded", "host=evil.example;proto=https"),
    ];
    let with = |path: &str| {
        let request = visitor.request(&Method::GET, path)?;
        Ok::<_, anyhow::Error>(
            forwarded.iter().fold(request, |request, (name, value)| request.header(*name, *value)),
        )
    };
    let answer = visitor.send(with("/api/exports")?).await?;
    ensure!(answer.body == visitor.get("/api/exports").await?.body, "{answer:?}");
    let page = format!("{}/", scene.site.base);
    let path = format!(
        "/api/authorize?session_id=s&client_type=ui&cluster_id={}&redirect_url={page}",
        scene.open.cluster
    );
    let told = begin(&visitor, &page, &scene.open.cluster).await?.parameter("redirect_uri")?;
    let answer = visitor.send(with(&path)?).await?;
    ensure!(answer.parameter("redirect_uri")? == told && told.is_some(), "{answer:?}");
    ensure!(!format!("{answer:?}").contains("evil"), "{answer:?}");
    Ok(())
}
