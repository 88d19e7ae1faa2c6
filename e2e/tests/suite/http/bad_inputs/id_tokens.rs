//! Rows 9, 10 and 12: what the issuer answers with.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt as _;
use serde_json::{Value, json};

use super::scene::{Scene, at, at_issuer, begin, knobs, scene};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("http::bad::09_an_id_token_that_its_issuer_did_not_sign_is_refused", || {
            signatures().boxed()
        }),
        ("http::bad::10_an_id_token_with_a_wrong_claim_is_refused", || claims().boxed()),
        ("http::bad::12_a_token_endpoint_that_gives_no_token_ends_the_login", || {
            no_token().boxed()
        }),
    ]
}

/// A login with an issuer that does this wrong ends with this status, and nobody is logged in.
async fn ends(scene: &Scene, row: u8, wrong: &Value, status: u16) -> Result<()> {
    let visitor = scene.visitor(row)?;
    let page = format!("{}/", scene.site.base);
    let started = begin(&visitor, &page, &scene.open.cluster).await?;
    let back = at_issuer(&visitor, &started, &knobs(wrong)).await?;
    let answer = visitor.get(back.as_str()).await?;
    let session = answer.header("set-cookie").next().is_some() || answer.location.is_some();
    ensure!(answer.status == status && !session, "{wrong:.200}: {answer:?}");
    let ping = visitor.get(&at("ping", &scene.open)).await?;
    ensure!(ping.status == 401, "{wrong:.200}: {ping:?}");
    Ok(())
}

async fn signatures() -> Result<()> {
    let scene = scene().await?;
    let forged = |token: Value| json!({"idToken": token});
    for token in [
        json!({"signature": "none"}),
        json!({"signature": "shared"}),
        json!({"signature": "otherKey"}),
        json!({"signature": "embeddedKey"}),
        json!({"header": {"alg": "none"}}),
        json!({"header": {"alg": "RS256"}}),
        json!({"header": {"alg": "HS256"}}),
        json!({"header": {"alg": "ES384"}}),
        json!({"header": {"alg": null}}),
        // Another one within a minute would be refused without being looked for, see row 11.
        json!({"header": {"kid": "other"}}),
        json!({"header": {"kid": ""}}),
        json!({"header": {"crit": ["exp"]}}),
        json!({"header": {"crit": []}}),
        json!({"header": {"typ": "at+jwt"}}),
        json!({"suffix": ".x.y"}),
        json!({"suffix": "."}),
        json!({"raw": "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA"}),
        json!({"raw": "a.b.c"}),
        json!({"raw": "x".repeat(2 << 10)}),
    ] {
        ends(scene, 9, &forged(token), 401).await?;
    }
    Ok(())
}

async fn claims() -> Result<()> {
    let scene = scene().await?;
    let base = &scene.site.base;
    let visitor = scene.visitor(10)?;
    let started = begin(&visitor, &format!("{base}/"), &scene.open.cluster).await?;
    let client = started.parameter("client_id")?.context("no client_id")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    for (claim, values) in [
        (
            "iss",
            vec![
                json!("https://evil.example"),
                json!(format!("{base}/oidc/")),
                json!(null),
                json!([format!("{base}/oidc")]),
            ],
        ),
        ("aud", vec![json!("other"), json!([client, "other"]), json!([]), json!(null)]),
        ("azp", vec![json!("other"), json!([client])]),
        ("exp", vec![json!(now - 60), json!(format!("{}", now + 60)), json!(null), json!(1e300)]),
        ("nbf", vec![json!(now + 3600), json!("0")]),
        ("iat", vec![json!(now + 3600), json!(null)]),
        ("nonce", vec![json!(null), json!("other"), json!("")]),
        (
            "sub",
            vec![
                json!(""),
                json!(null),
                json!("system:admin"),
                json!("x".repeat(1 << 10)),
                json!("ann\u{0}"),
                json!(7),
            ],
        ),
    ] {
        for value in values {
            ends(scene, 10, &json!({"idToken": {"claims": {claim: value}}}), 401).await?;
        }
    }
    Ok(())
}

async fn no_token() -> Result<()> {
    let scene = scene().await?;
    for (fault, status) in [
        (json!({"without": ["id_token"]}), 502),
        (json!({"contentType": "text/html"}), 502),
        (json!({"padding": 10 << 20}), 502),
        (json!({"status": 302}), 502),
        (json!({"status": 500}), 503),
    ] {
        ends(scene, 12, &json!({"token": fault}), status).await?;
    }
    Ok(())
}
