//! Row 11: keys of the issuer that are not there when a login needs them.

use anyhow::{Context as _, Result, ensure};
use e2e::site::{Answer, Site};
use futures::FutureExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use super::scene::{at_issuer, begin, knobs, visitor};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![(
        "http::bad::11_keys_are_read_again_once_a_minute_and_a_login_without_them_is_told",
        || keys().boxed(),
    )]
}

/// A login with an issuer that does this wrong. It is for a cluster that does not exist, which is not the matter here.
async fn login(site: &Site, wrong: &Value) -> Result<Answer> {
    let visitor = visitor(site, 11)?;
    let started = begin(&visitor, &format!("{}/", site.base), "nowhere").await?;
    let back = at_issuer(&visitor, &started, &knobs(wrong)).await?;
    visitor.get(back.as_str()).await
}

/// How often the keys were read.
async fn reads(site: &Site) -> Result<u64> {
    let seen = visitor(site, 11)?.get("/oidc/knobs").await?.json()?;
    seen["jwksReads"].as_u64().with_context(|| format!("no count: {seen}"))
}

/// What goes wrong with the keys from now on.
async fn spoil(site: &Site, fault: Value) -> Result<()> {
    let visitor = visitor(site, 11)?;
    let request = visitor.request(&Method::POST, "/oidc/knobs")?.json(&json!({"jwks": fault}));
    let answer = visitor.send(request).await?;
    ensure!(answer.status == 204, "{answer:?}");
    Ok(())
}

async fn keys() -> Result<()> {
    let mut site = Site::start("bad-keys", &[]).await?;
    let before = reads(&site).await?;
    let rotated = login(&site, &json!({"rotate": true})).await?;
    ensure!(rotated.status == 302, "after a rotation: {rotated:?}");
    ensure!(reads(&site).await? == before + 1, "{} reads", reads(&site).await?);
    for kid in 0..10 {
        let unknown = json!({"idToken": {"header": {"kid": format!("unknown-{kid}")}}});
        let answer = login(&site, &unknown).await?;
        let wait = answer.header("retry-after").next().and_then(|text| text.parse::<u64>().ok());
        ensure!(answer.status == 503 && wait.is_some_and(|wait| wait <= 60), "{answer:?}");
    }
    ensure!(reads(&site).await? == before + 1, "a forged kid makes the backend read the keys");
    ensure!(login(&site, &json!({})).await?.status == 302, "good logins suffer");

    // Each failure uses up the minute of its process.
    for fault in [json!({"status": 500}), json!({"padding": 2 << 20}), json!({"delayMs": 30_000})] {
        site.provider.backend.stop().await?;
        site.provider.backend.restart().await?;
        let before = reads(&site).await?;
        spoil(&site, fault.clone()).await?;
        let answer = login(&site, &json!({"rotate": true})).await?;
        let told = answer.header("retry-after").next().is_some();
        ensure!(answer.status == 503 && told, "{fault}: {answer:?}");
        ensure!(reads(&site).await? == before + 1, "{fault}: {} reads", reads(&site).await?);
    }
    Ok(())
}
