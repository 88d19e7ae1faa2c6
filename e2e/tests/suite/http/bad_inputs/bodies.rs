//! Rows 35, 38 and 40: bodies that make no sense.

use anyhow::{Context as _, Result, ensure};
use e2e::site::bind_body;
use futures::FutureExt as _;
use serde_json::{Value, json};

use super::raw;
use super::scene::{Scene, at, field, scene};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("http::bad::35_an_identity_that_nobody_can_have_is_refused", || identities().boxed()),
        ("http::bad::38_a_name_that_no_object_can_have_is_refused_before_any_write", || {
            names().boxed()
        }),
        ("http::bad::40_a_body_that_is_not_one_document_of_the_right_shape_is_refused", || {
            shapes().boxed()
        }),
    ]
}

/// Each body is refused with 400, and says why; nothing is written.
async fn refused(scene: &Scene, row: u8, bodies: Vec<Value>) -> Result<()> {
    let cli = scene.cli(row, &scene.quiet, "ann").await?;
    for body in bodies {
        let answer = cli.post(&at("bind", &scene.quiet), &body).await?;
        ensure!(answer.status == 400, "{:.120}: {answer:?}", body.to_string());
        let error = answer.json()?;
        let told = error["code"] == "BAD_REQUEST" && error["details"].is_string();
        ensure!(told && answer.body.len() < 1024, "{answer:?}");
    }
    scene.still_quiet()
}

async fn identities() -> Result<()> {
    let scene = scene().await?;
    let long = "i".repeat(64 << 10);
    let all =
        ["", "\u{0}", "a\u{0}b", &long, "ui-identity ", " ui-identity", "a\nb", "\u{85}", " "];
    let mut bodies: Vec<Value> =
        all.iter().map(|identity| bind_body("west", "sheriffs", identity)).collect();
    for other in [json!(null), json!({}), json!([]), json!(7)] {
        let mut body = bind_body("west", "sheriffs", "x");
        body["spec"]["clusterIdentity"]["identity"] = other;
        bodies.push(body);
    }
    refused(scene, 35, bodies).await?;
    let cli = scene.cli(35, &scene.quiet, "ann").await?;
    let body = bind_body("west", "sheriffs", "ui-identity");
    for consumer in ["%00", "a%0ab", "%20x", &"c".repeat(2000)] {
        let path = format!("{}&consumer_id={consumer}", at("bind", &scene.quiet));
        let answer = cli.post(&path, &body).await?;
        ensure!(answer.status == 400, "{consumer:.20}: {answer:?}");
    }
    scene.still_quiet()
}

async fn names() -> Result<()> {
    let scene = scene().await?;
    let long = "a".repeat(254);
    let bad = [
        "", "West", "we st", "we_st", &long, "../x", "a/b", "-a", "a-", ".", "..", "a..b", "ä",
        "a\u{0}", "%2e",
    ];
    let mut bodies = Vec::new();
    for name in bad {
        bodies.push(bind_body(name, "sheriffs", "id-38"));
        bodies.push(bind_body("west", name, "id-38"));
    }
    refused(scene, 38, bodies).await
}

async fn shapes() -> Result<()> {
    let scene = scene().await?;
    let cli = scene.cli(40, &scene.quiet, "ann").await?;
    let token = format!("Authorization: Bearer {}", cli.token().context("no token")?);
    let good = bind_body("west", "sheriffs", "id-40").to_string();
    let spec = good.replace("\"author\":\"\"", "\"author\":\"\",\"author\":\"\"");
    let deep =
        |open: &str, close: &str| format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
    let swapped = |from: &str, to: &str| good.replace(from, to);
    for (body, status) in [
        (" ".repeat((1 << 20) + 1), 413),
        (format!("{good}{}", " ".repeat(256 << 10)), 413),
        (deep("[", "]"), 400),
        (deep("{\"a\":", "}"), 400),
        (format!("{},\"x\":{}}}", &good[..good.len() - 1], deep("[", "]")), 400),
        (spec, 400),
        (swapped("{\"identity\"", "{\"identity\":\"a\",\"identity\""), 400),
        (swapped("{\"identity\"", "{\"identity\":\"a\",\"\\u0069dentity\""), 400),
        (format!("{good}{good}"), 400),
        (format!("{good}x"), 400),
        (format!("{good}\0"), 400),
        (format!("\u{feff}{good}"), 400),
        (swapped("\"author\":\"\"", "\"author\":NaN"), 400),
        (swapped("\"author\":\"\"", "\"author\":1e999"), 400),
        (swapped("\"west\"", "7"), 400),
        (swapped("\"west\"", "null"), 400),
        (swapped("\"spec\":", "\"spec\":[],\"x\":"), 400),
        (swapped("\"west\"", "\"\\ud800\""), 400),
        (good[..good.len() - 1].to_owned(), 400),
        (format!("[{good}]"), 400),
        ("null".to_owned(), 400),
        ("x".to_owned(), 400),
    ] {
        let line = format!("POST {}", at("bind", &scene.quiet));
        let headers = [token.as_str(), "Content-Type: application/json", "Connection: close"];
        let request = raw::request(&scene.site, &line, &headers, &body)?;
        let answer = raw::send(raw::address(&scene.site)?, request.as_bytes()).await?;
        ensure!(answer.status == status, "not {status}: {body:.80}: {answer:?}");
    }
    let empty = cli.send(cli.request(&reqwest::Method::POST, &at("bind", &scene.quiet))?).await?;
    ensure!(empty.status == 400, "{empty:?}");
    scene.still_quiet()?;

    // The contract ignores what it does not know (http.md 6.1), whatever it is called.
    let cli = scene.cli(40, &scene.open, "ann40").await?;
    let mut body = bind_body("west", "sheriffs", "id-40");
    body["spec"]["author"] = json!(["anything"]);
    body["spec"]["ttlAfterFinished"] = json!({"x": null});
    body["spec"]["clusterIdentity"]["unknown"] = json!(true);
    body["unknown"] = json!([1, 2.5, null]);
    body["status"] = json!({"phase": "Succeeded"});
    field(&cli.post(&at("bind", &scene.open), &body).await?, "kubeconfig")?;
    Ok(())
}
