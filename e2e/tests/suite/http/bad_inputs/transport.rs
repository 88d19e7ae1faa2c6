//! Rows 69 and 70: requests that two readers would understand differently.

use anyhow::{Context as _, Result, ensure};
use e2e::site::bind_body;
use futures::FutureExt as _;

use super::raw;
use super::scene::{at, scene};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("http::bad::69_a_request_with_two_ends_is_refused_and_its_connection_closed", || {
            smuggled().boxed()
        }),
        ("http::bad::70_a_path_has_one_spelling", || spellings().boxed()),
    ]
}

async fn smuggled() -> Result<()> {
    let scene = scene().await?;
    let address = raw::address(&scene.site)?;
    let host = format!("Host: {address}");
    // The second request is what would be smuggled.
    let second = format!("GET /healthz HTTP/1.1\r\n{host}\r\n\r\n");
    let post = format!("POST /api/logout HTTP/1.1\r\n{host}\r\n");
    let get = format!("GET /api/exports HTTP/1.1\r\n{host}\r\n");
    let chunks = "0\r\n\r\n";
    for (what, request) in [
        (
            "TE and CL",
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunks}"),
        ),
        (
            "CL and TE",
            format!("{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
        ),
        ("two CL", format!("{post}Content-Length: 0\r\nContent-Length: 5\r\n\r\n")),
        ("two equal CL", format!("{post}Content-Length: 0\r\nContent-Length: 0\r\n\r\n")),
        ("a list as CL", format!("{post}Content-Length: 0, 0\r\n\r\n")),
        ("CL with a sign", format!("{post}Content-Length: +0\r\n\r\n")),
        ("CL in hex", format!("{post}Content-Length: 0x0\r\n\r\n")),
        (
            "two TE",
            format!(
                "{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
            ),
        ),
        ("TE of identity", format!("{post}Transfer-Encoding: identity\r\n\r\n")),
        ("TE of a list", format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n{chunks}")),
        ("TE with a tab", format!("{post}Transfer-Encoding:\x0bchunked\r\n\r\n{chunks}")),
        ("space before a colon", format!("{post}Content-Length : 0\r\n\r\n")),
        ("obs-fold", format!("{get}X: a\r\n b\r\n\r\n")),
        ("obs-fold of CL", format!("{post}Content-Length:\r\n 0\r\n\r\n")),
        ("bare LF", format!("GET /api/exports HTTP/1.1\n{host}\n\n")),
        ("bare LF in one line", format!("{get}X: a\nY: b\r\n\r\n")),
        ("bare CR", format!("{get}X: a\rY: b\r\n\r\n")),
        ("NUL", format!("{get}X: a\0b\r\n\r\n")),
        ("two Hosts", format!("{get}{host}\r\n\r\n")),
        ("a whole URL", format!("GET http://evil.example/api/exports HTTP/1.1\r\n{host}\r\n\r\n")),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("HTTP/0.9", "GET /healthz\r\n\r\n".to_owned()),
        ("CONNECT", format!("CONNECT {address} HTTP/1.1\r\n{host}\r\n\r\n")),
        ("an empty line first", format!("\r\n{get}\r\n")),
    ] {
        let answer = raw::send(address, format!("{request}{second}").as_bytes()).await?;
        let answers = answer.text.matches("HTTP/1.1 ").count();
        ensure!(answer.status == 400 && answer.closed && answers == 1, "{what}: {answer:?}");
    }
    // Chunks are taken, and are the last of their connection: what follows is not looked at.
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n{chunks}{second}");
    let answer = raw::send(address, chunked.as_bytes()).await?;
    let answers = answer.text.matches("HTTP/1.1 ").count();
    ensure!(answer.status == 200 && answer.closed && answers == 1, "{answer:?}");
    Ok(())
}

async fn spellings() -> Result<()> {
    let scene = scene().await?;
    let address = raw::address(&scene.site)?;
    let cli = scene.cli(70, &scene.quiet, "ann70").await?;
    let token = format!("Authorization: Bearer {}", cli.token().context("no token")?);
    let cluster = &scene.quiet.cluster;
    let body = bind_body("west", "sheriffs", "id-70").to_string();
    let with = [token.as_str(), "Content-Type: application/json", "Connection: close"];
    let without = ["Content-Type: application/json", "Connection: close"];
    for path in [
        "//api/bind",
        "/api//bind",
        "/api/%62ind",
        "/api/bind/",
        "/api/bind//",
        "/api/./bind",
        "/x/../api/bind",
        "/api/../api/bind",
        "/api/bind%2f",
        "/api%2fbind",
        "/api/bind;a=b",
        "/api/bind%00",
        "/API/BIND",
        "/api/bind.json",
        "/%2e%2e/api/bind",
        "/api\\bind",
    ] {
        let line = format!("POST {path}?cluster_id={cluster}");
        for headers in [&with[..], &without[..]] {
            let request = raw::request(&scene.site, &line, headers, &body)?;
            let answer = raw::send(address, request.as_bytes()).await?;
            ensure!(answer.status == 404, "{path}: {answer:?}");
        }
    }
    for path in ["//api/templates", "/api/%74emplates", "/api/templates/", "/api/x/../templates"] {
        let line = format!("GET {path}?cluster_id={cluster}");
        let request = raw::request(&scene.site, &line, &["Connection: close"], "")?;
        let answer = raw::send(address, request.as_bytes()).await?;
        ensure!(answer.status == 404 && !answer.text.contains("items"), "{path}: {answer:?}");
    }
    // The one spelling is asked for a session.
    let line = format!("POST {}", at("bind", &scene.quiet));
    let request = raw::request(&scene.site, &line, &without, &body)?;
    let answer = raw::send(address, request.as_bytes()).await?;
    ensure!(answer.status == 401, "{answer:?}");
    scene.still_quiet()
}
