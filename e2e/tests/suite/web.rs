//! The browser and the identity provider themselves, without the product.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use e2e::idp::{Algorithm, CLIENT_ID, IdentityProvider, Settings};
use e2e::web::{Browser, Control, Options, Problem};
use futures::FutureExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("web::a_browser_says_what_can_be_operated_and_what_the_policy_stops", || {
            a_browser_says_what_it_sees().boxed()
        }),
        ("web::a_user_logs_in_by_the_forms_of_a_provider_that_changes_its_keys", || {
            a_user_logs_in_by_forms().boxed()
        }),
    ]
}

/// Serves one page at every path until the test ends; gives its address.
async fn page(html: &'static str) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: script-src 'self'\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{html}",
        html.len()
    );
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            // A browser opens connections ahead and sends nothing on some of them.
            tokio::spawn(async move {
                let mut head = [0; 4096];
                if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    // Whether it gets there shows in the browser.
                    drop(stream.write_all(answer.as_bytes()).await);
                }
            });
        }
    });
    Ok(address)
}

async fn a_browser_says_what_it_sees() -> Result<()> {
    let address = page(
        "<!doctype html><title>t</title><link rel=icon href='data:,'><button></button>\
         <label>Name <input value=old></label><button disabled>Go</button><script>document.title = 'x'</script>",
    )
    .await?;
    let mut browser = Browser::start("browser", Options::default()).await?;
    ensure!(browser.goto(&format!("http://{address}/")).await? == Some(200), "not 200");
    let control = |role: &str, name: &str, disabled| Control {
        role: role.to_owned(),
        name: name.to_owned(),
        description: String::new(),
        disabled,
    };
    let controls = browser.controls().await?;
    let expected = [
        control("button", "", false),
        control("textbox", "Name", false),
        control("button", "Go", true),
    ];
    ensure!(controls == expected, "{controls:?}");
    ensure!(browser.title().await? == "t", "the script ran");
    let stopped = Problem {
        kind: "violation".to_owned(),
        text: format!("script-src-elem stops inline at http://{address}/:1"),
    };
    let problems = browser.problems().await?;
    ensure!(problems.contains(&stopped), "{problems:?}");
    ensure!(browser.problems().await?.is_empty(), "problems are told twice");
    browser.fill("Name", "new").await?;
    ensure!(browser.value("Name").await? == "new", "the text did not arrive");
    browser.stop().await
}

async fn a_user_logs_in_by_forms() -> Result<()> {
    let callback = format!("http://{}/callback", page("<!doctype html><title>back</title>").await?);
    let settings = Settings {
        accounts: Some(json!({"jane": {"email": "jane@corp.example", "groups": ["ops"]}})),
        algorithm: Algorithm::Rs256,
        tls: None,
    };
    let mut provider = IdentityProvider::start_with(&callback, &settings).await?;
    let found: Value =
        reqwest::get(format!("{}/.well-known/openid-configuration", provider.issuer))
            .await?
            .json()
            .await?;
    ensure!(found["issuer"] == provider.issuer.as_str(), "{found}");
    let mut login =
        Url::parse(found["authorization_endpoint"].as_str().context("no authorization_endpoint")?)?;
    login.query_pairs_mut().extend_pairs([
        ("client_id", CLIENT_ID),
        ("response_type", "code"),
        ("redirect_uri", &callback),
        ("scope", "openid groups"),
        ("state", "st"),
        ("code_challenge", &"c".repeat(43)),
        ("code_challenge_method", "S256"),
    ]);
    let mut browser = Browser::start("login", Options::default()).await?;
    browser.goto(login.as_str()).await?;
    browser.fill("User name", "jane").await?;
    browser.fill("Password", "any").await?;
    browser.click("button", "Log in").await?;
    browser.click("button", "Continue").await?;
    let back = Url::parse(&browser.wait_for_url(&callback).await?)?;
    let names: Vec<_> = back.query_pairs().map(|(name, _)| name.into_owned()).collect();
    ensure!(names == ["code", "state", "iss"], "{back}");

    let keys = found["jwks_uri"].as_str().context("no jwks_uri")?;
    let before: Value = reqwest::get(keys).await?.json().await?;
    let issuer = provider.issuer.clone();
    provider.stop().await?;
    provider.restart().await?;
    let after: Value = reqwest::get(keys).await?.json().await?;
    ensure!(provider.issuer == issuer, "another issuer: {}", provider.issuer);
    ensure!(before["keys"][0]["alg"] == "RS256", "{before}");
    ensure!(before["keys"][0]["kid"] != after["keys"][0]["kid"], "the keys are the same");
    browser.stop().await
}
